//! Which control groups hold this process: their folders, from its own up to the mount.
//!
//! `/proc/self/cgroup` names the group in each hierarchy, `/proc/self/mountinfo` where the hierarchy is mounted and which
//! group the mount shows (cgroups(7), proc_pid_mountinfo(5)). A limit of any of these groups holds for the process.

use std::path::{Component, Path, PathBuf};

use crate::root::Root;

const GROUPS: &str = "/proc/self/cgroup";
const MOUNTS: &str = "/proc/self/mountinfo";

/// A node of a cluster has thousands of mounts of some 300 bytes.
const MAX_MOUNTS: u64 = 8 << 20;
const MAX_GROUPS: u64 = 64 << 10;

/// Groups above each other that are looked at.
const MAX_DEPTH: usize = 64;

/// The two forms of control groups, which one machine may have at once (hybrid).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    /// One hierarchy per controller.
    V1,
    /// One hierarchy for all.
    V2,
}

/// A folder of a hierarchy that holds this process, directly or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Group {
    pub(crate) version: Version,
    /// As this process sees it, without the root of the reader.
    pub(crate) folder: PathBuf,
}

/// The groups that hold this process in the hierarchies of a controller (`cpu`, `memory`), innermost first.
pub(crate) fn groups(root: &Root, controller: &str, notes: &mut Vec<String>) -> Vec<Group> {
    let Some(own) = root.read_noted(Path::new(GROUPS), MAX_GROUPS, notes) else { return Vec::new() };
    let Some(mounts) = root.read_noted(Path::new(MOUNTS), MAX_MOUNTS, notes) else { return Vec::new() };
    let mounts: Vec<Mount> = mounts.lines().filter_map(|line| mount(line, controller)).collect();
    let mut found = Vec::new();
    for (version, path) in own.lines().filter_map(|line| membership(line, controller)) {
        let folders = folders(&path, mounts.iter().filter(|mount| mount.version == version));
        found.extend(folders.into_iter().map(|folder| Group { version, folder }));
    }
    found
}

struct Mount {
    version: Version,
    /// Which group of the hierarchy the mount shows.
    shows: PathBuf,
    /// Where.
    at: PathBuf,
}

/// One line of mountinfo: `ID PARENT MAJOR:MINOR SHOWS AT OPTIONS [FIELDS…] - TYPE SOURCE OPTIONS`.
fn mount(line: &str, controller: &str) -> Option<Mount> {
    let (left, right) = line.split_once(" - ")?;
    let mut right = right.split(' ');
    let version = match right.next()? {
        "cgroup2" => Version::V2,
        "cgroup" if right.nth(1)?.split(',').any(|option| option == controller) => Version::V1,
        _ => return None,
    };
    let mut left = left.split(' ').skip(3);
    Some(Mount { version, shows: unescaped(left.next()?).into(), at: unescaped(left.next()?).into() })
}

/// One line of the process's groups: `ID:CONTROLLERS:PATH`, with no controllers for version 2.
fn membership(line: &str, controller: &str) -> Option<(Version, PathBuf)> {
    let mut parts = line.splitn(3, ':');
    let (id, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
    if id == "0" && controllers.is_empty() {
        return Some((Version::V2, path.into()));
    }
    controllers.split(',').any(|name| name == controller).then(|| (Version::V1, path.into()))
}

/// From the process's own folder up to the mount.
fn folders<'a>(path: &Path, mounts: impl Iterator<Item = &'a Mount>) -> Vec<PathBuf> {
    let below = |mount: &Mount| {
        let plain = |path: &Path| path.components().all(|part| part != Component::ParentDir);
        let rest = path.strip_prefix(&mount.shows).ok()?;
        plain(path).then(|| rest.to_owned())
    };
    let mut first = None;
    let mut best: Option<(&Mount, PathBuf)> = None;
    for mount in mounts {
        first = first.or(Some(mount));
        // The mount that shows the widest part of the hierarchy shows the most limits.
        if let Some(rest) = below(mount)
            && best.as_ref().is_none_or(|(_, known)| rest.components().count() > known.components().count())
        {
            best = Some((mount, rest));
        }
    }
    match (best, first) {
        (Some((mount, rest)), _) => {
            // Through the parts, since joining nothing leaves a slash at the end.
            let own: PathBuf = mount.at.join(rest).components().collect();
            let up = own.ancestors().take_while(|folder| folder.starts_with(&mount.at));
            up.take(MAX_DEPTH).map(Path::to_owned).collect()
        }
        // A group outside of what is mounted: a container that sees its host's names but only its own groups, or a process
        // outside of its namespace's root. What is mounted is all that can be seen of its limits.
        (None, Some(mount)) => vec![mount.at.clone()],
        (None, None) => Vec::new(),
    }
}

