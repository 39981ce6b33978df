//! The bare loop: the work that the server cannot avoid, without a server around it.

use std::path::Path;
use std::sync::Barrier;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use bytes::Bytes;
use corymb_backend_tract::Tract;
use corymb_core::{
    Backend as _, DType, Dim, FileSource, Instance, LoadOptions, Model, ModelFiles, RunOptions, Tensor, Tensors,
};
use corymb_images::{Color, Fit, Kernel, Layout, Limits, Plan, Resize, Size, to_tensor};

use crate::process::own_cpu;

/// Side of the square where the model leaves it open, as in the flowers plugin.
const DEFAULT_SIZE: usize = 160;

/// The flowers model on tract and the flowers plugin's plan for pictures.
pub(crate) struct Bare {
    model: Box<dyn Model>,
    input: String,
    plan: Plan,
    pictures: Vec<Bytes>,
}

/// What the loop found; a round is the work of one request.
#[derive(Debug, Default)]
pub(crate) struct Rounds {
    pub(crate) count: usize,
    /// From the first round's begin to the last one's end.
    pub(crate) time: Duration,
    pub(crate) cpu: Duration,
    /// Decoding, resizing and normalising, of all threads together.
    pub(crate) picture: Duration,
    /// Runs of the model, of all threads together.
    pub(crate) model: Duration,
}

impl Rounds {
    pub(crate) fn add(&mut self, other: &Self) {
        self.count += other.count;
        self.time += other.time;
        self.cpu += other.cpu;
        self.picture += other.picture;
        self.model += other.model;
    }

    /// Rounds per second.
    pub(crate) fn rate(&self) -> f64 {
        self.count as f64 / self.time.as_secs_f64()
    }
}

impl Bare {
    /// Loads `model.onnx` of the folder.
    pub(crate) fn load(folder: &Path, pictures: Vec<Bytes>) -> anyhow::Result<Self> {
        let path = folder.join("model.onnx");
        let name = path.display().to_string();
        let files = ModelFiles { model: FileSource::Path(path) };
        let model = Tract::default().load(&files, &LoadOptions::default()).with_context(|| name.clone())?;
        let input = model.signature().inputs.first().with_context(|| format!("{name} has no input"))?;
        let side = |axis: usize| input.shape.get(axis).and_then(Dim::fixed).unwrap_or(DEFAULT_SIZE);
        let plan = plan(u32::try_from(side(3))?, u32::try_from(side(2))?);
        Ok(Self { input: input.name.clone(), plan, pictures, model })
    }

    /// What the model gives for the first picture: the first output's elements.
    pub(crate) fn scores(&self) -> anyhow::Result<Vec<f32>> {
        let mut instance = self.model.instance(1)?;
        let outputs = self.infer(&mut *instance, self.decode(&self.pictures[0])?)?;
        let scores = outputs.iter().next().and_then(|(_, tensor)| tensor.as_slice::<f32>().map(<[f32]>::to_vec));
        scores.context("the model's first output is not FP32")
    }

    /// Runs round after round on so many threads, each with an instance of its own.
    pub(crate) fn run(&self, threads: usize, time: Duration) -> anyhow::Result<Rounds> {
        let barrier = Barrier::new(threads + 1);
        std::thread::scope(|scope| {
            let worker = || {
                let ready = self.model.instance(1).map_err(anyhow::Error::from).and_then(|mut instance| {
                    // The first run of an instance makes its state.
                    self.round(&mut *instance, &mut Rounds::default())?;
                    Ok(instance)
                });
                // Also after an error: the others wait.
                barrier.wait();
                let mut instance = ready?;
                let end = Instant::now() + time;
                let mut rounds = Rounds::default();
                while Instant::now() < end {
                    self.round(&mut *instance, &mut rounds)?;
                }
                anyhow::Ok(rounds)
            };
            let workers: Vec<_> = (0..threads).map(|_| scope.spawn(worker)).collect();
            barrier.wait();
            let (begin, cpu) = (Instant::now(), own_cpu()?);
            let mut all = Rounds::default();
            for worker in workers {
                all.add(&worker.join().map_err(|_| anyhow::anyhow!("a thread of the bare loop panicked"))??);
            }
            all.time = begin.elapsed();
            all.cpu = own_cpu()? - cpu;
            Ok(all)
        })
    }

    /// One row at a time: on tract a batch costs more than its rows do.
    fn round(&self, instance: &mut dyn Instance, rounds: &mut Rounds) -> anyhow::Result<()> {
        for picture in &self.pictures {
            let begin = Instant::now();
            let pixels = self.decode(picture)?;
            let decoded = Instant::now();
            std::hint::black_box(self.infer(instance, pixels)?);
            rounds.picture += decoded - begin;
            rounds.model += decoded.elapsed();
        }
        rounds.count += 1;
        Ok(())
    }

    fn decode(&self, picture: &Bytes) -> anyhow::Result<Tensor> {
        Ok(to_tensor(std::slice::from_ref(picture), &[], &self.plan, &Limits::default())?)
    }

    fn infer(&self, instance: &mut dyn Instance, pixels: Tensor) -> anyhow::Result<Tensors> {
        let inputs = Tensors::from_iter([(self.input.as_str(), pixels)]);
        instance.run(&[inputs], &RunOptions::default())?.pop().context("tract answered no row")
    }
}

/// As plugins/flowers asks the host for it.
fn plan(width: u32, height: u32) -> Plan {
    Plan {
        orient: true,
        fit: Fit::Stretch(Size::new(width, height)),
        resize: Resize { kernel: Kernel::Bilinear, antialias: true },
        color: Color::Rgb,
        layout: Layout::Nchw,
        dtype: DType::Fp32,
        scale: 1.0,
        mean: vec![127.0; 3],
        std: vec![128.0; 3],
    }
}
