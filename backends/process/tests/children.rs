//! The shared suites on tract in child processes, and a backend that ends them. This program is its own child, so it has no test
//! harness.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use corymb_backend_process::{Apart, Limits, serve};
use corymb_backend_tract::Tract;
use corymb_core::{
    Availability, Backend, BackendError, DType, Device, Dim, Ending, FileSource, Instance, LoadOptions, MemoryPool,
    Model, ModelFiles, ModelInfo, Profile, RunOptions, Shortage, Signature, Tensor, TensorSpec, Tensors,
};

/// Loads every model apart.
struct Always(Apart);

impl Backend for Always {
    fn name(&self) -> &'static str {
        self.0.name()
    }

    fn check(&self) -> Result<Availability, BackendError> {
        self.0.check()
    }

    fn inspect(&self, files: &ModelFiles, options: &LoadOptions) -> Result<ModelInfo, BackendError> {
        self.0.inspect(files, options)
    }

    fn load(&self, files: &ModelFiles, options: &LoadOptions) -> Result<Box<dyn Model>, BackendError> {
        let model = self.0.load(files, &LoadOptions { apart: true, ..options.clone() })?;
        assert!(model.is_apart());
        Ok(model)
    }
}

/// A backend that does what the number in a request says.
struct Moody;

const ANSWERS: i32 = 0;
const ABORTS: i32 = 1;
const SLEEPS: i32 = 2;
/// It takes more memory than a run may have, and says whether it gets it.
const GROWS: i32 = 3;
/// The same, and cannot do without.
const NEEDS: i32 = 4;
/// What a run may have.
const RUN_BYTES: u64 = 1 << 30;
/// What it is called to load without end.
const ENDLESS: &str = "endless";
/// From here on it takes so many bytes.
const TAKES: i32 = 1000;

struct MoodyModel(Signature, MemoryPool);

struct MoodyInstance(MemoryPool);

impl Backend for Moody {
    fn name(&self) -> &'static str {
        "moody"
    }

    fn check(&self) -> Result<Availability, BackendError> {
        Ok(Availability { version: "1".to_owned(), devices: vec![Device::Cpu] })
    }

    fn inspect(&self, _: &ModelFiles, _: &LoadOptions) -> Result<ModelInfo, BackendError> {
        Err(BackendError::Failed("not asked for".to_owned()))
    }

    fn load(&self, files: &ModelFiles, options: &LoadOptions) -> Result<Box<dyn Model>, BackendError> {
        while files.model.name() == ENDLESS {
            std::hint::black_box(());
        }
        let spec = |name| TensorSpec::new(name, DType::Int32, vec![Dim::Unknown]);
        let signature = Signature { inputs: vec![spec("mood")], outputs: vec![spec("mood")] };
        Ok(Box::new(MoodyModel(signature, options.memory.clone())))
    }
}

impl Model for MoodyModel {
    fn signature(&self) -> &Signature {
        &self.0
    }

    fn device(&self) -> &Device {
        &Device::Cpu
    }

    fn profile(&self) -> Profile {
        Profile::whole()
    }

    fn instance(&self, _: usize) -> Result<Box<dyn Instance>, BackendError> {
        Ok(Box::new(MoodyInstance(self.1.clone())))
    }
}

impl Instance for MoodyInstance {
    #[allow(clippy::disallowed_methods, reason = "this process is there to be ended")]
    fn run(&mut self, batch: &[Tensors], _: &RunOptions) -> Result<Vec<Tensors>, BackendError> {
        let mood = batch[0].get("mood").and_then(|tensor| tensor.as_slice::<i32>()?.first().copied());
        match mood {
            Some(ABORTS) => std::process::abort(),
            Some(SLEEPS) => loop {
                std::thread::park();
            },
            Some(GROWS) => {
                let mut grown: Vec<u8> = Vec::new();
                if grown.try_reserve_exact(2 * RUN_BYTES as usize).is_err() {
                    return Err(BackendError::InvalidValues("there is not as much".to_owned()));
                }
                std::hint::black_box(&grown);
            }
            Some(NEEDS) => {
                std::hint::black_box(Vec::<u8>::with_capacity(2 * RUN_BYTES as usize));
            }
            Some(bytes @ TAKES..) => {
                self.0.holder().grow(bytes.unsigned_abs().into()).map_err(BackendError::Memory)?;
            }
            _ => {}
        }
        Ok(batch.to_vec())
    }
}

/// What takes more of the processors' time than loading may is ended.
fn endless_loads_end(apart: &Always) {
    let files = ModelFiles { model: FileSource::Embedded { name: ENDLESS.to_owned(), bytes: vec![7; 100].into() } };
    match apart.load(&files, &LoadOptions::default()).map(drop) {
        Err(BackendError::Crashed { by: Ending::Itself, how }) => assert!(how.contains("SIGXCPU"), "{how}"),
        other => panic!("{other:?}"),
    }
}

