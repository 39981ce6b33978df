//! Which process a model runs in: this one, unless it holds a node that is known to have ended processes.
//!
//! Such a model is first tried in a process of its own, once for each graph and engine: what ends that is a model that failed to
//! load, and not the server. Where the backend cannot keep from the node what is known to end it, it stays there.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use corymb_core::{Backend, BackendError, Danger, Ending, Hazard, LoadOptions, Model, ModelFiles, RunOptions, Tensors};
use corymb_repository::Isolation;

use crate::sample;

/// Rows that a model is tried with, alone and together.
const TRIED_ROWS: usize = 4;

/// What is said of a model whose instances are processes of their own.
pub(crate) const APART: &str = "each instance is a process of its own";

/// What decides.
pub(crate) struct Processes<'a> {
    pub(crate) isolation: Isolation,
    pub(crate) survivors: &'a Survivors,
    /// Time of one run.
    pub(crate) run_time: Duration,
    /// What this process may take, in bytes; none where nobody says.
    pub(crate) memory: Option<u64>,
}

/// Graphs that came through their trial: of this process, and of others with the same cache.
pub(crate) struct Survivors {
    folder: Option<PathBuf>,
    known: Mutex<HashSet<String>>,
}

impl Survivors {
    pub(crate) fn new(cache: Option<&Path>) -> Self {
        Self { folder: cache.map(|cache| cache.join("survived")), known: Mutex::default() }
    }

    fn knows(&self, digest: &str) -> bool {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner).contains(digest);
        known || self.folder.as_ref().is_some_and(|folder| folder.join(digest).exists())
    }

    fn add(&self, digest: &str) {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).insert(digest.to_owned());
        let Some(folder) = &self.folder else { return };
        let kept = std::fs::create_dir_all(folder).and_then(|()| std::fs::write(folder.join(digest), ""));
        if let Err(error) = kept {
            tracing::debug!(%error, folder = %folder.display(), "that a model came through its trial is not kept");
        }
    }
}

/// Loads in the process that the manifest names, or else where it is safe. `options` say all but that.
pub(crate) fn load(
    backend: &dyn Backend,
    files: &ModelFiles,
    options: &LoadOptions,
    wanted: &Processes<'_>,
) -> Result<Box<dyn Model>, BackendError> {
    let name = files.model.name();
    let here = |hazards: bool| backend.load(files, &LoadOptions { hazards, apart: false, ..options.clone() });
    let apart = || backend.load(files, &LoadOptions { hazards: true, apart: true, ..options.clone() });
    let hazard = match wanted.isolation {
        Isolation::Thread => return here(true),
        Isolation::Process => {
            let model = apart()?;
            return if model.is_apart() {
                Ok(model)
            } else {
                let reason = "processes of their own are not to be had on this system";
                Err(BackendError::Unsupported(format!("`isolation = \"process\"`: {reason}")))
            };
        }
        Isolation::Auto => match here(false) {
            Err(BackendError::Hazardous(hazard)) => hazard,
            loaded => return loaded,
        },
    };
    // What there was enough of for one server there need not be for another.
    let survivor = match (hazard.danger, wanted.memory) {
        (Danger::Loading, Some(memory)) => format!("{}-{memory}", hazard.digest),
        _ => hazard.digest.clone(),
    };
    if !hazard.danger.stays() && wanted.survivors.knows(&survivor) {
        return here(true);
    }
    let refused = |error| failed(backend.name(), &name, &hazard, error);
    match trial(&apart, &hazard, wanted.run_time).map_err(refused)? {
        Tried::Stays(model) => {
            // Where there are no such processes it is loaded in this one.
            if model.is_apart() {
                tracing::warn!(model = options.model, %hazard, "{APART}");
            }
            return Ok(model);
        }
        Tried::Survived => {
            wanted.survivors.add(&survivor);
            tracing::info!(model = options.model, %hazard, "it came through its trial in a process of its own");
        }
        Tried::CutShort(how) => {
            tracing::warn!(model = options.model, how, "its trial was cut short; it is loaded without");
        }
    }
    here(true)
}

/// What came of a trial.
enum Tried {
    /// Where the model stays.
    Stays(Box<dyn Model>),
    Survived,
    /// Somebody ended it, as these words say.
    CutShort(String),
}

/// Loads the model apart, and runs it there if it need not stay.
fn trial(
    apart: &dyn Fn() -> Result<Box<dyn Model>, BackendError>,
    hazard: &Hazard,
    run_time: Duration,
) -> Result<Tried, BackendError> {
    let tried = apart().and_then(|model| {
        if !model.is_apart() || hazard.danger.stays() {
            return Ok(Tried::Stays(model));
        }
        try_out(model.as_ref(), run_time).map(|()| Tried::Survived)
    });
    match tried {
        // The kernel takes memory from it first, and as much may do without a trial; not where memory is what it was about.
        Err(BackendError::Crashed { by: Ending::Outside, how }) if hazard.danger == Danger::Guarded => {
            Ok(Tried::CutShort(how))
        }
        tried => tried,
    }
}

/// Runs what warm-up and measurements will run. That a run fails is no matter, as long as it comes back.
fn try_out(model: &dyn Model, run_time: Duration) -> Result<(), BackendError> {
    let mut instance = model.instance(1)?;
    let Some(row) = sample::row_of(model.signature()) else { return Ok(()) };
    let rows = sample::vary(&row, TRIED_ROWS);
    let together = model.profile().rows.axes.and_then(|axes| axes.join_inputs(&rows));
    let mut run = |inputs: &Tensors| {
        let options = RunOptions { ends: Instant::now().checked_add(run_time), ..RunOptions::default() };
        match instance.run(std::slice::from_ref(inputs), &options) {
            Err(error @ BackendError::Crashed { .. }) => Err(error),
            _ => Ok(()),
        }
    };
    rows.iter().chain(&together).try_for_each(&mut run)
}

/// What is said of a model that did not come through.
fn failed(backend: &str, name: &str, hazard: &Hazard, error: BackendError) -> BackendError {
    match error {
        error @ BackendError::Crashed { .. } if hazard.danger == Danger::Loading => BackendError::Unsupported(format!(
            "{backend} cannot load '{name}': {hazard}, and did so in a trial: {error}"
        )),
        error @ BackendError::Crashed { .. } => BackendError::Unsupported(format!(
            "{backend} cannot run '{name}': {hazard}, and did so in a trial: {error}; with `isolation = \"process\"` under \
             [instances] in model.toml it would cost only the request that it runs"
        )),
        BackendError::Failed(reason) => BackendError::Failed(format!(
            "'{name}' is not tried out, though {hazard}: {reason}; `isolation = \"thread\"` under [instances] in model.toml \
             does without the trial"
        )),
        error => error,
    }
}

#[cfg(test)]
mod tests;
