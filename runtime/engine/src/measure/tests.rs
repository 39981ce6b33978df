//! Measuring, and serving by what was measured, with a backend whose costs and habits are the test's to choose.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

use bytes::Bytes;
use corymb_core::{
    Availability, Backend, BackendError, BatchAxes, Code, DType, Device, Dim, Independence, Instance, LoadOptions,
    Model, ModelInfo, Profile, Request, RowAnalysis, RunOptions, Signature, Tensor, TensorSpec,
};
use corymb_repository::{ModelFolder, embedded};
use opentelemetry::metrics::noop::NoopMeterProvider;

use super::*;
use crate::batch::{Caller, Run};
use crate::engine::Engine;
use crate::error::EngineError;
use crate::pool::NO_PRIORITY;
use crate::shared::EngineOptions;
use crate::signals::Protocol;
use crate::spans::Spans;

/// More elements than zeros are made up for.
const WIDE: usize = (64 << 20) / 4 + 1;

/// `y = x * 2 + 1` over rows of two.
struct Habits {
    /// A run costs this, whatever it holds.
    run: Duration,
    /// And this for each row.
    row: Duration,
    /// Adds the mean of all rows to each.
    mixes: bool,
    batches_pay: bool,
    /// A run with two threads takes half the time.
    divisible: bool,
    /// But not the first so many.
    disturbed: AtomicUsize,
    /// Rows have [`WIDE`] elements.
    wide_input: bool,
    /// There is no sample of a row.
    shown_by_callers: bool,
    /// Rows that hold it fail the whole run.
    poison: f32,
    /// Rows of each run, and its threads.
    log: Mutex<Vec<(usize, usize)>>,
    order: Mutex<Vec<f32>>,
    /// While it is set no run ends.
    held: AtomicBool,
    stopped: AtomicBool,
}

impl Default for Habits {
    fn default() -> Self {
        Self {
            run: Duration::from_millis(4),
            row: Duration::ZERO,
            mixes: false,
            batches_pay: true,
            divisible: false,
            disturbed: AtomicUsize::new(0),
            wide_input: false,
            shown_by_callers: false,
            poison: f32::INFINITY,
            log: Mutex::default(),
            order: Mutex::default(),
            held: AtomicBool::new(false),
            stopped: AtomicBool::new(false),
        }
    }
}

struct Fake(Arc<Habits>);
struct FakeModel(Arc<Habits>, Signature);
struct FakeInstance(Arc<Habits>, usize);

impl Backend for Fake {
    fn name(&self) -> &'static str {
        "fake"
    }

    fn check(&self) -> Result<Availability, BackendError> {
        Ok(Availability { version: "1".into(), devices: vec![Device::Cpu] })
    }

    fn inspect(&self, _: &ModelFiles, _: &LoadOptions) -> Result<ModelInfo, BackendError> {
        Err(BackendError::InvalidModel("not asked in these tests".into()))
    }

    fn load(&self, _: &ModelFiles, _: &LoadOptions) -> Result<Box<dyn Model>, BackendError> {
        let width = if self.0.wide_input { Dim::Fixed(WIDE) } else { Dim::Unknown };
        let spec = |name| TensorSpec::new(name, DType::Fp32, vec![Dim::Symbol("N".into()), width.clone()]);
        Ok(Box::new(FakeModel(Arc::clone(&self.0), Signature { inputs: vec![spec("x")], outputs: vec![spec("y")] })))
    }
}

impl Model for FakeModel {
    fn signature(&self) -> &Signature {
        &self.1
    }

    fn device(&self) -> &Device {
        &Device::Cpu
    }

    fn profile(&self) -> Profile {
        let max_threads = if self.0.divisible { 8 } else { 1 };
        let rows = proved(&[("x", Some(0))], &[("y", Some(0))]);
        Profile { rows, batches_pay: self.0.batches_pay, max_threads, ..Profile::whole() }
    }

