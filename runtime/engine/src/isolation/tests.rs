//! A backend whose model ends the process that runs it, or does not come back.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use corymb_core::{Availability, DType, Device, Dim, FileSource, Instance, ModelInfo, Profile, Signature, TensorSpec};

use super::*;

/// How a run ends.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Ends {
    #[default]
    Well,
    Refused,
    Crash,
    CrashTogether,
    Killed,
}

#[derive(Clone, Default)]
struct Fake {
    hazard: Option<Danger>,
    ends: Ends,
    /// The process of its own crashes while it loads.
    loading: bool,
    /// Whether there are processes of their own.
    has_processes: bool,
    trials: Arc<AtomicUsize>,
}

struct FakeModel {
    ends: Ends,
    apart: bool,
    signature: Signature,
}

impl Backend for Fake {
    fn name(&self) -> &'static str {
        "fake"
    }

    fn check(&self) -> Result<Availability, BackendError> {
        Ok(Availability { version: "1".to_owned(), devices: vec![Device::Cpu] })
    }

    fn inspect(&self, _: &ModelFiles, _: &LoadOptions) -> Result<ModelInfo, BackendError> {
        Err(BackendError::Failed("not asked for".to_owned()))
    }

    fn load(&self, _: &ModelFiles, options: &LoadOptions) -> Result<Box<dyn Model>, BackendError> {
        let apart = options.apart && self.has_processes;
        if let Some(danger) = self.hazard
            && !options.hazards
        {
            let (node, digest) = ("'y' (GRU)".to_owned(), "d1".to_owned());
            return Err(BackendError::Hazardous(Hazard { node, danger, digest }));
        }
        if apart {
            self.trials.fetch_add(1, Ordering::Relaxed);
            if self.loading {
                return Err(crash());
            }
        }
        let spec = |name| TensorSpec::new(name, DType::Fp32, vec![Dim::Symbol("N".into()), Dim::Fixed(2)]);
        let signature = Signature { inputs: vec![spec("x")], outputs: vec![spec("y")] };
        Ok(Box::new(FakeModel { ends: self.ends, apart, signature }))
    }
}

fn crash() -> BackendError {
    BackendError::Crashed { how: "it ended by signal 11".to_owned(), by: Ending::Itself }
}

impl Model for FakeModel {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn device(&self) -> &Device {
        &Device::Cpu
    }

    fn profile(&self) -> Profile {
        let axes = corymb_core::BatchAxes {
            inputs: vec![("x".to_owned(), Some(0))],
            outputs: vec![("y".to_owned(), Some(0))],
        };
        let mut profile = Profile::whole();
        profile.rows.axes = Some(axes);
        profile
    }

    fn is_apart(&self) -> bool {
        self.apart
    }

    fn instance(&self, _: usize) -> Result<Box<dyn Instance>, BackendError> {
        Ok(Box::new(FakeInstance(self.ends)))
    }
}

struct FakeInstance(Ends);

impl Instance for FakeInstance {
    fn run(&mut self, batch: &[Tensors], _: &RunOptions) -> Result<Vec<Tensors>, BackendError> {
        let rows = batch[0].get("x").and_then(corymb_core::Tensor::rows);
        match self.0 {
            Ends::Crash => Err(crash()),
            Ends::Killed => Err(BackendError::Crashed { how: "memory".to_owned(), by: Ending::Outside }),
            Ends::CrashTogether if rows.is_some_and(|rows| rows > 1) => Err(crash()),
            Ends::Refused => Err(BackendError::InvalidValues("no".to_owned())),
            _ => Ok(batch.to_vec()),
        }
    }
}

fn tried(fake: &Fake, isolation: Isolation, survivors: &Survivors) -> Result<bool, String> {
    let files = ModelFiles { model: FileSource::Embedded { name: "m.onnx".to_owned(), bytes: Default::default() } };
    let wanted = Processes { isolation, survivors, run_time: Duration::from_secs(1), memory: None };
    let options = LoadOptions { hazards: false, ..LoadOptions::default() };
    load(fake, &files, &options, &wanted).map(|model| model.is_apart()).map_err(|error| error.to_string())
}

fn fake(hazard: Option<Danger>, ends: Ends) -> Fake {
    Fake { hazard, ends, has_processes: true, ..Fake::default() }
}