/// mountinfo writes space, tab, newline and backslash as three octal digits.
fn unescaped(text: &str) -> String {
    let codes = [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")];
    codes.iter().fold(text.to_owned(), |text, (code, character)| text.replace(code, character))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn walked(own: &str, mounts: &str, controller: &str) -> Vec<String> {
        let tree = tempfile::tempdir().expect("folder");
        std::fs::create_dir_all(tree.path().join("proc/self")).expect("created");
        std::fs::write(tree.path().join("proc/self/cgroup"), own).expect("written");
        std::fs::write(tree.path().join("proc/self/mountinfo"), mounts).expect("written");
        let mut notes = Vec::new();
        let groups = groups(&Root::new(tree.path()), controller, &mut notes);
        assert!(notes.is_empty(), "{notes:?}");
        groups.iter().map(|group| format!("{:?} {}", group.version, group.folder.display())).collect()
    }

    const V2: &str = "29 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";

    #[test]
    fn the_own_group_and_all_above_it() {
        assert_eq!(
            walked("0::/a.slice/b.service\n", V2, "cpu"),
            ["V2 /sys/fs/cgroup/a.slice/b.service", "V2 /sys/fs/cgroup/a.slice", "V2 /sys/fs/cgroup"]
        );
        // A container with a namespace of its own.
        assert_eq!(walked("0::/\n", V2, "cpu"), ["V2 /sys/fs/cgroup"]);
    }

    #[test]
    fn a_container_that_sees_the_names_of_its_host() {
        let mounts = "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\n\
            32 31 0:29 /docker/abc /sys/fs/cgroup/cpu,cpuacct rw master:11 - cgroup cgroup rw,cpu,cpuacct\n\
            33 31 0:30 /docker/abc /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n";
        let own = "5:memory:/docker/abc\n4:cpu,cpuacct:/docker/abc/worker\n1:name=systemd:/docker/abc\n";
        assert_eq!(
            walked(own, mounts, "cpu"),
            ["V1 /sys/fs/cgroup/cpu,cpuacct/worker", "V1 /sys/fs/cgroup/cpu,cpuacct"]
        );
        assert_eq!(walked(own, mounts, "memory"), ["V1 /sys/fs/cgroup/memory"]);
        // `cpu` is not `cpuacct`, and `cpuset` not `cpu`.
        assert_eq!(walked("3:cpuset:/x\n", mounts, "cpu"), [""; 0]);
        // Outside of what is mounted.
        assert_eq!(walked("4:cpu:/other\n", mounts, "cpu"), ["V1 /sys/fs/cgroup/cpu,cpuacct"]);
        assert_eq!(walked("0::/../../x\n", V2, "cpu"), ["V2 /sys/fs/cgroup"]);
    }

    #[test]
    fn of_two_mounts_the_wider_one() {
        let mounts = format!("28 23 0:26 /a/b /mnt/narrow rw - cgroup2 none rw\n{V2}");
        let wide = ["V2 /sys/fs/cgroup/a/b", "V2 /sys/fs/cgroup/a", "V2 /sys/fs/cgroup"];
        assert_eq!(walked("0::/a/b\n", &mounts, "cpu"), wide);
    }

    #[test]
    fn names_with_spaces() {
        let mounts = "29 23 0:26 / /sys/fs\\040x/cgroup rw - cgroup2 cgroup2 rw\n";
        assert_eq!(walked("0::/a b:c\n", mounts, "cpu"), ["V2 /sys/fs x/cgroup/a b:c", "V2 /sys/fs x/cgroup"]);
    }
}
