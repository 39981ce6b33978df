//! What is not a number: tract's kernels for some operators lose it, where the engine that answers are compared with passes it on.

use std::collections::HashSet;
use std::sync::Arc;

use corymb_core::{DType, Tensor};
use corymb_onnx::is_standard;
use half::f16;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::{GraphProto, NodeProto, TensorProto};
use tract_onnx::tract_core::internal::{Datum, DatumType, Tensor as TractTensor};

use crate::proto::{label, subgraphs};
use crate::rewrite::{is_added, origin};

/// Operators that answer a number to what is none.
const LOSING: [&str; 21] = [
    "ArgMax",
    "ArgMin",
    "Celu",
    "Clip",
    "GRU",
    "GlobalMaxPool",
    "HardSigmoid",
    "Hardmax",
    "LSTM",
    "Max",
    "MaxPool",
    "Min",
    "RNN",
    "ReduceMax",
    "ReduceMin",
    "Relu",
    "Sigmoid",
    "Swish",
    "Tanh",
    "ThresholdedRelu",
    "TopK",
];

/// The first node that loses it, as `'name' (Operator)`; none where all pass it on.
fn losing(graph: &GraphProto) -> Option<String> {
    let here = graph.node.iter().find(|node| loses(node));
    // A node that stands for one of the file is said to be that.
    let said = |node: &NodeProto| match origin(&node.name) {
        Some((name, _, operator)) => format!("'{name}' ({operator})"),
        None => format!("'{}' ({})", label(node), node.op_type),
    };
    here.map(said).or_else(|| graph.node.iter().flat_map(subgraphs).find_map(losing))
}

/// Elements that are looked at together.
const BLOCK: usize = 1024;

/// Operators that may make it of numbers: the root of -1, 0 by 0, the softmax of nothing. Sums and products may, too, but of
/// infinities alone: see [`Watch::wild`]. What branches and bodies make comes out of the node that they belong to.
const MAKING: [&str; 19] = [
    "Acos",
    "Acosh",
    "Asin",
    "Atanh",
    "Cos",
    "Div",
    "If",
    "Log",
    "LogSoftmax",
    "Loop",
    "Mod",
    "Pow",
    "ReduceLogSum",
    "ReduceMean",
    "Scan",
    "Sin",
    "Softmax",
    "Sqrt",
    "Tan",
];

/// Operators that make numbers large which were not, beside those that make NaN.
const SWELLING: [&str; 6] = ["Cast", "Cosh", "Exp", "Reciprocal", "ReduceProd", "Sinh"];

/// What is looked at while a model runs.
#[derive(Debug)]
pub(crate) struct Watch {
    /// The names of nodes that may make it of numbers, or make numbers large, and from which it comes to where it is lost.
    makers: HashSet<String>,
    /// The names of all nodes from which it would come there.
    leading: HashSet<String>,
    /// Whether numbers may be infinite in every run: a constant is, or has no number. In others they may be once one that is
    /// given or made is large. Then sums and products may make NaN, and all that leads to where it is lost is looked at.
    pub(crate) wild: bool,
    /// The first node that loses it.
    pub(crate) loser: String,
}

impl Watch {
    /// None where nothing is to be looked at: no node loses it. `constant` are the constants of the graph by their names.
    pub(crate) fn of(graph: &GraphProto, constant: impl Fn(&str) -> Option<Arc<TractTensor>>) -> Option<Self> {
        let loser = losing(graph)?;
        // The values from which it comes to a node that loses it. Nodes need not be in order: go on until nothing is new.
        let mut reaching: HashSet<&str> = HashSet::new();
        loop {
            let before = reaching.len();
            reach(graph, &mut reaching);
            if reaching.len() == before {
                break;
            }
        }
        let (mut makers, mut leading) = (HashSet::new(), HashSet::new());
        // Those that stand for a node of the file are infinite where that is right.
        let of_file = reaching.iter().filter(|name| !is_added(name));
        let is_infinite = |tensor: Arc<TractTensor>| !look(&tensor, INFINITE).is_tame();
        let wild = of_file.filter_map(|name| constant(name)).any(is_infinite)
            | note(graph, &reaching, &mut makers, &mut leading);
        Some(Self { makers, leading, wild, loser })
    }

