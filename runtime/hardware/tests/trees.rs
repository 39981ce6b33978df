//! Whole trees of `/proc` and `/sys`, as machines and containers of several kinds show them.

use std::fs;
use std::path::Path;

use corymb_hardware::{Hardware, ThreadPlan};
use proptest::prelude::*;
use tempfile::TempDir;

const V2_MOUNT: &str = "29 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw\n";
const V1_MOUNTS: &str = "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\n\
    32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
    35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n";

fn tree(files: &[(&str, &str)]) -> TempDir {
    let root = tempfile::tempdir().expect("a temporary folder");
    for (name, content) in files {
        write(root.path(), name, content.as_bytes());
    }
    root
}

fn write(root: &Path, name: &str, content: &[u8]) {
    let path = root.join(name);
    fs::create_dir_all(path.parent().expect("inside")).expect("created");
    fs::write(path, content).expect("written");
}

/// Eight processors and 16 GiB, and what else a case has.
fn machine(files: &[(&str, &str)]) -> Hardware {
    let usual = [
        ("sys/devices/system/cpu/online", "0-7\n"),
        ("proc/self/status", "Name:\tcorymb\nVmRSS:\t   20480 kB\nCpus_allowed_list:\t0-127\n"),
        ("proc/meminfo", "MemTotal:       16777216 kB\nMemFree: 1 kB\nMemAvailable:   8388608 kB\n"),
    ];
    let root = tree(&[&usual, files].concat());
    let hardware = Hardware::read_below(root.path());
    // Usage is read later: keep the tree as long as the process.
    let _ = root.keep();
    hardware
}

fn quota(hardware: &Hardware) -> Option<(f64, String)> {
    hardware.cores.quota.as_ref().map(|quota| (quota.cores(), quota.source.display().to_string()))
}

#[test]
fn version_2() {
    let hardware = machine(&[
        ("proc/self/cgroup", "0::/kubepods/pod1/app\n"),
        ("proc/self/mountinfo", V2_MOUNT),
        ("sys/fs/cgroup/kubepods/pod1/app/cpu.max", "150000 100000\n"),
        ("sys/fs/cgroup/kubepods/pod1/cpu.max", "max 100000\n"),
        ("sys/fs/cgroup/kubepods/pod1/app/memory.max", "1073741824\n"),
        ("sys/fs/cgroup/kubepods/pod1/app/memory.current", "300000000\n"),
        ("sys/fs/cgroup/kubepods/pod1/app/memory.stat", "anon 1\nfile 2\ninactive_file 100000000\nactive_file 5\n"),
        ("sys/fs/cgroup/kubepods/memory.max", "max\n"),
    ]);
    assert_eq!(quota(&hardware), Some((1.5, "/sys/fs/cgroup/kubepods/pod1/app/cpu.max".to_owned())));
    assert_eq!(hardware.cores.usable(), 1.5);
    assert_eq!((hardware.cores.online, hardware.cores.allowed.len()), (8, 8));
    let limit = hardware.memory.limit().expect("a limit");
    assert_eq!((limit.limit_bytes, limit.source.ends_with("app/memory.max")), (1 << 30, true));
    let usage = hardware.memory.current_usage();
    assert_eq!((usage.process_bytes, usage.group_bytes), (Some(20 << 20), Some(200_000_000)));
    assert_eq!(hardware.memory_available(), Some((1 << 30) - 200_000_000));
    assert!(hardware.notes.is_empty(), "{:?}", hardware.notes);
    let plan = ThreadPlan::from(&hardware);
    assert_eq!((plan.workers, plan.io_threads), (2, 2));
}

