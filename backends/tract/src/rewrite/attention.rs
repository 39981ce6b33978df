//! `Attention` in products, sums and exponentials, since tract's own ignores boolean masks, the past of a causal mask and
//! windows.

use tract_onnx::pb::NodeProto;
use tract_onnx::pb::tensor_proto::DataType;

use super::facts::Facts;
use super::writer::{Writer, integer, integers};
use crate::proto::{float_attribute, integer_attribute};

/// Of Q, K and V, with four dimensions: batch, head, place in the sequence, element.
const HEADS: usize = 1;
const SEQUENCE: i64 = 2;
const ELEMENT: i64 = 3;

/// What the optional output of the scores holds.
const SCORES: i64 = 0;
const CAPPED: i64 = 1;
const MASKED: i64 = 2;
const PROBABILITIES: i64 = 3;

pub(super) fn spelled(node: &NodeProto, facts: &Facts, writer: &mut Writer) -> bool {
    let Some(attention) = Attention::of(node, facts) else { return false };
    attention.write(facts, writer);
    true
}

struct Attention<'a> {
    node: &'a NodeProto,
    dtype: DataType,
    /// That the sums are made in.
    wide: DataType,
    /// Of the queries and of the keys.
    heads: (i64, i64),
    /// Whether heads lie side by side in the last of three dimensions.
    flat: bool,
}

impl<'a> Attention<'a> {
    /// None where the file does not say what the rewriting needs.
    fn of(node: &'a NodeProto, facts: &Facts) -> Option<Self> {
        let given = |name| integer_attribute(node, name).filter(|heads| *heads > 0);
        let dtype = facts.dtype(node.input.first()?)?;
        let wide = match dtype {
            DataType::Float16 => DataType::Float,
            DataType::Float | DataType::Double => dtype,
            _ => return None,
        };
        let (heads, flat) = match (given("q_num_heads"), given("kv_num_heads")) {
            (Some(queries), Some(keys)) if facts.rank(&node.input[0]) != Some(4) => ((queries, keys), true),
            _ => {
                let heads = |operand: usize| facts.size(node.input.get(operand)?, HEADS);
                ((heads(0)?, heads(1)?), false)
            }
        };
        let attention = Self { node, dtype, wide, heads, flat };
        if let Some(mask) = attention.operand(3) {
            let known = facts.dtype(mask)?;
            if known != DataType::Bool && known != dtype {
                return None;
            }
        }
        let whole = heads.1 > 0 && heads.0 % heads.1 == 0;
        (node.input.len() >= 3 && whole).then_some(attention)
    }

