//! The flags that every kind of manifest has, checked, and the values that they give a template.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

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

/// Fewer seconds would have nothing to compare where one scrape is late.
const LEAST_QUERY_WINDOW: u64 = 15;

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

/// The same of a namespace, which may begin with a digit.
fn is_namespace(name: &str) -> bool {
    (1..=63).contains(&name.len()) && !name.starts_with('-') && (name.len() == 63 || is_label(&format!("a{name}")))
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
        if window < LEAST_QUERY_WINDOW {
            bail!("--window is {window}s; KEDA's queries need {LEAST_QUERY_WINDOW}s at least, three scrapes");
        }
        Ok(format!("'{}'", keda_query(self.scaling.metric, namespace, pods, window)))
    }

    /// Which metric Knative's own autoscaler is told.
    pub(super) fn knative_metric(&self) -> anyhow::Result<&'static str> {
        match self.scaling.metric {
            Metric::Concurrency => Ok("concurrency"),
            Metric::Rps => Ok("rps"),
            Metric::Saturation => bail!(
                "--metric saturation: Knative's own autoscaler counts requests, and knows nothing else; `manifest knative` has \
                 --class hpa and --class keda, `manifest kserve` --mode standard"
            ),
        }
    }

    /// Refuses a model that Corymb could not fetch; what lies in the image has a whole path.
    pub(super) fn fetched_by_corymb(&self) -> anyhow::Result<()> {
        let is_path = self.model.as_ref().is_some_and(|model| model.starts_with('/'));
        if is_path {
            Ok(())
        } else {
            self.fetched_by("Corymb", &["gs", "s3", "az", "hf", "oci", "https", "http", "file"])
        }
    }

    /// Refuses a model that cannot be fetched by any of the schemes.
    pub(super) fn fetched_by(&self, who: &str, schemes: &[&str]) -> anyhow::Result<()> {
        let Some(model) = &self.model else { return Ok(()) };
        match model.split_once("://") {
            Some((scheme, rest)) if !rest.is_empty() && schemes.contains(&scheme) => Ok(()),
            _ => bail!("--model '{model}': {who} fetches {}://", schemes.join("://, ")),
        }
    }

    /// What they give a template; a request may take `timeout` seconds, and a pod as many to end.
    pub(super) fn values(&self, timeout: u32) -> anyhow::Result<Values> {
        if !is_label(self.name()) {
            bail!("'{}' is no name in Kubernetes; expected small letters, digits and -, a letter first", self.name());
        }
        if let Some(namespace) = self.pod.namespace.as_deref().filter(|name| !is_namespace(name)) {
            bail!("'{namespace}' is no namespace in Kubernetes; expected small letters, digits and -");
        }
        let mut values = Values::default();
        values.insert("name", text(self.name()));
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
        let compile = list(&["plugin", "compile"], &[]);
        // A Job cannot be changed: what it does is part of its name.
        let mut work = DefaultHasher::new();
        (&compile, &self.pod.image, &self.pod.env, &self.pod.cpu, &self.pod.memory, &self.pod.cpu_limit)
            .hash(&mut work);
        (&self.pod.memory_limit, &self.pod.service_account, &self.pod.cache_claim, self.pod.gpu).hash(&mut work);
        values.insert("compile_name", text(&format!("{}-compile-{:08x}", self.name(), work.finish() as u32)));
        values.insert("compile_args", compile);
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
        assert!(is_namespace("1a") && is_namespace("models"));
        for name in ["", "-a", "a-", "A", "a.b", &"a".repeat(64)] {
            assert!(!is_namespace(name), "{name}");
        }
    }

    #[test]
    fn models_that_nobody_could_fetch_are_refused() {
        let of = |model: &str| Settings { model: Some(model.to_owned()), ..Settings::default() };
        for model in ["gs://b/m", "az://a/c/m", "/models/m", "https://host/m.onnx"] {
            assert!(of(model).fetched_by_corymb().is_ok(), "{model}");
        }
        for model in ["", "gs://", "pvc://claim/m", "foo://x", "models/m"] {
            assert!(of(model).fetched_by_corymb().is_err(), "{model}");
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