#[test]
fn a_model_without_a_hazard_is_not_tried() {
    let survivors = Survivors::new(None);
    let harmless = fake(None, Ends::Well);
    assert_eq!(tried(&harmless, Isolation::Auto, &survivors), Ok(false));
    assert_eq!(harmless.trials.load(Ordering::Relaxed), 0);
    assert_eq!(tried(&harmless, Isolation::Process, &survivors), Ok(true));
}

#[test]
fn a_hazard_is_tried_once_for_each_graph() {
    let cache = tempfile::tempdir().expect("a folder");
    let survivors = Survivors::new(Some(cache.path()));
    for ends in [Ends::Well, Ends::Refused] {
        let hazardous = fake(Some(Danger::Guarded), ends);
        for _ in 0..2 {
            assert_eq!(tried(&hazardous, Isolation::Auto, &survivors), Ok(false));
        }
        assert_eq!(hazardous.trials.load(Ordering::Relaxed), usize::from(ends == Ends::Well), "the graph is the same");
    }
    // Another process with the same cache.
    let next = fake(Some(Danger::Guarded), Ends::Crash);
    assert_eq!(tried(&next, Isolation::Auto, &Survivors::new(Some(cache.path()))), Ok(false));
    assert_eq!(tried(&fake(Some(Danger::Guarded), Ends::Crash), Isolation::Thread, &Survivors::new(None)), Ok(false));
}

#[test]
fn what_ends_its_trial_is_a_model_that_failed() {
    let loading = Fake { loading: true, ..fake(Some(Danger::Guarded), Ends::Well) };
    for crashing in
        [fake(Some(Danger::Guarded), Ends::Crash), fake(Some(Danger::Guarded), Ends::CrashTogether), loading]
    {
        let survivors = Survivors::new(None);
        for _ in 0..2 {
            let error = tried(&crashing, Isolation::Auto, &survivors).expect_err("it crashed");
            assert!(
                error.contains("'y' (GRU)") && error.contains("signal 11") && error.contains("model.toml"),
                "{error}"
            );
        }
    }
}

#[test]
fn a_trial_that_somebody_cuts_short_says_nothing() {
    let (killed, survivors) = (fake(Some(Danger::Guarded), Ends::Killed), Survivors::new(None));
    for _ in 0..2 {
        assert_eq!(tried(&killed, Isolation::Auto, &survivors), Ok(false));
    }
    assert_eq!(killed.trials.load(Ordering::Relaxed), 2, "it is tried again");
}

/// What loading takes memory or time for is not loaded here where a trial had not enough, nor where there is less than it had.
#[test]
fn what_takes_too_much_to_load_is_not_loaded_without_a_trial() {
    let (killed, survivors) = (fake(Some(Danger::Loading), Ends::Killed), Survivors::new(None));
    assert!(tried(&killed, Isolation::Auto, &survivors).is_err_and(|error| error.contains("may take loading more")));
    let survives = fake(Some(Danger::Loading), Ends::Well);
    for (memory, trials) in [(1 << 30, 1), (1 << 30, 1), (1 << 28, 2)] {
        let files = ModelFiles { model: FileSource::Embedded { name: "m.onnx".to_owned(), bytes: Default::default() } };
        let isolation = Isolation::Auto;
        let wanted =
            Processes { isolation, survivors: &survivors, run_time: Duration::from_secs(1), memory: Some(memory) };
        let options = LoadOptions { hazards: false, ..LoadOptions::default() };
        load(&survives, &files, &options, &wanted).expect("it came through");
        assert_eq!(survives.trials.load(Ordering::Relaxed), trials);
    }
}

#[test]
fn what_cannot_be_guarded_stays_in_a_process_of_its_own() {
    let survivors = Survivors::new(None);
    assert_eq!(tried(&fake(Some(Danger::Unguarded), Ends::Crash), Isolation::Auto, &survivors), Ok(true));
    assert_eq!(tried(&fake(Some(Danger::Unguarded), Ends::Crash), Isolation::Thread, &survivors), Ok(false));
}

#[test]
fn without_such_processes_nothing_is_tried() {
    let without = Fake { has_processes: false, ..fake(Some(Danger::Guarded), Ends::Crash) };
    let survivors = Survivors::new(None);
    assert_eq!(tried(&without, Isolation::Auto, &survivors), Ok(false));
    assert!(tried(&without, Isolation::Process, &survivors).is_err_and(|error| error.contains("not to be had")));
}
