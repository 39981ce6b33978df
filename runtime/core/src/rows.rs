//! What is known of the rows of a request: where they are, and whether each one's answer depends on that row alone.

use std::fmt;
use std::ops::Range;

use crate::request::Tensors;
use crate::tensor::Tensor;

/// Bytes of an input without rows that are compared, to see whether two requests give the same: a rate, a switch, a table
/// of thresholds. Requests with more never share a run.
const MAX_COMPARED: usize = 4096;

/// The axes along which the rows of requests lie: by name, in the signature's order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchAxes {
    /// Of each input. None: the input has no rows, and requests that share a run give the same.
    pub inputs: Vec<(String, Option<usize>)>,
    /// Of each output. None: the output is the same whatever the rows are.
    pub outputs: Vec<(String, Option<usize>)>,
}

/// An axis by the name of its tensor; none for a tensor that is not known, too.
fn axis(of: &[(String, Option<usize>)], name: &str) -> Option<usize> {
    of.iter().find(|(known, _)| known == name).and_then(|(_, axis)| *axis)
}

impl BatchAxes {
    /// The axis of rows of an input.
    #[must_use]
    pub fn input(&self, name: &str) -> Option<usize> {
        axis(&self.inputs, name)
    }

    /// The axis of rows of an output.
    #[must_use]
    pub fn output(&self, name: &str) -> Option<usize> {
        axis(&self.outputs, name)
    }

    /// How many rows a request has; none where inputs differ, where one that has rows is missing, and for no rows.
    #[must_use]
    pub fn rows(&self, inputs: &Tensors) -> Option<usize> {
        let mut rows = None;
        for (name, axis) in &self.inputs {
            let Some(axis) = axis else { continue };
            let own = *inputs.get(name)?.shape().get(*axis)?;
            if *rows.get_or_insert(own) != own {
                return None;
            }
        }
        rows.filter(|rows| *rows > 0)
    }

    /// Whether two requests may be one: alike but for their rows.
    #[must_use]
    pub fn fit(&self, one: &Tensors, two: &Tensors) -> bool {
        let alike = |(name, tensor): (&str, &Tensor)| {
            let Some(other) = two.get(name) else { return false };
            let same_type = tensor.dtype() == other.dtype() && tensor.shape().len() == other.shape().len();
            match self.input(name) {
                Some(rows) => {
                    let mut sizes = tensor.shape().iter().zip(other.shape()).enumerate();
                    same_type && sizes.all(|(axis, (one, two))| axis == rows || one == two)
                }
                None => same_type && tensor.byte_len() <= MAX_COMPARED && tensor == other,
            }
        };
        one.len() == two.len() && one.iter().all(alike)
    }

    /// Some rows of a request; nothing is copied where they lie in one piece.
    #[must_use]
    pub fn take(&self, inputs: &Tensors, rows: &Range<usize>) -> Tensors {
        let taken = |(name, tensor): (&str, &Tensor)| {
            let tensor = match self.input(name) {
                Some(axis) => tensor.slice_axis(axis, rows.start, rows.len())?,
                None => tensor.clone(),
            };
            Some((name.to_owned(), tensor))
        };
        inputs.iter().filter_map(taken).collect()
    }

    /// The rows of several requests that [fit](Self::fit) as those of one: one copy. None where they do not.
    #[must_use]
    pub fn join_inputs(&self, requests: &[Tensors]) -> Option<Tensors> {
        join(&self.inputs, requests)
    }

    /// The answers to pieces of a request as the answer to all of it. None where they do not fit together.
    #[must_use]
    pub fn join_outputs(&self, answers: &[Tensors]) -> Option<Tensors> {
        join(&self.outputs, answers)
    }

    /// An answer to several requests, of so many rows each, as the answer to each. None where it has not a part for each
    /// row.
    #[must_use]
    pub fn split(&self, answer: &Tensors, rows: &[usize]) -> Option<Vec<Tensors>> {
        let total: usize = rows.iter().sum();
        let mut start = 0;
        let part = |start: usize, rows: usize| {
            let tensors = answer.iter().map(|(name, tensor)| {
                let Some(axis) = self.output(name) else { return Some((name.to_owned(), tensor.clone())) };
                // Several elements may belong to each row.
                let width = tensor.shape().get(axis)?.checked_div(total)?;
                let fits = width.checked_mul(total) == tensor.shape().get(axis).copied();
                let piece = tensor.slice_axis(axis, start * width, rows * width).filter(|_| fits)?;
                Some((name.to_owned(), piece))
            });
            tensors.collect::<Option<Tensors>>()
        };
        rows.iter()
            .map(|rows| {
                start += rows;
                part(start - rows, *rows)
            })
            .collect()
    }
}

fn join(axes: &[(String, Option<usize>)], pieces: &[Tensors]) -> Option<Tensors> {
    let first = pieces.first()?;
    let joined = |(name, tensor): (&str, &Tensor)| {
        let Some(axis) = axis(axes, name) else { return Some((name.to_owned(), tensor.clone())) };
        let parts: Vec<&Tensor> = pieces.iter().map(|piece| piece.get(name)).collect::<Option<_>>()?;
        Some((name.to_owned(), Tensor::concat_axis(axis, &parts)?))
    };
    first.iter().map(joined).collect()
}

