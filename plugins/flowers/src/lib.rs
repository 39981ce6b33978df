//! Gives an image classifier the signature of the flowers sample: pictures as files and their keys in, scores out.
//!
//! In: `image_bytes` BYTES[N] (JPEG, PNG or WebP), `key` BYTES[N] (optional). Out: `scores` FP32[N,C] as the model gives
//! them, `prediction` INT64[N] (the index of the highest score), `key` BYTES[N] (empty elements where none were sent).

mod signature;

use corymb_plugin::images::{Plan, to_tensor};
use corymb_plugin::{Carry, Description, Error, Model, Request, Response, Result, Step, Tensor, Tensors, Transformer};
use serde::Deserialize;

use crate::signature::Fitted;

const IMAGES: &str = "image_bytes";
const KEY: &str = "key";
const SCORES: &str = "scores";
const PREDICTION: &str = "prediction";

/// The manifest's `[plugin.config]`.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Side of the square that pictures are stretched to. Default: what the model says, else 160.
    size: Option<u32>,
}

/// The configured plugin.
#[derive(Debug)]
pub struct Flowers {
    model: Fitted,
    plan: Plan,
}

impl Transformer for Flowers {
    type Config = Config;

    fn configure(config: Config, model: Option<&Model>) -> Result<(Self, Description)> {
        let model = model.ok_or_else(|| Error::invalid_argument("the flowers plugin wraps a model; there is none"))?;
        let model = Fitted::to(model, config.size)?;
        // As the model was trained: the whole picture, resized as Pillow does, pixels to about -1..1.
        let plan = Plan::stretch(model.size, model.size).normalize(1.0, [127.0; 3], [128.0; 3]);
        let description = model.description();
        Ok((Self { model, plan }, description))
    }

    fn preprocess(&self, mut request: Request) -> Result<Step> {
        let images = request.inputs.take(IMAGES)?;
        let key = match request.inputs.remove(KEY) {
            Some(key) if key.len() != images.len() => {
                let (keys, images) = (key.len(), images.len());
                return Err(Error::invalid_argument(format!(
                    "input '{KEY}' has {keys} elements; input '{IMAGES}' has {images}"
                )));
            }
            Some(key) => key,
            None => Tensor::from_elements([images.len()], vec![Vec::new(); images.len()])?,
        };
        let pixels = to_tensor(&images, &[], &self.plan)?;
        Ok(Step::run(
            Tensors::from_iter([(self.model.input.as_str(), pixels)]),
            Carry::from(Tensors::from_iter([(KEY, key)])),
        ))
    }

    fn postprocess(&self, mut outputs: Tensors, mut carry: Carry) -> Result<Response> {
        let scores = outputs.take(&self.model.output)?;
        let [rows, classes] = scores.shape()[..] else {
            return Err(Error::internal(format!("the model's scores have shape {:?}", scores.shape())));
        };
        let values = scores.to_vec::<f32>()?;
        // Of no classes there is no best one, and rows of nothing cannot be told apart.
        let predictions: Vec<i64> = match classes {
            0 => vec![0; rows],
            _ => values.chunks_exact(classes).map(best).collect(),
        };
        let prediction = Tensor::from_slice([rows], &predictions)?;
        let key = carry.tensors.take(KEY)?;
        Ok(Response::new(Tensors::from_iter([(SCORES, scores), (PREDICTION, prediction), (KEY, key)])))
    }
}

/// The index of the first of the highest scores. NaN is lower than any number.
fn best(scores: &[f32]) -> i64 {
    let mut best = 0;
    for (index, score) in scores.iter().enumerate() {
        if *score > scores[best] || (scores[best].is_nan() && !score.is_nan()) {
            best = index;
        }
    }
    best as i64
}

corymb_plugin::export!(Flowers, config_schema = include_str!("config.schema.json"));

#[cfg(test)]
mod tests;
