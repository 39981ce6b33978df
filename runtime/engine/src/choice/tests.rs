//! Choices among backends that differ in what they have, what they lack and how fast they are.

use corymb_core::{DType, Dim, FileSource, Instance, ModelInfo, Profile, Signature, Tensor, TensorSpec};

use corymb_repository::Isolation;

use super::*;
use crate::isolation::Survivors;

#[derive(Clone, Default)]
struct Fake {
    name: &'static str,
    missing: bool,
    devices: Vec<Device>,
    /// Devices that are listed but do not work.
    broken: Vec<Device>,
    lacks: Option<&'static str>,
    slow: bool,
    /// What it adds to the right answer.
    wrong_by: f32,
    size: u64,
}

impl Fake {
    fn new(name: &'static str) -> Self {
        Self { name, devices: vec![Device::Cpu], ..Self::default() }
    }

    fn signature() -> Signature {
        let spec = |name| TensorSpec::new(name, DType::Fp32, vec![Dim::Symbol("N".into()), Dim::Fixed(2)]);
        Signature { inputs: vec![spec("x")], outputs: vec![spec("y")] }
    }
}

impl Backend for Fake {
    fn name(&self) -> &'static str {
        self.name
    }

    fn check(&self) -> Result<Availability, BackendError> {
        if self.missing {
            let reason = "its library was not found".to_owned();
            return Err(BackendError::Unavailable { backend: self.name, reason });
        }
        Ok(Availability { version: "1".to_owned(), devices: self.devices.clone() })
    }

    fn inspect(&self, _: &ModelFiles, _: &LoadOptions) -> Result<ModelInfo, BackendError> {
        let unsupported = Vec::new();
        Ok(ModelInfo {
            platform: "onnx_onnxv1",
            opset: None,
            size: self.size,
            signature: Self::signature(),
            rows: corymb_core::RowAnalysis::default(),
            unsupported,
        })
    }

    fn load(&self, _: &ModelFiles, options: &LoadOptions) -> Result<Box<dyn Model>, BackendError> {
        let device = options.device;
        if let Some(operator) = self.lacks {
            return Err(BackendError::Unsupported(format!("it lacks {operator}")));
        }
        if !self.devices.contains(&device) || self.broken.contains(&device) {
            return Err(BackendError::Unavailable { backend: self.name, reason: format!("{device} does not work") });
        }
        Ok(Box::new(FakeModel(self.clone(), device, Self::signature())))
    }
}

struct FakeModel(Fake, Device, Signature);

impl Model for FakeModel {
    fn signature(&self) -> &Signature {
        &self.2
    }

    fn device(&self) -> &Device {
        &self.1
    }

    fn profile(&self) -> Profile {
        Profile::whole()
    }

    fn instance(&self, _: usize) -> Result<Box<dyn Instance>, BackendError> {
        Ok(Box::new(FakeInstance(self.0.clone())))
    }
}

struct FakeInstance(Fake);

impl Instance for FakeInstance {
    fn run(&mut self, batch: &[Tensors], _: &RunOptions) -> Result<Vec<Tensors>, BackendError> {
        std::thread::sleep(Duration::from_millis(if self.0.slow { 20 } else { 1 }));
        let answer = |inputs: &Tensors| {
            let x = inputs.get("x").and_then(Tensor::as_slice::<f32>).unwrap_or_default();
            let y: Vec<f32> = x.iter().map(|x| x + self.0.wrong_by).collect();
            Tensors::from_iter([("y", Tensor::from_slice([1, 2], &y).expect("valid"))])
        };
        Ok(batch.iter().map(answer).collect())
    }
}

fn choose_from(backends: &[&Fake], backend: &str, device: &str) -> Result<(String, String), String> {
    let backends: Vec<Arc<dyn Backend>> =
        backends.iter().map(|fake| Arc::new((*fake).clone()) as Arc<dyn Backend>).collect();
    let files = ModelFiles { model: FileSource::Embedded { name: "m.onnx".into(), bytes: Vec::new().into() } };
    let survivors = Survivors::new(None);
    let processes =
        Processes { isolation: Isolation::Auto, survivors: &survivors, run_time: Duration::MAX, memory: None };
    let wanted = Wanted { backend, device, options: LoadOptions::default(), memory: None, processes };
    choose(&backends, &wanted, &files)
        .map(|chosen| {
            let devices: Vec<String> = chosen.models.iter().map(|model| model.device().to_string()).collect();
            (format!("{} on {}", chosen.backend, devices.join(",")), chosen.reason)
        })
        .map_err(|error| error.to_string())
}

fn chosen(backends: &[&Fake], backend: &str, device: &str) -> (String, String) {
    choose_from(backends, backend, device).expect("one can")
}

#[test]
fn auto_takes_the_first_that_can() {
    let (first, second) = (Fake::new("first"), Fake::new("second"));
    assert_eq!(chosen(&[&first, &second], "auto", "auto").0, "first on cpu");
    let lacking = Fake { lacks: Some("Loop"), ..first.clone() };
    let (what, why) = chosen(&[&lacking, &second], "auto", "auto");
    assert_eq!((&*what, &*why), ("second on cpu", "first: it lacks Loop"));
    let missing = Fake { missing: true, ..first.clone() };
    let (what, why) = chosen(&[&missing, &second], "auto", "auto");
    assert_eq!((&*what, &*why), ("second on cpu", "first is not usable here: its library was not found"));
    let error = choose_from(&[&missing, &Fake { missing: true, ..second.clone() }], "auto", "auto").expect_err("none");
    assert!(error.contains("first is not usable here") && error.contains("second is not usable here"), "{error}");
}

