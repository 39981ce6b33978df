//! What a plugin says it serves: checked against the model when it is loaded, and against what it gives at every request.

use corymb_core::{MAX_RANK, Signature, TensorSpec, Tensors, format_dims};

use crate::bindings::{self, spec_of};
use crate::limits::{NAME, SPECS};

/// A checked description.
#[derive(Clone, Debug)]
pub(crate) struct Description {
    /// What clients send and get.
    pub(crate) served: Signature,
    /// The wrapped model's own signature, which what `preprocess` makes must fit.
    model: Option<Signature>,
    /// What `postprocess` reads.
    pub(crate) model_outputs: Vec<TensorSpec>,
}

impl Description {
    /// Checks a description by itself and against the wrapped model.
    ///
    /// # Errors
    /// What does not fit, in words for the plugin's author.
    pub(crate) fn new(given: bindings::Description, model: Option<&Signature>) -> Result<Self, String> {
        let served = Signature { inputs: specs("inputs", given.inputs)?, outputs: specs("outputs", given.outputs)? };
        let model_inputs = specs("model-inputs", given.model_inputs)?;
        let model_outputs = specs("model-outputs", given.model_outputs)?;
        let Some(model) = model else {
            return match model_inputs.iter().chain(&model_outputs).next() {
                None => Ok(Self { served, model: None, model_outputs }),
                Some(spec) => Err(format!("it describes '{}' of a model, but it wraps none", spec.name)),
            };
        };
        for spec in &model_inputs {
            fits("model-inputs", spec, model.input(&spec.name), &model.inputs)?;
        }
        for required in model.required_inputs() {
            let given = model_inputs.iter().find(|spec| spec.name == required.name);
            if given.is_none_or(|spec| spec.optional) {
                let how = if given.is_some() { "only as an optional one" } else { "not" };
                let (name, dtype, shape) = (&required.name, required.dtype, required.shape_text());
                return Err(format!("the model requires input '{name}' ({dtype} {shape}); model-inputs has it {how}"));
            }
        }
        for spec in &model_outputs {
            fits("model-outputs", spec, model.output(&spec.name), &model.outputs)?;
        }
        Ok(Self { served, model: Some(model.clone()), model_outputs })
    }

    /// Whether what `preprocess` made can be given to the wrapped model.
    pub(crate) fn check_prepared(&self, inputs: &Tensors) -> Result<(), String> {
        match &self.model {
            Some(model) => {
                model.check_inputs(inputs).map_err(|error| format!("preprocess made for the model: {error}"))
            }
            None => Err("preprocess answered `run`, but the plugin wraps no model".to_owned()),
        }
    }

    /// Whether an answer has what the description promises.
    pub(crate) fn check_answer(&self, outputs: &Tensors) -> Result<(), String> {
        for (index, (name, tensor)) in outputs.iter().enumerate() {
            let Some(spec) = self.served.output(name) else {
                return Err(format!("it answered output '{name}', which it does not describe"));
            };
            if outputs.iter().take(index).any(|(earlier, _)| earlier == name) {
                return Err(format!("it answered output '{name}' twice"));
            }
            if spec.dtype != tensor.dtype() || !spec.admits(tensor.shape()) {
                let (dtype, shape) = (tensor.dtype(), format_dims(tensor.shape()));
                let (promised, promised_shape) = (spec.dtype, spec.shape_text());
                return Err(format!("output '{name}' is {dtype} {shape}; it described {promised} {promised_shape}"));
            }
        }
        match self.served.outputs.iter().find(|spec| !spec.optional && outputs.get(&spec.name).is_none()) {
            Some(spec) => Err(format!("output '{}' is missing from its answer", spec.name)),
            None => Ok(()),
        }
    }

    /// Of the model's outputs, those that `postprocess` reads.
    pub(crate) fn select(&self, mut outputs: Tensors) -> Result<Tensors, String> {
        let mut selected = Tensors::new();
        for spec in &self.model_outputs {
            match outputs.remove(&spec.name) {
                Some(tensor) => selected.push(spec.name.clone(), tensor),
                None if spec.optional => {}
                None => return Err(format!("the model gave no output '{}', which postprocess reads", spec.name)),
            }
        }
        Ok(selected)
    }
}

/// One list of a description.
fn specs(list: &str, given: Vec<bindings::TensorSpec>) -> Result<Vec<TensorSpec>, String> {
    if given.len() > SPECS {
        return Err(format!("{list}: {} tensors; at most {SPECS} are allowed", given.len()));
    }
    let mut specs: Vec<TensorSpec> = Vec::with_capacity(given.len());
    for spec in given {
        let name = spec.name.clone();
        let spec =
            spec_of(spec).map_err(|dtype| format!("{list}: '{name}' has dtype '{dtype}', which is not known here"))?;
        if name.is_empty() {
            return Err(format!("{list}: a tensor has no name"));
        }
        if name.len() > NAME {
            return Err(format!("{list}: a name of {} bytes; at most {NAME} are allowed", name.len()));
        }
        if specs.iter().any(|earlier| earlier.name == name) {
            return Err(format!("{list}: '{name}' stands there twice"));
        }
        if spec.shape.len() > MAX_RANK {
            let rank = spec.shape.len();
            return Err(format!("{list}: '{name}' has {rank} dimensions; at most {MAX_RANK} are supported"));
        }
        if let Some(media_type) = &spec.media_type
            && spec.dtype.size().is_some()
        {
            let dtype = spec.dtype;
            return Err(format!(
                "{list}: '{name}' has media type '{media_type}', which {dtype} cannot have; BYTES can"
            ));
        }
        specs.push(spec);
    }
    Ok(specs)
}

