//! Multiplies a model's only input by a factor, so that clients may send percent, bytes or millimetres.

use corymb_plugin::{Carry, DType, Description, Error, Model, Request, Result, Step, Tensor, Tensors, Transformer};

/// `[plugin.config]` of the manifest: `factor = 0.01`.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    factor: f32,
}

/// The configured plugin.
pub struct Scale {
    input: String,
    factor: f32,
}

impl Transformer for Scale {
    type Config = Config;

    fn configure(Config { factor }: Config, model: Option<&Model>) -> Result<(Self, Description)> {
        let model = model.ok_or_else(|| Error::invalid_argument("'scale' wraps a model; there is none"))?;
        let [input] = &model.inputs[..] else {
            return Err(Error::invalid_argument(format!("'scale' wraps one input; there are {}", model.inputs.len())));
        };
        if input.dtype != DType::Fp32 {
            return Err(Error::invalid_argument(format!("'scale' wraps FP32; '{}' is {}", input.name, input.dtype)));
        }
        // Clients see the model's own signature; without `postprocess`, the model's outputs are served as they are.
        let description = Description {
            inputs: model.inputs.clone(),
            outputs: model.outputs.clone(),
            model_inputs: model.inputs.clone(),
            model_outputs: model.outputs.clone(),
            reusable: true,
        };
        Ok((Self { input: input.name.clone(), factor }, description))
    }

    fn preprocess(&self, request: Request) -> Result<Step> {
        let given = request.inputs.get(&self.input)?;
        let scaled: Vec<f32> = given.to_vec::<f32>()?.iter().map(|value| value * self.factor).collect();
        let scaled = Tensor::from_slice(given.shape(), &scaled)?;
        Ok(Step::run(Tensors::from_iter([(self.input.as_str(), scaled)]), Carry::default()))
    }
}

corymb_plugin::export!(Scale);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_multiplied() {
        let plugin = Scale { input: "x".to_owned(), factor: 0.5 };
        let x = Tensor::from_slice([2, 1], &[3.0_f32, -1.0]).expect("valid");
        let Ok(Step::Run(prepared)) = plugin.preprocess(Request::new(Tensors::from_iter([("x", x)]))) else {
            panic!("the model is to run");
        };
        let x = prepared.inputs.get("x").expect("made");
        assert_eq!((x.shape(), x.to_vec::<f32>().expect("fp32")), (vec![2, 1], vec![1.5, -0.5]));
    }
}
