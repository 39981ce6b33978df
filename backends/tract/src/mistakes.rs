//! Single operators that tract 0.23.9 runs wrongly, or takes and then fails on, and element types that it does not read.
//! Found by comparing it with ONNX Runtime on the models of `tests/fixtures/zoo`.

use std::collections::HashMap;

use corymb_onnx::is_standard;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::{GraphProto, NodeProto, TensorProto};

use crate::proto::{float_attribute, integer_attribute, text_attribute};
use crate::rewrite::{SOFTMAX_OF_ONE_AXIS, is_quantised};

/// The largest constant that the file may ask for by its shape alone: it would be allocated while loading.
const MAX_FILLED_BYTES: u64 = 1 << 30;
/// The widest element of such a constant.
const WIDEST_ELEMENT: u64 = 8;

/// What the rules need to know of a graph.
pub(crate) struct Surroundings<'a> {
    constants: HashMap<&'a str, &'a TensorProto>,
    quantised: bool,
    opset: i64,
}

impl<'a> Surroundings<'a> {
    pub(crate) fn of(graph: &'a GraphProto, opset: i64) -> Self {
        let mut constants: HashMap<&str, &TensorProto> =
            graph.initializer.iter().map(|tensor| (tensor.name.as_str(), tensor)).collect();
        for node in graph.node.iter().filter(|node| node.op_type == "Constant") {
            let value = node.attribute.iter().find_map(|attribute| attribute.t.as_ref());
            constants.extend(node.output.first().map(String::as_str).zip(value));
        }
        Self { constants, quantised: is_quantised(graph), opset }
    }

    fn constant(&self, node: &NodeProto, operand: usize) -> Option<&'a TensorProto> {
        self.constants.get(node.input.get(operand)?.as_str()).copied()
    }
}

/// Why tract must not run this node; none where nothing is known against it.
pub(crate) fn known(node: &NodeProto, around: &Surroundings<'_>) -> Option<String> {
    if !is_standard(&node.domain) {
        return match node.op_type.as_str() {
            "TreeEnsembleClassifier" => post_transform(node).or_else(|| trees(node)),
            "LinearClassifier" => post_transform(node),
            _ => None,
        }
        .map(str::to_owned);
    }
    let reason = match node.op_type.as_str() {
        "RNN" | "GRU" | "LSTM" => recurrent(node),
        "Softmax" if around.quantised && around.opset < SOFTMAX_OF_ONE_AXIS => {
            Some("between DequantizeLinear and QuantizeLinear tract gets it wrong, before operator set 13")
        }
        "LogSoftmax" if around.quantised => Some("between DequantizeLinear and QuantizeLinear tract gets it wrong"),
        // What is rewritten does not come here.
        "Attention" => Some("the file does not say its element types or its numbers of heads"),
        "GlobalLpPool" if integer_attribute(node, "p").is_some_and(|power| power != 2) => {
            Some("tract computes another power than 2 wrongly")
        }
        "SpaceToDepth" if text_attribute(node, "mode") == Some("CRD") => Some("tract has no mode CRD"),
        "BatchNormalization" if integer_attribute(node, "training_mode").unwrap_or(0) != 0 => {
            Some("is in training mode, which tract does not know")
        }
        "Dropout" if drops(node, around) => Some("is in training mode, which tract does not know"),
        "Celu" | "Swish" if float_attribute(node, "alpha").is_some_and(|alpha| alpha != 1.0) => {
            Some("tract ignores its alpha")
        }
        "ConvTranspose" if node.attribute.iter().any(|attribute| attribute.name == "output_shape") => {
            Some("tract ignores its output_shape")
        }
        "NonMaxSuppression" if !is_given(node, 2) => {
            Some("without max_output_boxes_per_class there are no boxes, and tract gives all")
        }
        "Pad" if pads_less(node, around) => Some("negative pads make tract panic"),
        "QuantizeLinear" if !is_given(node, 2) && integer_attribute(node, "output_dtype").unwrap_or(0) != 0 => {
            Some("tract ignores its output_dtype")
        }
        "Range" if has_fraction(node, around) => Some("tract counts without the fraction"),
        "Resize" if text_attribute(node, "coordinate_transformation_mode") == Some("tf_crop_and_resize") => {
            Some("tract does not crop as tf_crop_and_resize says")
        }
        "Cast" | "RandomNormal" | "RandomUniform" | "EyeLike" => return dtype_attribute(node),
        _ => None,
    };
    reason.map(str::to_owned).or_else(|| filled(node, around))
}

fn recurrent(node: &NodeProto) -> Option<&'static str> {
    const SEQUENCE_LENGTHS: usize = 4;
    let defaults: &[&str] = match node.op_type.as_str() {
        "LSTM" => &["Sigmoid", "Tanh", "Tanh"],
        "GRU" => &["Sigmoid", "Tanh"],
        _ => &["Tanh"],
    };
    let named = |name: &str| node.attribute.iter().find(|attribute| attribute.name == name);
    let is_default =
        |(index, name): (usize, &Vec<u8>)| name.eq_ignore_ascii_case(defaults[index % defaults.len()].as_bytes());
    if text_attribute(node, "direction") == Some("reverse") {
        Some("direction 'reverse' gives wrong values in tract")
    } else if is_given(node, SEQUENCE_LENGTHS) {
        Some("tract has no sequence_lens")
    } else if named("activations").is_some_and(|found| !found.strings.iter().enumerate().all(is_default)) {
        Some("tract ignores its activations and takes the usual ones")
    } else if named("clip").is_some() {
        Some("tract ignores its clip")
    } else if integer_attribute(node, "input_forget").unwrap_or(0) != 0 {
        Some("tract ignores its input_forget")
    } else if integer_attribute(node, "layout").unwrap_or(0) != 0 {
        Some("layout 1 is not trusted on tract")
    } else {
        None
    }
}

