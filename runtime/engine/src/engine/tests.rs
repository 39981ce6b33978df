//! The engine with a backend whose speed and moods are the test's to choose.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex};

use bytes::Bytes;
use corymb_core::{
    Availability, BackendError, BatchAxes, BoxFuture, Code, DType, Device, Dim, FileSource, Finish, Independence,
    Instance, LoadOptions, Model, ModelFiles, ModelInfo, Models, Plugin, PluginError, PluginInfo, PluginOptions,
    Profile, Request, Response, RowAnalysis, RunOptions, Step, Tensor, TensorSpec, Tensors,
};
use corymb_repository::{ModelFolder, embedded};
use opentelemetry::metrics::noop::NoopMeterProvider;

use super::*;

/// Doubles `x`. A row that holds 13 panics, one that holds -1 is refused; a run waits while the gate is shut.
#[derive(Default)]
struct Doubler {
    gate: Arc<Gate>,
    log: Arc<Mutex<Vec<f32>>>,
    threads: Mutex<Vec<String>>,
    running: Arc<AtomicUsize>,
    most_running: Arc<AtomicUsize>,
    broken: AtomicBool,
    /// Faster than a hand-over: callers run it themselves.
    fast: AtomicBool,
}

#[derive(Default)]
struct Gate {
    shut: Mutex<bool>,
    change: Condvar,
    passed: AtomicUsize,
}

impl Gate {
    fn set(&self, shut: bool) {
        *self.shut.lock().expect("not poisoned") = shut;
        self.change.notify_all();
    }

    fn pass(&self) {
        let shut = self.shut.lock().expect("not poisoned");
        drop(self.change.wait_while(shut, |shut| *shut).expect("not poisoned"));
        self.passed.fetch_add(1, Ordering::SeqCst);
    }
}

struct DoublerBackend(Arc<Doubler>);
struct DoublerModel(Arc<Doubler>, Signature);
struct DoublerInstance(Arc<Doubler>);

impl Backend for DoublerBackend {
    fn name(&self) -> &'static str {
        "doubler"
    }

    fn check(&self) -> Result<Availability, BackendError> {
        Ok(Availability { version: "1".into(), devices: vec![Device::Cpu] })
    }

    fn inspect(&self, _: &ModelFiles, _: &LoadOptions) -> Result<ModelInfo, BackendError> {
        Err(BackendError::InvalidModel("not asked in these tests".into()))
    }

    fn load(&self, _: &ModelFiles, _: &LoadOptions) -> Result<Box<dyn Model>, BackendError> {
        if self.0.broken.load(Ordering::Relaxed) {
            return Err(BackendError::InvalidModel("the file is broken".into()));
        }
        let spec = |name| TensorSpec::new(name, DType::Fp32, vec![Dim::Symbol("N".into())]);
        Ok(Box::new(DoublerModel(Arc::clone(&self.0), Signature { inputs: vec![spec("x")], outputs: vec![spec("y")] })))
    }
}

impl Model for DoublerModel {
    fn signature(&self) -> &Signature {
        &self.1
    }

    fn device(&self) -> &Device {
        &Device::Cpu
    }

    fn profile(&self) -> Profile {
        let axes = BatchAxes { inputs: vec![("x".into(), Some(0))], outputs: vec![("y".into(), Some(0))] };
        let rows = RowAnalysis { independence: Independence::Proved, axes: Some(axes) };
        Profile { rows, batch_sizes: vec![1], shapes_bound_cost: true, ..Profile::whole() }
    }

    fn instance(&self, _threads: usize) -> Result<Box<dyn Instance>, BackendError> {
        Ok(Box::new(DoublerInstance(Arc::clone(&self.0))))
    }
}

