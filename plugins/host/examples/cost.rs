//! What a request costs in the host alone: a fresh instance, `configure`, `preprocess`, `postprocess`, and memory.
//!
//! `cargo run --release -p corymb-plugin-host --example cost -- [PLUGIN.wasm PICTURE.jpg]`. With a plugin and a picture it
//! is served as input `image_bytes` of the flowers signature; without, the tests' plugin passes a small tensor through.

#[path = "../tests/harness/mod.rs"]
mod harness;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use corymb_core::{DType, Dim, FileSource, PluginHost as _, Request, Signature, Step, Tensor, TensorSpec, Tensors};
use corymb_images::{Color, Fit, Kernel, Layout, Limits, Plan, Resize, Size};
use corymb_plugin_host::Host;
use harness::{Others, block_on, options};

const ROUNDS: usize = 5_000;

/// Requests whose model is thought to run.
const WAITING: usize = 30;

fn main() {
    let before = resident();
    let started = Instant::now();
    let host = Host::new().expect("a host");
    println!("host           {:>9.2?}  {:>7} KiB", started.elapsed(), resident() - before);

    let arguments: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let Case { file, model, inputs, outputs } = Case::of(&arguments);
    let request = || Request { model: "cost".to_owned(), inputs: inputs.clone(), ..Request::default() };

    let cache = tempfile::tempdir().expect("a folder");
    let mut options = options();
    options.cache = Some(cache.path().join("plugins"));
    if arguments.len() == 2 {
        options.config = r#"{"size":160}"#.to_owned();
    }
    for how in ["compiled", "from cache"] {
        let (before, started) = (resident(), Instant::now());
        let plugin = host.load(&file, &options, Some(&model), Arc::new(Others)).expect("a plugin");
        println!("{how:<14} {:>9.2?}  {:>7} KiB", started.elapsed(), resident() - before);
        drop(plugin);
    }
    let started = Instant::now();
    let shipped = host.compile(&file.read().expect("read")).expect("compiled");
    println!("to be shipped  {:>9.2?}  {:>7} KiB of code", started.elapsed(), shipped.len() >> 10);
    let plugin = host.load(&file, &options, Some(&model), Arc::new(Others)).expect("a plugin");
    println!("world          {}", plugin.info().world);

    let mut times = [const { Vec::new() }; 2];
    for _ in 0..ROUNDS {
        let started = Instant::now();
        let Step::Run { rest, .. } = block_on(plugin.preprocess(request())).expect("preprocessed") else {
            panic!("answered without the model")
        };
        times[0].push(started.elapsed());
        let started = Instant::now();
        block_on(rest.postprocess(outputs.clone())).expect("postprocessed");
        times[1].push(started.elapsed());
    }
    for (what, times) in ["preprocess", "postprocess"].into_iter().zip(times) {
        report(what, times);
    }
    let before = resident();
    let waiting: Vec<_> = (0..WAITING).map(|_| block_on(plugin.preprocess(request())).expect("preprocessed")).collect();
    println!("waiting        {:>7} KiB for each of {WAITING} instances", (resident() - before) / WAITING);
    drop(waiting);
    println!("in all         {:>7} KiB", resident());
}

/// What is served, and what its model would answer.
struct Case {
    file: FileSource,
    model: Signature,
    inputs: Tensors,
    outputs: Tensors,
}

impl Case {
    /// The plugin and the picture of `arguments`; without them, the tests' plugin and a small tensor.
    fn of(arguments: &[PathBuf]) -> Self {
        let [plugin, picture] = arguments else {
            let inputs = harness::request("").inputs;
            let outputs = harness::doubled(&inputs);
            return Self { file: harness::source(), model: harness::signature(), inputs, outputs };
        };
        let dims = |sizes: &[Option<usize>]| -> Vec<Dim> {
            sizes.iter().map(|size| size.map_or(Dim::Unknown, Dim::Fixed)).collect()
        };
        let pixels = dims(&[None, Some(3), Some(160), Some(160)]);
        let model = Signature {
            inputs: vec![TensorSpec::new("pixels", DType::Fp32, pixels)],
            outputs: vec![TensorSpec::new("scores", DType::Fp32, dims(&[None, Some(6)]))],
        };
        let picture = Bytes::from(std::fs::read(picture).expect("a picture"));
        codec(&picture);
        let image = Tensor::from_elements([1], vec![picture]).expect("valid");
        let scores = Tensor::from_slice([1, 6], &[0.9_f32, 0.02, 0.02, 0.02, 0.02, 0.02]).expect("valid");
        Self {
            file: FileSource::Path(plugin.clone()),
            model,
            inputs: Tensors::from_iter([("image_bytes", image)]),
            outputs: Tensors::from_iter([("scores", scores)]),
        }
    }
}

/// The codec by itself, doing what the flowers plugin asks of it.
fn codec(picture: &Bytes) {
    let plan = Plan {
        orient: true,
        fit: Fit::Stretch(Size::new(160, 160)),
        resize: Resize { kernel: Kernel::Bilinear, antialias: true },
        color: Color::Rgb,
        layout: Layout::Nchw,
        dtype: DType::Fp32,
        scale: 1.0 / 255.0,
        mean: vec![0.5; 3],
        std: vec![0.25; 3],
    };
    let times = (0..ROUNDS)
        .map(|_| {
            let started = Instant::now();
            corymb_images::to_tensor(std::slice::from_ref(picture), &[], &plan, &Limits::default()).expect("a tensor");
            started.elapsed()
        })
        .collect();
    report("codec alone", times);
}

fn report(what: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    let mean = times.iter().sum::<Duration>() / u32::try_from(times.len()).expect("few");
    println!("{what:<14} median {:.1?}, p99 {:.1?}, mean {mean:.1?}", times[ROUNDS / 2], times[ROUNDS * 99 / 100]);
}

/// Anonymous memory of this process in KiB, as Linux counts it: without the pages of the program's own file.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse().unwrap_or_default()
}
