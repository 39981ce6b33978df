//! NVIDIA's GPUs, through the management library (NVML) that its driver brings, loaded when it is asked for.

use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use nvml_wrapper::error::NvmlError;
use nvml_wrapper::{Device, Nvml, cuda_driver_version_major, cuda_driver_version_minor};

/// The library that the driver brings.
pub const NVML: &str = "libnvidia-ml.so.1";

/// There as soon as the driver is in the kernel, also in containers that were not given its libraries.
const KERNEL_DRIVER: &str = "/proc/driver/nvidia/version";

/// GPUs of one machine, and parts of one GPU, that are looked at.
const MAX_GPUS: u32 = 256;

/// What the driver tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nvidia {
    /// Version of the driver.
    pub driver: String,
    /// The newest version of CUDA that the driver runs.
    pub cuda: Option<String>,
    /// In the driver's order, which is that of their places on the bus. CUDA's own order may be another: it puts the
    /// fastest first unless `CUDA_DEVICE_ORDER=PCI_BUS_ID` is set.
    pub gpus: Vec<Gpu>,
}

/// One GPU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gpu {
    /// In the driver's order.
    pub index: u32,
    /// E.g. `NVIDIA H100 80GB HBM3`.
    pub name: String,
    /// E.g. `GPU-5a1e…`.
    pub uuid: Option<String>,
    /// In bytes.
    pub memory_total_bytes: Option<u64>,
    /// In bytes, now.
    pub memory_free_bytes: Option<u64>,
    /// E.g. `9.0`.
    pub compute_capability: Option<String>,
    /// None for a GPU that cannot be divided.
    pub mig: Option<Mig>,
    /// Why the GPU cannot be used, where the driver says so.
    pub fault: Option<String>,
}

/// Whether a GPU is divided, and into what.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mig {
    /// The GPU can be used through its instances only.
    pub enabled: bool,
    /// Its parts.
    pub instances: Vec<MigInstance>,
}

/// A part of a GPU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MigInstance {
    /// E.g. `NVIDIA A100-SXM4-40GB MIG 1g.5gb`.
    pub name: String,
    /// E.g. `MIG-…`, which is how CUDA is told to use it.
    pub uuid: Option<String>,
    /// In bytes.
    pub memory_total_bytes: Option<u64>,
}

impl Nvidia {
    /// Loads the library ([`NVML`] by its usual name, or a path) and asks it, for so long at most.
    ///
    /// # Errors
    /// Why there is nothing to tell, in words a user can act on. A machine without a driver is one of these.
    pub fn read(library: &OsStr, limit: Duration) -> Result<Self, String> {
        let library: OsString = library.to_owned();
        let name = library.display().to_string();
        let (sender, answer) = channel();
        // A driver in trouble answers after minutes, or never: then the thread is left to itself.
        let thread = thread::Builder::new().name("nvml".to_owned()).spawn(move || {
            let _ = sender.send(ask(&library));
        });
        thread.map_err(|error| format!("no thread to ask {name} with: {error}"))?;
        match answer.recv_timeout(limit) {
            Ok(result) => result.map_err(|error| reason(&name, &error, Path::new(KERNEL_DRIVER).exists())),
            Err(RecvTimeoutError::Timeout) => Err(format!(
                "the NVIDIA driver did not answer within {limit:?}: see whether nvidia-smi answers, and the kernel's log"
            )),
            Err(RecvTimeoutError::Disconnected) => Err(format!("asking {name} failed")),
        }
    }
}

fn ask(library: &OsStr) -> Result<Nvidia, NvmlError> {
    let nvml = Nvml::builder().lib_path(library).init()?;
    let version = |number| format!("{}.{}", cuda_driver_version_major(number), cuda_driver_version_minor(number));
    let count = nvml.device_count()?.min(MAX_GPUS);
    let gpus = (0..count).map(|index| match nvml.device_by_index(index) {
        Ok(device) => gpu(index, &device),
        // One that fell off the bus says nothing of the others.
        Err(error) => Gpu { fault: Some(error.to_string()), ..nameless(index) },
    });
    Ok(Nvidia {
        driver: nvml.sys_driver_version()?,
        cuda: nvml.sys_cuda_driver_version().ok().map(version),
        gpus: gpus.collect(),
    })
}

