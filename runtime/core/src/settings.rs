//! What a model asks of the engine that runs it, in that engine's own words.

use std::collections::BTreeMap;

/// How far an engine rewrites a graph before it runs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Optimization {
    /// Not at all.
    Off,
    /// Constants are folded and nodes that do nothing are removed.
    Basic,
    /// Several operators become one.
    Extended,
    /// Tensors change their layout to what the hardware likes.
    Layout,
    /// Everything that the engine knows.
    All,
}

/// What a model asks of one engine. Names and values have been checked where they were read, so the engine takes them
/// as they stand; another engine does not take them at all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EngineSettings {
    /// The name of the engine that is meant; empty where nothing is asked.
    pub backend: &'static str,
    /// None: as far as the engine can.
    pub optimization: Option<Optimization>,
    /// Of a session, by the engine's names.
    pub session: BTreeMap<String, String>,
    /// Of what drives a device, by the device's kind (`cuda`) and the engine's names.
    pub devices: BTreeMap<&'static str, BTreeMap<String, String>>,
    /// Libraries of operators that the engine lacks: names, never paths. Whoever runs the server says which file is meant.
    pub custom_operators: Vec<String>,
}

impl EngineSettings {
    /// Whether nothing is asked.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self { backend: self.backend, ..Self::default() }
    }
}
