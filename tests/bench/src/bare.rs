//! The bare loop: the work that the server cannot avoid, without a server around it.

use std::path::{Path, PathBuf};
use std::sync::Barrier;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use bytes::Bytes;
use corymb_core::{
    Backend, DType, Device, Dim, FileSource, Instance, LoadOptions, Model, ModelFiles, RunOptions, Tensor, Tensors,
};
use corymb_images::{Color, Fit, Kernel, Layout, Limits, Plan, Resize, Size, to_tensor};
use serde::Serialize;

use crate::process::own_cpu;

/// Side of the square where the model leaves it open, as in the flowers plugin.
const DEFAULT_SIZE: usize = 160;

/// A model, and the work of one request for it.
pub(crate) struct Bare {
    model: Box<dyn Model>,
    input: String,
    work: Work,
}

enum Work {
    /// The flowers plugin's plan for pictures, and the pictures.
    Pictures(Plan, Vec<Bytes>),
    /// The one input, ready to run.
    Input(Tensor),
}

/// How a loop is spread over the cores.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Spread {
    /// Each on a thread of its own.
    pub(crate) instances: usize,
    /// That each instance may use for a run.
    pub(crate) threads: usize,
}

impl Spread {
    /// So many instances that use no thread but their own.
    pub(crate) const fn instances(instances: usize) -> Self {
        Self { instances, threads: 1 }
    }
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
    /// Loads `model.onnx` of the flowers model's folder.
    pub(crate) fn flowers(
        backend: &dyn Backend,
        device: Device,
        folder: &Path,
        pictures: Vec<Bytes>,
    ) -> anyhow::Result<Self> {
        let path = folder.join("model.onnx");
        let name = path.display().to_string();
        let (model, input, shape) = load(backend, device, path)?;
        let side = |axis: usize| shape.get(axis).and_then(Dim::fixed).unwrap_or(DEFAULT_SIZE);
        let plan = plan(u32::try_from(side(3)).context(name.clone())?, u32::try_from(side(2)).context(name)?);
        Ok(Self { model, input, work: Work::Pictures(plan, pictures) })
    }

    /// Loads `model.onnx` of a folder; a request is one run with `tensor` as the first input.
    pub(crate) fn input(backend: &dyn Backend, device: Device, folder: &Path, tensor: Tensor) -> anyhow::Result<Self> {
        let (model, input, _) = load(backend, device, folder.join("model.onnx"))?;
        Ok(Self { model, input, work: Work::Input(tensor) })
    }

    /// Threads that one run can make use of at most.
    pub(crate) fn max_threads(&self) -> usize {
        self.model.profile().max_threads
    }

    /// The first output's elements, for the first picture where there are pictures.
    pub(crate) fn outputs(&self) -> anyhow::Result<Vec<f32>> {
        let mut instance = self.model.instance(1)?;
        let outputs = match &self.work {
            Work::Pictures(plan, pictures) => self.infer(&mut *instance, decode(plan, &pictures[0])?)?,
            Work::Input(tensor) => self.infer(&mut *instance, tensor.clone())?,
        };
        let values = outputs.iter().next().and_then(|(_, tensor)| tensor.as_slice::<f32>().map(<[f32]>::to_vec));
        values.context("the model's first output is not FP32")
    }

    /// Runs round after round on each instance.
    pub(crate) fn run(&self, spread: Spread, time: Duration) -> anyhow::Result<Rounds> {
        let Spread { instances, threads } = spread;
        let barrier = Barrier::new(instances + 1);
        std::thread::scope(|scope| {
            let worker = || {
                let ready = self.model.instance(threads).map_err(anyhow::Error::from).and_then(|mut instance| {
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
            let workers: Vec<_> = (0..instances).map(|_| scope.spawn(worker)).collect();
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
        match &self.work {
            Work::Pictures(plan, pictures) => {
                for picture in pictures {
                    let begin = Instant::now();
                    let pixels = decode(plan, picture)?;
                    rounds.picture += begin.elapsed();
                    self.timed(instance, pixels, rounds)?;
                }
            }
            Work::Input(tensor) => self.timed(instance, tensor.clone(), rounds)?,
        }
        rounds.count += 1;
        Ok(())
    }

    fn timed(&self, instance: &mut dyn Instance, input: Tensor, rounds: &mut Rounds) -> anyhow::Result<()> {
        let begin = Instant::now();
        std::hint::black_box(self.infer(instance, input)?);
        rounds.model += begin.elapsed();
        Ok(())
    }

    fn infer(&self, instance: &mut dyn Instance, input: Tensor) -> anyhow::Result<Tensors> {
        let inputs = Tensors::from_iter([(self.input.as_str(), input)]);
        instance.run(&[inputs], &RunOptions::default())?.pop().context("the engine answered no row")
    }
}

/// The model, and its first input's name and shape.
fn load(backend: &dyn Backend, device: Device, path: PathBuf) -> anyhow::Result<(Box<dyn Model>, String, Vec<Dim>)> {
    let name = path.display().to_string();
    let files = ModelFiles { model: FileSource::Path(path) };
    let model =
        backend.load(&files, &LoadOptions { device, ..LoadOptions::default() }).with_context(|| name.clone())?;
    let input = model.signature().inputs.first().with_context(|| format!("{name} has no input"))?;
    let (input, shape) = (input.name.clone(), input.shape.clone());
    Ok((model, input, shape))
}

fn decode(plan: &Plan, picture: &Bytes) -> anyhow::Result<Tensor> {
    Ok(to_tensor(std::slice::from_ref(picture), &[], plan, &Limits::default())?)
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
