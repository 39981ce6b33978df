//! The losses of training, which some exported models hold: picked by the target, weighed and added up.

use tract_onnx::pb::NodeProto;
use tract_onnx::pb::tensor_proto::DataType;

use super::facts::Facts;
use super::writer::{Writer, integer};
use crate::proto::{integer_attribute, text_attribute};

/// The operator set in which `LogSoftmax` came to mean one axis.
const LOG_SOFTMAX_OF_ONE_AXIS: i64 = 13;

pub(super) fn spelled(node: &NodeProto, facts: &Facts, writer: &mut Writer) -> bool {
    let ([scores, target, rest @ ..], Some(output)) = (node.input.as_slice(), node.output.first()) else {
        return false;
    };
    let (Some(dtype), Some(index)) = (facts.dtype(scores), facts.dtype(target)) else { return false };
    if writer.opset < LOG_SOFTMAX_OF_ONE_AXIS
        || !matches!(dtype, DataType::Float | DataType::Double | DataType::Float16)
    {
        return false;
    }
    let loss = Loss { dtype, index, weight: rest.first().filter(|name| !name.is_empty()) };
    let logarithms = if node.op_type == "SoftmaxCrossEntropyLoss" {
        let logarithms = writer.op("LogSoftmax", &[scores], vec![integer("axis", 1)]);
        if let Some(wanted) = node.output.get(1).filter(|name| !name.is_empty()) {
            writer.named("Identity", &[&logarithms], wanted, vec![]);
        }
        logarithms
    } else {
        scores.clone()
    };
    let reduction = text_attribute(node, "reduction").unwrap_or("mean");
    loss.write(&logarithms, target, integer_attribute(node, "ignore_index"), (reduction, output), writer);
    true
}

struct Loss<'a> {
    dtype: DataType,
    index: DataType,
    weight: Option<&'a String>,
}

impl Loss<'_> {
    fn write(
        &self,
        logarithms: &str,
        target: &str,
        ignored: Option<i64>,
        (reduction, output): (&str, &str),
        writer: &mut Writer,
    ) {
        let ignored = ignored.map(|ignored| {
            let ignored = writer.scalar(self.index, ignored as f64);
            writer.op("Equal", &[target, &ignored], vec![])
        });
        // What is ignored may be no class at all.
        let class = match &ignored {
            Some(ignored) => {
                let first = writer.scalar(self.index, 0.0);
                writer.op("Where", &[ignored, &first, target], vec![])
            }
            None => target.to_owned(),
        };
        let place = writer.unsqueeze(&class, &[1]);
        let picked = writer.op("GatherElements", &[logarithms, &place], vec![integer("axis", 1)]);
        let picked = writer.squeeze(&picked, &[1]);
        let plain = writer.op("Neg", &[&picked], vec![]);
        let weights = self.weights(&class, ignored.as_deref(), writer);
        let weighed = match &weights {
            Some(weights) => writer.op("Mul", &[&plain, weights], vec![]),
            None => plain,
        };
        match (reduction, &weights) {
            ("none", _) => writer.named("Identity", &[&weighed], output, vec![]),
            ("sum", _) => writer.reduce_to("ReduceSum", &weighed, &[], false, output),
            (_, None) => writer.reduce_to("ReduceMean", &weighed, &[], false, output),
            (_, Some(weights)) => {
                let sum = writer.reduce("ReduceSum", &weighed, &[], false);
                let whole = writer.reduce("ReduceSum", weights, &[], false);
                writer.named("Div", &[&sum, &whole], output, vec![]);
            }
        }
    }

    /// Of each element; none where all weigh one.
    fn weights(&self, class: &str, ignored: Option<&str>, writer: &mut Writer) -> Option<String> {
        let weights = self.weight.map(|weight| writer.op("Gather", &[weight, class], vec![integer("axis", 0)]));
        let Some(ignored) = ignored else { return weights };
        let nothing = writer.scalar(self.dtype, 0.0);
        let weights = weights.unwrap_or_else(|| writer.scalar(self.dtype, 1.0));
        Some(writer.op("Where", &[ignored, &nothing, &weights], vec![]))
    }
}
