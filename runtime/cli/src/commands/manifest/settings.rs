//! The flags that every kind of manifest has, checked, and the values that they give a template.

use anyhow::{Context as _, bail};
use clap::Args;

use super::pod::PodFlags;
use super::query::keda_query;
use super::scaling::{Metric, ScalingFlags};
use super::template::{Values, text};
use crate::embedded;

/// Left between the end of the drain and the end of the pod, in seconds.
const MARGIN: u32 = 15;

/// The time that KEDA's queries average over where nothing is said, in seconds: six scrapes of `deploy/telemetry/prometheus.yaml`.
const QUERY_WINDOW: u64 = 30;

/// What every kind of manifest has.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct Settings {
    /// The name of the service [default: flowers-sample]
    #[arg(long)]
    pub(super) name: Option<String>,
    /// The model, e.g. gs://bucket/model; without one, the flowers model inside the image
    #[arg(long, value_name = "URI")]
    pub(super) model: Option<String>,
    #[command(flatten)]
    pub(super) pod: PodFlags,
    #[command(flatten)]
    pub(super) scaling: ScalingFlags,
    /// Flags of `serve` beside the model.
    #[arg(skip)]
    pub(super) serve: Vec<String>,
    /// What the model is served as, where that is not the name of the service.
    #[arg(skip)]
    pub(super) served: Option<String>,
}

/// Whether it is a name that Kubernetes takes.
pub(super) fn is_label(name: &str) -> bool {
    (1..=63).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        && name.starts_with(|first: char| first.is_ascii_lowercase())
        && !name.ends_with('-')
}

impl Settings {
    pub(super) fn name(&self) -> &str {
        self.name.as_deref().unwrap_or(embedded::NAME)
    }

    /// What KEDA asks of pods whose names match `pods`.
    ///
    /// # Errors
    /// Where the namespace is not known: a query cannot stand for whichever kubectl applies it to.
    pub(super) fn keda_query(&self, pods: &str) -> anyhow::Result<String> {
        let namespace = self.pod.namespace.as_deref();
        let namespace = namespace.context("KEDA's query is of the pods of one namespace: name it by --namespace")?;
        let window = self.scaling.window.map_or(QUERY_WINDOW, |window| window.as_secs());
        Ok(format!("'{}'", keda_query(self.scaling.metric, namespace, pods, window)))
    }

    /// Which metric Knative's own autoscaler is told.
    pub(super) fn knative_metric(&self) -> anyhow::Result<&'static str> {
        match self.scaling.metric {
            Metric::Concurrency => Ok("concurrency"),
            Metric::Rps => Ok("rps"),
            Metric::Saturation => bail!(
                "--metric saturation: Knative's own autoscaler counts requests, and knows nothing else; --class hpa and \
                 --class keda do"
            ),
        }
    }

    /// What they give a template; a request may take `timeout` seconds, and a pod as many to end.
    pub(super) fn values(&self, timeout: u32) -> anyhow::Result<Values> {
        for name in std::iter::once(self.name()).chain(self.pod.namespace.as_deref()) {
            if !is_label(name) {
                bail!("'{name}' is no name in Kubernetes; expected small letters, digits and -, a letter first");
            }
        }
        let mut values = Values::default();
        values.insert("name", text(self.name()));
        values.insert("compile_name", text(&format!("{}-compile", self.name())));
        values.insert("timeout", timeout.to_string());
        values.insert("drain_timeout", text(&format!("{}s", timeout - MARGIN)));
        self.pod.values(&mut values)?;
        self.scaling.values(&mut values)?;
        let served = self.served.as_deref().unwrap_or(self.name());
        let model: Vec<String> =
            self.model.iter().flat_map(|model| ["--model".to_owned(), format!("{served}={model}")]).collect();
        let list = |words: &[&str], more: &[String]| {
            let words = words.iter().map(|word| text(word)).chain(model.iter().chain(more).map(|word| text(word)));
            format!("[{}]", words.collect::<Vec<_>>().join(", "))
        };
        values.insert("args", list(&["serve"], &self.serve));
        values.insert("compile_args", list(&["plugin", "compile"], &[]));
        // Without a model, the one inside the image keeps its own name.
        let served = if self.model.is_some() { served } else { embedded::NAME };
        values.insert("model_name", served.to_owned());
        if self.name.is_some() {
            values.given("--name", &["name"]);
        }
        if self.model.is_some() {
            values.given("--model", &["model", "args"]);
        }
        Ok(values)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_kubernetes_would_refuse_is_refused() {
        let settings = |name: &str| Settings { name: Some(name.to_owned()), ..Settings::default() };
        assert!(settings("flowers-sample").values(60).is_ok());
        for name in ["Flowers", "a_b", "-a", "a-", "", "1a"] {
            assert!(settings(name).values(60).is_err(), "{name}");
        }
    }

    #[test]
    fn a_query_is_of_one_namespace() {
        let error = Settings::default().keda_query("a-.*").expect_err("of which?").to_string();
        assert!(error.contains("--namespace"), "{error}");
        let pod = PodFlags { namespace: Some("models".to_owned()), ..PodFlags::default() };
        let query = Settings { pod, ..Settings::default() }.keda_query("a-.*").expect("known");
        assert!(query.contains("{namespace=\"models\",pod=~\"a-.*\"}[30s]"), "{query}");
    }
}
