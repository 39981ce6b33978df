//! The report as JSON. Keys stay as they are; new ones may come.
//!
//! | key | what |
//! |---|---|
//! | `version` | of this program |
//! | `ok`, `failures` | whether a model can be served as the flags want it; else why not, one text per reason |
//! | `warnings` | what is not as it should be and does no great harm |
//! | `hardware` | `processor` (`model`, `architecture`, `instruction_sets`, `processors`, `physical_cores`), `numa` (`node`, `processors`, `memory_bytes`), `nvidia` (`driver`, `cuda`, `gpus`: `index`, `name`, `uuid`, `memory_total_bytes`, `memory_free_bytes`, `compute_capability`, `mig`, `fault`; or `reason`), `display_adapters` |
//! | `quota` | `cores` (a fraction), `limited_by`, `processors_allowed`, `cpu_quota` (`quota_micros`, `period_micros`, `source`; or null) |
//! | `memory` | `total_bytes`, `limit_bytes`, `limited_by`, `process_bytes`, `group_bytes`, `available_bytes`, `address_space_bytes`, `run_limit_bytes`; null where it is not known or not limited |
//! | `threads` | `workers`, `io_threads` |
//! | `backends` | `name`, `version`, `devices`, `findings`, and the three of a finding |
//! | `devices`, `surroundings` | findings: `subject`, `usable`, then `text`, or `reason` and `remedy` |

use corymb_core::{Device, Finding};
use corymb_hardware::{Gpu, Nvidia};
use serde_json::{Value, json};

use super::{Checked, Report};

pub(super) fn document(report: &Report) -> Value {
    let (hardware, threads) = (&report.hardware, &report.config.threads);
    let findings = |findings: &[Finding]| findings.iter().map(finding).collect::<Vec<_>>();
    let memory = &hardware.memory;
    let (limit, usage) = (memory.limit(), memory.current_usage());
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "ok": report.failures.is_empty(),
        "failures": report.failures,
        "warnings": report.warnings,
        "hardware": {
            "processor": {
                "model": hardware.processor.model,
                "architecture": hardware.processor.architecture,
                "instruction_sets": hardware.processor.instruction_sets,
                "processors": hardware.cores.online,
                "physical_cores": hardware.processor.physical_cores,
            },
            "numa": hardware.numa.iter().map(|node| json!({
                "node": node.node,
                "processors": node.cpu_list(),
                "memory_bytes": node.memory_bytes,
            })).collect::<Vec<_>>(),
            "nvidia": nvidia(&report.nvidia),
            "display_adapters": hardware.display_adapters.iter().map(|adapter| json!({
                "card": adapter.card,
                "vendor": adapter.vendor,
                "device": adapter.device,
            })).collect::<Vec<_>>(),
        },
        "quota": {
            "cores": threads.cores,
            "limited_by": threads.limited_by,
            "processors_allowed": hardware.cores.allowed.len(),
            "cpu_quota": hardware.cores.quota.as_ref().map(|quota| json!({
                "quota_micros": quota.quota_micros,
                "period_micros": quota.period_micros,
                "source": quota.source.to_string_lossy(),
            })),
        },
        "memory": {
            "total_bytes": memory.total_bytes(),
            "limit_bytes": limit.as_ref().map(|limit| limit.limit_bytes),
            "limited_by": limit.map(|limit| limit.limited_by()),
            "process_bytes": usage.process_bytes,
            "group_bytes": usage.group_bytes,
            "available_bytes": hardware.memory_available(),
            "address_space_bytes": hardware.address_space_bytes,
            "run_limit_bytes": report.config.run_bytes,
            "request_limit_bytes": Some(report.config.engine.pool.limit()).filter(|limit| *limit < u64::MAX),
            "body_limit_bytes": report.config.server.max_body,
        },
        "threads": { "workers": threads.workers, "io_threads": threads.io_threads },
        "backends": report.backends.iter().map(backend).collect::<Vec<_>>(),
        "devices": findings(&report.devices),
        "surroundings": findings(&report.surroundings),
    })
}

fn finding(finding: &Finding) -> Value {
    match &finding.outcome {
        Ok(text) => json!({ "subject": finding.subject, "usable": true, "text": text }),
        Err(problem) => json!({
            "subject": finding.subject,
            "usable": false,
            "reason": problem.reason,
            "remedy": problem.remedy,
        }),
    }
}

fn backend(checked: &Checked) -> Value {
    let findings: Vec<Value> = checked.findings.iter().map(finding).collect();
    match &checked.check {
        Ok(usable) => json!({
            "name": checked.name,
            "usable": true,
            "version": usable.version,
            "devices": usable.devices.iter().map(Device::to_string).collect::<Vec<_>>(),
            "findings": findings,
        }),
        Err(reason) => json!({ "name": checked.name, "usable": false, "reason": reason, "findings": findings }),
    }
}

fn nvidia(nvidia: &Result<Nvidia, String>) -> Value {
    match nvidia {
        Ok(nvidia) => json!({
            "driver": nvidia.driver,
            "cuda": nvidia.cuda,
            "gpus": nvidia.gpus.iter().map(gpu).collect::<Vec<_>>(),
        }),
        Err(reason) => json!({ "reason": reason }),
    }
}

fn gpu(gpu: &Gpu) -> Value {
    json!({
        "index": gpu.index,
        "name": gpu.name,
        "uuid": gpu.uuid,
        "memory_total_bytes": gpu.memory_total_bytes,
        "memory_free_bytes": gpu.memory_free_bytes,
        "compute_capability": gpu.compute_capability,
        "mig": gpu.mig.as_ref().map(|mig| json!({
            "enabled": mig.enabled,
            "instances": mig.instances.iter().map(|part| json!({
                "name": part.name,
                "uuid": part.uuid,
                "memory_total_bytes": part.memory_total_bytes,
            })).collect::<Vec<_>>(),
        })),
        "fault": gpu.fault,
    })
}
