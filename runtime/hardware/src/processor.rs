//! The processor: its name, and those of its instruction sets that inference engines make use of.

use std::collections::BTreeSet;
use std::path::Path;

use crate::root::Root;

const CPUINFO: &str = "/proc/cpuinfo";

/// The first processor's part is what is looked at.
const MAX_CPUINFO: u64 = 64 << 10;

/// What the cores are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Processor {
    /// As the kernel names it.
    pub model: Option<String>,
    /// E.g. `x86_64`, `aarch64`: what this program is compiled for.
    pub architecture: &'static str,
    /// Instruction sets, in the order in which they appeared.
    pub instruction_sets: Vec<&'static str>,
    /// Cores of which the allowed processors are threads, where the kernel tells.
    pub physical_cores: Option<usize>,
}

impl Processor {
    pub(crate) fn read(root: &Root, allowed: &BTreeSet<u32>) -> Self {
        let cpuinfo = root.read(Path::new(CPUINFO), MAX_CPUINFO).unwrap_or_default();
        Self {
            model: model(&cpuinfo),
            architecture: std::env::consts::ARCH,
            instruction_sets: instruction_sets(&cpuinfo),
            physical_cores: physical_cores(root, allowed),
        }
    }
}

fn value<'a>(cpuinfo: &'a str, key: &str) -> Option<&'a str> {
    cpuinfo.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        (name.trim() == key && !value.trim().is_empty()).then(|| value.trim())
    })
}

/// x86 has a name; Arm has the numbers of its maker and of the part.
fn model(cpuinfo: &str) -> Option<String> {
    const LONGEST: usize = 80;
    let named = value(cpuinfo, "model name").map(|name| name.chars().take(LONGEST).collect());
    let numbered = || {
        let (maker, part) = (value(cpuinfo, "CPU implementer")?, value(cpuinfo, "CPU part")?);
        let short = |text: &str| text.chars().take(LONGEST / 2).collect::<String>();
        Some(format!("implementer {}, part {}", short(maker), short(part)))
    };
    named.or_else(numbered)
}

/// Processors that are threads of one core name the same siblings.
fn physical_cores(root: &Root, allowed: &BTreeSet<u32>) -> Option<usize> {
    let siblings = allowed.iter().map(|cpu| {
        let file = format!("/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list");
        root.read(Path::new(&file), 4096).ok()
    });
    Some(siblings.collect::<Option<BTreeSet<String>>>()?.len())
}

/// Names of those that `$detected` finds, by the names that the standard library gives them.
macro_rules! detected {
    ($detected:ident: $($name:tt)*) => { [$(($name, std::arch::$detected!($name))),*] };
}

#[cfg(target_arch = "x86_64")]
fn instruction_sets(cpuinfo: &str) -> Vec<&'static str> {
    let known = detected!(is_x86_feature_detected:
        "sse4.2" "avx" "f16c" "fma" "avx2" "avx512f" "avx512bw" "avx512vl" "avx512vnni" "avx512bf16" "avx512fp16"
        "avxvnni");
    let mut found: Vec<&str> = known.into_iter().filter_map(|(name, here)| here.then_some(name)).collect();
    // The standard library does not tell these yet; the kernel lists what it lets programs use.
    let flags = value(cpuinfo, "flags").unwrap_or_default();
    let tiles = [("amx_tile", "amx-tile"), ("amx_int8", "amx-int8"), ("amx_bf16", "amx-bf16")];
    found
        .extend(tiles.into_iter().filter_map(|(flag, name)| flags.split(' ').any(|here| here == flag).then_some(name)));
    found
}

#[cfg(target_arch = "aarch64")]
fn instruction_sets(_cpuinfo: &str) -> Vec<&'static str> {
    let known = detected!(is_aarch64_feature_detected: "neon" "fp16" "dotprod" "i8mm" "bf16" "sve" "sve2");
    known.into_iter().filter_map(|(name, here)| here.then_some(name)).collect()
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn instruction_sets(_cpuinfo: &str) -> Vec<&'static str> {
    Vec::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_processor_has_a_name_or_numbers() {
        let x86 =
            "processor\t: 0\nvendor_id\t: AuthenticAMD\nmodel\t\t: 1\nmodel name\t: AMD EPYC 7R13\nflags\t\t: fpu\n";
        assert_eq!(model(x86).as_deref(), Some("AMD EPYC 7R13"));
        let arm = "processor\t: 0\nFeatures\t: fp asimd\nCPU implementer\t: 0x41\nCPU part\t: 0xd40\n";
        assert_eq!(model(arm).as_deref(), Some("implementer 0x41, part 0xd40"));
        assert_eq!(model("model name"), None);
        assert_eq!(model("model name :\n"), None);
        assert_eq!(model(""), None);
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn tiles_are_told_by_the_kernel() {
        assert!(instruction_sets("flags : fpu amx_tile amx_int8").ends_with(&["amx-tile", "amx-int8"]));
        assert!(!instruction_sets("").contains(&"amx-tile"));
    }
}
