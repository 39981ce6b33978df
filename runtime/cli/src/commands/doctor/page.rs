//! The report for a reader: aligned, no wider than 100 columns, plain text wherever it goes.

use std::fmt::Write as _;

use bytesize::ByteSize;
use corymb_core::Finding;
use corymb_hardware::{Gpu, Nvidia};

use super::{Checked, Report, devices};

const WIDTH: usize = 100;

/// Where values begin.
const INDENT: usize = 20;

pub(super) fn page(report: &Report) -> String {
    let mut page = Page(format!("corymb {}\n", env!("CARGO_PKG_VERSION")));
    hardware(&mut page, report);
    limits(&mut page, report);

    page.section("Threads");
    let threads = &report.config.threads;
    page.line("workers", &named(threads.workers, threads.overrides.workers, "--workers"));
    page.line("I/O threads", &named(threads.io_threads, threads.overrides.io_threads, "--io-threads"));

    page.section("Backends");
    report.backends.iter().for_each(|checked| backend(&mut page, checked));
    page.section("Devices");
    report.devices.iter().for_each(|finding| page.finding(finding, "usable by "));
    page.section("Serving");
    report.surroundings.iter().for_each(|finding| page.finding(finding, ""));
    for warning in &report.warnings {
        page.line("warning", warning);
    }
    if report.failures.is_empty() {
        page.section("A model can be served.");
    } else {
        page.section("No model can be served like this");
        report.failures.iter().for_each(|reason| page.line("reason", reason));
    }
    page.0
}

fn hardware(page: &mut Page, report: &Report) {
    let hardware = &report.hardware;
    let processor = &hardware.processor;
    page.section("Hardware");
    page.line("processor", processor.model.as_deref().unwrap_or("unknown"));
    page.line("instructions", &format!("{}: {}", processor.architecture, processor.instruction_sets.join(" ")));
    let cores = processor.physical_cores.map(|cores| format!(", on {cores} cores")).unwrap_or_default();
    let (online, allowed) = (hardware.cores.online, hardware.cores.allowed.len());
    page.line("processors", &format!("{online}, of which this process may use {allowed}{cores}"));
    for node in &hardware.numa {
        let memory = node.memory_bytes.map(|bytes| format!(", {}", ByteSize(bytes))).unwrap_or_default();
        let processors = if node.cpus.is_empty() { "no processors".to_owned() } else { node.cpu_list() };
        page.line(&format!("NUMA node {}", node.node), &format!("{processors}{memory}"));
    }
    nvidia(page, &report.nvidia);
    for adapter in &hardware.display_adapters {
        page.line(&adapter.card, &format!("{} GPU, device {}", adapter.vendor, adapter.device));
    }
}

fn nvidia(page: &mut Page, nvidia: &Result<Nvidia, String>) {
    let nvidia = match nvidia {
        Ok(nvidia) => nvidia,
        Err(reason) => return page.line("NVIDIA GPUs", &format!("none: {reason}")),
    };
    let cuda = nvidia.cuda.as_ref().map(|cuda| format!(", CUDA up to {cuda}")).unwrap_or_default();
    page.line("NVIDIA driver", &format!("{}{cuda}; {} GPUs", nvidia.driver, nvidia.gpus.len()));
    for gpu in &nvidia.gpus {
        page.line(&format!("GPU {}", gpu.index), &gpu_text(gpu));
        for part in gpu.mig.iter().flat_map(|mig| &mig.instances) {
            let memory = part.memory_total_bytes.map(|bytes| format!(", {}", ByteSize(bytes))).unwrap_or_default();
            let uuid = part.uuid.as_deref().unwrap_or("no identity");
            page.line("  part", &format!("{}{memory}, {uuid}", part.name));
        }
    }
}

fn gpu_text(gpu: &Gpu) -> String {
    let mut text = gpu.name.clone();
    if let (Some(total), Some(free)) = (gpu.memory_total_bytes, gpu.memory_free_bytes) {
        _ = write!(text, ", {} of {} free", ByteSize(free), ByteSize(total));
    }
    if let Some(capability) = &gpu.compute_capability {
        _ = write!(text, ", compute capability {capability}");
    }
    if let Some(uuid) = &gpu.uuid {
        _ = write!(text, ", {uuid}");
    }
    if gpu.mig.as_ref().is_some_and(|mig| mig.enabled) {
        text.push_str(", divided (MIG)");
    }
    if let Some(fault) = &gpu.fault {
        _ = write!(text, ": {fault}");
    }
    text
}

fn limits(page: &mut Page, report: &Report) {
    let (hardware, threads) = (&report.hardware, &report.config.threads);
    let memory = &hardware.memory;
    page.section("Quota and memory");
    page.line("cores", &format!("{}, limited by {}", threads.cores, threads.limited_by));
    match memory.limit() {
        Some(limit) => {
            page.line("memory", &format!("{}, limited by {}", ByteSize(limit.limit_bytes), limit.limited_by()));
        }
        None => page.line("memory", "unknown"),
    }
    if let Some(available) = hardware.memory_available() {
        let group = memory.current_usage().group_bytes;
        let group = group.map(|bytes| format!(", {} taken in the control group", ByteSize(bytes))).unwrap_or_default();
        page.line("free", &format!("{}{group}", ByteSize(available)));
    }
    page.line("for one run", &format!("at most {}", ByteSize(report.config.run_bytes)));
    let pool = report.config.engine.pool.limit();
    if pool < u64::MAX {
        let body = ByteSize(report.config.server.max_body as u64);
        page.line("for requests", &format!("{} without models, at most {body} a body", ByteSize(pool)));
    }
    if let Some(limit) = hardware.address_space_bytes {
        page.line("address space", &format!("{}, limited by ulimit -v", ByteSize(limit)));
    }
}

