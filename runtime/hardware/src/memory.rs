//! How much memory this process may take, how much is taken, and how much is left.

use std::path::{Path, PathBuf};

use crate::cgroup::{self, Group, Version};
use crate::root::{Root, quoted};

const MEMINFO: &str = "/proc/meminfo";
const STATUS: &str = "/proc/self/status";

const MAX_FILE: u64 = 256 << 10;
const MAX_NUMBER: u64 = 256;
/// Processes that are looked at below this one.
const MAX_FAMILY: usize = 10_000;

/// Memory that may be taken in all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemoryLimit {
    /// In bytes.
    pub limit_bytes: u64,
    /// The file that says so.
    pub source: PathBuf,
}

impl MemoryLimit {
    /// What limits it, for messages.
    #[must_use]
    pub fn limited_by(&self) -> String {
        if self.source == Path::new(MEMINFO) { "the machine".to_owned() } else { self.source.display().to_string() }
    }
}

/// Memory that is taken now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryUsage {
    /// By this process: its resident set, in bytes. None where `/proc` does not say.
    pub process_bytes: Option<u64>,
    /// By the control group whose limit is the tightest, in bytes, without the cache of files that the kernel would give
    /// up first: the working set, as Kubernetes counts it. None without such a group.
    pub group_bytes: Option<u64>,
}

/// The memory of the machine and of the control groups that hold this process. The limits are read once; usage is read
/// when it is asked for, from a few small files.
#[derive(Clone, Debug)]
pub struct Memory {
    root: Root,
    total: Option<u64>,
    /// Groups with a limit below the machine's memory.
    limited: Vec<(Group, MemoryLimit)>,
}

impl Memory {
    pub(crate) fn read(root: &Root, notes: &mut Vec<String>) -> Self {
        let total = root.read_noted(Path::new(MEMINFO), MAX_FILE, notes).and_then(|text| {
            let total = kibibytes(&text, "MemTotal:");
            if total.is_none() {
                notes.push(format!("{MEMINFO} does not tell the machine's memory"));
            }
            total
        });
        let groups = cgroup::groups(root, "memory", notes);
        let limited = groups.into_iter().filter_map(|group| {
            let limit = limit(root, &group, notes)?;
            // Version 1 says a number near 2^63 for no limit.
            (limit.limit_bytes < total.unwrap_or(1 << 60)).then_some((group, limit))
        });
        Self { root: root.clone(), total, limited: limited.collect() }
    }

    /// Memory of the machine, in bytes.
    #[must_use]
    pub fn total_bytes(&self) -> Option<u64> {
        self.total
    }

    /// The tightest limit; the machine's memory where no control group has one. None when nothing is known.
    #[must_use]
    pub fn limit(&self) -> Option<MemoryLimit> {
        let machine = || Some(MemoryLimit { limit_bytes: self.total?, source: MEMINFO.into() });
        self.tightest().map(|(_, limit)| limit.clone()).or_else(machine)
    }

    fn tightest(&self) -> Option<&(Group, MemoryLimit)> {
        self.limited.iter().min_by_key(|(_, limit)| limit.limit_bytes)
    }

    /// What is taken now.
    #[must_use]
    pub fn current_usage(&self) -> MemoryUsage {
        let status = self.root.read(Path::new(STATUS), MAX_FILE).ok();
        MemoryUsage {
            process_bytes: status.and_then(|text| kibibytes(&text, "VmRSS:")),
            group_bytes: self.tightest().and_then(|(group, _)| working_set(&self.root, group)),
        }
    }

    /// By this process and all that it has started, in bytes: what several of them share counts once. It takes milliseconds to find
    /// out. None where `/proc` does not say.
    #[must_use]
    pub fn family_bytes(&self) -> Option<u64> {
        let own = self.proportional_bytes("self")?;
        let (mut descendants, mut next) = (self.children("self"), 0);
        while let Some(process) = descendants.get(next).cloned().filter(|_| next < MAX_FAMILY) {
            descendants.extend(self.children(&process));
            next += 1;
        }
        // One that has ended meanwhile takes nothing.
        Some(own + descendants.iter().filter_map(|process| self.proportional_bytes(process)).sum::<u64>())
    }

    /// The resident set of a process, of what it shares with others its part; of a stranger's, which does not tell, what is its own.
    fn proportional_bytes(&self, process: &str) -> Option<u64> {
        let file = |name: &str| self.root.read(&Path::new("/proc").join(process).join(name), MAX_FILE).ok();
        if let Some(bytes) = file("smaps_rollup").and_then(|text| kibibytes(&text, "Pss:")) {
            return Some(bytes);
        }
        let status = file("status")?;
        let own = kibibytes(&status, "RssAnon:").map(|own| own + kibibytes(&status, "RssShmem:").unwrap_or(0));
        own.or_else(|| kibibytes(&status, "VmRSS:"))
    }

    fn children(&self, process: &str) -> Vec<String> {
        let tasks = Path::new("/proc").join(process).join("task");
        let names = self.root.names(&tasks);
        let lists = names.iter().filter_map(|task| self.root.read(&tasks.join(task).join("children"), MAX_FILE).ok());
        lists.flat_map(|list| list.split_whitespace().map(str::to_owned).collect::<Vec<_>>()).collect()
    }

    /// What can still be taken, in bytes: the least of what each limited group and the machine have left. None when
    /// nothing is known.
    #[must_use]
    pub fn available_bytes(&self) -> Option<u64> {
        let machine = self.root.read(Path::new(MEMINFO), MAX_FILE).ok();
        let machine = machine.and_then(|text| kibibytes(&text, "MemAvailable:")).or(self.total);
        let groups = self
            .limited
            .iter()
            .map(|(group, limit)| limit.limit_bytes.saturating_sub(working_set(&self.root, group).unwrap_or_default()));
        machine.into_iter().chain(groups).min()
    }
}

fn limit(root: &Root, group: &Group, notes: &mut Vec<String>) -> Option<MemoryLimit> {
    let file = match group.version {
        Version::V1 => "memory.limit_in_bytes",
        Version::V2 => "memory.max",
    };
    let source = group.folder.join(file);
    let text = root.read_noted(&source, MAX_NUMBER, notes)?;
    if text.trim() == "max" {
        return None;
    }
    let Ok(limit_bytes) = text.trim().parse() else {
        notes.push(format!("{} says {}; expected a number of bytes, or max", source.display(), quoted(&text)));
        return None;
    };
    Some(MemoryLimit { limit_bytes, source })
}

/// What the group and those in it hold, without files that were read once: those go before anything is refused.
fn working_set(root: &Root, group: &Group) -> Option<u64> {
    // Of version 1's two counts, `total_` includes the groups below, as the usage does.
    let (usage, inactive) = match group.version {
        Version::V1 => ("memory.usage_in_bytes", "total_inactive_file "),
        Version::V2 => ("memory.current", "inactive_file "),
    };
    let usage: u64 = root.read(&group.folder.join(usage), MAX_NUMBER).ok()?.trim().parse().ok()?;
    let statistics = root.read(&group.folder.join("memory.stat"), MAX_FILE).unwrap_or_default();
    let inactive = statistics.lines().find_map(|line| line.strip_prefix(inactive)?.trim().parse().ok());
    Some(usage.saturating_sub(inactive.unwrap_or(0)))
}

/// The number of a line such as `MemTotal:  123 kB`, in bytes.
fn kibibytes(text: &str, key: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(key))?;
    rest.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}
