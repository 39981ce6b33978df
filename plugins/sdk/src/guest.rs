//! Between the contract's generated types and the plugin's: used by `export!` alone.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Once;

use crate::bindings::corymb::plugin::tensors::NamedTensor;
use crate::bindings::exports::corymb::plugin::transform as contract;
use crate::logging::Level;
use crate::{Carry, Error, Parameters, Prepared, Request, Response, Result, Step, Tensors, Transformer};

/// The configured plugin of an instance.
#[derive(Debug)]
pub struct Slot<T>(RefCell<Option<Rc<T>>>);

impl<T> Slot<T> {
    #[must_use]
    pub const fn new() -> Self {
        Self(RefCell::new(None))
    }
}

impl<T> Default for Slot<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: Transformer> Slot<T> {
    pub fn configure(
        &self,
        config: &str,
        model: Option<&contract::Model>,
    ) -> Result<contract::Description, contract::Error> {
        log_panics();
        let config = serde_json::from_str(config)
            .map_err(|error| Error::invalid_argument(format!("the plugin's configuration is wrong: {error}")))?;
        let (plugin, description) = T::configure(config, model)?;
        self.0.replace(Some(Rc::new(plugin)));
        Ok(description)
    }

    pub fn preprocess(&self, request: contract::Request) -> Result<contract::Step, contract::Error> {
        log_panics();
        let request = Request {
            id: request.id,
            model: request.model,
            parameters: request.parameters.into_iter().map(|parameter| (parameter.name, parameter.value)).collect(),
            inputs: tensors(request.inputs),
            deadline: request.deadline,
        };
        Ok(match self.plugin()?.preprocess(request)? {
            Step::Run(Prepared { inputs, carry }) => contract::Step::Run(contract::Prepared {
                inputs: named(inputs),
                carry: contract::Carry { bytes: carry.bytes, tensors: named(carry.tensors) },
            }),
            Step::Answer(answer) => contract::Step::Answer(response(answer)),
        })
    }

    pub fn postprocess(
        &self,
        outputs: Vec<NamedTensor>,
        carry: contract::Carry,
    ) -> Result<contract::Response, contract::Error> {
        log_panics();
        let carry = Carry { bytes: carry.bytes, tensors: tensors(carry.tensors) };
        Ok(response(self.plugin()?.postprocess(tensors(outputs), carry)?))
    }

    fn plugin(&self) -> Result<Rc<T>> {
        self.0.borrow().clone().ok_or_else(|| Error::internal("the plugin was called before it was configured"))
    }
}

pub(crate) fn tensors(named: Vec<NamedTensor>) -> Tensors {
    named.into_iter().map(|NamedTensor { name, tensor }| (name, tensor.into())).collect()
}

pub(crate) fn named(tensors: Tensors) -> Vec<NamedTensor> {
    tensors.into_iter().map(|(name, tensor)| NamedTensor { name, tensor: tensor.into_handle() }).collect()
}

fn response(Response { outputs, parameters }: Response) -> contract::Response {
    contract::Response { outputs: named(outputs), parameters: lower(parameters) }
}

fn lower(parameters: Parameters) -> Vec<contract::Parameter> {
    parameters.into_iter().map(|(name, value)| contract::Parameter { name, value }).collect()
}

/// A panic ends in a trap, which has no words of its own: the log gets them first.
fn log_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        std::panic::set_hook(Box::new(|panic| crate::logging::log(Level::Error, &panic.to_string())));
    });
}

/// The bytes of a text whose length is known, as an array that a section can be made of.
#[must_use]
pub const fn bytes_of<const N: usize>(text: &str) -> [u8; N] {
    let mut bytes = [0; N];
    bytes.copy_from_slice(text.as_bytes());
    bytes
}