#[test]
fn what_is_named_is_what_runs() {
    let gpu = Fake { devices: vec![Device::Cuda(0), Device::Cpu], broken: vec![Device::Cuda(0)], ..Fake::new("first") };
    let fine = Fake { broken: Vec::new(), ..gpu.clone() };
    assert_eq!(chosen(&[&fine], "auto", "auto").0, "first on cuda:0");
    let (what, why) = chosen(&[&gpu], "auto", "auto");
    assert_eq!(what, "first on cpu");
    assert!(why.contains("cuda:0: first is not usable here: cuda:0 does not work"), "{why}");
    let error = choose_from(&[&gpu, &Fake::new("second")], "first", "cuda").expect_err("not substituted");
    assert_eq!(error, "first is not usable here: cuda:0 does not work");
    assert!(choose_from(&[&gpu, &Fake::new("second")], "auto", "cuda").is_err());
    let (what, why) = chosen(&[&gpu], "first", "cuda-or-cpu");
    assert_eq!(what, "first on cpu");
    assert_eq!(why, "named; cuda:0: first is not usable here: cuda:0 does not work");
    assert_eq!(chosen(&[&fine], "auto", "cuda:0,cpu").0, "first on cuda:0,cpu");
    assert!(choose_from(&[&fine], "auto", "cuda:0,cuda:7").is_err());
    let unknown = choose_from(&[&fine], "auto", "gpu").expect_err("no such word");
    assert!(unknown.starts_with("'gpu' is not a device; expected auto"), "{unknown}");
    let none = choose_from(&[&fine], "third", "auto").expect_err("no such backend");
    assert_eq!(none, "backend 'third' is unknown; there are first");
}

#[test]
fn an_accelerator_that_a_later_backend_has_is_found() {
    let gpu = Fake { devices: vec![Device::Cuda(0), Device::Cpu], ..Fake::new("second") };
    assert_eq!(chosen(&[&Fake::new("first"), &gpu], "auto", "cuda").0, "second on cuda:0");
    assert_eq!(chosen(&[&Fake::new("first"), &gpu], "auto", "cuda-or-cpu").0, "second on cuda:0");
}

#[test]
fn the_fastest_is_found_by_running_and_disagreement_is_seen() {
    let slow = Fake { slow: true, ..Fake::new("first") };
    let (what, why) = chosen(&[&slow, &Fake::new("second")], "fastest", "auto");
    assert_eq!(what, "second on cpu");
    assert!(why.starts_with("the fastest: first takes 2") && why.contains("second takes"), "{why}");
    let (what, why) = chosen(&[&slow, &Fake { wrong_by: 0.1, ..Fake::new("second") }], "fastest", "auto");
    assert_eq!(what, "first on cpu");
    assert!(why.contains("second answers otherwise: output 'y': element 0"), "{why}");
}

#[test]
fn a_model_that_cannot_fit_is_refused_before_it_is_loaded() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("m.onnx"), vec![0; 2 << 20]).expect("written");
    let files = ModelFiles { model: FileSource::Path(folder.path().join("m.onnx")) };
    let tried = |limit, size| {
        let backends: Vec<Arc<dyn Backend>> = vec![Arc::new(Fake { size, ..Fake::new("first") })];
        let memory = MemoryBudget::new(limit, move || limit - (3 << 20));
        let survivors = Survivors::new(None);
        let processes =
            Processes { isolation: Isolation::Auto, survivors: &survivors, run_time: Duration::MAX, memory: None };
        let (backend, options) = ("auto", LoadOptions::default());
        let wanted = Wanted { backend, device: "auto", options, memory: Some(&memory), processes };
        choose(&backends, &wanted, &files).map(drop).map_err(|error| error.to_string())
    };
    assert_eq!(tried(6 << 20, 9 << 20), Ok(()), "a folder that fits is not looked into");
    assert_eq!(tried(4 << 20, 1 << 20), Ok(()), "what else lies in the folder does not count");
    let error = tried(4 << 20, 2 << 20).expect_err("too large");
    assert_eq!(error, "the model has 2 MiB, 3 MiB are in use, and the limit is 4 MiB: it cannot fit");
}

#[test]
fn another_backend_is_named_where_it_is_there() {
    let tract = Fake { lacks: Some("Loop"), ..Fake::new("tract") };
    let other = Fake::new("onnxruntime");
    let said = choose_from(&[&other, &tract], "tract", "auto").expect_err("refused");
    assert!(said.contains("it lacks Loop; the backend onnxruntime may"), "{said}");
    let missing = Fake { missing: true, ..Fake::new("onnxruntime") };
    let said = choose_from(&[&missing, &tract], "tract", "auto").expect_err("refused");
    assert!(!said.contains("may"), "{said}");
    let itself = Fake { lacks: Some("Loop"), ..Fake::new("onnxruntime") };
    let said = choose_from(&[&itself, &Fake { missing: true, ..Fake::new("tract") }], "onnxruntime", "auto");
    assert!(!said.expect_err("refused").contains("may"));
}
