//! `corymb doctor`: what this machine gives, what can be used of it, or exactly why not and what to do.

mod devices;
mod document;
mod models;
mod page;
mod probe;

use std::ffi::OsStr;
use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use anyhow::bail;
use clap::Args;
use corymb_core::{Availability, Backend, BackendError, DeviceChoice, Finding};
use corymb_hardware::{Hardware, NVML, Nvidia};

use crate::config::{Config, ServeFlags, environment};
use crate::{sources, wiring};

/// How long a driver may take to answer: one that nobody has used yet wakes its GPUs first, one after the other.
const DRIVER_LIMIT: Duration = Duration::from_secs(20);

/// How long a backend may take to load its library and try its devices.
const BACKEND_LIMIT: Duration = Duration::from_secs(60);

/// Takes the flags of `serve`, its variables and its file, looks at what `serve` would use, and loads the models as it would.
#[derive(Debug, Args)]
pub(crate) struct DoctorArguments {
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    flags: ServeFlags,
}

/// All that was looked at.
struct Report {
    config: Config,
    hardware: Hardware,
    nvidia: Result<Nvidia, String>,
    backends: Vec<Checked>,
    devices: Vec<Finding>,
    /// What else serving needs.
    surroundings: Vec<Finding>,
    /// What is not as it should be, and does no great harm.
    warnings: Vec<String>,
    /// Why no model can be served, or not as the flags want it; empty when one can.
    failures: Vec<String>,
}

/// A backend and what came of asking it.
struct Checked {
    name: &'static str,
    /// Usable here, or why not.
    check: Result<Availability, String>,
    findings: Vec<Finding>,
}

/// Prints what was found.
///
/// # Errors
/// When no backend is usable, or a backend or device that the flags name is not: the exit code is 1.
pub(crate) fn doctor(arguments: DoctorArguments) -> anyhow::Result<()> {
    let hardware = Hardware::read();
    let config = Config::build(arguments.flags, &environment(), &hardware)?;
    let report = Report::make(config, hardware);
    let text = if arguments.json {
        format!("{}\n", serde_json::to_string_pretty(&document::document(&report))?)
    } else {
        page::page(&report)
    };
    std::io::stdout().write_all(text.as_bytes())?;
    if !report.failures.is_empty() {
        bail!("{}", report.failures.join("; "));
    }
    Ok(())
}

impl Report {
    fn make(config: Config, hardware: Hardware) -> Self {
        let nvidia = Nvidia::read(OsStr::new(NVML), DRIVER_LIMIT);
        let libraries = wiring::library_search(&config.sources, &environment());
        let backends = wiring::backends(libraries, config.run_bytes);
        let backends: Vec<Checked> = backends.into_iter().map(Checked::ask).collect();
        let push = wiring::check_push(&config.telemetry);
        let warnings = config.warnings.iter().chain(&hardware.notes).cloned().chain(push).collect();
        let devices = devices::devices(&config.engine.device, &backends, &nvidia);
        let mut failures = failures(&config.engine.backend, &config.engine.device, &backends, &devices);
        let sources = [sources::signatures(&config.sources).err(), sources::libraries(&config.sources).err()];
        failures.extend(sources.into_iter().flatten().map(|error| format!("{error:#}")));
        failures.extend(probe::unreachable(&config));
        let mut surroundings = probe::surroundings(&config, &hardware);
        // What is known to fail needs no trial.
        if failures.is_empty() {
            match models::models(&config) {
                Ok(models) => {
                    failures.extend(not_served(&models, config.engine.keep_going));
                    surroundings.extend(models);
                }
                Err(error) => failures.push(format!("{error:#}")),
            }
        }
        Self { config, hardware, nvidia, backends, devices, surroundings, warnings, failures }
    }
}

/// Which models keep `serve` from starting, and why: each, or all where it goes on with one.
fn not_served(models: &[Finding], keep_going: bool) -> Vec<String> {
    let failed = models.iter().filter_map(|model| Some((&model.subject, &model.outcome.as_ref().err()?.reason)));
    let failed: Vec<String> = failed.map(|(subject, reason)| format!("{subject}: {reason}")).collect();
    if keep_going && failed.len() < models.len() { Vec::new() } else { failed }
}

