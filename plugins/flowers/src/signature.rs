//! Whether a model fits the plugin, and the signature that the two have together.

use corymb_plugin::{DType, Description, Error, Model, Result, TensorSpec};

use crate::{IMAGES, KEY, PREDICTION, SCORES};

/// Side of the square where neither the configuration nor the model says one.
const DEFAULT_SIZE: u32 = 160;

/// Far beyond any classifier; keeps a typing error from becoming a huge tensor.
const MAX_SIZE: u32 = 4096;

/// What the plugin needs to know of a model that fits.
#[derive(Debug)]
pub(crate) struct Fitted {
    /// Name of the input for pixels, FP32 [N,3,size,size].
    pub(crate) input: String,
    /// Name of the output with scores, FP32 [N,classes].
    pub(crate) output: String,
    pub(crate) size: u32,
    classes: Option<u32>,
}

impl Fitted {
    pub(crate) fn to(model: &Model, size: Option<u32>) -> Result<Self> {
        let (input, height, width) = pixels(model)?;
        let size = size.or(height).or(width).unwrap_or(DEFAULT_SIZE);
        if size == 0 || size > MAX_SIZE {
            return Err(Error::invalid_argument(format!("size = {size}; 1 to {MAX_SIZE} is possible")));
        }
        if height.is_some_and(|height| height != size) || width.is_some_and(|width| width != size) {
            return Err(Error::invalid_argument(format!(
                "model '{}' has input '{}' {input}; with size = {size} the plugin makes FP32 [?,3,{size},{size}]",
                model.name, input.name
            )));
        }
        let (output, classes) = scores(model)?;
        Ok(Self { input: input.name.clone(), output: output.name.clone(), size, classes })
    }

    pub(crate) fn description(&self) -> Description {
        let scores = |name: &str| TensorSpec::new(name, DType::Fp32, [None, self.classes]);
        let key = || TensorSpec::new(KEY, DType::Bytes, [None]);
        let size = Some(self.size);
        Description {
            inputs: vec![TensorSpec::new(IMAGES, DType::Bytes, [None]).with_media_type("image/*"), key().optional()],
            outputs: vec![scores(SCORES), TensorSpec::new(PREDICTION, DType::Int64, [None]), key()],
            model_inputs: vec![TensorSpec::new(&self.input, DType::Fp32, [None, Some(3), size, size])],
            model_outputs: vec![scores(&self.output)],
            // Nothing is kept from request to request.
            reusable: true,
        }
    }
}

/// The one input that must be given, with its height and width where they are fixed.
fn pixels(model: &Model) -> Result<(&TensorSpec, Option<u32>, Option<u32>)> {
    let refuse = |what: String| {
        Err(Error::invalid_argument(format!("model '{}' has {what}; expected one of FP32 [?,3,H,W]", model.name)))
    };
    let mut required = model.inputs.iter().filter(|spec| !spec.optional);
    match (required.next(), required.next()) {
        (Some(input), None) => match (&input.dtype, &input.shape[..]) {
            (DType::Fp32, &[_, None | Some(3), height, width]) => Ok((input, height, width)),
            _ => refuse(format!("input '{}' {input}", input.name)),
        },
        (Some(_), Some(_)) => refuse(format!("the inputs {}", names(&model.inputs))),
        (None, _) => refuse("no input".to_owned()),
    }
}

/// The output called `scores`, else the only one that could be scores; with the number of classes where it is fixed.
fn scores(model: &Model) -> Result<(&TensorSpec, Option<u32>)> {
    let fits = |spec: &&TensorSpec| spec.dtype == DType::Fp32 && spec.shape.len() == 2;
    let named = model.output(SCORES).filter(fits);
    let mut fitting = model.outputs.iter().filter(fits);
    let only = match (fitting.next(), fitting.next()) {
        (Some(only), None) => Some(only),
        _ => None,
    };
    named.or(only).map(|spec| (spec, spec.shape[1])).ok_or_else(|| {
        Error::invalid_argument(format!(
            "model '{}' has the outputs {}; expected FP32 [?,classes], by the name of '{SCORES}' if there are several",
            model.name,
            names(&model.outputs)
        ))
    })
}

fn names(specs: &[TensorSpec]) -> String {
    let one = |spec: &TensorSpec| format!("'{}' {spec}", spec.name);
    specs.iter().map(one).collect::<Vec<_>>().join(", ")
}