#[test]
fn a_process_and_all_that_it_has_started_are_counted() {
    let hardware = machine(&[
        ("proc/self/smaps_rollup", "Rss: 900 kB\nPss:                 100 kB\nPss_Anon: 50 kB\n"),
        ("proc/self/task/1/children", "11 "),
        ("proc/self/task/2/children", "12"),
        ("proc/11/smaps_rollup", "Pss: 20 kB\n"),
        ("proc/11/task/11/children", "13\n"),
        // It does not let others look into its memory.
        ("proc/13/status", "VmRSS: 900 kB\nRssAnon: 3 kB\nRssFile: 700 kB\nRssShmem: 1 kB\n"),
    ]);
    // Of 12 there is nothing any more.
    assert_eq!(hardware.memory.family_bytes(), Some(124 << 10));
    let alone = machine(&[]);
    assert_eq!(alone.memory.family_bytes(), Some(20 << 20), "a kernel that tells neither");
    let own = Hardware::read().memory;
    let usage = own.current_usage().process_bytes.expect("known");
    assert!(own.family_bytes().is_some_and(|bytes| bytes > 0 && bytes < 4 * usage), "{usage}");
}

#[test]
fn version_2_where_the_parent_is_tighter() {
    let hardware = machine(&[
        ("proc/self/cgroup", "0::/pod/app\n"),
        ("proc/self/mountinfo", V2_MOUNT),
        ("sys/fs/cgroup/pod/app/cpu.max", "400000 100000\n"),
        ("sys/fs/cgroup/pod/cpu.max", "100000 50000\n"),
        ("sys/fs/cgroup/pod/app/memory.max", "4294967296\n"),
        ("sys/fs/cgroup/pod/app/memory.current", "1000\n"),
        // A wider limit with less left: its neighbours have taken it.
        ("sys/fs/cgroup/pod/memory.max", "8589934592\n"),
        ("sys/fs/cgroup/pod/memory.current", "8000000000\n"),
    ]);
    assert_eq!(quota(&hardware), Some((2.0, "/sys/fs/cgroup/pod/cpu.max".to_owned())));
    assert_eq!(hardware.memory.limit().expect("a limit").limit_bytes, 4 << 30);
    assert_eq!(hardware.memory_available(), Some(8_589_934_592 - 8_000_000_000));
}

#[test]
fn version_1() {
    let hardware = machine(&[
        ("proc/self/cgroup", "5:memory:/docker/x\n4:cpu,cpuacct:/docker/x\n1:name=systemd:/docker/x\n"),
        ("proc/self/mountinfo", V1_MOUNTS),
        ("sys/fs/cgroup/cpu,cpuacct/docker/x/cpu.cfs_quota_us", "50000\n"),
        ("sys/fs/cgroup/cpu,cpuacct/docker/x/cpu.cfs_period_us", "100000\n"),
        ("sys/fs/cgroup/cpu,cpuacct/docker/cpu.cfs_quota_us", "-1\n"),
        ("sys/fs/cgroup/cpu,cpuacct/docker/cpu.cfs_period_us", "100000\n"),
        ("sys/fs/cgroup/memory/docker/x/memory.limit_in_bytes", "536870912\n"),
        ("sys/fs/cgroup/memory/docker/x/memory.usage_in_bytes", "100000000\n"),
        ("sys/fs/cgroup/memory/docker/x/memory.stat", "inactive_file 7\ntotal_inactive_file 60000000\n"),
        ("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"),
    ]);
    assert_eq!(hardware.cores.usable(), 0.5);
    assert_eq!(hardware.cores.limited_by(), "/sys/fs/cgroup/cpu,cpuacct/docker/x/cpu.cfs_quota_us");
    assert_eq!(ThreadPlan::from(&hardware).workers, 1);
    assert_eq!(hardware.memory.limit().expect("a limit").limit_bytes, 512 << 20);
    assert_eq!(hardware.memory.current_usage().group_bytes, Some(40_000_000));
    assert!(hardware.notes.is_empty(), "{:?}", hardware.notes);
}

#[test]
fn both_at_once() {
    let hardware = machine(&[
        ("proc/self/cgroup", "4:cpu,cpuacct:/a\n1:name=systemd:/b\n0::/b\n"),
        (
            "proc/self/mountinfo",
            &format!("{V1_MOUNTS}41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n"),
        ),
        ("sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_quota_us", "300000\n"),
        ("sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_period_us", "100000\n"),
        ("sys/fs/cgroup/unified/b/memory.max", "2147483648\n"),
    ]);
    assert_eq!(hardware.cores.usable(), 3.0);
    assert_eq!(hardware.memory.limit().expect("a limit").limit_bytes, 2 << 30);
}