fn post_transform(node: &NodeProto) -> Option<&'static str> {
    let lacks = text_attribute(node, "post_transform") == Some("SOFTMAX_ZERO");
    lacks.then_some("tract has no post_transform SOFTMAX_ZERO")
}

fn trees(node: &NodeProto) -> Option<&'static str> {
    let modes =
        node.attribute.iter().filter(|attribute| attribute.name == "nodes_modes").flat_map(|found| &found.strings);
    if modes.into_iter().any(|mode| mode == b"BRANCH_GTE") {
        return Some("tract takes the wrong branch at BRANCH_GTE");
    }
    let classes = node.attribute.iter().filter(|attribute| attribute.name.starts_with("classlabels_"));
    let most = classes.map(|labels| labels.ints.len().max(labels.strings.len())).max().unwrap_or(0);
    (most <= 2).then_some("with two classes the label is always the first one in tract")
}

/// Whether it drops anything: the third operand says so, and is false where it is left out.
fn drops(node: &NodeProto, around: &Surroundings<'_>) -> bool {
    const TRAINING: usize = 2;
    is_given(node, TRAINING)
        && around.constant(node, TRAINING).is_none_or(|flag| {
            flag.raw_data.iter().any(|&byte| byte != 0) || flag.int32_data.iter().any(|&number| number != 0)
        })
}

fn is_given(node: &NodeProto, operand: usize) -> bool {
    node.input.get(operand).is_some_and(|name| !name.is_empty())
}

/// Whether constant pads take something away: an operand, or an attribute in old operator sets.
fn pads_less(node: &NodeProto, around: &Surroundings<'_>) -> bool {
    let attribute = node.attribute.iter().filter(|attribute| attribute.name == "pads").flat_map(|found| &found.ints);
    let operand = around.constant(node, 1).map(integers).unwrap_or_default();
    attribute.chain(&operand).any(|&pad| pad < 0)
}

/// Whether a constant operand is a floating-point number that is not whole.
fn has_fraction(node: &NodeProto, around: &Surroundings<'_>) -> bool {
    (0..node.input.len()).filter_map(|operand| around.constant(node, operand)).any(|tensor| {
        let wide: Vec<f64> = match DataType::try_from(tensor.data_type) {
            Ok(DataType::Float) => {
                let (raw, _) = tensor.raw_data.as_chunks::<4>();
                let raw = raw.iter().map(|element| f32::from_le_bytes(*element));
                raw.chain(tensor.float_data.iter().copied()).map(f64::from).collect()
            }
            Ok(DataType::Double) => {
                let (raw, _) = tensor.raw_data.as_chunks::<8>();
                raw.iter()
                    .map(|element| f64::from_le_bytes(*element))
                    .chain(tensor.double_data.iter().copied())
                    .collect()
            }
            _ => Vec::new(),
        };
        wide.iter().any(|number| number.fract() != 0.0)
    })
}

/// An element type that tract does not read, asked for by an attribute.
fn dtype_attribute(node: &NodeProto) -> Option<String> {
    let asked = integer_attribute(node, "to").or_else(|| integer_attribute(node, "dtype"))?;
    unread(i32::try_from(asked).ok()?).map(|what| format!("makes what tract does not read: {what}"))
}

/// Why tract does not read elements of this type, by its number in the format; none where it does.
pub(crate) fn unread(data_type: i32) -> Option<&'static str> {
    match DataType::try_from(data_type) {
        Ok(DataType::String) => Some("holds text, and tract has no operators on text"),
        Ok(DataType::Bfloat16) => Some("is bfloat16, which tract does not read"),
        Ok(DataType::Int4 | DataType::Uint4) => Some("has elements of 4 bits, which tract does not read"),
        Ok(
            DataType::Float8e4m3fn
            | DataType::Float8e4m3fnuz
            | DataType::Float8e5m2
            | DataType::Float8e5m2fnuz
            | DataType::Float4e2m1,
        ) => Some("has floating-point elements of 8 bits or less, which tract does not read"),
        Ok(DataType::Complex64 | DataType::Complex128) => Some("holds complex numbers, which tract does not read"),
        Ok(DataType::Undefined) | Err(_) => Some("has an unknown element type"),
        Ok(_) => None,
    }
}

/// A constant that a few bytes of shape blow up.
fn filled(node: &NodeProto, around: &Surroundings<'_>) -> Option<String> {
    let dims: Vec<i64> = match node.op_type.as_str() {
        "ConstantOfShape" => integers(around.constant(node, 0)?),
        "Expand" => integers(around.constant(node, 1)?),
        "Range" => {
            let ends = [0, 1, 2].map(|operand| Some(*integers(around.constant(node, operand)?).first()?));
            let [Some(start), Some(end), Some(step)] = ends else { return None };
            vec![end.checked_sub(start)?.checked_div(step)?]
        }
        _ => return None,
    };
    let bytes = dims
        .iter()
        .try_fold(WIDEST_ELEMENT, |bytes, &dim| bytes.checked_mul(dim.max(1).unsigned_abs()))
        .filter(|&bytes| bytes <= MAX_FILLED_BYTES);
    bytes.is_none().then(|| format!("asks for a tensor of shape {dims:?}; at most {MAX_FILLED_BYTES} bytes are filled"))
}

fn integers(tensor: &TensorProto) -> Vec<i64> {
    if tensor.raw_data.is_empty() {
        return tensor.int64_data.clone();
    }
    let (elements, _) = tensor.raw_data.as_chunks::<8>();
    elements.iter().map(|element| i64::from_le_bytes(*element)).collect()
}
