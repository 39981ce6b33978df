//! Which backend runs a model, and on which device: what the user named or nothing, else the best that proves to work.

use std::sync::Arc;
use std::time::{Duration, Instant};

use corymb_core::{
    Availability, Backend, BackendError, Device, DeviceChoice, LoadOptions, Model, ModelFiles, RunOptions, Tensors,
};

use crate::error::{LoadError, of_backend};
use crate::isolation::{self, Processes};
use crate::sample;
use crate::shared::{MemoryBudget, Promise};

/// Runs of each backend when the faster one is looked for; the fastest counts.
const TIMED_RUNS: usize = 4;

/// What is wanted, as the manifest or else the server's flags say it.
pub(crate) struct Wanted<'a> {
    /// `auto`, `fastest`, or a backend's name.
    pub(crate) backend: &'a str,
    pub(crate) device: &'a str,
    pub(crate) options: LoadOptions,
    pub(crate) memory: Option<&'a MemoryBudget>,
    pub(crate) processes: Processes<'a>,
}

/// The same model, once for each device.
type Models = Vec<Box<dyn Model>>;

/// A model that is loaded, once for each device that was asked for.
pub(crate) struct Chosen {
    pub(crate) backend: &'static str,
    /// The backend's own version.
    pub(crate) engine: String,
    pub(crate) models: Models,
    /// Why this one, for the log and the metadata.
    pub(crate) reason: String,
}

impl std::fmt::Debug for Chosen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Chosen").field("backend", &self.backend).field("reason", &self.reason).finish_non_exhaustive()
    }
}

/// Chooses and loads.
pub(crate) fn choose(
    backends: &[Arc<dyn Backend>],
    wanted: &Wanted<'_>,
    files: &ModelFiles,
) -> Result<Chosen, LoadError> {
    let devices: DeviceChoice = wanted.device.parse()?;
    if !matches!(wanted.backend, "auto" | "fastest") {
        return named(backends, &devices, wanted, files);
    }
    let mut passed_over = Vec::new();
    let mut usable = Vec::new();
    for backend in backends {
        match backend.check() {
            Ok(available) => usable.push((backend.as_ref(), available)),
            Err(error) => passed_over.push(error.to_string()),
        }
    }
    let _promise = match usable.first() {
        Some((backend, _)) => check_memory(*backend, wanted, files)?,
        None => None,
    };
    if wanted.backend == "fastest" && usable.len() > 1 {
        return fastest(&usable, &devices, wanted, files);
    }
    let only = backends.len() == 1;
    let all = || usable.iter().map(|(backend, available)| (*backend, available));
    let attempts: Vec<_> = match &devices {
        // The first device that any backend has goes before the second that another has.
        DeviceChoice::FirstOf(devices) => {
            let each = |device: &Device| DeviceChoice::FirstOf(vec![*device]);
            devices.iter().flat_map(|device| all().map(move |found| (found, each(device)))).collect()
        }
        devices => all().map(|found| (found, devices.clone())).collect(),
    };
    let mut last = None;
    // Nothing is looked into before: loading says what a backend lacks.
    for ((backend, available), devices) in attempts {
        match load_on(backend, available, &devices, wanted, files) {
            Ok((models, note)) => {
                let best = "the best that is usable".to_owned();
                let reason = if passed_over.is_empty() { best } else { passed_over.join("; ") };
                let (reason, engine) = (with_note(&reason, &note), available.version.clone());
                return Ok(Chosen { backend: backend.name(), engine, models, reason });
            }
            Err(error) => {
                passed_over.push(of_backend(backend.name(), &error));
                last = Some((backend.name(), error));
            }
        }
    }
    match last {
        Some((backend, error)) if only => Err(LoadError::Backend { backend, error }),
        _ => Err(LoadError::NoBackend(passed_over.join("; "))),
    }
}

/// Loads by the backend that `wanted` names, and by no other.
fn named(
    backends: &[Arc<dyn Backend>],
    devices: &DeviceChoice,
    wanted: &Wanted<'_>,
    files: &ModelFiles,
) -> Result<Chosen, LoadError> {
    let found = backends.iter().find(|backend| backend.name() == wanted.backend);
    let known = || backends.iter().map(|backend| backend.name()).collect::<Vec<_>>().join(", ");
    let backend = found.ok_or_else(|| LoadError::UnknownBackend { name: wanted.backend.to_owned(), known: known() })?;
    let failed =
        |error| LoadError::Backend { backend: backend.name(), error: with_others(error, backends, backend.name()) };
    let available = backend.check().map_err(failed)?;
    let _promise = check_memory(backend.as_ref(), wanted, files)?;
    let (models, note) = load_on(backend.as_ref(), &available, devices, wanted, files).map_err(failed)?;
    let reason = with_note("named", &note);
    Ok(Chosen { backend: backend.name(), engine: available.version, models, reason })
}

/// The error, with the backends that may do better where the file is beyond the one that refused it. Whether they are
/// usable is asked now: nobody is sent to what is not there.
fn with_others(error: BackendError, backends: &[Arc<dyn Backend>], refused_by: &str) -> BackendError {
    let BackendError::Unsupported(reason) = error else { return error };
    let others = backends.iter().filter(|other| other.name() != refused_by && other.check().is_ok());
    let names: Vec<&str> = others.map(|other| other.name()).collect();
    BackendError::Unsupported(match names.as_slice() {
        [] => reason,
        [one] => format!("{reason}; the backend {one} may"),
        several => format!("{reason}; the backends {} may", several.join(" and ")),
    })
}

fn with_note(reason: &str, note: &str) -> String {
    if note.is_empty() { reason.to_owned() } else { format!("{reason}; {note}") }
}

