//! All of it, read once.

use std::path::Path;

use crate::cores::Cores;
use crate::drm::{self, DisplayAdapter};
use crate::memory::Memory;
use crate::numa::{self, NumaNode};
use crate::processor::Processor;
use crate::root::Root;

/// The machine as this process may use it. NVIDIA's GPUs are not in it: asking for them takes a driver's time, see
/// [`crate::Nvidia::read`].
#[derive(Clone, Debug)]
pub struct Hardware {
    /// How many cores, and what limits them.
    pub cores: Cores,
    /// What the cores are.
    pub processor: Processor,
    /// Limit and usage of memory.
    pub memory: Memory,
    /// Address space that this process may map, in bytes (`ulimit -v`); none when it is not limited.
    pub address_space_bytes: Option<u64>,
    /// Which processors and how much memory lie together.
    pub numa: Vec<NumaNode>,
    /// GPUs of AMD and Intel.
    pub display_adapters: Vec<DisplayAdapter>,
    /// What could not be read or understood.
    pub notes: Vec<String>,
}

impl Hardware {
    /// Of this machine.
    #[must_use]
    pub fn read() -> Self {
        Self::read_below(Path::new("/"))
    }

    /// From the `proc` and `sys` below a root. What the processor can do is always that of this machine.
    #[must_use]
    pub fn read_below(root: &Path) -> Self {
        let root = Root::new(root);
        let mut notes = Vec::new();
        let cores = Cores::read(&root, &mut notes);
        let memory = Memory::read(&root, &mut notes);
        // Both ask for the groups that hold this process.
        notes.dedup();
        Self {
            processor: Processor::read(&root, &cores.allowed),
            cores,
            memory,
            address_space_bytes: address_space(&root),
            numa: numa::read(&root),
            display_adapters: drm::read(&root),
            notes,
        }
    }

    /// What can still be taken, in bytes, read anew. None when nothing is known.
    #[must_use]
    pub fn memory_available(&self) -> Option<u64> {
        self.memory.available_bytes()
    }
}

/// `Max address space         unlimited            unlimited            bytes`: the first is the one in force.
fn address_space(root: &Root) -> Option<u64> {
    let limits = root.read(Path::new("/proc/self/limits"), 64 << 10).ok()?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max address space"))?;
    line.split_whitespace().next()?.parse().ok()
}