    fn instance(&self, threads: usize) -> Result<Box<dyn Instance>, BackendError> {
        Ok(Box::new(FakeInstance(Arc::clone(&self.0), threads)))
    }
}

/// Rows that the graph, if there were one, would prove to be independent.
fn proved(inputs: &[(&str, Option<usize>)], outputs: &[(&str, Option<usize>)]) -> RowAnalysis {
    let named = |axes: &[(&str, Option<usize>)]| axes.iter().map(|(name, axis)| ((*name).to_owned(), *axis)).collect();
    let axes = Some(BatchAxes { inputs: named(inputs), outputs: named(outputs) });
    RowAnalysis { independence: Independence::Proved, axes }
}

impl Instance for FakeInstance {
    fn run(&mut self, batch: &[Tensors], options: &RunOptions) -> Result<Vec<Tensors>, BackendError> {
        let Self(habits, threads) = self;
        let rows: Vec<&Tensor> = batch.iter().filter_map(|inputs| inputs.get("x")).collect();
        let values: Vec<f32> = rows.iter().flat_map(|x| x.as_slice::<f32>().unwrap_or_default()).copied().collect();
        let count: usize = rows.iter().filter_map(|x| x.rows()).sum();
        habits.log.lock().expect("not poisoned").push((count, *threads));
        habits.order.lock().expect("not poisoned").push(values[0]);
        let less = |left: usize| left.checked_sub(1);
        let disturbed =
            *threads > 1 && habits.disturbed.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).is_ok();
        let divided = if disturbed { 1 } else { *threads as u32 };
        let until = Instant::now() + (habits.run + habits.row * count as u32) / divided;
        while Instant::now() < until || habits.held.load(Ordering::Relaxed) {
            if options.cancel.is_cancelled() {
                habits.stopped.store(true, Ordering::Relaxed);
                return Err(BackendError::Cancelled);
            }
            std::thread::sleep(Duration::from_micros(200));
        }
        if values.contains(&habits.poison) {
            return Err(BackendError::InvalidInput("poison".into()));
        }
        let mean = if habits.mixes { values.iter().sum::<f32>() / values.len() as f32 } else { 0.0 };
        let answer = |x: &&Tensor| {
            let y: Vec<f32> = x.as_slice::<f32>().unwrap_or_default().iter().map(|x| x * 2.0 + 1.0 + mean).collect();
            Tensors::from_iter([("y", Tensor::from_slice(x.shape(), &y).expect("valid"))])
        };
        Ok(rows.iter().map(answer).collect())
    }
}

/// A folder with a sample of one row, which says what the open dimension is; or without one.
fn folder(manifest: &str, sampled: bool) -> ModelFolder {
    let manifest = Bytes::copy_from_slice(manifest.as_bytes());
    let mut files = vec![("model.onnx", Bytes::from_static(b"x")), ("model.toml", manifest)];
    if sampled {
        let header = format!("{:<117}\n", "{'descr': '<f4', 'fortran_order': False, 'shape': (1, 1), }");
        let sample = [b"\x93NUMPY\x01\0\x76\0", header.as_bytes(), &[0; 4]].concat();
        files.push(("warmup/x.npy", Bytes::from(sample)));
    }
    embedded("m", &files).expect("valid")
}

async fn serving(habits: Habits, manifest: &str, cache: Option<&std::path::Path>) -> (Engine, Arc<Habits>) {
    let sampled = !habits.wide_input && !habits.shown_by_callers;
    let habits = Arc::new(habits);
    let meters = Arc::new(NoopMeterProvider::new());
    let options = EngineOptions { workers: 2, cache: cache.map(Into::into), ..EngineOptions::default() };
    let engine = Engine::new(options, vec![Arc::new(Fake(Arc::clone(&habits)))], None, meters).expect("threads");
    engine.load(folder(manifest, sampled)).await.expect("loads");
    (engine, habits)
}

