//! Control groups of our own: a server in them has little memory, and few cores.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

const ROOT: &str = "/sys/fs/cgroup";

/// Groups of one limit each, removed at the end. Version 1 has one for each kind of limit.
pub(crate) struct ControlGroup(Vec<PathBuf>);

impl ControlGroup {
    /// Of so many bytes and, where they are given, so many cores.
    ///
    /// # Errors
    /// Where this machine does not let us make one: only root may, and few containers.
    pub(crate) fn new(bytes: u64, cores: Option<u32>) -> Result<Self, String> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("corymb-test-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let bytes = bytes.to_string();
        let quota = cores.map(|cores| (cores * 100_000).to_string());
        let mut group = Self(Vec::new());
        let made = if Path::new(ROOT).join("cgroup.controllers").exists() {
            let cpu = quota.map(|quota| format!("{quota} 100000"));
            let files = [("memory.max", Some(bytes)), ("cpu.max", cpu)];
            group.make(Path::new(ROOT), &name, &files)
        } else {
            let memory = group.make(&Path::new(ROOT).join("memory"), &name, &[("memory.limit_in_bytes", Some(bytes))]);
            memory.and_then(|()| match quota {
                Some(quota) => {
                    let files = [("cpu.cfs_period_us", Some("100000".to_owned())), ("cpu.cfs_quota_us", Some(quota))];
                    group.make(&Path::new(ROOT).join("cpu"), &name, &files)
                }
                None => Ok(()),
            })
        };
        made.map(|()| group).map_err(|error| format!("no control group of our own: {error}"))
    }

    fn make(&mut self, parent: &Path, name: &str, files: &[(&str, Option<String>)]) -> Result<(), String> {
        let group = parent.join(name);
        fs::create_dir(&group).map_err(|error| format!("{}: {error}", group.display()))?;
        self.0.push(group.clone());
        for (file, value) in files {
            let (path, Some(value)) = (group.join(file), value) else { continue };
            // Where the controller is not handed down the file is missing, and must not be made.
            let file = fs::OpenOptions::new().write(true).open(&path);
            let written = file.and_then(|mut file| std::io::Write::write_all(&mut file, value.as_bytes()));
            written.map_err(|error| format!("{}: {error}", path.display()))?;
        }
        Ok(())
    }

    /// A command of `program` that runs in the group. Arguments follow as usual.
    pub(crate) fn command(&self, program: &str) -> Command {
        let join: String =
            self.0.iter().map(|group| format!("echo $$ > {}/cgroup.procs && ", group.display())).collect();
        let mut command = Command::new("/bin/sh");
        command.args(["-c", &format!("{join}exec \"$0\" \"$@\""), program]);
        command
    }
}

impl Drop for ControlGroup {
    fn drop(&mut self) {
        for group in &self.0 {
            let _ = fs::remove_dir(group);
        }
    }
}
