//! Other models of the same server: chains, ensembles, cascades. A native build has none: calls answer
//! [`ErrorCode::Unavailable`](crate::ErrorCode::Unavailable) there.

use crate::{Model, Result, Tensors};

/// One prediction to ask for.
#[derive(Debug)]
pub struct Call {
    /// As clients name it.
    pub model: String,
    /// None for the version that serves.
    pub version: Option<String>,
    /// As its served signature says.
    pub inputs: Tensors,
}

impl Call {
    /// A call of the version that serves.
    #[must_use]
    pub fn new(model: impl Into<String>, inputs: Tensors) -> Self {
        Self { model: model.into(), version: None, inputs }
    }
}

/// The served signature of a model.
///
/// # Errors
/// When there is no such model, or it is not ready.
pub fn describe(model: &str, version: Option<&str>) -> Result<Model> {
    imp::describe(model, version)
}

/// One prediction.
///
/// # Errors
/// What the model answered.
pub fn infer(call: Call) -> Result<Tensors> {
    imp::infer(call)
}

/// Several predictions at the same time; answers stand in the order of the calls.
pub fn infer_all(calls: impl IntoIterator<Item = Call>) -> Vec<Result<Tensors>> {
    imp::infer_all(calls.into_iter().collect())
}

#[cfg(target_arch = "wasm32")]
mod imp {
    use super::Call;
    use crate::bindings::corymb::plugin::inference as contract;
    use crate::guest::{named, tensors};
    use crate::{Model, Result, Tensors};

    fn lower(Call { model, version, inputs }: Call) -> contract::Call {
        contract::Call { model, version, inputs: named(inputs) }
    }

    pub(super) fn describe(model: &str, version: Option<&str>) -> Result<Model> {
        Ok(contract::describe(model, version)?)
    }

    pub(super) fn infer(call: Call) -> Result<Tensors> {
        Ok(tensors(contract::infer(lower(call))?))
    }

    pub(super) fn infer_all(calls: Vec<Call>) -> Vec<Result<Tensors>> {
        let answers = contract::infer_all(calls.into_iter().map(lower).collect());
        answers.into_iter().map(|answer| answer.map(tensors).map_err(Into::into)).collect()
    }
}

#[cfg(not(target_arch = "wasm32"))]
mod imp {
    use super::Call;
    use crate::{Error, Model, Result, Tensors};

    fn none<T>(model: &str) -> Result<T> {
        Err(Error::unavailable(format!("model '{model}' is not there: a native build has no server")))
    }

    pub(super) fn describe(model: &str, _: Option<&str>) -> Result<Model> {
        none(model)
    }

    pub(super) fn infer(Call { model, .. }: Call) -> Result<Tensors> {
        none(&model)
    }

    pub(super) fn infer_all(calls: Vec<Call>) -> Vec<Result<Tensors>> {
        calls.into_iter().map(infer).collect()
    }
}