fn nameless(index: u32) -> Gpu {
    Gpu {
        index,
        name: "unknown".to_owned(),
        uuid: None,
        memory_total_bytes: None,
        memory_free_bytes: None,
        compute_capability: None,
        mig: None,
        fault: None,
    }
}

fn gpu(index: u32, device: &Device<'_>) -> Gpu {
    let (name, fault) = match device.name() {
        Ok(name) => (name, None),
        Err(error) => ("unknown".to_owned(), Some(error.to_string())),
    };
    // Older drivers and smaller GPUs lack some of these.
    let memory = device.memory_info().ok();
    let capability = device.cuda_compute_capability().ok();
    Gpu {
        index,
        name,
        uuid: device.uuid().ok(),
        memory_total_bytes: memory.as_ref().map(|memory| memory.total),
        memory_free_bytes: memory.as_ref().map(|memory| memory.free),
        compute_capability: capability.map(|capability| format!("{}.{}", capability.major, capability.minor)),
        mig: mig(device),
        fault,
    }
}

fn mig(device: &Device<'_>) -> Option<Mig> {
    // NVML_DEVICE_MIG_ENABLE
    let enabled = device.mig_mode().ok()?.current == 1;
    if !enabled {
        return Some(Mig::default());
    }
    // The count is of places for instances, some of which are empty.
    let places = device.mig_device_count().unwrap_or_default().min(MAX_GPUS);
    let instances = (0..places).filter_map(|place| device.mig_device_by_index(place).ok()).map(|part| MigInstance {
        name: part.name().unwrap_or_else(|_| "unknown".to_owned()),
        uuid: part.uuid().ok(),
        memory_total_bytes: part.memory_info().ok().map(|memory| memory.total),
    });
    Some(Mig { enabled, instances: instances.collect() })
}

fn reason(library: &str, error: &NvmlError, kernel_driver: bool) -> String {
    match error {
        NvmlError::LibloadingError(error) => {
            let text = chain(error);
            if !text.contains("No such file") {
                format!("{library} cannot be loaded: {text}")
            } else if kernel_driver {
                format!(
                    "{library} not found, although the kernel has an NVIDIA driver: the container was not given the \
                     driver's libraries (NVIDIA Container Toolkit)"
                )
            } else {
                format!("{library} not found: no NVIDIA driver")
            }
        }
        NvmlError::DriverNotLoaded => format!("{library} is there, but the kernel has no NVIDIA driver loaded"),
        NvmlError::LibRmVersionMismatch => {
            format!("{library} and the NVIDIA driver in the kernel are of different versions: restart the machine")
        }
        NvmlError::NoPermission => "this process may not talk to the NVIDIA driver".to_owned(),
        error => format!("{library}: {error}"),
    }
}

/// libloading keeps the system's own words in the source.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    if let Some(source) = error.source() {
        let source = source.to_string();
        if !text.contains(&source) {
            text = format!("{text}: {source}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_say_what_is_missing() {
        let missing = || Nvml::builder().lib_path(OsStr::new("libcorymb-absent.so.1")).init().expect_err("absent");
        assert_eq!(reason(NVML, &missing(), false), "libnvidia-ml.so.1 not found: no NVIDIA driver");
        assert!(reason(NVML, &missing(), true).contains("Container Toolkit"));
        assert!(reason(NVML, &NvmlError::LibRmVersionMismatch, true).contains("different versions"));
        assert!(reason(NVML, &NvmlError::DriverNotLoaded, false).contains("no NVIDIA driver loaded"));
    }

    #[test]
    fn an_absent_library_is_a_reason() {
        let error = Nvidia::read(OsStr::new("/nonexistent/libnvidia-ml.so.1"), Duration::from_secs(60));
        assert!(error.expect_err("absent").starts_with("/nonexistent/libnvidia-ml.so.1 not found"));
    }

    #[test]
    fn a_file_that_is_no_library_is_a_reason() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("libnvidia-ml.so.1");
        std::fs::write(&path, "text").expect("written");
        let error = Nvidia::read(path.as_os_str(), Duration::from_secs(60)).expect_err("no library");
        assert!(error.contains("cannot be loaded"), "{error}");
    }
}
