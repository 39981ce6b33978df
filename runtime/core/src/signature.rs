//! What goes in and comes out: names, dtypes and shapes, and the check of a request against them.

use std::fmt::Write as _;
use std::sync::Arc;

use crate::dtype::DType;
use crate::request::Tensors;
use crate::tensor::{Tensor, format_dims};

/// One dimension of a declared shape.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Dim {
    /// Exactly this size.
    Fixed(usize),
    /// Any size, but the same wherever the name stands in the signature.
    Symbol(Arc<str>),
    /// Any size.
    Unknown,
}

impl Dim {
    /// The size, where it is fixed.
    #[must_use]
    pub const fn fixed(&self) -> Option<usize> {
        match self {
            Self::Fixed(size) => Some(*size),
            Self::Symbol(_) | Self::Unknown => None,
        }
    }
}

/// One declared input or output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorSpec {
    /// Unique among the inputs, or the outputs.
    pub name: String,
    /// The type of the elements.
    pub dtype: DType,
    /// One entry per dimension; empty for a scalar.
    pub shape: Vec<Dim>,
    /// Whether a request may leave it out.
    pub optional: bool,
    /// Of each element, for BYTES: `image/*`, `application/json`, `text/plain`.
    pub media_type: Option<String>,
}

impl TensorSpec {
    /// A required tensor.
    #[must_use]
    pub fn new(name: impl Into<String>, dtype: DType, shape: Vec<Dim>) -> Self {
        Self { name: name.into(), dtype, shape, optional: false, media_type: None }
    }

    /// The shape as text: `[N,3,224,224]`, with `?` for an unknown size.
    #[must_use]
    pub fn shape_text(&self) -> String {
        let mut text = String::from("[");
        for (index, dim) in self.shape.iter().enumerate() {
            if index > 0 {
                text.push(',');
            }
            match dim {
                Dim::Fixed(size) => {
                    let _ = write!(text, "{size}");
                }
                Dim::Symbol(name) => text.push_str(name),
                Dim::Unknown => text.push('?'),
            }
        }
        text.push(']');
        text
    }

    /// Whether rank and fixed dimensions of a concrete shape agree with this one.
    #[must_use]
    pub fn admits(&self, shape: &[usize]) -> bool {
        self.shape.len() == shape.len()
            && self.shape.iter().zip(shape).all(|(dim, size)| dim.fixed().is_none_or(|fixed| fixed == *size))
    }
}

/// Why a request's tensors do not fit a signature. Messages name the tensor, what was given and what was expected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// A required input is absent.
    #[error("input '{name}' is missing; expected {expected}")]
    Missing {
        /// The absent input.
        name: String,
        /// Its dtype and shape.
        expected: String,
    },
    /// No such tensor.
    #[error("unknown {role} '{name}'; expected {expected}")]
    Unknown {
        /// `input` or `output`.
        role: &'static str,
        /// As given.
        name: String,
        /// The names there are.
        expected: String,
    },
    /// The same name twice.
    #[error("input '{0}' is given twice")]
    Twice(String),
    /// Another element type.
    #[error("input '{name}' has datatype {given}; expected {expected}")]
    DType {
        /// The input.
        name: String,
        /// As given.
        given: DType,
        /// As declared.
        expected: DType,
    },
    /// Another rank, or another size of a fixed dimension.
    #[error("input '{name}' has shape {given}; expected {expected}")]
    Shape {
        /// The input.
        name: String,
        /// As given.
        given: String,
        /// As declared.
        expected: String,
    },
    /// A symbol with two sizes.
    #[error("input '{name}' has {given} for dimension '{symbol}', but input '{other}' has {other_size}")]
    Symbol {
        /// The later input.
        name: String,
        /// The symbol's name.
        symbol: String,
        /// Its size there.
        given: usize,
        /// The earlier input.
        other: String,
        /// Its size in the earlier input.
        other_size: usize,
    },
}

/// The inputs and outputs of a model.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Signature {
    /// In the model's own order.
    pub inputs: Vec<TensorSpec>,
    /// In the model's own order.
    pub outputs: Vec<TensorSpec>,
}

impl Signature {
    /// The input of that name.
    #[must_use]
    pub fn input(&self, name: &str) -> Option<&TensorSpec> {
        self.inputs.iter().find(|spec| spec.name == name)
    }

    /// The output of that name.
    #[must_use]
    pub fn output(&self, name: &str) -> Option<&TensorSpec> {
        self.outputs.iter().find(|spec| spec.name == name)
    }

    /// The inputs that a request may not leave out.
    pub fn required_inputs(&self) -> impl Iterator<Item = &TensorSpec> {
        self.inputs.iter().filter(|spec| !spec.optional)
    }

    /// Checks names, dtypes, ranks, fixed dimensions, and that a symbol has one size throughout.
    ///
    /// # Errors
    /// The first mismatch, in the order of the request, then the first absent input.
    pub fn check_inputs(&self, inputs: &Tensors) -> Result<(), SignatureError> {
        let mut symbols: Vec<(&str, &str, usize)> = Vec::new();
        for (index, (name, tensor)) in inputs.iter().enumerate() {
            if inputs.iter().take(index).any(|(earlier, _)| earlier == name) {
                return Err(SignatureError::Twice(name.to_owned()));
            }
            let spec = self.input(name).ok_or_else(|| SignatureError::Unknown {
                role: "input",
                name: name.to_owned(),
                expected: names(&self.inputs),
            })?;
            check_one(spec, tensor)?;
            for (dim, &size) in spec.shape.iter().zip(tensor.shape()) {
                let Dim::Symbol(symbol) = dim else { continue };
                match symbols.iter().find(|(known, ..)| *known == &**symbol) {
                    Some((_, other, other_size)) if *other_size != size => {
                        return Err(SignatureError::Symbol {
                            name: name.to_owned(),
                            symbol: symbol.to_string(),
                            given: size,
                            other: (*other).to_owned(),
                            other_size: *other_size,
                        });
                    }
                    Some(_) => {}
                    None => symbols.push((symbol, name, size)),
                }
            }
        }
        match self.required_inputs().find(|spec| inputs.get(&spec.name).is_none()) {
            Some(spec) => Err(SignatureError::Missing {
                name: spec.name.clone(),
                expected: format!("{} {}", spec.dtype, spec.shape_text()),
            }),
            None => Ok(()),
        }
    }

