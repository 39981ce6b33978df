//! What `tune --json` printed, read again.

use std::path::Path;

use anyhow::Context as _;
use corymb_loadtest::advice::{Recommendation, Rejected};
use corymb_loadtest::sweep::Step;
use serde_json::Value;

/// A sweep and what followed from it.
pub(crate) struct Measured {
    /// What was measured, in words.
    pub(crate) about: Value,
    /// Where the model is, as `tune` writes it.
    pub(crate) source: Value,
    pub(crate) steps: Vec<Step>,
    pub(crate) recommendation: Option<Recommendation>,
    pub(crate) rejected: Option<Rejected>,
    /// From the start of the server to its being ready, in seconds.
    pub(crate) start_seconds: Option<f64>,
}

impl Measured {
    pub(crate) fn read(path: &Path) -> anyhow::Result<Self> {
        let named = || path.display().to_string();
        let text = std::fs::read_to_string(path).with_context(named)?;
        Self::of(&serde_json::from_str(&text).with_context(named)?).with_context(named)
    }

    fn of(document: &Value) -> anyhow::Result<Self> {
        let part = |name: &str| document.get(name).cloned().with_context(|| format!("there is no '{name}'"));
        Ok(Self {
            steps: serde_json::from_value(part("steps")?).context("read the steps")?,
            recommendation: serde_json::from_value(part("recommendation")?).context("read the recommendation")?,
            rejected: serde_json::from_value(document["rejected"].clone()).context("read what was rejected")?,
            start_seconds: document["start_seconds"].as_f64(),
            about: document["about"].clone(),
            source: document["source"].clone(),
        })
    }
}
