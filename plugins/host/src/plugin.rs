//! A loaded plugin as the engine sees it: one request in, `preprocess`, the model in between, `postprocess`, and every
//! answer held to the contract.

use std::sync::Arc;
use std::time::Duration;

use corymb_core::{BoxFuture, Finish, Plugin, PluginError, PluginInfo, Request, Response, Signature, Step, Tensors};

use crate::bindings;
use crate::description::Description;
use crate::instance::{self, Instance, Template};
use crate::limits::{CARRY_BYTES, PARAMETER_BYTES, PARAMETERS, Stop};
use crate::pool::Parked;
use crate::state::Call;

/// A component that has been compiled, configured and checked.
pub(crate) struct WasmPlugin {
    shared: Arc<Shared>,
    info: PluginInfo,
    timeout: Duration,
}

struct Shared {
    template: Template,
    description: Description,
}

/// A request between its two halves. Its instance waits in the pool.
struct Waiting {
    shared: Arc<Shared>,
    parked: Parked<Instance>,
    call: Call,
    carry: Vec<u8>,
    carried: Tensors,
}

impl WasmPlugin {
    pub(crate) fn new(template: Template, description: Description, info: PluginInfo, timeout: Duration) -> Self {
        Self { shared: Arc::new(Shared { template, description }), info, timeout }
    }

    async fn run(&self, mut request: Request) -> Result<Step, PluginError> {
        let call = Call::of(&request, self.timeout);
        let shared = &self.shared;
        let (mut held, _) = shared.template.instance(call.clone()).await?;
        let inputs = std::mem::take(&mut request.inputs);
        match held.instance.preprocess(&request, inputs).await?.map_err(answered)? {
            instance::Step::Run { inputs, carry, carried } => {
                if carry.len() > CARRY_BYTES {
                    let what =
                        format!("{} bytes of carry; {CARRY_BYTES} are allowed, tensors are not counted", carry.len());
                    return Err(shared.over_limit(what));
                }
                shared.description.check_prepared(&inputs).map_err(|what| shared.broken(what))?;
                let (shared, parked) = (Arc::clone(shared), held.park());
                Ok(Step::Run { inputs, rest: Box::new(Waiting { shared, parked, call, carry, carried }) })
            }
            instance::Step::Answer(response, outputs) => shared.answer(response, outputs).map(Step::Answer),
        }
    }
}

impl Plugin for WasmPlugin {
    fn served(&self) -> &Signature {
        &self.shared.description.served
    }

    fn info(&self) -> &PluginInfo {
        &self.info
    }

    fn preprocess(&self, request: Request) -> BoxFuture<'_, Result<Step, PluginError>> {
        Box::pin(self.run(request))
    }
}

impl Finish for Waiting {
    fn postprocess(self: Box<Self>, outputs: Tensors) -> BoxFuture<'static, Result<Response, PluginError>> {
        Box::pin(async move {
            let Self { shared, parked, call, carry, carried } = *self;
            let outputs = shared.description.select(outputs).map_err(|what| shared.broken(what))?;
            let call = call.next();
            let mut held = match parked.take() {
                Some(mut held) => {
                    held.instance.resume(call);
                    held
                }
                // It was given up: too many waited.
                None => shared.template.instance(call).await?.0,
            };
            let (response, outputs) = held.instance.postprocess(outputs, carry, carried).await?.map_err(answered)?;
            shared.answer(response, outputs)
        })
    }
}

impl Shared {
    /// A response of the plugin, held to its description. Whose request it answers is the engine's to fill in.
    fn answer(&self, response: bindings::Response, outputs: Tensors) -> Result<Response, PluginError> {
        self.description.check_answer(&outputs).map_err(|what| self.broken(what))?;
        if response.parameters.len() > PARAMETERS {
            let what = format!("{} parameters in its answer; {PARAMETERS} are allowed", response.parameters.len());
            return Err(self.over_limit(what));
        }
        let bytes = response.parameters.iter().map(bindings::parameter_len).sum::<usize>();
        if bytes > PARAMETER_BYTES {
            let what = format!("{bytes} bytes of parameters in its answer; {PARAMETER_BYTES} are allowed");
            return Err(self.over_limit(what));
        }
        let parameters = bindings::parameters_of(response.parameters);
        Ok(Response { parameters, outputs, ..Response::default() })
    }

    fn broken(&self, what: String) -> PluginError {
        self.template.identity.stopped(Stop::Contract(what))
    }

    fn over_limit(&self, what: String) -> PluginError {
        self.template.identity.stopped(Stop::Limit(what))
    }
}

fn answered(error: bindings::Error) -> PluginError {
    PluginError::Answered(bindings::error_of(error))
}