    /// Checks that each name is an output.
    ///
    /// # Errors
    /// The first name that is not.
    pub fn check_outputs<'a>(&self, wanted: impl IntoIterator<Item = &'a str>) -> Result<(), SignatureError> {
        match wanted.into_iter().find(|name| self.output(name).is_none()) {
            Some(name) => {
                Err(SignatureError::Unknown { role: "output", name: name.to_owned(), expected: names(&self.outputs) })
            }
            None => Ok(()),
        }
    }
}

fn check_one(spec: &TensorSpec, tensor: &Tensor) -> Result<(), SignatureError> {
    if spec.dtype != tensor.dtype() {
        let (given, expected) = (tensor.dtype(), spec.dtype);
        return Err(SignatureError::DType { name: spec.name.clone(), given, expected });
    }
    if !spec.admits(tensor.shape()) {
        let (given, expected) = (format_dims(tensor.shape()), spec.shape_text());
        let others_fit = || {
            tensor
                .shape()
                .iter()
                .zip(&spec.shape)
                .skip(1)
                .all(|(&size, dim)| dim.fixed().is_none_or(|fixed| fixed == size))
        };
        let is_batch = tensor.shape().len() == spec.shape.len() && spec.shape.len() > 1 && others_fit();
        let expected = if is_batch {
            format!(
                "{expected}: the model was exported with a fixed first dimension, and takes any number of rows if exported with an open one"
            )
        } else {
            expected
        };
        return Err(SignatureError::Shape { name: spec.name.clone(), given, expected });
    }
    Ok(())
}

fn names(specs: &[TensorSpec]) -> String {
    match specs {
        [] => "none".to_owned(),
        [only] => format!("'{}'", only.name),
        many => format!("one of {}", many.iter().map(|spec| format!("'{}'", spec.name)).collect::<Vec<_>>().join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signature() -> Signature {
        let n = || Dim::Symbol("N".into());
        let mut key = TensorSpec::new("key", DType::Bytes, vec![n()]);
        key.optional = true;
        Signature {
            inputs: vec![
                TensorSpec::new("a", DType::Fp32, vec![n(), Dim::Fixed(2)]),
                TensorSpec::new("b", DType::Int64, vec![n(), Dim::Unknown]),
                key,
            ],
            outputs: vec![TensorSpec::new("y", DType::Fp32, vec![n()])],
        }
    }

    fn request(a: &[usize], b: &[usize]) -> Tensors {
        let zeros = |dtype, shape: &[usize]| {
            let len = shape.iter().product::<usize>() * DType::size(dtype).expect("fixed");
            Tensor::from_buffer(dtype, shape, crate::Buffer::zeroed(len)).expect("valid")
        };
        Tensors::from_iter([("a", zeros(DType::Fp32, a)), ("b", zeros(DType::Int64, b))])
    }

    fn message(inputs: &Tensors) -> String {
        signature().check_inputs(inputs).expect_err("refused").to_string()
    }

    #[test]
    fn a_fitting_request_passes() {
        assert_eq!(signature().check_inputs(&request(&[3, 2], &[3, 9])), Ok(()));
        assert_eq!(signature().check_inputs(&request(&[0, 2], &[0, 0])), Ok(()));
    }

    #[test]
    fn messages_name_tensor_given_and_expected() {
        assert_eq!(message(&request(&[3, 4], &[3, 1])), "input 'a' has shape [3,4]; expected [N,2]");
        assert_eq!(message(&request(&[3], &[3, 1])), "input 'a' has shape [3]; expected [N,2]");
        assert_eq!(message(&request(&[3, 2], &[2, 1])), "input 'b' has 2 for dimension 'N', but input 'a' has 3");

        let mut inputs = request(&[1, 2], &[1, 1]);
        inputs.push("c", Tensor::from_slice([1], &[1_u8]).expect("valid"));
        assert_eq!(message(&inputs), "unknown input 'c'; expected one of 'a', 'b', 'key'");

        let mut inputs = request(&[1, 2], &[1, 1]);
        inputs.push("a", Tensor::from_slice([1, 2], &[1.0_f32, 2.0]).expect("valid"));
        assert_eq!(message(&inputs), "input 'a' is given twice");

        let inputs = Tensors::from_iter([("a", Tensor::from_slice([1, 2], &[1_i32, 2]).expect("valid"))]);
        assert_eq!(message(&inputs), "input 'a' has datatype INT32; expected FP32");

        let inputs = Tensors::from_iter([("a", Tensor::from_slice([1, 2], &[1.0_f32, 2.0]).expect("valid"))]);
        assert_eq!(message(&inputs), "input 'b' is missing; expected INT64 [N,?]");

        let unknown = signature().check_outputs(["y", "z"]).expect_err("refused").to_string();
        assert_eq!(unknown, "unknown output 'z'; expected 'y'");
    }
}