impl Instance for DoublerInstance {
    fn run(&mut self, batch: &[Tensors], options: &RunOptions) -> Result<Vec<Tensors>, BackendError> {
        let running = self.0.running.fetch_add(1, Ordering::SeqCst) + 1;
        self.0.most_running.fetch_max(running, Ordering::SeqCst);
        self.0.gate.pass();
        if !self.0.fast.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(1));
        }
        self.0.threads.lock().expect("not poisoned").push(std::thread::current().name().unwrap_or_default().to_owned());
        self.0.running.fetch_sub(1, Ordering::SeqCst);
        if options.cancel.is_cancelled() {
            return Err(BackendError::Cancelled);
        }
        let run = |inputs: &Tensors| {
            let x = inputs.get("x").and_then(Tensor::as_slice::<f32>).expect("checked");
            self.0.log.lock().expect("not poisoned").extend_from_slice(x);
            assert!(!x.contains(&13.0), "thirteen");
            if x.contains(&-1.0) {
                return Err(BackendError::InvalidInput("-1 is out of range".into()));
            }
            let y: Vec<f32> = x.iter().map(|x| x * 2.0).collect();
            Ok(Tensors::from_iter([("y", Tensor::from_slice([y.len()], &y).expect("valid"))]))
        };
        batch.iter().map(run).collect()
    }
}

/// A plugin host whose plugin adds 1 before the model and 100 after it; `x` of 7 is answered at once.
struct Adder;
struct AdderPlugin(Signature, PluginInfo);
struct AdderRest;

impl PluginHost for Adder {
    fn load(
        &self,
        _: &FileSource,
        _: &PluginOptions,
        model: Option<&Signature>,
        _: Arc<dyn Models>,
    ) -> Result<Box<dyn Plugin>, PluginError> {
        let info =
            PluginInfo { name: "adder".into(), world: "transformer", precompiled: false, load_time: Duration::ZERO };
        Ok(Box::new(AdderPlugin(model.expect("a model").clone(), info)))
    }
}

fn map(tensors: &Tensors, from: &str, to: &str, change: impl Fn(f32) -> f32) -> Tensors {
    let values = tensors.get(from).and_then(Tensor::as_slice::<f32>).expect("checked");
    let values: Vec<f32> = values.iter().map(|value| change(*value)).collect();
    Tensors::from_iter([(to, Tensor::from_slice([values.len()], &values).expect("valid"))])
}

impl Plugin for AdderPlugin {
    fn served(&self) -> &Signature {
        &self.0
    }

    fn info(&self) -> &PluginInfo {
        &self.1
    }

    fn preprocess(&self, request: Request) -> BoxFuture<'_, Result<Step, PluginError>> {
        Box::pin(async move {
            if values(&request.inputs, "x") == [7.0] {
                return Ok(Step::Answer(Response {
                    outputs: map(&request.inputs, "x", "y", |x| x),
                    ..Response::default()
                }));
            }
            Ok(Step::Run { inputs: map(&request.inputs, "x", "x", |x| x + 1.0), rest: Box::new(AdderRest) })
        })
    }
}

impl Finish for AdderRest {
    fn postprocess(self: Box<Self>, outputs: Tensors) -> BoxFuture<'static, Result<Response, PluginError>> {
        Box::pin(async move { Ok(Response { outputs: map(&outputs, "y", "y", |y| y + 100.0), ..Response::default() }) })
    }
}

fn values(tensors: &Tensors, name: &str) -> Vec<f32> {
    tensors.get(name).and_then(Tensor::as_slice::<f32>).expect("FP32").to_vec()
}

fn folder(version: &str, manifest: &str) -> ModelFolder {
    let file = |name, text: &str| (name, Bytes::copy_from_slice(text.as_bytes()));
    let files = [file("model.onnx", "x"), file("p.wasm", "x"), file("model.toml", manifest)];
    ModelFolder { version: version.into(), ..embedded("m", &files).expect("valid") }
}

fn engine(doubler: &Arc<Doubler>, options: EngineOptions) -> Engine {
    engine_with(doubler, options, Arc::new(NoopMeterProvider::new()))
}