    /// Whether a node of tract's is one of the makers, or a part of one: then its name goes on behind theirs.
    pub(crate) fn is_of_maker(&self, name: &str) -> bool {
        is_of(&self.makers, name)
    }

    /// Whether it comes from a node of tract's to where it is lost.
    pub(crate) fn leads(&self, name: &str) -> bool {
        is_of(&self.leading, name)
    }
}

fn is_of(names: &HashSet<String>, name: &str) -> bool {
    let ends = std::iter::once(name.len()).chain(name.rmatch_indices('.').map(|(place, _)| place));
    !names.is_empty() && ends.into_iter().any(|end| names.contains(&name[..end]))
}

/// Adds the operands of nodes that lose it, or whose results come to one that does.
fn reach<'a>(graph: &'a GraphProto, reaching: &mut HashSet<&'a str>) {
    for node in &graph.node {
        let leads = loses(node) || node.output.iter().any(|name| reaching.contains(name.as_str()));
        if leads {
            reaching.extend(node.input.iter().map(String::as_str).filter(|name| !name.is_empty()));
        }
        for body in subgraphs(node) {
            if leads {
                reaching.extend(body.output.iter().map(|output| output.name.as_str()));
            }
            reach(body, reaching);
            // What a body is given by its node, it has under names of its own.
            if body.input.iter().any(|input| reaching.contains(input.name.as_str())) {
                reaching.extend(node.input.iter().map(String::as_str).filter(|name| !name.is_empty()));
            }
        }
    }
}

/// Whether a constant of a body is infinite or no number, as far as the file itself holds it.
fn is_infinite(tensor: &TensorProto) -> bool {
    let raw = tensor.raw_data.chunks_exact(4).map(|bytes| f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]));
    let mut elements = raw.chain(tensor.float_data.iter().copied());
    tensor.data_type == DataType::Float as i32 && elements.any(|element| !element.is_finite())
}

/// Notes the nodes that are looked at. Answers whether a constant of a body that leads to a loss is infinite or no number.
fn note(
    graph: &GraphProto,
    reaching: &HashSet<&str>,
    makers: &mut HashSet<String>,
    leading: &mut HashSet<String>,
) -> bool {
    let mut wild = false;
    for node in &graph.node {
        if node.output.iter().any(|name| reaching.contains(name.as_str())) {
            let operator = node.op_type.as_str();
            if is_standard(&node.domain) && (MAKING.contains(&operator) || SWELLING.contains(&operator)) {
                makers.insert(label(node).to_owned());
            }
            leading.insert(label(node).to_owned());
        }
        for body in subgraphs(node) {
            let stored = body.initializer.iter().filter(|tensor| reaching.contains(tensor.name.as_str()));
            let given = body.node.iter().filter(|node| node.op_type == "Constant").flat_map(|node| &node.attribute);
            let mut all = stored.chain(given.filter_map(|attribute| attribute.t.as_ref()));
            wild |= all.any(|tensor| !is_added(&tensor.name) && is_infinite(tensor));
            wild |= note(body, reaching, makers, leading);
        }
    }
    wild
}

fn loses(node: &NodeProto) -> bool {
    is_standard(&node.domain) && LOSING.contains(&node.op_type.as_str())
}

/// What is seen of a tensor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Look {
    /// It holds what is no number.
    pub(crate) nan: bool,
    /// It holds a number so large that a few products more are infinite, or one that is.
    pub(crate) large: bool,
}

impl Look {
    fn is_tame(self) -> bool {
        self == Self::default()
    }
}

/// What is large: of numbers in FP32 and FP64, and of those in FP16.
pub(crate) type Large = (f32, f32);