    fn operand(&self, index: usize) -> Option<&'a String> {
        self.node.input.get(index).filter(|name| !name.is_empty())
    }

    fn result(&self, index: usize) -> Option<&'a String> {
        self.node.output.get(index).filter(|name| !name.is_empty())
    }

    fn number(&self, name: &str) -> i64 {
        integer_attribute(self.node, name).unwrap_or(0)
    }

    fn write(&self, facts: &Facts, writer: &mut Writer) {
        let queries = self.apart(&self.node.input[0], self.heads.0, writer);
        let keys = self.with_past(1, 4, writer);
        let values = self.with_past(2, 5, writer);
        let queries = self.widened(&queries, writer);
        let keys = self.repeated(&keys, writer);
        let values = self.repeated(&values, writer);

        let scores = self.scores(&queries, &keys, writer);
        self.show(SCORES, &scores, writer);
        let capped = match float_attribute(self.node, "softcap").filter(|cap| *cap != 0.0) {
            Some(cap) => {
                let cap = writer.scalar(self.wide, cap.into());
                let share = writer.op("Div", &[&scores, &cap], vec![]);
                let bent = writer.op("Tanh", &[&share], vec![]);
                writer.op("Mul", &[&bent, &cap], vec![])
            }
            None => scores,
        };
        self.show(CAPPED, &capped, writer);
        let masked = self.masked(&capped, (&queries, &keys), facts, writer);
        self.show(MASKED, masked.as_ref().unwrap_or(&capped), writer);
        let probabilities = match &masked {
            Some(masked) => self.softmax(masked, writer),
            None => writer.op("Softmax", &[&capped], vec![integer("axis", -1)]),
        };
        self.show(PROBABILITIES, &probabilities, writer);

        let Some(output) = self.result(0) else { return };
        let mut found = writer.op("MatMul", &[&probabilities, &values], vec![]);
        if self.flat {
            found = writer.op("Transpose", &[&found], vec![integers("perm", &[0, 2, 1, 3])]);
            let flat = writer.integers(&[0, 0, -1]);
            found = writer.op("Reshape", &[&found, &flat], vec![]);
        }
        self.give(&found, output, writer);
    }

    /// With the heads on an axis of their own.
    fn apart(&self, input: &str, heads: i64, writer: &mut Writer) -> String {
        if !self.flat {
            return input.to_owned();
        }
        let shape = writer.integers(&[0, 0, heads, -1]);
        let apart = writer.op("Reshape", &[input, &shape], vec![]);
        writer.op("Transpose", &[&apart], vec![integers("perm", &[0, 2, 1, 3])])
    }

    /// Keys or values behind those of the past, which are an output too.
    fn with_past(&self, operand: usize, past: usize, writer: &mut Writer) -> String {
        let mut all = self.apart(&self.node.input[operand], self.heads.1, writer);
        if let Some(past) = self.operand(past) {
            all = writer.op("Concat", &[past, &all], vec![integer("axis", SEQUENCE)]);
        }
        if let Some(wanted) = self.result(operand) {
            writer.named("Identity", &[&all], wanted, vec![]);
        }
        all
    }

    fn widened(&self, input: &str, writer: &mut Writer) -> String {
        if self.wide == self.dtype { input.to_owned() } else { writer.cast(input, self.wide) }
    }

    /// Each head of keys or values as often as queries share it.
    fn repeated(&self, input: &str, writer: &mut Writer) -> String {
        let wide = self.widened(input, writer);
        let (queries, keys) = self.heads;
        if queries == keys {
            return wide;
        }
        let heads: Vec<i64> = (0..queries).map(|head| head / (queries / keys)).collect();
        let heads = writer.integers(&heads);
        writer.op("Gather", &[&wide, &heads], vec![integer("axis", HEADS as i64)])
    }

    fn scores(&self, queries: &str, keys: &str, writer: &mut Writer) -> String {
        let scaled = match float_attribute(self.node, "scale") {
            Some(scale) => {
                let scale = writer.scalar(self.wide, scale.into());
                writer.op("Mul", &[queries, &scale], vec![])
            }
            None => {
                let size = writer.size(queries, ELEMENT);
                let size = writer.cast(&size, self.wide);
                let root = writer.op("Sqrt", &[&size], vec![]);
                writer.op("Div", &[queries, &root], vec![])
            }
        };
        let turned = writer.op("Transpose", &[keys], vec![integers("perm", &[0, 1, 3, 2])]);
        writer.op("MatMul", &[&scaled, &turned], vec![])
    }

    /// The scores with minus infinity where a query may not look; none where every query sees every key.
    fn masked(
        &self,
        scores: &str,
        (queries, keys): (&str, &str),
        facts: &Facts,
        writer: &mut Writer,
    ) -> Option<String> {
        let mut allowed = self.bounds(queries, keys, writer);
        let mut biased = None;
        if let Some(mask) = self.operand(3) {
            let is_boolean = facts.dtype(mask) == Some(DataType::Bool);
            let mask = self.whole_mask(mask, is_boolean, facts, writer);
            if is_boolean {
                allowed.push(mask);
            } else {
                let mask = self.widened(&mask, writer);
                biased = Some(writer.op("Add", &[scores, &mask], vec![]));
            }
        }
        let both = allowed.into_iter().reduce(|left, right| writer.op("And", &[&left, &right], vec![]));
        let Some(allowed) = both else { return biased };
        let never = writer.scalar(self.wide, f64::NEG_INFINITY);
        Some(writer.op("Where", &[&allowed, biased.as_deref().unwrap_or(scores), &never], vec![]))
    }

    /// What causality, windows and the filled part of a cache allow.
    fn bounds(&self, queries: &str, keys: &str, writer: &mut Writer) -> Vec<String> {
        let filled = self.operand(6);
        let window = |name| integer_attribute(self.node, name).filter(|size| *size >= 0);
        let (left, right) = (window("left_window_size"), window("right_window_size"));
        let causal = self.number("is_causal") != 0;
        let mut allowed = Vec::new();
        if filled.is_none() && left.is_none() && right.is_none() && !causal {
            return allowed;
        }
        let column = self.count(keys, writer);
        let filled = filled.map(|filled| writer.unsqueeze(filled, &[1, 2, 3]));
        if let Some(filled) = &filled {
            allowed.push(writer.op("Less", &[&column, filled], vec![]));
        }
        let row = self.place(queries, filled.as_deref(), writer);
        if causal {
            allowed.push(writer.op("LessOrEqual", &[&column, &row], vec![]));
        }
        if let Some(right) = right {
            let right = writer.scalar(DataType::Int64, right as f64);
            let last = writer.op("Add", &[&row, &right], vec![]);
            allowed.push(writer.op("LessOrEqual", &[&column, &last], vec![]));
        }
        if let Some(left) = left {
            let left = writer.scalar(DataType::Int64, left as f64);
            let first = writer.op("Sub", &[&row, &left], vec![]);
            allowed.push(writer.op("GreaterOrEqual", &[&column, &first], vec![]));
        }
        allowed
    }

    /// The place of each query among the keys, as a column.
    fn place(&self, queries: &str, filled: Option<&str>, writer: &mut Writer) -> String {
        let row = self.count(queries, writer);
        let row = writer.unsqueeze(&row, &[1]);
        let before = match (self.operand(4), filled) {
            (Some(past), _) => writer.size(past, SEQUENCE),
            (None, Some(filled)) => {
                let own = writer.size(queries, SEQUENCE);
                let own = writer.cast(&own, DataType::Int64);
                writer.op("Sub", &[filled, &own], vec![])
            }
            (None, None) => return row,
        };
        let before = writer.cast(&before, DataType::Int64);
        writer.op("Add", &[&row, &before], vec![])
    }

    /// 0, 1, 2 and so on along the sequence of `input`.
    fn count(&self, input: &str, writer: &mut Writer) -> String {
        let (zero, one) = (writer.scalar(DataType::Int64, 0.0), writer.scalar(DataType::Int64, 1.0));
        let size = writer.size(input, SEQUENCE);
        let places = writer.op("Range", &[&zero, &size, &one], vec![]);
        writer.cast(&places, DataType::Int64)
    }

    /// A mask that is shorter than the keys allows nothing beyond its end.
    fn whole_mask(&self, mask: &str, is_boolean: bool, facts: &Facts, writer: &mut Writer) -> String {
        let axis = if self.flat { 1 } else { 2 };
        let own = facts.size(&self.node.input[1], axis);
        let past = self.operand(4).map_or(Some(0), |past| facts.size(past, 2));
        let dims = facts.of(mask).dims.and_then(|dims| dims.into_iter().collect::<Option<Vec<i64>>>());
        let (Some(own), Some(past), Some(mut dims)) = (own, past, dims) else { return mask.to_owned() };
        let Some(last) = dims.last_mut().filter(|last| **last < own + past) else { return mask.to_owned() };
        *last = own + past - *last;
        let rest = if is_boolean {
            writer.filled(DataType::Bool, &dims, 0.0)
        } else {
            writer.filled(self.dtype, &dims, f64::NEG_INFINITY)
        };
        writer.op("Concat", &[mask, &rest], vec![integer("axis", -1)])
    }

    /// Of a row without any key: zeros.
    fn softmax(&self, scores: &str, writer: &mut Writer) -> String {
        let lowest = if self.wide == DataType::Double { f64::MIN } else { f32::MIN.into() };
        let lowest = writer.scalar(self.wide, lowest);
        let (zero, one) = (writer.scalar(self.wide, 0.0), writer.scalar(self.wide, 1.0));
        let largest = writer.reduce("ReduceMax", scores, &[-1], true);
        // Infinity less infinity is no number.
        let largest = writer.op("Max", &[&largest, &lowest], vec![]);
        let shifted = writer.op("Sub", &[scores, &largest], vec![]);
        let exponential = writer.op("Exp", &[&shifted], vec![]);
        let sum = writer.reduce("ReduceSum", &exponential, &[-1], true);
        let none = writer.op("Equal", &[&sum, &zero], vec![]);
        let sum = writer.op("Where", &[&none, &one, &sum], vec![]);
        writer.op("Div", &[&exponential, &sum], vec![])
    }

    /// Makes `value` the optional output, if that is what it is asked for.
    fn show(&self, mode: i64, value: &str, writer: &mut Writer) {
        if let Some(wanted) = self.result(3).filter(|_| self.number("qk_matmul_output_mode") == mode) {
            self.give(value, wanted, writer);
        }
    }

    fn give(&self, value: &str, output: &str, writer: &mut Writer) {
        if self.wide == self.dtype {
            writer.named("Identity", &[value], output, vec![]);
        } else {
            writer.named("Cast", &[value], output, vec![integer("to", self.dtype as i64)]);
        }
    }
}