fn engine_with(doubler: &Arc<Doubler>, options: EngineOptions, meters: Arc<dyn MeterProvider + Send + Sync>) -> Engine {
    let backends: Vec<Arc<dyn Backend>> = vec![Arc::new(DoublerBackend(Arc::clone(doubler)))];
    Engine::new(options, backends, Some(Arc::new(Adder)), meters).expect("threads")
}

async fn serving(doubler: &Arc<Doubler>, options: EngineOptions, manifest: &str) -> Engine {
    let engine = engine(doubler, options);
    engine.load(folder("1", manifest)).await.expect("loads");
    // The warm-up's zeros are no part of a test.
    doubler.log.lock().expect("not poisoned").clear();
    doubler.most_running.store(0, Ordering::SeqCst);
    engine
}

fn two_workers() -> EngineOptions {
    EngineOptions { workers: 2, ..EngineOptions::default() }
}

fn request(x: &[f32]) -> Request {
    let x = Tensor::from_slice([x.len()], x).expect("valid");
    Request { model: "m".into(), inputs: Tensors::from_iter([("x", x)]), ..Request::default() }
}

async fn infer(engine: &Engine, request: Request) -> Result<Vec<f32>, EngineError> {
    let call = engine.begin("m", None, Protocol::V2)?;
    call.infer(request).await.map(|response| values(&response.outputs, "y"))
}

/// A request of one row that runs while the test goes on.
fn started(engine: &Engine, x: f32) -> tokio::task::JoinHandle<Result<Vec<f32>, EngineError>> {
    let engine = engine.clone();
    tokio::spawn(async move { infer(&engine, request(&[x])).await })
}