/// Of what a request brings, which a model may multiply several times.
pub(crate) const GIVEN: Large = (1e4, 64.0);
/// Infinity alone.
const INFINITE: Large = (f32::MAX, 65504.0);
/// Of what a model makes.
pub(crate) const MADE: Large = (1e18, 256.0);

/// Looks at a tensor of tract's.
pub(crate) fn look(tensor: &TractTensor, (large, large_half): Large) -> Look {
    fn all<T: Datum>(tensor: &TractTensor, one: impl Fn(&T) -> Look) -> Look {
        // Whole blocks are looked through without a jump at each element.
        let join = |left: Look, right: Look| Look { nan: left.nan | right.nan, large: left.large | right.large };
        let in_block = |block: &[T]| block.iter().fold(Look::default(), |found, element| join(found, one(element)));
        let Ok(view) = tensor.to_plain_array_view::<T>() else { return Look::default() };
        match view.as_slice() {
            Some(elements) => elements.chunks(BLOCK).map(in_block).fold(Look::default(), join),
            None => view.iter().map(one).fold(Look::default(), join),
        }
    }
    match tensor.datum_type() {
        DatumType::F32 => all::<f32>(tensor, |element| Look { nan: element.is_nan(), large: element.abs() > large }),
        DatumType::F64 => {
            all::<f64>(tensor, |element| Look { nan: element.is_nan(), large: element.abs() > f64::from(large) })
        }
        DatumType::F16 => {
            all::<f16>(tensor, |element| Look { nan: element.is_nan(), large: element.to_f32().abs() > large_half })
        }
        _ => Look::default(),
    }
}

/// Whether an element is not a number.
pub(crate) fn holds_nan(tensor: &Tensor) -> bool {
    match tensor.dtype() {
        DType::Fp32 => tensor.as_slice::<f32>().is_some_and(|elements| elements.iter().any(|element| element.is_nan())),
        DType::Fp64 => tensor.as_slice::<f64>().is_some_and(|elements| elements.iter().any(|element| element.is_nan())),
        DType::Fp16 => tensor.as_slice::<f16>().is_some_and(|elements| elements.iter().any(|element| element.is_nan())),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::plain_node;

    #[test]
    fn only_what_leads_to_where_it_is_lost_is_watched() {
        let mut nodes = vec![
            plain_node("Sqrt", &["x"], "root"),
            plain_node("Add", &["root", "x"], "sum"),
            plain_node("Relu", &["sum"], "y"),
            plain_node("Log", &["y"], "z"),
        ];
        nodes[0].name = "first.root".to_owned();
        let watch =
            Watch::of(&GraphProto { node: nodes.clone(), ..GraphProto::default() }, |_| None).expect("something");
        assert_eq!(watch.loser, "'y' (Relu)");
        let told =
            ["first.root", "first.root.part", "first", "first.roots", "y", "z"].map(|name| watch.is_of_maker(name));
        assert_eq!(told, [true, true, false, false, false, false]);
        nodes.remove(2);
        assert!(Watch::of(&GraphProto { node: nodes, ..GraphProto::default() }, |_| None).is_none());
    }

    #[test]
    fn what_loses_it_is_named_and_what_holds_it_is_told() {
        let graph = |operator| GraphProto { node: vec![plain_node(operator, &["x"], "y")], ..GraphProto::default() };
        assert_eq!(losing(&graph("Softmax")), None);
        assert_eq!(losing(&graph("Relu")).as_deref(), Some("'y' (Relu)"));
        let tensor = |elements: &[f32]| Tensor::from_slice([elements.len()], elements).expect("a tensor");
        assert!(holds_nan(&tensor(&[1.0, f32::NAN])));
        assert!(!holds_nan(&tensor(&[1.0, f32::INFINITY])));
        let half = Tensor::from_slice([1], &[f16::NAN]).expect("a tensor");
        assert!(holds_nan(&half));
    }
}
