//! What is not a number: tract's kernels for some operators lose it, where the engine that answers are compared with passes it on.

use std::collections::HashSet;

use corymb_core::{DType, Tensor};
use corymb_onnx::is_standard;
use half::f16;
use tract_onnx::pb::{GraphProto, NodeProto};
use tract_onnx::tract_core::internal::{Datum, DatumType, Tensor as TractTensor};

use crate::proto::{label, subgraphs};
use crate::rewrite::origin;

/// Operators that answer a number to what is none.
const LOSING: [&str; 17] = [
    "ArgMax",
    "ArgMin",
    "Clip",
    "GRU",
    "HardSigmoid",
    "LSTM",
    "Max",
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

/// Operators that may make it of numbers: the root of -1, 0 by 0, the softmax of nothing. Sums and products may, too, of
/// infinities: these are not looked for, since most of what a model computes is of them.
const MAKING: [&str; 16] = [
    "Acos",
    "Acosh",
    "Asin",
    "Atanh",
    "Cos",
    "Div",
    "Log",
    "LogSoftmax",
    "Mod",
    "Pow",
    "ReduceLogSum",
    "ReduceMean",
    "Sin",
    "Softmax",
    "Sqrt",
    "Tan",
];

/// What is looked at while a model runs.
#[derive(Debug)]
pub(crate) struct Watch {
    /// The names of nodes that may make it of numbers, and from which it comes to where it is lost.
    makers: HashSet<String>,
    /// The first node that loses it.
    pub(crate) loser: String,
}

impl Watch {
    /// None where nothing is to be looked at: no node loses it.
    pub(crate) fn of(graph: &GraphProto) -> Option<Self> {
        let loser = losing(graph)?;
        // The values from which it comes to a node that loses it. Nodes need not be in order: go on until nothing is new.
        let mut reaching: HashSet<&str> = HashSet::new();
        loop {
            let before = reaching.len();
            for node in &graph.node {
                let leads = loses(node) || node.output.iter().any(|name| reaching.contains(name.as_str()));
                if leads {
                    reaching.extend(node.input.iter().map(String::as_str).filter(|name| !name.is_empty()));
                }
                for body in subgraphs(node).filter(|body| leads || losing(body).is_some()) {
                    reaching.extend(body.node.iter().flat_map(|node| &node.input).map(String::as_str));
                }
            }
            if reaching.len() == before {
                break;
            }
        }
        let makes = |node: &&NodeProto| is_standard(&node.domain) && MAKING.contains(&node.op_type.as_str());
        let leads = |node: &&NodeProto| node.output.iter().any(|name| reaching.contains(name.as_str()));
        let makers = graph.node.iter().filter(makes).filter(leads).map(|node| label(node).to_owned());
        Some(Self { makers: makers.collect(), loser })
    }

    /// Whether a node of tract's is one of the makers, or a part of one: then its name goes on behind theirs.
    pub(crate) fn is_of_maker(&self, name: &str) -> bool {
        let ends = std::iter::once(name.len()).chain(name.rmatch_indices('.').map(|(place, _)| place));
        !self.makers.is_empty() && ends.into_iter().any(|end| self.makers.contains(&name[..end]))
    }
}

fn loses(node: &NodeProto) -> bool {
    is_standard(&node.domain) && LOSING.contains(&node.op_type.as_str())
}

/// Whether a tensor of tract's holds it.
pub(crate) fn is_in(tensor: &TractTensor) -> bool {
    fn any<T: Datum>(tensor: &TractTensor, is_nan: impl Fn(&T) -> bool) -> bool {
        // Whole blocks are looked through without a jump at each element.
        let in_block = |block: &[T]| block.iter().fold(false, |found, element| found | is_nan(element));
        tensor.to_plain_array_view::<T>().is_ok_and(|view| match view.as_slice() {
            Some(elements) => elements.chunks(BLOCK).any(in_block),
            None => view.iter().any(&is_nan),
        })
    }
    match tensor.datum_type() {
        DatumType::F32 => any::<f32>(tensor, |element| element.is_nan()),
        DatumType::F64 => any::<f64>(tensor, |element| element.is_nan()),
        DatumType::F16 => any::<f16>(tensor, |element| element.is_nan()),
        _ => false,
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
        let watch = Watch::of(&GraphProto { node: nodes.clone(), ..GraphProto::default() }).expect("something");
        assert_eq!(watch.loser, "'y' (Relu)");
        let told =
            ["first.root", "first.root.part", "first", "first.roots", "y", "z"].map(|name| watch.is_of_maker(name));
        assert_eq!(told, [true, true, false, false, false, false]);
        nodes.remove(2);
        assert!(Watch::of(&GraphProto { node: nodes, ..GraphProto::default() }).is_none());
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
