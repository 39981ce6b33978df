//! How many cores this process may use: the processors it may run on, and the quota of its control groups.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::cgroup::{self, Group, Version};
use crate::cpulist;
use crate::root::{Root, quoted};

const STATUS: &str = "/proc/self/status";
const ONLINE: &str = "/sys/devices/system/cpu/online";

/// Status has some 60 lines; lists of processors are longest.
const MAX_STATUS: u64 = 256 << 10;
const MAX_NUMBER: u64 = 256;

/// The kernel's period, in µs, where only a quota is given.
const DEFAULT_PERIOD: u64 = 100_000;

/// Time of processors that a control group may use in each period.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CpuQuota {
    /// Time that all threads together may run in one period, in µs.
    pub quota_micros: u64,
    /// The period, in µs; at least 1.
    pub period_micros: u64,
    /// The file that says so.
    pub source: PathBuf,
}

impl CpuQuota {
    /// As a number of cores, e.g. 1.5.
    #[must_use]
    pub fn cores(&self) -> f64 {
        self.quota_micros as f64 / self.period_micros as f64
    }

    fn tighter(&self, other: &Self) -> Ordering {
        let product = |quota: u64, period: u64| u128::from(quota) * u128::from(period);
        product(self.quota_micros, other.period_micros).cmp(&product(other.quota_micros, self.period_micros))
    }
}

/// The cores of the machine and what this process may use of them.
#[derive(Clone, Debug)]
pub struct Cores {
    /// Processors of the machine that run, hyper-threads counted.
    pub online: usize,
    /// Those that this process may run on (its affinity, which a cpuset limits too).
    pub allowed: BTreeSet<u32>,
    /// The tightest quota of its control groups.
    pub quota: Option<CpuQuota>,
}

impl Cores {
    pub(crate) fn read(root: &Root, notes: &mut Vec<String>) -> Self {
        let online = root.read_noted(Path::new(ONLINE), MAX_STATUS, notes).and_then(|text| {
            let list = cpulist::parse(&text).filter(|list| !list.is_empty());
            if list.is_none() {
                notes.push(format!("{ONLINE} says {}; expected a list such as 0-3", quoted(&text)));
            }
            list
        });
        let affinity = root.read_noted(Path::new(STATUS), MAX_STATUS, notes).and_then(|text| affinity(&text));
        let allowed = match (affinity, &online) {
            // The affinity also names processors that the machine could have and has not.
            (Some(affinity), Some(online)) => affinity.intersection(online).copied().collect(),
            (Some(only), None) => only,
            (None, Some(online)) => online.clone(),
            (None, None) => BTreeSet::new(),
        };
        let allowed = if allowed.is_empty() {
            let count = std::thread::available_parallelism().map_or(1, usize::from);
            notes.push(format!("neither {STATUS} nor {ONLINE} tells the processors; {count} assumed"));
            (0..u32::try_from(count).unwrap_or(1)).collect()
        } else {
            allowed
        };
        let quotas = cgroup::groups(root, "cpu", notes).into_iter().filter_map(|group| quota(root, &group, notes));
        let quota = quotas.collect::<Vec<_>>().into_iter().min_by(CpuQuota::tighter);
        Self { online: online.map_or(allowed.len(), |online| online.len()), allowed, quota }
    }

    /// Cores to use: the quota where it is less than the processors allowed. At least 0.001, which is the smallest quota
    /// that the kernel takes (1 ms in a period of 1 s).
    #[must_use]
    pub fn usable(&self) -> f64 {
        let allowed = self.allowed.len() as f64;
        self.quota.as_ref().map_or(allowed, |quota| quota.cores().min(allowed)).max(0.001)
    }

    /// What makes it no more, for messages.
    #[must_use]
    pub fn limited_by(&self) -> String {
        match &self.quota {
            Some(quota) if quota.cores() < self.allowed.len() as f64 => quota.source.display().to_string(),
            _ if self.allowed.len() < self.online => {
                format!("the process's affinity: {} of {} processors", self.allowed.len(), self.online)
            }
            _ => "the machine".to_owned(),
        }
    }
}

fn affinity(status: &str) -> Option<BTreeSet<u32>> {
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?;
    cpulist::parse(list).filter(|list| !list.is_empty())
}

