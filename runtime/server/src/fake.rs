//! For tests: an engine whose one model answers with what it was given.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use corymb_core::{
    Availability, Backend, BackendError, DType, Device, Dim, Instance, LoadOptions, Model, ModelFiles, ModelInfo,
    Profile, RowAnalysis, RunOptions, Signature, Tensor, TensorSpec, Tensors,
};
use corymb_engine::{Engine, EngineOptions};
use corymb_repository::embedded;
use opentelemetry::metrics::MeterProvider;

/// The model's name.
pub(crate) const MODEL: &str = "echo";

/// An input of this name takes an INT32: the milliseconds that the model sleeps.
pub(crate) const SLEEP: &str = "sleep";

/// An engine that serves [`MODEL`]: an input of each dtype, named as it in lower case, with any number of elements in
/// one dimension. Whatever is given comes out under the same name.
pub(crate) async fn engine(options: EngineOptions) -> Engine {
    engine_with(options, 2, opentelemetry::global::meter_provider()).await
}

/// The same with so many workers, measured by `meters`.
pub(crate) async fn engine_with(
    options: EngineOptions,
    workers: usize,
    meters: Arc<dyn MeterProvider + Send + Sync>,
) -> Engine {
    let options = EngineOptions { workers, ..options };
    let engine = Engine::new(options, vec![Arc::new(Echo)], None, meters).expect("threads");
    let files = [("model.onnx", Bytes::from_static(b"echo"))];
    engine.load(embedded(MODEL, &files).expect("valid")).await.expect("loads");
    engine
}

fn signature() -> Signature {
    let specs = |optional| {
        let named = |(name, dtype): (String, DType)| {
            let mut spec = TensorSpec::new(name, dtype, vec![Dim::Unknown]);
            spec.optional = optional;
            spec
        };
        let sleep = (SLEEP.to_owned(), DType::Int32);
        DType::ALL.map(|dtype| (dtype.name().to_lowercase(), dtype)).into_iter().chain([sleep]).map(named).collect()
    };
    Signature { inputs: specs(true), outputs: specs(false) }
}

struct Echo;
struct EchoModel(Signature);
struct EchoInstance;

impl Backend for Echo {
    fn name(&self) -> &'static str {
        "fake"
    }

    fn check(&self) -> Result<Availability, BackendError> {
        Ok(Availability { version: "1".to_owned(), devices: vec![Device::Cpu] })
    }

    fn inspect(&self, _: &ModelFiles, _: &LoadOptions) -> Result<ModelInfo, BackendError> {
        let signature = signature();
        Ok(ModelInfo {
            platform: "onnx_onnxv1",
            opset: None,
            size: 0,
            signature,
            rows: RowAnalysis::default(),
            unsupported: Vec::new(),
        })
    }

    fn load(&self, _: &ModelFiles, _: &LoadOptions) -> Result<Box<dyn Model>, BackendError> {
        Ok(Box::new(EchoModel(signature())))
    }
}

impl Model for EchoModel {
    fn signature(&self) -> &Signature {
        &self.0
    }

    fn device(&self) -> &Device {
        &Device::Cpu
    }

    fn profile(&self) -> Profile {
        Profile::whole()
    }

    fn instance(&self, _threads: usize) -> Result<Box<dyn Instance>, BackendError> {
        Ok(Box::new(EchoInstance))
    }
}

impl Instance for EchoInstance {
    fn run(&mut self, batch: &[Tensors], _: &RunOptions) -> Result<Vec<Tensors>, BackendError> {
        // Else the engine would run it on the caller's thread, which is a runtime's.
        std::thread::sleep(Duration::from_millis(1));
        for inputs in batch {
            let millis = inputs.get(SLEEP).and_then(Tensor::as_slice::<i32>).and_then(|millis| millis.first().copied());
            std::thread::sleep(Duration::from_millis(millis.unwrap_or(0).max(0).cast_unsigned().into()));
        }
        Ok(batch.to_vec())
    }
}
