//! Requests and responses, free of any protocol: named tensors and parameters.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::tensor::Tensor;

/// Named tensors in the order in which they were given.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tensors(Vec<(String, Tensor)>);

impl Tensors {
    /// Nothing yet.
    #[must_use]
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// Appends a tensor. A name given twice is kept twice: the signature's check refuses it.
    pub fn push(&mut self, name: impl Into<String>, tensor: Tensor) {
        self.0.push((name.into(), tensor));
    }

    /// The first tensor of that name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Tensor> {
        self.0.iter().find_map(|(known, tensor)| (known == name).then_some(tensor))
    }

    /// Takes out the first tensor of that name.
    pub fn remove(&mut self, name: &str) -> Option<Tensor> {
        let index = self.0.iter().position(|(known, _)| known == name)?;
        Some(self.0.remove(index).1)
    }

    /// Names and tensors in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &Tensor)> {
        self.0.iter().map(|(name, tensor)| (name.as_str(), tensor))
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Bytes held by all tensors together.
    #[must_use]
    pub fn byte_len(&self) -> usize {
        self.0.iter().map(|(_, tensor)| tensor.byte_len()).sum()
    }
}

impl<N: Into<String>> FromIterator<(N, Tensor)> for Tensors {
    fn from_iter<I: IntoIterator<Item = (N, Tensor)>>(items: I) -> Self {
        Self(items.into_iter().map(|(name, tensor)| (name.into(), tensor)).collect())
    }
}

impl IntoIterator for Tensors {
    type Item = (String, Tensor);
    type IntoIter = std::vec::IntoIter<(String, Tensor)>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

/// The value of a parameter, as the Open Inference Protocol has them.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// true or false
    Bool(bool),
    /// A signed integer.
    Int64(i64),
    /// An unsigned integer that may not fit `Int64`.
    Uint64(u64),
    /// A floating-point number.
    Double(f64),
    /// A text.
    Text(String),
}

/// Named values beside the tensors.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Parameters(Vec<(String, Value)>);

impl Parameters {
    /// Nothing yet.
    #[must_use]
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// Sets a value; a name given again replaces the earlier one.
    pub fn set(&mut self, name: impl Into<String>, value: Value) {
        let name = name.into();
        match self.0.iter_mut().find(|(known, _)| *known == name) {
            Some((_, known)) => *known = value,
            None => self.0.push((name, value)),
        }
    }

    /// The value of that name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0.iter().find_map(|(known, value)| (known == name).then_some(value))
    }

    /// Names and values in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &Value)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value))
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromIterator<(String, Value)> for Parameters {
    fn from_iter<I: IntoIterator<Item = (String, Value)>>(items: I) -> Self {
        let mut parameters = Self::new();
        for (name, value) in items {
            parameters.set(name, value);
        }
        parameters
    }
}

/// Set when nobody waits for the answer any more; long work looks at it now and then.
#[derive(Clone, Debug, Default)]
pub struct CancelFlag(Arc<AtomicBool>);

impl CancelFlag {
    /// Not set.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets it, for good.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether it is set.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// One prediction to make.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// The caller's own name for it, echoed; empty where none was given.
    pub id: String,
    /// Which model.
    pub model: String,
    /// Which version; none for the one that serves.
    pub version: Option<String>,
    /// Beside the tensors, and the headers that the manifest allows a plugin to see.
    pub parameters: Parameters,
    /// What goes in.
    pub inputs: Tensors,
    /// Which outputs are wanted, by name; empty for all.
    pub outputs: Vec<String>,
    /// 1 is served first; none, or 0, after all that say one, unless the manifest has a default for the model. Triton's
    /// parameter `priority`.
    pub priority: Option<u64>,
    /// When the caller stops waiting.
    pub deadline: Option<Instant>,
    /// Set when the caller has gone.
    pub cancel: CancelFlag,
    /// How many plugins called each other's models to get here; 0 for a request from outside.
    pub depth: u8,
}

impl Request {
    /// Time left until the deadline, zero when it has passed; none without a deadline.
    #[must_use]
    pub fn remaining(&self) -> Option<Duration> {
        self.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()))
    }
}

/// What a prediction gave.
#[derive(Clone, Debug, Default)]
pub struct Response {
    /// The request's own name.
    pub id: String,
    /// The model that answered.
    pub model: String,
    /// The version that answered.
    pub version: String,
    /// Beside the tensors.
    pub parameters: Parameters,
    /// What comes out.
    pub outputs: Tensors,
}