fn moods(apart: &Always) {
    let files = ModelFiles { model: FileSource::Embedded { name: "m".to_owned(), bytes: vec![7; 100].into() } };
    let pool = MemoryPool::fixed(1 << 20);
    let model = apart.load(&files, &LoadOptions { memory: pool.clone(), ..LoadOptions::default() }).expect("loaded");
    let mut instance = model.instance(1).expect("an instance");
    let mut run = |mood: i32, options: &RunOptions| {
        let inputs = Tensors::from_iter([("mood", Tensor::from_slice([1], &[mood]).expect("valid"))]);
        instance.run(std::slice::from_ref(&inputs), options).map(|answers| assert_eq!(answers, [inputs]))
    };
    let whenever = RunOptions::default();
    run(ANSWERS, &whenever).expect("answered");
    let by = |result: Result<(), BackendError>| match result {
        Err(BackendError::Crashed { by, .. }) => by,
        other => panic!("{other:?}"),
    };
    assert_eq!(by(run(ABORTS, &whenever)), Ending::Itself);
    run(ANSWERS, &whenever).expect("by another child");
    // One that does not listen is ended.
    let begin = Instant::now();
    let soon = RunOptions { ends: begin.checked_add(Duration::from_millis(50)), ..RunOptions::default() };
    assert_eq!(by(run(SLEEPS, &soon)), Ending::Late);
    run(ANSWERS, &whenever).expect("by another child");
    // Its memory is the server's.
    run(TAKES, &whenever).expect("there is enough");
    match run(2 << 20, &whenever) {
        Err(BackendError::Memory(Shortage::Never { .. })) => {}
        other => panic!("{other:?}"),
    }
    assert_eq!(pool.held(), 0, "it is given back");
    match run(GROWS, &whenever) {
        Err(BackendError::InvalidValues(_)) => {}
        other => panic!("{other:?}"),
    }
    run(ANSWERS, &whenever).expect("by the same child");
    assert_eq!(by(run(NEEDS, &whenever)), Ending::Memory);
    run(ANSWERS, &whenever).expect("by another child");
    // However often one ends: it had served, so nobody waits for the next.
    for _ in 0..6 {
        run(ANSWERS, &whenever).expect("answered");
        assert_eq!(by(run(ABORTS, &whenever)), Ending::Itself);
    }
    // Those that serve nothing are waited for.
    let waits = (0..6).any(|_| matches!(run(ABORTS, &whenever), Err(BackendError::Restarting(_))));
    assert!(waits, "children that never served are started without end");
}

/// A child in place of another is not given files that nobody has checked.
fn changed_files(apart: &Always) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("m.onnx");
    std::fs::write(&path, "checked").expect("written");
    let files = ModelFiles { model: FileSource::Path(path.clone()) };
    let model = apart.load(&files, &LoadOptions::default()).expect("loaded");
    let mut instance = model.instance(1).expect("an instance");
    let mut run = |mood: i32| {
        let inputs = Tensors::from_iter([("mood", Tensor::from_slice([1], &[mood]).expect("valid"))]);
        instance.run(std::slice::from_ref(&inputs), &RunOptions::default())
    };
    run(ANSWERS).expect("answered");
    std::fs::write(&path, "another").expect("written");
    run(ANSWERS).expect("by the child that has loaded what was checked");
    assert!(matches!(run(ABORTS), Err(BackendError::Crashed { .. })));
    match run(ANSWERS) {
        Err(BackendError::Changed) => {}
        other => panic!("{other:?}"),
    }
}

fn main() {
    let tract: Arc<dyn Backend> = Arc::new(Tract::default());
    let moody: Arc<dyn Backend> = Arc::new(Moody);
    let mut arguments = std::env::args().skip(1);
    if arguments.next().as_deref() == Some("child") {
        let memory = arguments.next().and_then(|number| number.parse().ok()).expect("the number of an open file");
        serve(&[tract, moody], memory, Limits { load_seconds: 1, ..Limits::of_run(RUN_BYTES) }, || ()).expect("served");
        return;
    }
    let always = |backend| Always(Apart::new(backend, || vec!["child".into()]).expect("a thread"));
    let moody = always(moody);
    moods(&moody);
    endless_loads_end(&moody);
    changed_files(&moody);
    let apart = always(tract);
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/models");
    let gaps = [
        ("identity BF16", "tract's ONNX reader does not know bfloat16"),
        ("identity BYTES", "tract has no operators on text"),
    ];
    corymb_core::conformance::run(&apart, &fixtures, &gaps);
    corymb_tests_zoo::run(&apart);
    println!("models in child processes pass the conformance suite and the zoo");
}