fn named(number: usize, wanted: Option<usize>, flag: &str) -> String {
    if wanted.is_some() { format!("{number}, as {flag} says") } else { number.to_string() }
}

fn backend(page: &mut Page, checked: &Checked) {
    match &checked.check {
        Ok(usable) => {
            page.line(checked.name, &format!("{}, on {}", usable.version, devices::list(&usable.devices)));
        }
        Err(reason) => page.line(checked.name, &format!("not usable: {reason}")),
    }
    for finding in &checked.findings {
        page.finding(&Finding { subject: format!("  {}", finding.subject), outcome: finding.outcome.clone() }, "");
    }
}

struct Page(String);

impl Page {
    fn section(&mut self, title: &str) {
        _ = writeln!(self.0, "\n{title}");
    }

    fn finding(&mut self, finding: &Finding, before: &str) {
        match &finding.outcome {
            Ok(text) => self.line(&finding.subject, &format!("{before}{text}")),
            Err(problem) => {
                self.line(&finding.subject, &format!("not usable: {}", problem.reason));
                if let Some(remedy) = &problem.remedy {
                    self.line("", &format!("to do: {remedy}"));
                }
            }
        }
    }

    /// A name and a value, which goes on below itself where it is long.
    fn line(&mut self, name: &str, value: &str) {
        let mut line = format!("  {name}");
        let begin = INDENT - 1;
        if line.chars().count() > begin {
            _ = writeln!(self.0, "{line}");
            line = String::new();
        }
        line = format!("{line:<begin$}");
        let mut column = begin;
        for word in value.split_whitespace() {
            let length = word.chars().count();
            if column > begin && column + 1 + length > WIDTH {
                _ = writeln!(self.0, "{}", line.trim_end());
                line = format!("{:<begin$}", "");
                column = begin;
            }
            _ = write!(line, " {word}");
            column += 1 + length;
        }
        _ = writeln!(self.0, "{}", line.trim_end());
    }
}

#[cfg(test)]
mod tests {
    use corymb_core::{Availability, Device};
    use corymb_hardware::{Mig, MigInstance};

    use super::*;

    #[test]
    fn long_values_go_on_below_themselves() {
        let mut page = Page(String::new());
        page.line("short", "a value");
        page.line("a name that is longer than its column", &"word ".repeat(40));
        page.line("path", &"x".repeat(120));
        let lines: Vec<&str> = page.0.lines().collect();
        assert_eq!(lines[0], "  short             a value");
        assert_eq!(lines[1], "  a name that is longer than its column");
        assert!(lines[2..5].iter().all(|line| line.starts_with(&format!("{:20}word", "")) && line.len() <= WIDTH));
        assert_eq!(lines[5].trim_start(), format!("path{:14}{}", "", "x".repeat(120)));
        assert_eq!(lines.len(), 6);
    }

    #[test]
    fn what_backends_looked_at_stands_below_them() {
        let mut page = Page(String::new());
        let check = Ok(Availability { version: "1.24.0".to_owned(), devices: vec![Device::Cuda(0), Device::Cpu] });
        let findings = vec![
            Finding::usable("/opt/libonnxruntime.so", "found"),
            Finding::unusable("tensorrt", "libnvinfer.so.10 not found", Some("install TensorRT")),
        ];
        backend(&mut page, &Checked { name: "onnxruntime", check, findings });
        backend(&mut page, &Checked { name: "other", check: Err("no library".to_owned()), findings: Vec::new() });
        let lines: Vec<&str> = page.0.lines().collect();
        assert_eq!(
            lines,
            [
                "  onnxruntime       1.24.0, on cuda:0, cpu",
                "    /opt/libonnxruntime.so",
                "                    found",
                "    tensorrt        not usable: libnvinfer.so.10 not found",
                "                    to do: install TensorRT",
                "  other             not usable: no library",
            ]
        );
    }

    #[test]
    fn gpus_and_their_parts() {
        let mut page = Page(String::new());
        let part = MigInstance { name: "MIG 1g".to_owned(), uuid: None, memory_total_bytes: Some(5 << 30) };
        let gpu = Gpu {
            index: 0,
            name: "H100".to_owned(),
            uuid: Some("GPU-0".to_owned()),
            memory_total_bytes: Some(80 << 30),
            memory_free_bytes: Some(79 << 30),
            compute_capability: Some("9.0".to_owned()),
            mig: Some(Mig { enabled: true, instances: vec![part] }),
            fault: None,
        };
        nvidia(&mut page, &Ok(Nvidia { driver: "580.65".to_owned(), cuda: Some("13.0".to_owned()), gpus: vec![gpu] }));
        let lines: Vec<&str> = page.0.lines().collect();
        assert_eq!(
            lines,
            [
                "  NVIDIA driver     580.65, CUDA up to 13.0; 1 GPUs",
                "  GPU 0             H100, 79.0 GiB of 80.0 GiB free, compute capability 9.0, GPU-0, divided (MIG)",
                "    part            MIG 1g, 5.0 GiB, no identity",
            ]
        );
    }
}
