//! A host, the hostile plugin, a model that doubles, and small words for what the tests do with them.

#![allow(dead_code, reason = "each test binary uses a part")]

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Duration;

use bytes::Bytes;
use corymb_core::{
    BoxFuture, Code, DType, Dim, Error, FileSource, MemoryPool, Models, Parameters, Plugin, PluginError, PluginHost,
    PluginOptions, Request, Response, ServedModel, Signature, Step, Tensor, TensorSpec, Tensors, Value,
};
use corymb_plugin_host::Host;

pub(crate) static HOSTILE: &[u8] = include_bytes!("../../../../tests/fixtures/plugins/hostile.wasm");

/// Runs a future on this thread.
pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}

pub(crate) fn rows(name: &str) -> TensorSpec {
    TensorSpec::new(name, DType::Fp32, vec![Dim::Symbol("N".into()), Dim::Fixed(2)])
}

/// Of the wrapped model: x FP32[N,2] in, y FP32[N,2] out.
pub(crate) fn signature() -> Signature {
    Signature { inputs: vec![rows("x")], outputs: vec![rows("y")] }
}

pub(crate) fn options() -> PluginOptions {
    PluginOptions {
        model: "hostile".to_owned(),
        version: "1".to_owned(),
        config: "{}".to_owned(),
        memory: 256 << 20,
        pool: MemoryPool::default(),
        call_timeout: Duration::from_secs(60),
        cache: None,
    }
}

pub(crate) fn source() -> FileSource {
    FileSource::Embedded { name: "hostile.wasm".to_owned(), bytes: Bytes::from_static(HOSTILE) }
}

/// The other models of the server: `other` doubles, `never` does not answer, `busy` has no room, `deep` says how deep
/// it was asked.
pub(crate) struct Others;

impl Models for Others {
    fn describe(&self, model: &str, _: Option<&str>) -> Result<ServedModel, Error> {
        Ok(ServedModel { name: model.to_owned(), version: "1".to_owned(), signature: signature() })
    }

    fn infer(&self, request: Request) -> BoxFuture<'_, Result<Response, Error>> {
        Box::pin(async move {
            match request.model.as_str() {
                "other" => {
                    // Not at once, as any real model.
                    let mut asked = false;
                    std::future::poll_fn(|context| {
                        if std::mem::replace(&mut asked, true) {
                            return Poll::Ready(());
                        }
                        context.waker().wake_by_ref();
                        Poll::Pending
                    })
                    .await;
                    Ok(Response { outputs: doubled(&request.inputs), ..Response::default() })
                }
                "deep" => Err(Error::new(Code::Unimplemented, request.depth.to_string())),
                "never" => std::future::pending().await,
                "busy" => Err(Error::new(Code::Overloaded, "no room")),
                other => Err(Error::new(Code::NotFound, format!("no model '{other}'"))),
            }
        })
    }
}

pub(crate) fn load(host: &Host, options: &PluginOptions) -> Result<Box<dyn Plugin>, PluginError> {
    host.load(&source(), options, Some(&signature()), Arc::new(Others))
}

pub(crate) fn hostile(host: &Host) -> Box<dyn Plugin> {
    load(host, &options()).expect("loaded")
}

/// The reason why a plugin was not loaded.
pub(crate) fn refusal(loaded: Result<Box<dyn Plugin>, PluginError>) -> String {
    match loaded {
        Ok(_) => panic!("loaded"),
        Err(error) => error.to_string(),
    }
}

/// A request of one row that asks the plugin to do something.
pub(crate) fn request(what: &str) -> Request {
    let mut parameters = Parameters::new();
    parameters.set("do", Value::Text(what.to_owned()));
    let x = Tensor::from_slice([1, 2], &[1.0_f32, 2.0]).expect("valid");
    Request {
        id: "1".to_owned(),
        model: "hostile".to_owned(),
        parameters,
        inputs: Tensors::from_iter([("x", x)]),
        ..Request::default()
    }
}

/// What the wrapped model does.
pub(crate) fn doubled(inputs: &Tensors) -> Tensors {
    let x = inputs.get("x").expect("checked");
    let doubled: Vec<f32> = x.as_slice::<f32>().expect("checked").iter().map(|value| value * 2.0).collect();
    Tensors::from_iter([("y", Tensor::from_slice(x.shape(), &doubled).expect("valid"))])
}

/// A whole request: preprocess, model, postprocess.
pub(crate) fn serve(plugin: &dyn Plugin, request: Request) -> Result<Response, PluginError> {
    match block_on(plugin.preprocess(request))? {
        Step::Run { inputs, rest } => block_on(rest.postprocess(doubled(&inputs))),
        Step::Answer(response) => Ok(response),
    }
}

/// That the plugin serves as if nothing had happened.
pub(crate) fn serves(plugin: &dyn Plugin) {
    let response = serve(plugin, request("")).expect("served");
    assert_eq!(response.outputs.get("y").and_then(Tensor::as_slice::<f32>), Some(&[2.0, 4.0][..]));
    // In one fresh instance: this was its second call.
    assert_eq!(response.parameters.get("calls"), Some(&Value::Uint64(2)));
}