/// Whether what a plugin says of a model's tensor can be true.
fn fits(list: &str, spec: &TensorSpec, known: Option<&TensorSpec>, all: &[TensorSpec]) -> Result<(), String> {
    let name = &spec.name;
    let Some(known) = known else {
        let names = all.iter().map(|spec| format!("'{}'", spec.name)).collect::<Vec<_>>().join(", ");
        return Err(format!("{list}: the model has no '{name}'; it has {names}"));
    };
    let same_sizes = spec.shape.len() == known.shape.len()
        && spec.shape.iter().zip(&known.shape).all(|(said, true_size)| match (said.fixed(), true_size.fixed()) {
            (Some(said), Some(true_size)) => said == true_size,
            _ => true,
        });
    if spec.dtype != known.dtype || !same_sizes {
        let (said, said_shape) = (spec.dtype, spec.shape_text());
        let (dtype, shape) = (known.dtype, known.shape_text());
        return Err(format!("{list}: '{name}' is {said} {said_shape}; the model has {dtype} {shape}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use corymb_core::{DType, Dim, Tensor};

    use super::*;
    use crate::bindings::Dtype;

    fn spec(name: &str, dtype: Dtype, shape: &[Option<u32>]) -> bindings::TensorSpec {
        bindings::TensorSpec { name: name.to_owned(), dtype, shape: shape.to_vec(), optional: false, media_type: None }
    }

    fn model() -> Signature {
        let n = || Dim::Symbol("N".into());
        let mut mask = TensorSpec::new("mask", DType::Int64, vec![n()]);
        mask.optional = true;
        Signature {
            inputs: vec![TensorSpec::new("pixels", DType::Fp32, vec![n(), Dim::Fixed(3)]), mask],
            outputs: vec![TensorSpec::new("scores", DType::Fp32, vec![n(), Dim::Fixed(6)])],
        }
    }

    fn fitting() -> bindings::Description {
        bindings::Description {
            inputs: vec![spec("image_bytes", Dtype::Bytes, &[None])],
            outputs: vec![spec("scores", Dtype::Fp32, &[None, Some(6)])],
            model_inputs: vec![spec("pixels", Dtype::Fp32, &[None, Some(3)])],
            model_outputs: vec![spec("scores", Dtype::Fp32, &[None, None])],
            reusable: false,
        }
    }

    fn refusal(change: impl FnOnce(&mut bindings::Description)) -> String {
        let mut description = fitting();
        change(&mut description);
        Description::new(description, Some(&model())).expect_err("refused")
    }

    #[test]
    fn a_fitting_description_is_served() {
        let description = Description::new(fitting(), Some(&model())).expect("fits");
        assert_eq!(description.served.inputs[0].shape, [Dim::Unknown]);
        assert_eq!(description.served.outputs[0].shape, [Dim::Unknown, Dim::Fixed(6)]);
    }

    #[test]
    fn what_does_not_fit_the_model_is_named() {
        assert_eq!(
            refusal(|it| it.model_inputs[0].name = "pixel".to_owned()),
            "model-inputs: the model has no 'pixel'; it has 'pixels', 'mask'"
        );
        assert_eq!(
            refusal(|it| it.model_inputs[0].shape[1] = Some(4)),
            "model-inputs: 'pixels' is FP32 [?,4]; the model has FP32 [N,3]"
        );
        assert_eq!(
            refusal(|it| it.model_outputs[0].dtype = Dtype::Fp16),
            "model-outputs: 'scores' is FP16 [?,?]; the model has FP32 [N,6]"
        );
        assert_eq!(
            refusal(|it| it.model_inputs.clear()),
            "the model requires input 'pixels' (FP32 [N,3]); model-inputs has it not"
        );
        assert_eq!(
            Description::new(fitting(), None).expect_err("refused"),
            "it describes 'pixels' of a model, but it wraps none"
        );
    }

    #[test]
    fn lists_are_checked_by_themselves() {
        assert_eq!(refusal(|it| it.inputs.push(it.inputs[0].clone())), "inputs: 'image_bytes' stands there twice");
        assert_eq!(refusal(|it| it.outputs[0].name.clear()), "outputs: a tensor has no name");
        assert_eq!(
            refusal(|it| it.outputs[0].name = "y".repeat(257)),
            "outputs: a name of 257 bytes; at most 256 are allowed"
        );
        assert_eq!(
            refusal(|it| it.outputs = vec![it.outputs[0].clone(); 257]),
            "outputs: 257 tensors; at most 256 are allowed"
        );
        assert_eq!(
            refusal(|it| it.inputs[0].dtype = Dtype::Other("fp8".to_owned())),
            "inputs: 'image_bytes' has dtype 'fp8', which is not known here"
        );
        assert_eq!(
            refusal(|it| it.inputs[0].shape = vec![None; 17]),
            "inputs: 'image_bytes' has 17 dimensions; at most 16 are supported"
        );
    }

    #[test]
    fn answers_are_held_to_the_description() {
        let description = Description::new(fitting(), Some(&model())).expect("fits");
        let scores = |shape: [usize; 2]| Tensor::from_slice(shape, &vec![0.0_f32; shape[0] * shape[1]]).expect("valid");
        let said = |answer: Tensors| description.check_answer(&answer);
        assert_eq!(said(Tensors::from_iter([("scores", scores([2, 6]))])), Ok(()));
        assert_eq!(
            said(Tensors::from_iter([("scores", scores([2, 5]))])),
            Err("output 'scores' is FP32 [2,5]; it described FP32 [?,6]".to_owned())
        );
        assert_eq!(said(Tensors::new()), Err("output 'scores' is missing from its answer".to_owned()));
        let twice = Tensors::from_iter([("scores", scores([1, 6])), ("scores", scores([1, 6]))]);
        assert_eq!(said(twice), Err("it answered output 'scores' twice".to_owned()));
    }
}