/// Loads on the devices of the choice. Beside the models it answers what was tried before in vain.
fn load_on(
    backend: &dyn Backend,
    available: &Availability,
    devices: &DeviceChoice,
    wanted: &Wanted<'_>,
    files: &ModelFiles,
) -> Result<(Models, String), BackendError> {
    let load = |device: Device| {
        let options = LoadOptions { device, ..wanted.options.clone() };
        isolation::load(backend, files, &options, &wanted.processes)
    };
    let note = |models: &Models| models.iter().any(|model| model.is_apart()).then(|| isolation::APART.to_owned());
    let in_turn: &[Device] = match devices {
        DeviceChoice::All(all) => {
            return all.iter().map(|device| load(*device)).collect::<Result<_, _>>().map(|models: Models| {
                let note = note(&models).unwrap_or_default();
                (models, note)
            });
        }
        DeviceChoice::FirstOf(devices) => devices,
        DeviceChoice::Auto => &available.devices,
    };
    let mut tried = Vec::new();
    let mut last = None;
    for device in in_turn {
        match load(*device) {
            Ok(model) => {
                let models = vec![model];
                tried.extend(note(&models));
                return Ok((models, tried.join("; ")));
            }
            Err(error) => {
                tried.push(format!("{device}: {error}"));
                // What is wrong with the file is wrong on every device.
                let fatal = matches!(error, BackendError::InvalidModel(_) | BackendError::Unsupported(_));
                last = Some(error);
                if fatal {
                    break;
                }
            }
        }
    }
    Err(last.unwrap_or_else(|| BackendError::Unavailable {
        backend: backend.name(),
        reason: "it knows no device that works here".to_owned(),
    }))
}

/// Loads the model by every backend, compares their answers, and keeps the faster one.
fn fastest(
    usable: &[(&dyn Backend, Availability)],
    devices: &DeviceChoice,
    wanted: &Wanted<'_>,
    files: &ModelFiles,
) -> Result<Chosen, LoadError> {
    let mut best: Option<(Duration, usize, Models)> = None;
    let mut reference: Option<Vec<Tensors>> = None;
    let mut notes = Vec::new();
    for (index, (backend, available)) in usable.iter().enumerate() {
        let name = backend.name();
        let timed = load_on(*backend, available, devices, wanted, files).and_then(|(models, note)| {
            let timed = time(models[0].as_ref(), wanted.processes.run_time)?;
            Ok((models, note, timed))
        });
        match timed {
            Err(error) => notes.push(of_backend(name, &error)),
            Ok((models, note, (took, answers))) => {
                notes.push(with_note(&format!("{name} takes {took:.1?}"), &note));
                if let Some(reference) = &reference {
                    if let Err(difference) = sample::compare_all(reference, &answers) {
                        // Which of them is wrong is not known: the first is the one that `auto` would have taken.
                        tracing::warn!(backend = name, difference, "the backends disagree; the first is kept");
                        notes.push(format!("{name} answers otherwise: {difference}"));
                        continue;
                    }
                } else {
                    reference = Some(answers);
                }
                if best.as_ref().is_none_or(|(known, ..)| took < *known) {
                    best = Some((took, index, models));
                }
            }
        }
    }
    let reason = notes.join("; ");
    match best {
        Some((_, index, models)) => {
            let (backend, available) = &usable[index];
            let (reason, engine) = (format!("the fastest: {reason}"), available.version.clone());
            Ok(Chosen { backend: backend.name(), engine, models, reason })
        }
        None => Err(LoadError::NoBackend(reason)),
    }
}

/// What the fastest of some runs takes, each of which has so much time, and what the model answers.
fn time(model: &dyn Model, run_time: Duration) -> Result<(Duration, Vec<Tensors>), BackendError> {
    let row = sample::row_of(model.signature()).ok_or_else(|| {
        BackendError::InvalidInput("no input can be made up for this signature, so nothing can be timed".to_owned())
    })?;
    let rows = sample::vary(&row, 2);
    let mut instance = model.instance(1)?;
    let options = || RunOptions { ends: Instant::now().checked_add(run_time), ..RunOptions::default() };
    let answers =
        rows.iter().map(|row| instance.run(std::slice::from_ref(row), &options()).map(|mut answers| answers.remove(0)));
    let answers = answers.collect::<Result<Vec<_>, _>>()?;
    let mut best = Duration::MAX;
    for _ in 0..TIMED_RUNS {
        let begin = Instant::now();
        instance.run(&rows[..1], &options())?;
        best = best.min(begin.elapsed());
    }
    Ok((best, answers))
}

/// Refuses a model whose weights alone would not fit beside what is there and what is being loaded. Looks into the file
/// only where the folder is large enough to matter. What it answers stands for the model until it is loaded.
fn check_memory(backend: &dyn Backend, wanted: &Wanted<'_>, files: &ModelFiles) -> Result<Option<Promise>, LoadError> {
    let Some(memory) = wanted.memory else { return Ok(None) };
    let Some(folder) = files.model.folder() else { return Ok(None) };
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let in_folder: u64 = entries.filter_map(|entry| entry.metadata().ok()).map(|file| file.len()).sum();
    let used = memory.used();
    if used.saturating_add(in_folder) <= memory.limit {
        return Ok(Some(memory.promise(in_folder)));
    }
    // What it cannot read, loading will say better.
    let Ok(info) = backend.inspect(files, &wanted.options) else { return Ok(None) };
    if used.saturating_add(info.size) <= memory.limit {
        return Ok(Some(memory.promise(info.size)));
    }
    Err(LoadError::TooLarge { size: info.size, used, limit: memory.limit })
}

#[cfg(test)]
mod tests;
