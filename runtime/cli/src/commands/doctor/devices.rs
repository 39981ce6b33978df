//! Each device: which backends can use it, or why none can.

use std::collections::BTreeMap;

use corymb_core::{Device, DeviceChoice, Finding, Problem};
use corymb_hardware::{Gpu, Nvidia};

use super::Checked;

const NO_DRIVER: &str = "install NVIDIA's driver, or give the container the GPU (docker run --gpus all; in Kubernetes a \
                         limit of nvidia.com/gpu)";

/// The processor, every GPU that is there, every device that a backend offers, and those that were named.
pub(super) fn devices(named: &str, backends: &[Checked], nvidia: &Result<Nvidia, String>) -> Vec<Finding> {
    // By name, so that each is there once; the order is that of what is most likely asked for.
    let mut devices = BTreeMap::from([(order(Device::Cpu), Device::Cpu)]);
    let mut add = |device: Device| devices.insert(order(device), device);
    for checked in backends {
        checked.check.iter().flat_map(|usable| &usable.devices).copied().for_each(|device| _ = add(device));
        let failed = checked.findings.iter().filter(|finding| finding.outcome.is_err());
        failed.filter_map(|finding| finding.subject.parse().ok()).for_each(|device| _ = add(device));
    }
    match nvidia {
        Ok(nvidia) => nvidia.gpus.iter().for_each(|gpu| _ = add(Device::Cuda(gpu.index))),
        // What users ask for most, so it is said without being asked.
        Err(_) => _ = add(Device::Cuda(0)),
    }
    if let Ok(DeviceChoice::FirstOf(choice) | DeviceChoice::All(choice)) = named.parse() {
        choice.into_iter().for_each(|device| _ = add(device));
    }
    devices.into_values().map(|device| finding(device, backends, nvidia)).collect()
}

fn order(device: Device) -> (bool, &'static str, Option<u32>) {
    (device != Device::Cpu, device.kind(), device.index())
}

fn finding(device: Device, backends: &[Checked], nvidia: &Result<Nvidia, String>) -> Finding {
    let users: Vec<&str> = backends
        .iter()
        .filter(|checked| checked.check.as_ref().is_ok_and(|usable| usable.devices.contains(&device)))
        .map(|checked| checked.name)
        .collect();
    let outcome = if users.is_empty() { Err(problem(device, backends, nvidia)) } else { Ok(users.join(", ")) };
    Finding { subject: device.to_string(), outcome }
}

/// The machine's own reason first: without a GPU no library helps.
fn problem(device: Device, backends: &[Checked], nvidia: &Result<Nvidia, String>) -> Problem {
    let mut reasons = Vec::new();
    let mut remedy = None;
    if let (Device::Cuda(index) | Device::TensorRt(index), nvidia) = (device, nvidia) {
        match nvidia {
            Err(reason) => {
                reasons.push(reason.clone());
                remedy = Some(NO_DRIVER.to_owned());
            }
            Ok(nvidia) => reasons.extend(gpu_problem(index, &nvidia.gpus)),
        }
    }
    let name = device.to_string();
    for checked in backends {
        let own = checked
            .findings
            .iter()
            .filter(|finding| [name.as_str(), device.kind()].contains(&finding.subject.as_str()));
        let own: Vec<&Problem> = own.filter_map(|finding| finding.outcome.as_ref().err()).collect();
        for problem in &own {
            reasons.push(format!("{}: {}", checked.name, problem.reason));
            remedy = remedy.or_else(|| problem.remedy.clone());
        }
        if own.is_empty() {
            reasons.push(match &checked.check {
                Err(reason) => format!("{}: {reason}", checked.name),
                Ok(usable) => format!("{} runs on {}", checked.name, list(&usable.devices)),
            });
        }
    }
    Problem { reason: reasons.join("; "), remedy }
}

/// What the driver says against a GPU.
fn gpu_problem(index: u32, gpus: &[Gpu]) -> Option<String> {
    let Some(gpu) = gpus.iter().find(|gpu| gpu.index == index) else {
        return Some(format!("there are {} NVIDIA GPUs, counted from 0", gpus.len()));
    };
    if let Some(fault) = &gpu.fault {
        return Some(format!("{}: {fault}", gpu.name));
    }
    let empty = gpu.mig.as_ref().is_some_and(|mig| mig.enabled && mig.instances.is_empty());
    empty.then(|| format!("{} is set to be divided (MIG) and has no instance: nvidia-smi mig -cgi", gpu.name))
}

pub(super) fn list(devices: &[Device]) -> String {
    devices.iter().map(Device::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use corymb_core::Availability;
    use corymb_hardware::Mig;

    use super::*;

    fn gpu(index: u32, mig: Option<Mig>, fault: Option<&str>) -> Gpu {
        Gpu {
            index,
            name: "H100".to_owned(),
            uuid: None,
            memory_total_bytes: None,
            memory_free_bytes: None,
            compute_capability: None,
            mig,
            fault: fault.map(str::to_owned),
        }
    }

    fn outcome<'a>(findings: &'a [Finding], device: &str) -> Result<&'a str, &'a str> {
        let finding = findings.iter().find(|finding| finding.subject == device).expect(device);
        finding.outcome.as_deref().map_err(|problem| problem.reason.as_str())
    }

    #[test]
    fn each_device_is_usable_or_has_a_reason() {
        let onnxruntime = Checked {
            name: "onnxruntime",
            check: Ok(Availability { version: "1.24.0".to_owned(), devices: vec![Device::Cuda(0), Device::Cpu] }),
            findings: vec![
                Finding::usable("/opt/libonnxruntime.so", "1.24.0"),
                Finding::unusable("tensorrt", "libnvinfer.so.10 not found", Some("install TensorRT")),
            ],
        };
        let tract = Checked {
            name: "tract",
            check: Ok(Availability { version: "1".to_owned(), devices: vec![Device::Cpu] }),
            findings: Vec::new(),
        };
        let divided = Some(Mig { enabled: true, instances: Vec::new() });
        let gpus = vec![gpu(0, None, None), gpu(1, divided, None), gpu(2, None, Some("lost"))];
        let nvidia = Ok(Nvidia { driver: "580".to_owned(), cuda: None, gpus });
        let found = devices("tensorrt,cuda:7,openvino", &[onnxruntime, tract], &nvidia);
        let names: Vec<&str> = found.iter().map(|finding| finding.subject.as_str()).collect();
        assert_eq!(names, ["cpu", "cuda:0", "cuda:1", "cuda:2", "cuda:7", "openvino:0", "tensorrt:0"]);
        assert_eq!(outcome(&found, "cpu"), Ok("onnxruntime, tract"));
        assert_eq!(outcome(&found, "cuda:0"), Ok("onnxruntime"));
        assert!(outcome(&found, "cuda:1").expect_err("divided").starts_with("H100 is set to be divided (MIG)"));
        assert!(outcome(&found, "cuda:2").expect_err("lost").starts_with("H100: lost"));
        assert!(outcome(&found, "cuda:7").expect_err("absent").starts_with("there are 3 NVIDIA GPUs, counted from 0"));
        assert_eq!(outcome(&found, "openvino:0"), Err("onnxruntime runs on cuda:0, cpu; tract runs on cpu"));
        assert_eq!(outcome(&found, "tensorrt:0"), Err("onnxruntime: libnvinfer.so.10 not found; tract runs on cpu"));
        let last = found.last().expect("tensorrt").outcome.as_ref().expect_err("absent");
        assert_eq!(last.remedy.as_deref(), Some("install TensorRT"));
    }
}