#[test]
fn nothing_is_limited() {
    let hardware = machine(&[
        ("proc/self/cgroup", "0::/user.slice\n"),
        ("proc/self/mountinfo", V2_MOUNT),
        ("sys/fs/cgroup/user.slice/cpu.max", "max 100000\n"),
        ("sys/fs/cgroup/user.slice/memory.max", "max\n"),
        (
            "proc/self/limits",
            "Limit  Soft Limit  Hard Limit  Units\nMax address space         unlimited  unlimited  bytes\n",
        ),
    ]);
    assert_eq!((hardware.cores.usable(), quota(&hardware)), (8.0, None));
    assert_eq!(hardware.cores.limited_by(), "the machine");
    assert_eq!(hardware.memory.limit().expect("the machine's").limit_bytes, 16 << 30);
    assert_eq!(hardware.memory.current_usage().group_bytes, None);
    assert_eq!(hardware.memory_available(), Some(8 << 30));
    assert_eq!(hardware.address_space_bytes, None);
}

#[test]
fn an_affinity_smaller_than_the_quota() {
    let hardware = machine(&[
        ("proc/self/status", "Cpus_allowed_list:\t2,5\n"),
        ("proc/self/cgroup", "0::/\n"),
        ("proc/self/mountinfo", V2_MOUNT),
        ("sys/fs/cgroup/cpu.max", "600000 100000\n"),
        ("sys/devices/system/cpu/cpu2/topology/thread_siblings_list", "2,5\n"),
        ("sys/devices/system/cpu/cpu5/topology/thread_siblings_list", "2,5\n"),
        ("proc/self/limits", "Max address space         4096000000  unlimited  bytes\n"),
    ]);
    assert_eq!(hardware.cores.usable(), 2.0);
    assert_eq!(hardware.cores.limited_by(), "the process's affinity: 2 of 8 processors");
    assert_eq!(hardware.processor.physical_cores, Some(1));
    assert_eq!(hardware.address_space_bytes, Some(4_096_000_000));
}

#[test]
fn nodes_and_adapters() {
    let hardware = machine(&[
        ("sys/devices/system/node/online", "0-1,7\n"),
        ("sys/devices/system/node/node0/cpulist", "0-3\n"),
        ("sys/devices/system/node/node0/meminfo", "Node 0 MemTotal:       1024 kB\nNode 0 MemFree: 1 kB\n"),
        ("sys/devices/system/node/node1/cpulist", "\n"),
        ("sys/class/drm/card0/device/vendor", "0x10de\n"),
        ("sys/class/drm/card1/device/vendor", "0x1002\n"),
        ("sys/class/drm/card1/device/device", "0x740f\n"),
    ]);
    assert_eq!(hardware.numa.len(), 2, "{:?}", hardware.numa);
    assert_eq!((hardware.numa[0].cpus.len(), hardware.numa[0].memory_bytes), (4, Some(1 << 20)));
    assert!(hardware.numa[1].cpus.is_empty());
    let adapters: Vec<_> = hardware.display_adapters.iter().map(|adapter| adapter.card.as_str()).collect();
    assert_eq!(adapters, ["card1"]);
    assert_eq!((hardware.display_adapters[0].vendor, hardware.display_adapters[0].device.as_str()), ("AMD", "0x740f"));
}

