//! NUMA nodes: which processors and how much memory lie together.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::cpulist;
use crate::root::Root;

const NODES: &str = "/sys/devices/system/node";

const MAX_FILE: u64 = 64 << 10;

/// Above what the kernel can be built for (`NODES_SHIFT` is at most 10).
const MAX_NODES: usize = 1024;

/// Processors and memory that lie together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NumaNode {
    /// Its number.
    pub node: u32,
    /// Its processors; none for a node that is memory alone.
    pub cpus: BTreeSet<u32>,
    /// Its memory, in bytes.
    pub memory_bytes: Option<u64>,
}

impl NumaNode {
    /// Its processors as the kernel writes them, e.g. `0-3,8`.
    #[must_use]
    pub fn cpu_list(&self) -> String {
        cpulist::format(&self.cpus)
    }
}

/// In order of their numbers; empty where the kernel tells none.
pub(crate) fn read(root: &Root) -> Vec<NumaNode> {
    let text = |path: PathBuf| root.read(&path, MAX_FILE).ok();
    let online = text(Path::new(NODES).join("online")).and_then(|list| cpulist::parse(&list)).unwrap_or_default();
    let nodes = online.into_iter().take(MAX_NODES).filter_map(|node| {
        let folder = Path::new(NODES).join(format!("node{node}"));
        let cpus = cpulist::parse(&text(folder.join("cpulist"))?)?;
        // `Node 0 MemTotal:       24684084 kB`
        let meminfo = text(folder.join("meminfo")).unwrap_or_default();
        let total = meminfo.lines().find_map(|line| line.split_once("MemTotal:")?.1.trim().strip_suffix("kB"));
        let memory_bytes = total.and_then(|kib| kib.trim().parse::<u64>().ok()?.checked_mul(1024));
        Some(NumaNode { node, cpus, memory_bytes })
    });
    nodes.collect()
}
