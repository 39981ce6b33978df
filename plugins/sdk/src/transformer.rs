//! The trait that a plugin implements, and what goes in and out of it.

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::{Description, Model, Result, Tensors, Value};

/// A plugin: wraps a model's signature, or stands alone.
pub trait Transformer: Sized {
    /// The manifest's `[plugin.config]`. Give it `#[serde(deny_unknown_fields)]`, so that a misspelt key is an error, and
    /// `#[serde(default)]` where a key may be left out. [`NoConfig`] where there is nothing to configure.
    type Config: DeserializeOwned;

    /// Runs before any request; `model` is the wrapped model's signature, none where the plugin stands alone. It must
    /// answer the same for the same arguments: the host may keep a snapshot, or call it in each instance.
    ///
    /// # Errors
    /// What is wrong with the configuration, or with the model for this plugin. The model then fails to load.
    fn configure(config: Self::Config, model: Option<&Model>) -> Result<(Self, Description)>;

    /// Turns what clients sent into the model's inputs, or answers at once. Names, dtypes, ranks and fixed dimensions
    /// have been checked against the description's `inputs`.
    ///
    /// # Errors
    /// What is wrong with the request.
    fn preprocess(&self, request: Request) -> Result<Step>;

    /// Turns the model's outputs into what clients get. May run in another instance than `preprocess` did: what it
    /// needs of the request goes through `carry`.
    ///
    /// # Errors
    /// What is wrong with the model's outputs.
    fn postprocess(&self, outputs: Tensors, carry: Carry) -> Result<Response> {
        let _ = carry;
        Ok(Response::new(outputs))
    }
}

/// For plugins without a configuration: any key is an error.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NoConfig;

impl<'de> Deserialize<'de> for NoConfig {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = NoConfig;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an empty table")
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<NoConfig, A::Error> {
                match map.next_key::<String>()? {
                    None => Ok(NoConfig),
                    Some(key) => Err(serde::de::Error::custom(format_args!(
                        "unknown field `{key}`, this plugin has no configuration"
                    ))),
                }
            }
        }

        deserializer.deserialize_map(Visitor)
    }
}

/// Named values beside the tensors.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Parameters(Vec<(String, Value)>);

impl Parameters {
    /// The value of that name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0.iter().find_map(|(known, value)| (known == name).then_some(value))
    }

    /// Adds a value.
    pub fn push(&mut self, name: impl Into<String>, value: Value) {
        self.0.push((name.into(), value));
    }

    /// Names and values in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &Value)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value))
    }
}

impl<N: Into<String>> FromIterator<(N, Value)> for Parameters {
    fn from_iter<I: IntoIterator<Item = (N, Value)>>(items: I) -> Self {
        Self(items.into_iter().map(|(name, value)| (name.into(), value)).collect())
    }
}

impl IntoIterator for Parameters {
    type Item = (String, Value);
    type IntoIter = std::vec::IntoIter<(String, Value)>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

/// One prediction to make.
#[derive(Debug, Default)]
pub struct Request {
    /// The caller's own name for it; empty where none was given.
    pub id: String,
    /// The model, as the caller named it.
    pub model: String,
    /// The request's parameters, and the headers that the manifest allows.
    pub parameters: Parameters,
    /// What the caller sent.
    pub inputs: Tensors,
    /// Milliseconds left, where there is a deadline.
    pub deadline: Option<u32>,
}

impl Request {
    /// A request of nothing but inputs: for tests.
    #[must_use]
    pub fn new(inputs: Tensors) -> Self {
        Self { inputs, ..Self::default() }
    }
}

/// What `preprocess` leaves for `postprocess`.
#[derive(Debug, Default)]
pub struct Carry {
    /// At most 64 KiB, copied.
    pub bytes: Vec<u8>,
    /// Handles: nothing is copied.
    pub tensors: Tensors,
}

impl From<Tensors> for Carry {
    fn from(tensors: Tensors) -> Self {
        Self { bytes: Vec::new(), tensors }
    }
}

/// What the model is run on, and what `postprocess` gets beside its outputs.
#[derive(Debug, Default)]
pub struct Prepared {
    /// As the description's `model_inputs` say.
    pub inputs: Tensors,
    /// For `postprocess`.
    pub carry: Carry,
}

/// What clients get.
#[derive(Debug, Default)]
pub struct Response {
    /// As the description's `outputs` say.
    pub outputs: Tensors,
    /// Beside the tensors.
    pub parameters: Parameters,
}

impl Response {
    /// A response of nothing but outputs.
    #[must_use]
    pub fn new(outputs: Tensors) -> Self {
        Self { outputs, parameters: Parameters::default() }
    }
}

/// What follows `preprocess`.
#[derive(Debug)]
pub enum Step {
    /// Run the wrapped model, then call `postprocess`.
    Run(Prepared),
    /// Answered without the wrapped model.
    Answer(Response),
}

impl Step {
    /// Run the wrapped model on `inputs`, then call `postprocess` with `carry`.
    #[must_use]
    pub fn run(inputs: Tensors, carry: impl Into<Carry>) -> Self {
        Self::Run(Prepared { inputs, carry: carry.into() })
    }

    /// Answer with these outputs.
    #[must_use]
    pub fn answer(outputs: Tensors) -> Self {
        Self::Answer(Response::new(outputs))
    }
}