impl Checked {
    fn ask(backend: Arc<dyn Backend>) -> Self {
        let name = backend.name();
        let asked = probe::bounded(BACKEND_LIMIT, move || (backend.check(), backend.diagnose()));
        match asked {
            Ok((check, findings)) => Self { name, check: check.map_err(reason), findings },
            Err(reason) => Self { name, check: Err(reason), findings: Vec::new() },
        }
    }
}

fn reason(error: BackendError) -> String {
    match error {
        BackendError::Unavailable { reason, .. } => reason,
        error => error.to_string(),
    }
}

/// Why no model can be served, or not by the backend and on the device that were named.
fn failures(backend: &str, device: &str, backends: &[Checked], devices: &[Finding]) -> Vec<String> {
    let mut failures = Vec::new();
    let named = backends.iter().find(|checked| checked.name == backend);
    match named {
        _ if backend == "auto" => {
            if backends.iter().all(|checked| checked.check.is_err()) {
                failures.push("no backend is usable".to_owned());
            }
        }
        Some(Checked { check: Err(reason), .. }) => failures.push(format!("{backend} is not usable: {reason}")),
        Some(_) => {}
        None => {
            let known: Vec<&str> = backends.iter().map(|checked| checked.name).collect();
            failures.push(format!("backend '{backend}' is unknown; there are {}", known.join(", ")));
        }
    }
    let offered = |device: &corymb_core::Device| {
        let candidates = backends.iter().filter(|checked| backend == "auto" || checked.name == backend);
        candidates.filter_map(|checked| checked.check.as_ref().ok()).any(|usable| usable.devices.contains(device))
    };
    let why = |device: &corymb_core::Device| {
        let name = device.to_string();
        let found = devices.iter().find(|finding| finding.subject == name);
        match found.map(|finding| &finding.outcome) {
            Some(Err(problem)) => format!("{name} is not usable: {}", problem.reason),
            Some(Ok(_)) => format!("{name} is not usable by {backend}"),
            None => format!("{name} is not usable"),
        }
    };
    match device.parse() {
        Err(error) => failures.push(format!("{error}")),
        Ok(DeviceChoice::Auto) => {}
        Ok(DeviceChoice::FirstOf(choice)) => {
            if !choice.iter().any(offered) {
                failures.extend(choice.iter().map(why));
            }
        }
        Ok(DeviceChoice::All(all)) => failures.extend(all.iter().filter(|device| !offered(device)).map(why)),
    }
    failures
}

#[cfg(test)]
mod tests {
    use corymb_core::Device;

    use super::*;

    fn checked(name: &'static str, devices: Option<&[Device]>) -> Checked {
        let usable = devices.map(|devices| Availability { version: "1".to_owned(), devices: devices.to_vec() });
        Checked { name, check: usable.ok_or_else(|| "no library".to_owned()), findings: Vec::new() }
    }

    fn said(backend: &str, device: &str, backends: &[Checked]) -> String {
        let none = Err("no driver".to_owned());
        failures(backend, device, backends, &devices::devices(device, backends, &none)).join("; ")
    }

    #[test]
    fn what_was_named_must_be_usable() {
        let both =
            [checked("onnxruntime", Some(&[Device::Cuda(0), Device::Cpu])), checked("tract", Some(&[Device::Cpu]))];
        for (backend, device) in
            [("auto", "auto"), ("auto", "cuda"), ("tract", "cpu"), ("tract", "cuda-or-cpu"), ("auto", "cuda:0,cpu")]
        {
            assert_eq!(said(backend, device, &both), "", "{backend} {device}");
        }
        assert_eq!(said("tract", "cuda", &both), "cuda:0 is not usable by tract");
        assert!(said("auto", "cuda:0,cuda:1", &both).starts_with("cuda:1 is not usable: no driver"));
        assert_eq!(said("trakt", "auto", &both), "backend 'trakt' is unknown; there are onnxruntime, tract");
        assert!(said("auto", "gpu", &both).starts_with("'gpu' is not a device"));

        let one = [checked("onnxruntime", None), checked("tract", Some(&[Device::Cpu]))];
        assert_eq!(said("auto", "auto", &one), "");
        assert_eq!(said("onnxruntime", "auto", &one), "onnxruntime is not usable: no library");
        let cuda = said("auto", "cuda", &one);
        assert_eq!(cuda, "cuda:0 is not usable: no driver; onnxruntime: no library; tract runs on cpu");

        assert_eq!(said("auto", "auto", &one[..1]), "no backend is usable");
    }
}
