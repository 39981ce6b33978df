//! GPUs of AMD and Intel, as far as the kernel's list of display adapters tells.

use std::path::Path;

use crate::root::Root;

const ADAPTERS: &str = "/sys/class/drm";

/// `cardN`, where N is below the kernel's 64 per driver; connectors have longer names.
const MAX_ADAPTERS: u32 = 64;

/// A GPU that the kernel lists. Nothing says whether an engine can use it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DisplayAdapter {
    /// E.g. `card0`.
    pub card: String,
    /// `AMD` or `Intel`.
    pub vendor: &'static str,
    /// The number of the device in PCI's list, e.g. `0x740f`.
    pub device: String,
}

/// In order of their numbers. NVIDIA's are left out, since its own library tells more of them.
pub(crate) fn read(root: &Root) -> Vec<DisplayAdapter> {
    let adapters = (0..MAX_ADAPTERS).filter_map(|number| {
        let card = format!("card{number}");
        let folder = Path::new(ADAPTERS).join(&card).join("device");
        let vendor = match root.read(&folder.join("vendor"), 64).ok()?.trim() {
            "0x1002" => "AMD",
            "0x8086" => "Intel",
            _ => return None,
        };
        let device = root.read(&folder.join("device"), 64).ok()?.trim().to_owned();
        Some(DisplayAdapter { card, vendor, device })
    });
    adapters.collect()
}