fn quota(root: &Root, group: &Group, notes: &mut Vec<String>) -> Option<CpuQuota> {
    let (source, parsed) = match group.version {
        Version::V2 => {
            let source = group.folder.join("cpu.max");
            let text = root.read_noted(&source, MAX_NUMBER, notes)?;
            let parsed = cpu_max(&text).ok_or_else(|| {
                format!("{} says {}; expected 'max PERIOD' or 'QUOTA PERIOD' in µs", source.display(), quoted(&text))
            });
            (source, parsed)
        }
        Version::V1 => {
            let source = group.folder.join("cpu.cfs_quota_us");
            let text = root.read_noted(&source, MAX_NUMBER, notes)?;
            let period = root.read_noted(&group.folder.join("cpu.cfs_period_us"), MAX_NUMBER, notes)?;
            let parsed = cfs_quota(&text, &period).ok_or_else(|| {
                let (text, period) = (quoted(&text), quoted(&period));
                format!("{} says {text} with a period of {period}; expected numbers in µs, or -1", source.display())
            });
            (source, parsed)
        }
    };
    match parsed {
        Ok(limit) => limit.map(|(quota_micros, period_micros)| CpuQuota { quota_micros, period_micros, source }),
        Err(note) => {
            notes.push(note);
            None
        }
    }
}

/// `max 100000` or `150000 100000`; none for a text that is neither.
fn cpu_max(text: &str) -> Option<Option<(u64, u64)>> {
    let mut words = text.split_whitespace();
    let quota = words.next()?;
    let period = words.next().map_or(Some(DEFAULT_PERIOD), |word| word.parse().ok())?;
    if quota == "max" {
        return Some(None);
    }
    limit(quota.parse().ok()?, period)
}

/// The two files of version 1; a negative quota is none.
fn cfs_quota(quota: &str, period: &str) -> Option<Option<(u64, u64)>> {
    let quota: i64 = quota.trim().parse().ok()?;
    match u64::try_from(quota) {
        Ok(quota) => limit(quota, period.trim().parse().ok()?),
        Err(_) => Some(None),
    }
}

fn limit(quota: u64, period: u64) -> Option<Option<(u64, u64)>> {
    (quota > 0 && period > 0).then_some(Some((quota, period)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn both_forms_of_a_quota() {
        assert_eq!(cpu_max("max 100000\n"), Some(None));
        assert_eq!(cpu_max("150000 100000\n"), Some(Some((150_000, 100_000))));
        assert_eq!(cpu_max("50000"), Some(Some((50_000, 100_000))));
        for wrong in ["", "\n", "x 100000", "100 0", "0 100", "-1 100000", "100 x"] {
            assert_eq!(cpu_max(wrong), None, "{wrong}");
        }
        assert_eq!(cfs_quota("-1\n", "100000\n"), Some(None));
        assert_eq!(cfs_quota("50000\n", "100000\n"), Some(Some((50_000, 100_000))));
        for (quota, period) in [("", "1"), ("max", "1"), ("5", ""), ("5", "0"), ("0", "5")] {
            assert_eq!(cfs_quota(quota, period), None, "{quota} {period}");
        }
    }

    #[test]
    fn the_affinity_is_a_line_of_the_status() {
        let status = "Name:\tx\nCpus_allowed:\t3\nCpus_allowed_list:\t0-1,4\nMems_allowed:\t1\n";
        assert_eq!(affinity(status), Some(BTreeSet::from([0, 1, 4])));
        assert_eq!(affinity("Name:\tx\n"), None);
        assert_eq!(affinity("Cpus_allowed_list:\t\n"), None);
    }

    proptest! {
        #[test]
        fn rubbish_does_no_harm(first in "[0-9a-z\\- \n]{0,30}|.{0,30}", second in ".{0,30}") {
            let _ = cpu_max(&first);
            let _ = cfs_quota(&first, &second);
            let _ = affinity(&first);
        }

        #[test]
        fn the_tighter_of_two_is_the_one_with_fewer_cores(a in 1u64..1_000_000, b in 1u64..1_000_000) {
            let quota = |quota_micros, period_micros| CpuQuota { quota_micros, period_micros, source: PathBuf::new() };
            // 400 µs of 500 are less than 400 µs of 300, whatever the quota.
            let (left, right) = (quota(a, 500), quota(b, 300));
            prop_assert_eq!(left.tighter(&right) == Ordering::Less, left.cores() < right.cores());
        }
    }
}
