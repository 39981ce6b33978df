//! What this process may use: cores, memory, instruction sets, GPUs, and the plan of threads made from it.
//!
//! Everything but the GPUs is read from `/proc` and `/sys` below a root that the caller names, so that tests feed trees
//! of files. Nothing here fails: what cannot be read is left out, and [`Hardware::notes`] says so. Files are read up to a
//! limit; NVIDIA's library, which is loaded when it is asked for, has a limit of time.
//!
//! Deliberately absent: the environment, any decision about models, and anything that changes the machine.

mod cgroup;
mod cores;
mod cpulist;
mod drm;
mod hardware;
mod memory;
mod numa;
mod nvidia;
mod plan;
mod processor;
mod root;

pub use cores::{Cores, CpuQuota};
pub use drm::DisplayAdapter;
pub use hardware::Hardware;
pub use memory::{Memory, MemoryLimit, MemoryUsage};
pub use numa::NumaNode;
pub use nvidia::{Gpu, Mig, MigInstance, NVML, Nvidia};
pub use plan::{MAX_THREADS, ThreadOverrides, ThreadPlan};
pub use processor::Processor;