/// Until something that another thread does has happened.
async fn eventually(what: impl Fn() -> bool) {
    for _ in 0..2000 {
        if what() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("it did not happen within ten seconds");
}

#[tokio::test]
async fn rows_run_in_parallel_and_come_back_in_order() {
    let doubler = Arc::new(Doubler::default());
    let engine = serving(&doubler, two_workers(), "[batching]\nenabled = true").await;
    doubler.gate.set(true);
    let running = tokio::spawn({
        let engine = engine.clone();
        async move { infer(&engine, request(&[1.0, 2.0, 3.0, 4.0, 5.0])).await }
    });
    eventually(|| doubler.running.load(Ordering::SeqCst) == 2).await;
    doubler.gate.set(false);
    assert_eq!(running.await.expect("no panic").expect("answered"), [2.0, 4.0, 6.0, 8.0, 10.0]);
    assert_eq!(doubler.most_running.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_panic_costs_one_request() {
    let doubler = Arc::new(Doubler::default());
    let engine = serving(&doubler, two_workers(), "").await;
    for _ in 0..5 {
        let error = infer(&engine, request(&[13.0])).await.expect_err("panics");
        assert_eq!(error.code(), Code::Internal);
        assert!(!error.to_string().contains("thirteen"), "callers do not see the panic: {error}");
        assert!(error.details().expect("for the log").contains("thirteen"));
    }
    assert_eq!(infer(&engine, request(&[1.0, 2.0])).await.expect("answered"), [2.0, 4.0]);
    let error = infer(&engine, request(&[1.0, -1.0])).await.expect_err("refused");
    assert_eq!((error.code(), error.to_string()), (Code::InvalidArgument, "model 'm': -1 is out of range".into()));
}

#[tokio::test]
async fn the_queue_is_bounded_and_leaving_frees_a_place() {
    let doubler = Arc::new(Doubler::default());
    let engine = serving(&doubler, two_workers(), "[queue]\nmax = 2\n[instances]\ncount = 1").await;
    doubler.gate.set(true);
    let start = |x| started(&engine, x);
    let depth = || engine.0.registry.all()[0].queue_depth();
    let first = start(1.0);
    eventually(|| doubler.running.load(Ordering::SeqCst) == 1).await;
    let second = start(2.0);
    eventually(|| depth() == 1).await;
    let third = start(3.0);
    eventually(|| depth() == 2).await;
    let error = infer(&engine, request(&[4.0])).await.expect_err("full");
    assert_eq!(error.code(), Code::Overloaded);
    assert!(error.retry_after().is_some());

    second.abort();
    eventually(|| depth() == 1).await;
    let fourth = start(4.0);
    eventually(|| depth() == 2).await;
    doubler.gate.set(false);
    for (task, expected) in [(first, 2.0), (third, 6.0), (fourth, 8.0)] {
        assert_eq!(task.await.expect("no panic").expect("answered"), [expected]);
    }
    assert_eq!(*doubler.log.lock().expect("not poisoned"), [1.0, 3.0, 4.0], "in order of arrival, without who left");
}

#[tokio::test]
async fn deadlines_hold_in_the_queue_and_in_the_run() {
    let doubler = Arc::new(Doubler::default());
    let engine = serving(&doubler, two_workers(), "[instances]\ncount = 1").await;
    doubler.gate.set(true);
    let soon = || Some(Instant::now() + Duration::from_millis(20));
    let running = infer(&engine, Request { deadline: soon(), ..request(&[1.0]) }).await.expect_err("late");
    assert_eq!(running.code(), Code::DeadlineExceeded);
    let queued = infer(&engine, Request { deadline: soon(), ..request(&[2.0]) }).await.expect_err("late");
    assert_eq!(queued.code(), Code::DeadlineExceeded);
    doubler.gate.set(false);
    assert_eq!(infer(&engine, request(&[3.0])).await.expect("answered"), [6.0]);
    assert_eq!(*doubler.log.lock().expect("not poisoned"), [3.0], "what nobody waits for is not computed");
}

#[tokio::test]
async fn a_deadline_that_the_queue_sees_first_is_a_deadline() {
    let doubler = Arc::new(Doubler::default());
    let engine = serving(&doubler, two_workers(), "[instances]\ncount = 1").await;
    doubler.gate.set(true);
    let running = started(&engine, 1.0);
    eventually(|| doubler.running.load(Ordering::SeqCst) == 1).await;
    let deadline = Instant::now() + Duration::from_millis(100);
    let asked = Request { deadline: Some(deadline), ..request(&[2.0]) };
    let queued = tokio::spawn({
        let engine = engine.clone();
        async move { infer(&engine, asked).await }
    });
    eventually(|| engine.0.registry.all()[0].queue_depth() == 1).await;
    // This thread is the runtime's only one: no timer of it fires before the queue has looked.
    std::thread::sleep((deadline + Duration::from_millis(20)).saturating_duration_since(Instant::now()));
    doubler.gate.set(false);
    let looked = Instant::now();
    while engine.0.registry.all()[0].queue_depth() > 0 {
        assert!(looked.elapsed() < Duration::from_secs(30), "the queue has not looked");
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(queued.await.expect("no panic").expect_err("late").code(), Code::DeadlineExceeded);
    assert_eq!(running.await.expect("no panic").expect("answered"), [2.0]);
}

#[tokio::test]
async fn requests_are_checked_against_the_signature() {
    let doubler = Arc::new(Doubler::default());
    let engine = serving(&doubler, two_workers(), "").await;
    let wrong = Tensors::from_iter([("x", Tensor::from_slice([1], &[1_i64]).expect("valid"))]);
    let error = infer(&engine, Request { inputs: wrong, ..request(&[1.0]) }).await.expect_err("wrong");
    assert_eq!(error.to_string(), "model 'm': input 'x' has datatype INT64; expected FP32");
    let error = infer(&engine, Request { outputs: vec!["z".into()], ..request(&[1.0]) }).await.expect_err("wrong");
    assert_eq!(error.to_string(), "model 'm': unknown output 'z'; expected 'y'");
    let error = engine.begin("n", None, Protocol::V2).expect_err("unknown");
    assert_eq!((error.code(), error.to_string()), (Code::NotFound, "unknown model 'n'; served are 'm'".into()));
    let error = engine.begin("m", Some("2"), Protocol::V2).expect_err("unknown");
    assert_eq!(error.to_string(), "model 'm' has no version '2'; it has '1'");
    let error = infer(&engine, Request { depth: 9, ..request(&[1.0]) }).await.expect_err("too deep");
    assert!(error.to_string().contains("at most 8"), "{error}");
}

#[tokio::test]
async fn plugins_wrap_the_model_or_answer_themselves() {
    let doubler = Arc::new(Doubler::default());
    let engine = serving(&doubler, two_workers(), "[plugin]\nfile = 'p.wasm'").await;
    assert_eq!(infer(&engine, request(&[1.0, 2.0])).await.expect("answered"), [104.0, 106.0]);
    assert_eq!(infer(&engine, request(&[7.0])).await.expect("answered"), [7.0]);
}

#[tokio::test]
async fn waiting_for_a_worker_has_the_bounds_of_the_queue() {
    let doubler = Arc::new(Doubler::default());
    let manifest = "[plugin]\nfile = 'p.wasm'\n[queue]\nmax = 1\ntimeout = '200ms'";
    let engine = serving(&doubler, EngineOptions { workers: 1, ..EngineOptions::default() }, manifest).await;
    doubler.gate.set(true);
    let start = |x| started(&engine, x);
    let depth = || engine.0.registry.all()[0].queue_depth();
    let first = start(1.0);
    eventually(|| doubler.running.load(Ordering::SeqCst) == 1).await;
    let second = start(2.0);
    eventually(|| depth() == 1).await;
    let full = infer(&engine, request(&[3.0])).await.expect_err("full");
    assert_eq!(full.code(), Code::Overloaded);
    assert!(full.to_string().contains("1 requests already wait for model 'm'"), "{full}");
    let waited = second.await.expect("no panic").expect_err("nobody was free");
    assert_eq!(waited.code(), Code::Overloaded);
    assert!(waited.to_string().contains("200ms"), "{waited}");
    let soon = Some(Instant::now() + Duration::from_millis(20));
    let late = infer(&engine, Request { deadline: soon, ..request(&[4.0]) }).await.expect_err("late");
    assert_eq!(late.to_string(), "model 'm' did not answer in time: queue was not finished when the deadline passed");
    doubler.gate.set(false);
    assert_eq!(first.await.expect("no panic").expect("answered"), [104.0]);
    eventually(|| depth() == 0).await;
    assert_eq!(infer(&engine, request(&[5.0])).await.expect("answered"), [112.0]);
    assert_eq!(*doubler.log.lock().expect("not poisoned"), [2.0, 6.0], "who left was not run");
}

#[tokio::test]
async fn a_new_version_is_swapped_in_and_the_old_one_drains() {
    let doubler = Arc::new(Doubler::default());
    let engine = serving(&doubler, two_workers(), "").await;
    let states = || -> Vec<String> {
        let versions = engine.status("m").expect("known").versions;
        versions.iter().map(|status| format!("{} {}", status.version, status.state)).collect()
    };
    let old = engine.begin("m", None, Protocol::V2).expect("ready");
    engine.load(folder("2", "")).await.expect("loads");
    assert_eq!(states(), ["1 draining", "2 ready"]);
    assert_eq!(engine.begin("m", Some("1"), Protocol::V2).expect_err("draining").code(), Code::Draining);
    assert!(old.infer(request(&[1.0])).await.is_ok(), "what was begun is finished");
    drop(old);
    eventually(|| states() == ["1 gone", "2 ready"]).await;
    assert_eq!(engine.begin("m", Some("1"), Protocol::V2).expect_err("gone").code(), Code::NotFound);

    doubler.broken.store(true, Ordering::Relaxed);
    let error = engine.load(folder("3", "")).await.expect_err("broken");
    assert_eq!(error.to_string(), "doubler: the file is broken");
    assert_eq!(states(), ["1 gone", "2 ready", "3 failed: doubler: the file is broken"]);
    assert_eq!(engine.describe("m", None).expect("serving").version, "2");
    assert!(engine.ready(), "the old version keeps serving");
    engine.load(folder("2", "")).await.expect("the same version is there");
    assert_eq!(states(), ["1 gone", "2 ready", "3 failed: doubler: the file is broken"]);

    engine.shut_down(Duration::from_secs(5)).await;
    assert_eq!(engine.begin("m", None, Protocol::V2).expect_err("gone").code(), Code::NotReady);
}

#[tokio::test]
async fn readiness_waits_for_what_was_announced() {
    let doubler = Arc::new(Doubler::default());
    for keep_going in [false, true] {
        let engine = engine(&doubler, EngineOptions { keep_going, ..two_workers() });
        let fine = folder("1", "");
        let failing = ModelFolder { name: "other".into(), ..folder("1", "backend = 'none'") };
        engine.announce(&[fine.clone(), failing.clone()]);
        assert!(!engine.ready());
        let waited = engine.wait_loaded("m", Instant::now() + Duration::from_millis(5));
        waited.await;
        assert_eq!(
            engine.begin("m", None, Protocol::V2).expect_err("loading").to_string(),
            "model 'm' is not ready: it is loading"
        );
        let (loaded, ()) =
            tokio::join!(engine.load(fine), engine.wait_loaded("m", Instant::now() + Duration::from_secs(10)));
        loaded.expect("loads");
        assert!(engine.begin("m", None, Protocol::V2).is_ok());
        assert!(!engine.ready(), "one is still loading");
        let error = engine.load(failing).await.expect_err("no such backend");
        assert_eq!(error.to_string(), "backend 'none' is unknown; there are doubler");
        assert_eq!(engine.ready(), keep_going);
    }
}

#[tokio::test]
async fn a_sample_that_fails_fails_the_load() {
    let doubler = Arc::new(Doubler::default());
    let engine = engine(&doubler, two_workers());
    let files = [("model.onnx", Bytes::from_static(b"x")), ("warmup/x.bin", Bytes::from_static(b"text"))];
    let error = engine.load(embedded("m", &files).expect("valid")).await.expect_err("BYTES for FP32");
    let message = error.to_string();
    assert!(message.contains("warm-up with x.bin failed: model 'm': input 'x' has datatype BYTES"), "{message}");
}

#[tokio::test]
async fn short_runs_are_made_by_their_caller() {
    let doubler = Arc::new(Doubler::default());
    doubler.fast.store(true, Ordering::Relaxed);
    let engine = serving(&doubler, two_workers(), "").await;
    let last_thread = || doubler.threads.lock().expect("not poisoned").last().cloned().expect("a run");
    // A noisy machine may make one run slow, and the average remember it for a while.
    for _ in 0..100 {
        assert_eq!(infer(&engine, request(&[1.0])).await.expect("answered"), [2.0]);
        if !last_thread().starts_with("compute") {
            break;
        }
    }
    assert!(!last_thread().starts_with("compute"), "run by {}", last_thread());
    doubler.fast.store(false, Ordering::Relaxed);
    infer(&engine, request(&[1.0])).await.expect("answered");
    infer(&engine, request(&[1.0])).await.expect("answered");
    assert!(last_thread().starts_with("compute"), "run by {}", last_thread());
}

#[tokio::test]
async fn concurrency_is_counted_per_model_and_for_the_server() {
    let doubler = Arc::new(Doubler::default());
    let engine = serving(&doubler, two_workers(), "").await;
    let count = || engine.0.registry.all()[0].concurrency.in_flight();
    let outer = engine.track();
    let call = engine.begin("m", None, Protocol::V2).expect("ready");
    assert_eq!((count(), engine.concurrency().in_flight()), (1, 1));
    call.finish(Ok(()));
    drop(outer);
    assert_eq!((count(), engine.concurrency().in_flight()), (0, 0));
}

mod late;
mod series;
mod versions;