fn remark(engine: &Engine, which: &str) -> String {
    let remarks = engine.describe("m", None).expect("ready").remarks;
    remarks.into_iter().find(|(name, _)| *name == which).map(|(_, words)| words).unwrap_or_default()
}

/// Until a remark has words that begin so.
async fn said(engine: &Engine, which: &str, begin: &str) -> String {
    for _ in 0..2000 {
        let words = remark(engine, which);
        if words.starts_with(begin) {
            return words;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("{which} stays '{}', '{begin}' was expected", remark(engine, which));
}

/// Until runs of so many rows are measured and used, after which nothing but requests runs.
async fn shared_by(engine: &Engine, rows: usize) {
    let (begin, last) = (format!("up to {rows} rows a run (1 in "), format!(" {rows} in "));
    let measured = || {
        let words = remark(engine, "batching");
        words.starts_with(&begin) && words.contains(&last)
    };
    until("it is measured", measured).await;
}

fn request(rows: &[f32], width: usize) -> Request {
    let values: Vec<f32> = rows.iter().flat_map(|row| std::iter::repeat_n(*row, width)).collect();
    let x = Tensor::from_slice([rows.len(), width], &values).expect("valid");
    Request { model: "m".into(), inputs: Tensors::from_iter([("x", x)]), ..Request::default() }
}

async fn infer(engine: &Engine, request: Request) -> Result<Vec<f32>, EngineError> {
    let response = engine.begin("m", None, Protocol::V2)?.infer(request).await?;
    Ok(response.outputs.get("y").and_then(Tensor::as_slice::<f32>).expect("FP32").to_vec())
}

fn spawned(engine: &Engine, request: Request) -> tokio::task::JoinHandle<Result<Vec<f32>, EngineError>> {
    let engine = engine.clone();
    tokio::spawn(async move { infer(&engine, request).await })
}

/// Until something is so.
async fn until(what: &str, so: impl Fn() -> bool) {
    for _ in 0..5000 {
        if so() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    panic!("after ten seconds it is not so that {what}");
}

/// Answers of requests that all waited, in this order, before the first of them could run; the log is theirs alone.
async fn crowd(engine: &Engine, habits: &Habits, requests: Vec<Request>) -> Vec<Result<Vec<f32>, EngineError>> {
    let version = engine.serving("m").expect("ready");
    let queue = version.queue.as_ref().expect("a model");
    let running = || habits.log.lock().expect("not poisoned").len();
    habits.held.store(true, Ordering::Relaxed);
    habits.log.lock().expect("not poisoned").clear();
    let mut before = Vec::new();
    while before.len() < version.capacity.parallel() {
        before.push(spawned(engine, request(&[0.0], 7)));
        until("every instance is busy", || running() == before.len()).await;
    }
    habits.log.lock().expect("not poisoned").clear();
    habits.order.lock().expect("not poisoned").clear();
    let mut tasks = Vec::new();
    for request in requests {
        tasks.push(spawned(engine, request));
        until("it waits", || queue.depth() == tasks.len()).await;
    }
    habits.held.store(false, Ordering::Relaxed);
    for task in before {
        task.await.expect("no panic").expect("answered");
    }
    futures::future::join_all(tasks).await.into_iter().map(|task| task.expect("no panic")).collect()
}

fn rows_of_two(rows: &[f32]) -> Vec<Request> {
    rows.iter().map(|row| request(&[*row], 2)).collect()
}

fn largest_run(habits: &Habits) -> usize {
    habits.log.lock().expect("not poisoned").iter().map(|(rows, _)| *rows).max().unwrap_or(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_are_shared_where_it_is_proved_and_pays() {
    let (engine, habits) = serving(Habits::default(), "[batching]\nmax_size = 8", None).await;
    shared_by(&engine, 8).await;
    let rows: Vec<f32> = (0..24_u8).map(f32::from).collect();
    for (row, answer) in rows.iter().zip(crowd(&engine, &habits, rows_of_two(&rows)).await) {
        assert_eq!(answer.expect("answered"), [row * 2.0 + 1.0; 2]);
    }
    assert_eq!(*habits.log.lock().expect("not poisoned"), [(8, 1); 3]);
    let many: Vec<f32> = (0..20_u8).map(f32::from).collect();
    let answer = infer(&engine, request(&many, 1)).await.expect("answered");
    assert_eq!(answer, many.iter().map(|x| x * 2.0 + 1.0).collect::<Vec<_>>(), "a large request is cut and joined");
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_see_each_other_never_share_a_run() {
    let (engine, habits) = serving(Habits { mixes: true, ..Habits::default() }, "", None).await;
    said(&engine, "batching", "off: rows change each other's answers").await;
    let rows = [1.0_f32, 2.0, 3.0, 4.0];
    for (row, answer) in rows.iter().zip(crowd(&engine, &habits, rows_of_two(&rows)).await) {
        assert_eq!(answer.expect("answered"), [row * 3.0 + 1.0; 2]);
    }
    assert_eq!(largest_run(&habits), 1);
    let answer = infer(&engine, request(&[1.0, 3.0], 1)).await.expect("answered");
    assert_eq!(answer, [5.0, 9.0], "a request's own rows stay together");
}

#[tokio::test(flavor = "multi_thread")]
async fn where_sharing_brings_nothing_rows_run_apart() {
    let habits = Habits { run: Duration::ZERO, row: Duration::from_millis(4), ..Habits::default() };
    let (engine, habits) = serving(habits, "", None).await;
    said(&engine, "batching", "rows run apart: larger runs bring little").await;
    habits.log.lock().expect("not poisoned").clear();
    let answer = infer(&engine, request(&[1.0, 2.0, 3.0], 1)).await.expect("answered");
    assert_eq!(answer, [3.0, 5.0, 7.0]);
    assert_eq!(largest_run(&habits), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_without_batches_is_looked_at_when_rows_come() {
    for mixes in [false, true] {
        let (engine, habits) = serving(Habits { mixes, batches_pay: false, ..Habits::default() }, "", None).await;
        assert_eq!(remark(&engine, "batching"), "off: not measured yet");
        let runs = habits.log.lock().expect("not poisoned").len();
        assert_eq!(infer(&engine, request(&[1.0], 1)).await.expect("answered").len(), 1);
        assert_eq!(habits.log.lock().expect("not poisoned").len(), runs + 1, "nothing was measured");
        let expected = if mixes { [5.0, 9.0] } else { [3.0, 7.0] };
        assert_eq!(infer(&engine, request(&[1.0, 3.0], 1)).await.expect("answered"), expected);
        said(&engine, "batching", if mixes { "off: rows change" } else { "rows run apart" }).await;
        assert_eq!(infer(&engine, request(&[1.0, 3.0], 1)).await.expect("answered"), expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_with_open_sizes_is_measured_in_the_shapes_that_callers_bring() {
    let (engine, habits) = serving(Habits { shown_by_callers: true, ..Habits::default() }, "", None).await;
    assert_eq!(remark(&engine, "batching"), "off: not measured yet");
    infer(&engine, request(&[7.0, 7.0], 5)).await.expect("answered");
    said(&engine, "batching", "up to ").await;
    let version = engine.serving("m").expect("ready");
    let shapes = version.queue.as_ref().expect("a model").first_shapes().cloned();
    assert_eq!(shapes, Some(vec![("x".to_owned(), DType::Fp32, vec![2, 5])]));
    let order = habits.order.lock().expect("not poisoned");
    assert_eq!(order.iter().filter(|x| **x == 7.0).count(), 1, "what a caller sent is run once: {order:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn sizes_in_the_manifest_are_used_at_once() {
    let habits =
        Habits { shown_by_callers: true, run: Duration::ZERO, row: Duration::from_millis(1), ..Habits::default() };
    let (engine, habits) = serving(habits, "[batching]\nmax_size = 4\n[instances]\ncount = 1", None).await;
    let rows = [1.0_f32, 2.0, 3.0, 4.0];
    for (row, answer) in rows.iter().zip(crowd(&engine, &habits, rows_of_two(&rows)).await) {
        assert_eq!(answer.expect("answered"), [row * 2.0 + 1.0; 2]);
    }
    assert!(largest_run(&habits) > 1, "nothing is measured yet, and the gain is none");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_callers_send_is_never_kept() {
    // Warm-up runs nothing: there is no sample, and zeros for this model would be too large.
    let (engine, habits) = serving(Habits { wide_input: true, ..Habits::default() }, "", None).await;
    assert!(habits.log.lock().expect("not poisoned").is_empty());
    infer(&engine, request(&[1.0], WIDE)).await.expect("answered");
    let version = engine.serving("m").expect("ready");
    assert!(version.queue.as_ref().expect("a model").first_inputs().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugins_rows_are_looked_at_too() {
    let habits = Habits { batches_pay: false, ..Habits::default() };
    let (engine, _) = serving(habits, "", None).await;
    let version = engine.serving("m").expect("ready");
    let Request { inputs, cancel, .. } = request(&[1.0, 2.0], 1);
    let run =
        Run { inputs, outputs: Vec::new(), cancel, deadline: None, priority: NO_PRIORITY, spans: Spans::current() };
    // A worker of the pool runs it at once, without the queue.
    version.queue.as_ref().expect("a model").run(run, Caller::Worker).await.expect("answered");
    said(&engine, "batching", "rows run apart").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_bad_request_does_not_fail_its_neighbours() {
    let manifest = "[batching]\nenabled = true\nmax_size = 4\n[instances]\ncount = 1";
    let (engine, habits) = serving(Habits { poison: 2.0, ..Habits::default() }, manifest, None).await;
    shared_by(&engine, 4).await;
    let rows = [1.0_f32, 2.0, 3.0, 4.0];
    for (row, answer) in rows.into_iter().zip(crowd(&engine, &habits, rows_of_two(&rows)).await) {
        match answer {
            Ok(y) => assert_eq!((row != 2.0, y), (true, vec![row * 2.0 + 1.0; 2])),
            Err(error) => assert_eq!((row, error.code()), (2.0, Code::InvalidArgument)),
        }
    }
    assert_eq!(habits.log.lock().expect("not poisoned")[0], (4, 1), "they did share a run");
}

#[tokio::test(flavor = "multi_thread")]
async fn different_shapes_never_share_a_run() {
    let manifest = "[batching]\nenabled = true\nmax_size = 8\n[instances]\ncount = 1";
    let (engine, habits) = serving(Habits::default(), manifest, None).await;
    shared_by(&engine, 8).await;
    let requests = (0..9).map(|index| request(&[1.0], 1 + index / 3)).collect();
    for (index, answer) in crowd(&engine, &habits, requests).await.into_iter().enumerate() {
        assert_eq!(answer.expect("answered"), vec![3.0; 1 + index / 3]);
    }
    assert_eq!(*habits.log.lock().expect("not poisoned"), [(3, 1); 3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_lower_priority_number_goes_first() {
    let (engine, habits) =
        serving(Habits::default(), "[batching]\nenabled = false\n[instances]\ncount = 1", None).await;
    let asked = |(x, priority)| Request { priority, ..request(&[x], 1) };
    let requests = [(1.0, None), (2.0, None), (3.0, Some(5)), (4.0, Some(1)), (5.0, Some(0))].map(asked);
    for answer in crowd(&engine, &habits, requests.into()).await {
        answer.expect("answered");
    }
    assert_eq!(*habits.order.lock().expect("not poisoned"), [4.0, 3.0, 1.0, 2.0, 5.0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shared_run_stops_when_the_last_caller_has_gone() {
    let manifest = "[batching]\nenabled = true\nmax_size = 2\nmax_delay = '2s'\n[instances]\ncount = 1";
    let (engine, habits) = serving(Habits::default(), manifest, None).await;
    shared_by(&engine, 2).await;
    habits.log.lock().expect("not poisoned").clear();
    habits.held.store(true, Ordering::Relaxed);
    let (one, two) = (spawned(&engine, request(&[1.0], 2)), spawned(&engine, request(&[2.0], 2)));
    until("they share a run", || largest_run(&habits) == 2).await;
    one.abort();
    assert!(one.await.is_err_and(|error| error.is_cancelled()));
    assert!(!habits.stopped.load(Ordering::Relaxed), "one still waits");
    two.abort();
    until("the run has stopped", || habits.stopped.load(Ordering::Relaxed)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_with_all_workers_is_tried_again_when_it_brought_nothing() {
    let disturbed = AtomicUsize::new(RUNS + 1);
    let habits = Habits { divisible: true, disturbed, ..Habits::default() };
    let (engine, _) = serving(habits, "[batching]\nenabled = false", None).await;
    until("it is used", || remark(&engine, "alone").ends_with("used when a request is alone")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_is_alone_has_all_workers_and_a_crowd_has_one_each() {
    let habits = Habits { divisible: true, run: Duration::from_millis(20), ..Habits::default() };
    let (engine, habits) = serving(habits, "[batching]\nenabled = false", None).await;
    said(&engine, "alone", "2 threads take").await;
    habits.log.lock().expect("not poisoned").clear();
    habits.held.store(true, Ordering::Relaxed);
    let mut tasks = vec![spawned(&engine, request(&[1.0], 2))];
    let log = || habits.log.lock().expect("not poisoned").clone();
    until("it runs", || log() == [(1, 2)]).await;
    let version = engine.serving("m").expect("ready");
    tasks.extend(rows_of_two(&[1.0; 8]).into_iter().map(|request| spawned(&engine, request)));
    until("the others wait", || version.queue.as_ref().expect("a model").depth() == 8).await;
    habits.held.store(false, Ordering::Relaxed);
    for answer in futures::future::join_all(tasks).await {
        answer.expect("no panic").expect("answered");
    }
    // When the last one begins nobody else may be there.
    assert_eq!(log()[1..8], [(1, 1); 7]);
    let off = "[batching]\nenabled = false\n[instances]\nalone = false";
    let habits = Habits { divisible: true, run: Duration::from_millis(20), ..Habits::default() };
    let (engine, habits) = serving(habits, off, None).await;
    infer(&engine, request(&[1.0], 2)).await.expect("answered");
    assert_eq!(remark(&engine, "alone"), "");
    assert!(habits.log.lock().expect("not poisoned").iter().all(|(_, threads)| *threads == 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_measured_is_kept() {
    let cache = tempfile::tempdir().expect("a folder");
    let (engine, _) = serving(Habits::default(), "", Some(cache.path())).await;
    let words = said(&engine, "batching", "up to ").await;
    let kept = || std::fs::read_dir(cache.path().join("measured")).map_or(0, Iterator::count);
    for _ in 0..400 {
        if kept() == 1 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(kept(), 1);
    for _ in 0..2 {
        let (engine, habits) = serving(Habits::default(), "", Some(cache.path())).await;
        let again = remark(&engine, "batching");
        assert_eq!(again, said(&engine, "batching", "up to ").await, "known when it was ready");
        assert_eq!(again, words);
        let log = habits.log.lock().expect("not poisoned").clone();
        assert!(log.len() <= 6, "only the warm-up ran: {log:?}");
        assert!(log.iter().any(|(rows, _)| *rows > 1), "the best size has run before it is ready: {log:?}");
    }
}
