//! The flags that every kind of manifest has, checked, and the values that they give a template.

use anyhow::bail;
use clap::Args;

use super::template::{Values, text};
use crate::embedded;

/// What the project's image is called where nothing is said.
pub(crate) const IMAGE: &str = "corymb:latest";

/// Left between the end of the drain and the end of the pod.
const MARGIN: u32 = 15;

/// What every kind of manifest has.
#[derive(Clone, Debug, Args)]
pub(crate) struct Settings {
    /// The name of the service
    #[arg(long, default_value = embedded::NAME)]
    pub(super) name: String,
    /// Its namespace; by default kubectl's
    #[arg(long)]
    pub(super) namespace: Option<String>,
    /// The image that has Corymb inside
    #[arg(long, default_value = IMAGE)]
    pub(super) image: String,
    /// The model, e.g. gs://bucket/model; without one, the flowers model inside the image
    #[arg(long, value_name = "URI")]
    pub(super) model: Option<String>,
    /// Requests in flight of one pod
    #[arg(long, value_name = "REQUESTS", default_value_t = 4)]
    pub(super) target: u32,
    /// Of the target, what the autoscaler aims for; Knative's default is 70
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(1..=100))]
    pub(super) utilization: Option<u8>,
    /// The most requests that a pod is given at once; 0 is no limit
    #[arg(long, value_name = "REQUESTS", default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=1000))]
    pub(super) container_concurrency: u32,
    /// Pods that are always there [default: none, or 1 where the class cannot scale to none]
    #[arg(long, value_name = "PODS")]
    pub(super) min_scale: Option<u32>,
    /// The most pods
    #[arg(long, value_name = "PODS", default_value_t = 10)]
    pub(super) max_scale: u32,
    /// Cores of a pod
    #[arg(long, default_value = "1")]
    pub(super) cpu: String,
    /// Memory of a pod
    #[arg(long, default_value = "512Mi")]
    pub(super) memory: String,
}

impl Settings {
    /// What a pod is kept at.
    pub(super) fn effective(&self) -> f64 {
        f64::from(self.target) * f64::from(self.utilization.unwrap_or(70)) / 100.0
    }

    fn check(&self) -> anyhow::Result<()> {
        let is_label = |name: &str| {
            (1..=63).contains(&name.len())
                && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
                && name.starts_with(|first: char| first.is_ascii_lowercase())
                && !name.ends_with('-')
        };
        for name in std::iter::once(&self.name).chain(&self.namespace) {
            if !is_label(name) {
                bail!("'{name}' is no name in Kubernetes; expected small letters, digits and -, a letter first");
            }
        }
        if self.target == 0 {
            bail!("a target of 0; expected at least 1");
        }
        if let Some(least) = self.min_scale.filter(|least| self.max_scale != 0 && *least > self.max_scale) {
            bail!("--min-scale is {least}; expected at most --max-scale, {}", self.max_scale);
        }
        Ok(())
    }

    pub(super) fn values(&self, timeout: u32) -> anyhow::Result<Values> {
        self.check()?;
        let mut values = Values::from([
            ("name", text(&self.name)),
            ("image", text(&self.image)),
            ("target", text(&self.target.to_string())),
            ("target_number", self.target.to_string()),
            ("container_concurrency", self.container_concurrency.to_string()),
            ("min_scale", text(&self.min_scale.unwrap_or(0).to_string())),
            ("min_replicas", self.min_scale.unwrap_or(0).to_string()),
            ("max_scale", text(&self.max_scale.to_string())),
            ("max_replicas", self.max_scale.to_string()),
            ("timeout", timeout.to_string()),
            ("drain_timeout", text(&format!("{}s", timeout - MARGIN))),
            ("cpu", text(&self.cpu)),
            ("memory", text(&self.memory)),
        ]);
        if let Some(namespace) = &self.namespace {
            values.insert("namespace", text(namespace));
        }
        if let Some(utilization) = self.utilization {
            values.insert("utilization", text(&utilization.to_string()));
        }
        let named = self.model.as_ref().map(|model| format!("{}={model}", self.name));
        let arguments = ["serve"].into_iter().chain(named.iter().flat_map(|named| ["--model", named.as_str()]));
        values.insert("args", format!("[{}]", arguments.map(text).collect::<Vec<_>>().join(", ")));
        // Without a model, the one inside the image keeps its own name.
        let served = if self.model.is_some() { &self.name } else { embedded::NAME };
        values.insert("model_name", served.to_owned());
        Ok(values)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_kubernetes_would_refuse_is_refused() {
        let settings = |name: &str| Settings {
            name: name.to_owned(),
            namespace: None,
            image: IMAGE.to_owned(),
            model: None,
            target: 1,
            utilization: None,
            container_concurrency: 0,
            min_scale: None,
            max_scale: 10,
            cpu: "1".to_owned(),
            memory: "1Gi".to_owned(),
        };
        assert!(settings("flowers-sample").values(60).is_ok());
        for name in ["Flowers", "a_b", "-a", "a-", "", "1a"] {
            assert!(settings(name).values(60).is_err(), "{name}");
        }
        assert!(Settings { target: 0, ..settings("a") }.values(60).is_err());
        assert!(Settings { min_scale: Some(11), ..settings("a") }.values(60).is_err());
    }
}
