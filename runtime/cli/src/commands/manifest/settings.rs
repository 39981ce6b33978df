//! The flags that every kind of manifest has, checked, and the values that they give a template.

use anyhow::bail;
use clap::Args;
use serde_json::json;

use super::quantity::{cores, memory};
use super::template::{Values, text};
use crate::embedded;

/// What the project's image is called where nothing is said.
const IMAGE: &str = "corymb:latest";

/// Left between the end of the drain and the end of the pod.
const MARGIN: u32 = 15;

/// Where and in what a service runs.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct PodFlags {
    /// The namespace in the manifest; by default kubectl's
    #[arg(long)]
    pub(crate) namespace: Option<String>,
    /// The image that has Corymb inside [default: corymb:latest]
    #[arg(long, value_parser = image)]
    pub(crate) image: Option<String>,
    /// Cores of a pod, e.g. 2 or 500m [default: 1]
    #[arg(long, value_parser = cores)]
    pub(crate) cpu: Option<String>,
    /// Memory of a pod, e.g. 2Gi [default: 512Mi]
    #[arg(long, value_parser = memory)]
    pub(crate) memory: Option<String>,
}

/// What every kind of manifest has.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct Settings {
    /// The name of the service [default: flowers-sample]
    #[arg(long)]
    pub(super) name: Option<String>,
    /// The model, e.g. gs://bucket/model; without one, the flowers model inside the image
    #[arg(long, value_name = "URI")]
    pub(super) model: Option<String>,
    /// Requests in flight of one pod [default: 4]
    #[arg(long, value_name = "REQUESTS")]
    pub(super) target: Option<f64>,
    /// Of the target, what the autoscaler aims for; Knative's default is 70
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(1..=100))]
    pub(super) utilization: Option<u8>,
    /// The most requests that a pod is given at once; 0 is no limit [default: 0]
    #[arg(long, value_name = "REQUESTS", value_parser = clap::value_parser!(u32).range(0..=1000))]
    pub(super) container_concurrency: Option<u32>,
    /// Pods that are always there [default: none, or 1 where the class cannot scale to none]
    #[arg(long, value_name = "PODS")]
    pub(super) min_scale: Option<u32>,
    /// The most pods [default: 10]
    #[arg(long, value_name = "PODS")]
    pub(super) max_scale: Option<u32>,
    #[command(flatten)]
    pub(super) pod: PodFlags,
    /// Flags of `serve` beside the model.
    #[arg(skip)]
    pub(super) serve: Vec<String>,
    /// What the model is served as, where that is not the name of the service.
    #[arg(skip)]
    pub(super) served: Option<String>,
}