/// What a graph does with rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Independence {
    /// Each row's answer depends on that row alone, whatever the values are: proved from the graph.
    Proved,
    /// A node brings rows together, for some values or for all.
    Mixes(Culprit),
    /// Nothing is proved; the first node that is in the way.
    Unknown(Culprit),
}

/// The node that decides.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Culprit {
    /// Its operator; empty where no node is to blame.
    pub operator: String,
    /// Its name, or that of its first result where it has none.
    pub node: String,
    /// What it does, in words to stand behind its name.
    pub reason: String,
}

impl Culprit {
    /// A reason that no single node has.
    #[must_use]
    pub fn of_model(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), ..Self::default() }
    }

    /// The operator and the name of the node; none where no node is to blame.
    #[must_use]
    pub fn name(&self) -> Option<String> {
        (!self.operator.is_empty()).then(|| format!("{} '{}'", self.operator, self.node))
    }
}

impl fmt::Display for Culprit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => write!(f, "{name}: {}", self.reason),
            None => f.write_str(&self.reason),
        }
    }
}

/// What is known of the rows of one model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowAnalysis {
    /// Whether they are independent.
    pub independence: Independence,
    /// Where they are: as proved, else by the shapes alone. None where requests cannot be joined at all.
    pub axes: Option<BatchAxes>,
}

impl RowAnalysis {
    /// Whether rows are independent without anybody's word.
    #[must_use]
    pub fn is_proved(&self) -> bool {
        self.independence == Independence::Proved
    }
}

impl Default for RowAnalysis {
    /// Of a model that nobody has looked at.
    fn default() -> Self {
        Self { independence: Independence::Unknown(Culprit::of_model("the graph was not looked at")), axes: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensor(shape: &[usize], from: i32) -> Tensor {
        let count: usize = shape.iter().product();
        let values: Vec<i32> = (from..).take(count).collect();
        Tensor::from_slice(shape, &values).expect("valid")
    }

    fn axes() -> BatchAxes {
        let named =
            |pairs: &[(&str, Option<usize>)]| pairs.iter().map(|(name, axis)| ((*name).to_owned(), *axis)).collect();
        BatchAxes {
            inputs: named(&[("x", Some(0)), ("state", Some(1)), ("rate", None)]),
            outputs: named(&[("y", Some(1)), ("version", None)]),
        }
    }

    fn request(rows: usize, from: i32, rate: i32) -> Tensors {
        Tensors::from_iter([
            ("x", tensor(&[rows, 2], from)),
            ("state", tensor(&[2, rows, 3], from + 100)),
            ("rate", tensor(&[], rate)),
        ])
    }

    #[test]
    fn what_is_taken_apart_is_joined_again() {
        let (axes, request) = (axes(), request(5, 0, 7));
        assert_eq!(axes.rows(&request), Some(5));
        let pieces = [0..1, 1..4, 4..5].map(|rows| axes.take(&request, &rows));
        assert_eq!(pieces[1].get("state").map(Tensor::shape), Some(&[2, 3, 3][..]));
        assert!(axes.fit(&pieces[0], &pieces[1]));
        assert_eq!(axes.join_inputs(&pieces), Some(request));
        let answer = Tensors::from_iter([("y", tensor(&[2, 10], 0)), ("version", tensor(&[1], 3))]);
        let parts = axes.split(&answer, &[1, 3, 1]).expect("two elements a row");
        assert_eq!(
            parts[1].get("y").and_then(Tensor::as_slice::<i32>),
            Some(&[2, 3, 4, 5, 6, 7, 12, 13, 14, 15, 16, 17][..])
        );
        assert_eq!(axes.join_outputs(&parts), Some(answer.clone()));
        assert_eq!(axes.split(&answer, &[1, 3]), None, "4 rows do not divide 10 elements");
    }

    #[test]
    fn requests_that_differ_elsewhere_do_not_fit() {
        let axes = axes();
        assert!(axes.fit(&request(1, 0, 7), &request(3, 9, 7)));
        assert!(!axes.fit(&request(1, 0, 7), &request(1, 0, 8)), "another rate");
        let mut wider = request(1, 0, 7);
        wider.remove("x");
        assert_eq!(axes.rows(&wider), None);
        assert!(!axes.fit(&request(1, 0, 7), &wider));
        wider.push("x", tensor(&[1, 3], 0));
        assert!(!axes.fit(&request(1, 0, 7), &wider));
        let mut uneven = request(2, 0, 7);
        uneven.remove("x");
        uneven.push("x", tensor(&[3, 2], 0));
        assert_eq!(axes.rows(&uneven), None);
        let large = |from| {
            Tensors::from_iter([
                ("x", tensor(&[1, 2], 0)),
                ("state", tensor(&[2, 1, 3], 0)),
                ("rate", tensor(&[2000], from)),
            ])
        };
        assert!(!axes.fit(&large(0), &large(0)), "too large to be compared");
    }
}