#[test]
fn what_is_broken_is_noted_and_left_out() {
    let hardware = machine(&[
        ("proc/self/cgroup", "0::/a\nrubbish\n:::\n"),
        ("proc/self/mountinfo", &format!("rubbish\n - \n1 2 3 - cgroup2\n{V2_MOUNT}")),
        ("sys/fs/cgroup/a/cpu.max", "plenty\u{7}\n"),
        ("sys/fs/cgroup/cpu.max", "200000 100000\n"),
        ("sys/fs/cgroup/a/memory.max", "\n"),
        ("sys/fs/cgroup/memory.max/folder", "a file is expected"),
        ("sys/devices/system/cpu/online", "all"),
    ]);
    assert_eq!(hardware.cores.usable(), 2.0);
    let notes = hardware.notes.join("\n");
    assert!(notes.contains(r"/sys/fs/cgroup/a/cpu.max says 'plenty\u{7}'; expected 'max PERIOD'"), "{notes}");
    assert!(notes.contains("/sys/fs/cgroup/a/memory.max says ''; expected a number of bytes"), "{notes}");
    assert!(notes.contains("/sys/fs/cgroup/memory.max cannot be read: it is not a plain file"), "{notes}");
    assert!(notes.contains("/sys/devices/system/cpu/online says 'all'"), "{notes}");
}

#[test]
fn without_anything_one_goes_on() {
    let empty = tree(&[]);
    let hardware = Hardware::read_below(empty.path());
    assert!(hardware.cores.usable() >= 1.0);
    assert_eq!(hardware.memory.limit(), None);
    assert_eq!(hardware.memory_available(), None);
    assert_eq!(hardware.notes.len(), 1, "{:?}", hardware.notes);
}

#[test]
fn this_machine() {
    let hardware = Hardware::read();
    // The standard library honours affinity and quota too, and rounds down. It knows nothing of containers whose /sys
    // shows fewer processors than they may run on.
    let known = std::thread::available_parallelism().expect("known").get() as f64;
    let usable = hardware.cores.usable().floor().max(1.0);
    assert!((1.0..=known).contains(&usable), "{known}: {:?}", hardware.cores);
    let limit = hardware.memory.limit().expect("known").limit_bytes;
    let usage = hardware.memory.current_usage().process_bytes.expect("known");
    assert!(usage > 0 && usage < limit);
    assert!(hardware.memory_available().expect("known") <= limit);
}

fn rubbish() -> impl Strategy<Value = Vec<u8>> {
    let line = prop_oneof![
        "[0-9]{1,25}( [0-9]{1,25})?",
        "(max|-1|0)( [0-9a-z]{0,6})?",
        "[0-9]{1,3}:(cpu|memory|)?,?[a-z]{0,3}:(/|/a|/../b|/a/b/c|)",
        "[0-9 :/]{0,20}/(sys/fs/cgroup|x)? (rw )?- cgroup2? [a-z]{0,3} (rw,)?(cpu|memory)?",
        "(MemTotal|VmRSS|Cpus_allowed_list|Max address space|inactive_file):? *[0-9\\-,]{0,22}( kB)?",
        ".{0,30}",
    ];
    let text = proptest::collection::vec(line, 0..6).prop_map(|lines| lines.join("\n").into_bytes());
    prop_oneof![text, proptest::collection::vec(any::<u8>(), 0..60)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn rubbish_in_any_file_does_no_harm(contents in proptest::collection::vec(rubbish(), 14), mounted in any::<bool>()) {
        let names = [
            "proc/self/cgroup", "proc/self/mountinfo", "proc/self/status", "proc/self/limits", "proc/meminfo",
            "proc/cpuinfo", "sys/devices/system/cpu/online", "sys/devices/system/node/online", "sys/fs/cgroup/cpu.max",
            "sys/fs/cgroup/memory.max", "sys/fs/cgroup/memory.current", "sys/fs/cgroup/memory.stat",
            "sys/fs/cgroup/a/cpu.max", "sys/devices/system/node/node0/cpulist",
        ];
        let root = tempfile::tempdir().expect("a temporary folder");
        for (name, content) in names.iter().zip(&contents) {
            write(root.path(), name, content);
        }
        if mounted {
            write(root.path(), "proc/self/cgroup", b"0::/a\n");
            write(root.path(), "proc/self/mountinfo", V2_MOUNT.as_bytes());
        }
        let hardware = Hardware::read_below(root.path());
        prop_assert!(hardware.cores.usable() > 0.0);
        prop_assert!(ThreadPlan::from(&hardware).workers >= 1);
        let _ = hardware.memory_available();
        let _ = hardware.memory.current_usage();
    }
}