/// A reference of an image, as far as a mistake can be seen in it.
fn image(text: &str) -> Result<String, String> {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b"._-/:@".contains(&byte);
    match !text.is_empty() && text.bytes().all(is_part) {
        true => Ok(text.to_owned()),
        false => Err("expected the name of an image, e.g. registry.example/corymb:1.2".to_owned()),
    }
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

    fn target(&self) -> f64 {
        self.target.unwrap_or(4.0)
    }

    fn max_scale(&self) -> u32 {
        self.max_scale.unwrap_or(10)
    }

    /// What a pod is kept at.
    pub(super) fn effective(&self) -> f64 {
        self.target() * f64::from(self.utilization.unwrap_or(70)) / 100.0
    }

    fn check(&self) -> anyhow::Result<()> {
        for name in std::iter::once(self.name()).chain(self.pod.namespace.as_deref()) {
            if !is_label(name) {
                bail!("'{name}' is no name in Kubernetes; expected small letters, digits and -, a letter first");
            }
        }
        // Knative's own least.
        if !(0.01..=1e6).contains(&self.target()) {
            bail!("a target of {}; expected 0.01 to 1000000", self.target());
        }
        let limit = self.container_concurrency.filter(|limit| *limit > 0 && f64::from(*limit) < self.target());
        if let Some(limit) = limit {
            bail!("--container-concurrency is {limit}; expected 0 or at least --target, {}", self.target());
        }
        let most = self.max_scale();
        if let Some(least) = self.min_scale.filter(|least| most != 0 && *least > most) {
            bail!("--min-scale is {least}; expected at most --max-scale, {most}");
        }
        Ok(())
    }

    pub(super) fn values(&self, timeout: u32) -> anyhow::Result<Values> {
        self.check()?;
        let (target, most, least) = (self.target(), self.max_scale(), self.min_scale.unwrap_or(0));
        let PodFlags { namespace, image, cpu, memory } = &self.pod;
        let mut values = Values::default();
        for (name, value) in [
            ("name", text(self.name())),
            ("image", text(image.as_deref().unwrap_or(IMAGE))),
            ("target", text(&target.to_string())),
            ("container_concurrency", self.container_concurrency.unwrap_or(0).to_string()),
            ("min_scale", text(&least.to_string())),
            ("min_replicas", least.to_string()),
            ("max_scale", text(&most.to_string())),
            ("max_replicas", most.to_string()),
            ("timeout", timeout.to_string()),
            ("drain_timeout", text(&format!("{}s", timeout - MARGIN))),
            ("cpu", text(cpu.as_deref().unwrap_or("1"))),
            ("memory", text(memory.as_deref().unwrap_or("512Mi"))),
        ] {
            values.insert(name, value);
        }
        // KServe has a key of its own for whole numbers.
        match target.fract() == 0.0 {
            true => values.insert("target_number", target.to_string()),
            false => values.insert("target_fraction", text(&target.to_string())),
        }
        if let Some(namespace) = namespace {
            values.insert("namespace", text(namespace));
        }
        if let Some(utilization) = self.utilization {
            values.insert("utilization", text(&utilization.to_string()));
        }
        // Where a runtime has them already, only what was asked for is said anew.
        if let Some(image) = image {
            values.insert("own_image", text(image));
        }
        let asked: serde_json::Map<_, _> = [("cpu", cpu), ("memory", memory)]
            .into_iter()
            .filter_map(|(name, value)| Some((name.to_owned(), value.as_deref()?.into())))
            .collect();
        if !asked.is_empty() {
            values.insert("own_resources", json!({"requests": asked, "limits": asked}).to_string());
        }
        let served = self.served.as_deref().unwrap_or(self.name());
        let named = self.model.as_ref().map(|model| format!("{served}={model}"));
        let arguments = ["serve"].into_iter().chain(named.iter().flat_map(|named| ["--model", named.as_str()]));
        let arguments = arguments.chain(self.serve.iter().map(String::as_str));
        values.insert("args", format!("[{}]", arguments.map(text).collect::<Vec<_>>().join(", ")));
        // Without a model, the one inside the image keeps its own name.
        let served = if self.model.is_some() { served } else { embedded::NAME };
        values.insert("model_name", served.to_owned());
        self.tell(&mut values);
        Ok(values)
    }

    /// Which flags were given, and where each may stand.
    fn tell(&self, values: &mut Values) {
        for (is_given, flag, names) in [
            (self.name.is_some(), "--name", &["name"][..]),
            (self.model.is_some(), "--model", &["model", "args"]),
            (self.target.is_some(), "--target", &["target", "target_number", "target_fraction", "effective"]),
            (self.utilization.is_some(), "--utilization", &["utilization", "effective"]),
            (self.container_concurrency.is_some(), "--container-concurrency", &["container_concurrency"]),
            (self.min_scale.is_some(), "--min-scale", &["min_scale", "min_replicas", "min_replicas_kept"]),
            (self.max_scale.is_some(), "--max-scale", &["max_scale", "max_replicas"]),
            (self.pod.namespace.is_some(), "--namespace", &["namespace"]),
            (self.pod.image.is_some(), "--image", &["image", "own_image"]),
            (self.pod.cpu.is_some(), "--cpu", &["cpu", "own_resources"]),
            (self.pod.memory.is_some(), "--memory", &["memory", "own_resources"]),
        ] {
            if is_given {
                values.given(flag, names);
            }
        }
    }

    /// The pods that are always there, of an autoscaler that keeps one at least.
    pub(super) fn kept(&self, by: &str) -> anyhow::Result<u32> {
        match self.min_scale {
            Some(0) => bail!("--min-scale is 0, and {by} keeps one pod at least"),
            least => Ok(least.unwrap_or(1)),
        }
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
        assert!(Settings { target: Some(0.0), ..settings("a") }.values(60).is_err());
        assert!(Settings { min_scale: Some(11), ..settings("a") }.values(60).is_err());
        assert!(Settings { target: Some(9.0), container_concurrency: Some(8), ..settings("a") }.values(60).is_err());
        assert!(image("corymb latest").is_err() && image("").is_err());
        assert!(image("registry.example:5000/a/corymb@sha256:0123").is_ok());
    }
}
