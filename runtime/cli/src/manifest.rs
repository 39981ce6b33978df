//! `corymb manifest`: the YAML to apply, from templates that are part of the program.
//!
//! A template is YAML with `${placeholders}`. A line whose placeholder has no value is left out, and so are the
//! comments right above it. What is filled in is written as a JSON string where it is text, which is YAML too.

use std::collections::BTreeMap;
use std::io::Write as _;

use anyhow::bail;
use clap::{Args, Subcommand, ValueEnum};
use corymb_load::sweep::Recommendation;

use crate::embedded;

/// What the project's image is called where nothing is said.
pub(crate) const IMAGE: &str = "corymb:latest";

/// Seconds that a pod has for a request, and to end.
const TIMEOUT: u32 = 60;

/// Left between the end of the drain and the end of the pod.
const MARGIN: u32 = 15;

#[derive(Debug, Subcommand)]
pub(crate) enum ManifestCommand {
    /// A Knative Service
    Knative(KnativeArguments),
    /// An InferenceService of KServe, or the ClusterServingRuntime that it needs
    Kserve(KserveArguments),
    /// A KFService of KFServing 0.1 (v1alpha1), with Corymb as its custom predictor
    Kfserving(Settings),
}

#[derive(Debug, Args)]
pub(crate) struct KnativeArguments {
    /// Who scales it
    #[arg(long, default_value = "kpa")]
    class: Class,
    /// For REST alone: clients of gRPC do not get through
    #[arg(long)]
    http1: bool,
    #[command(flatten)]
    settings: Settings,
}

#[derive(Debug, Args)]
pub(crate) struct KserveArguments {
    /// How KServe deploys it: by Knative, or as a Deployment that KEDA scales
    #[arg(long, default_value = "knative")]
    mode: Mode,
    /// Print the ClusterServingRuntime, which is applied once for the cluster
    #[arg(long)]
    runtime: bool,
    #[command(flatten)]
    settings: Settings,
}

#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
pub(crate) enum Class {
    /// Knative's autoscaler
    Kpa,
    /// A HorizontalPodAutoscaler on Corymb's own metric
    Hpa,
    /// KEDA on Corymb's own metric
    Keda,
}

#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
pub(crate) enum Mode {
    Knative,
    Standard,
}

/// What every kind of manifest has.
#[derive(Clone, Debug, Args)]
pub(crate) struct Settings {
    /// The name of the service
    #[arg(long, default_value = embedded::NAME)]
    name: String,
    /// Its namespace; by default kubectl's
    #[arg(long)]
    namespace: Option<String>,
    /// The image that has Corymb inside
    #[arg(long, default_value = IMAGE)]
    image: String,
    /// The model, e.g. gs://bucket/model; without one, the flowers model inside the image
    #[arg(long, value_name = "URI")]
    model: Option<String>,
    /// Requests in flight of one pod
    #[arg(long, value_name = "REQUESTS", default_value_t = 4)]
    target: u32,
    /// Of the target, what the autoscaler aims for; Knative's default is 70
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(1..=100))]
    utilization: Option<u8>,
    /// The most requests that a pod is given at once; 0 is no limit
    #[arg(long, value_name = "REQUESTS", default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=1000))]
    container_concurrency: u32,
    /// Pods that are always there [default: none, or 1 where the class cannot scale to none]
    #[arg(long, value_name = "PODS")]
    min_scale: Option<u32>,
    /// The most pods
    #[arg(long, value_name = "PODS", default_value_t = 10)]
    max_scale: u32,
    /// Cores of a pod
    #[arg(long, default_value = "1")]
    cpu: String,
    /// Memory of a pod
    #[arg(long, default_value = "512Mi")]
    memory: String,
}

/// Prints one.
pub(crate) fn print(command: &ManifestCommand) -> anyhow::Result<()> {
    let text = match command {
        ManifestCommand::Knative(arguments) => knative(arguments)?,
        ManifestCommand::Kserve(arguments) => kserve(arguments)?,
        ManifestCommand::Kfserving(settings) => {
            fill(include_str!("manifest/kfserving.yaml"), &settings.values(TIMEOUT * 5)?)?
        }
    };
    // A closed pipe is not worth a panic.
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(())
}

/// A Knative Service with the settings that `tune` found.
pub(crate) fn tuned(model: &str, image: &str, told: &Recommendation) -> anyhow::Result<String> {
    let settings = Settings {
        name: model.to_ascii_lowercase().replace(['_', '.'], "-"),
        namespace: None,
        image: image.to_owned(),
        model: None,
        target: u32::try_from(told.target).unwrap_or(u32::MAX),
        utilization: Some(told.target_utilization_percentage.round() as u8),
        container_concurrency: u32::try_from(told.container_concurrency.min(1000)).unwrap_or(1000),
        min_scale: None,
        max_scale: told.replicas.map_or(10, |replicas| u32::try_from(replicas.saturating_mul(2)).unwrap_or(u32::MAX)),
        cpu: "1".to_owned(),
        memory: "512Mi".to_owned(),
    };
    let found = format!(
        "# By `corymb tune`: {:.1} answers a second at {} in flight; a pod kept at {:.1} in flight gives {:.1}.\n",
        told.knee_rps, told.knee, told.effective_concurrency, told.rps_per_replica
    );
    Ok(found + &knative(&KnativeArguments { class: Class::Kpa, http1: false, settings })?)
}

type Values = BTreeMap<&'static str, String>;

fn knative(arguments: &KnativeArguments) -> anyhow::Result<String> {
    let settings = &arguments.settings;
    let mut values = settings.values(TIMEOUT)?;
    let (class, metric) = match arguments.class {
        Class::Kpa => (("kpa_class", "kpa.autoscaling.knative.dev"), "concurrency"),
        Class::Hpa => (("hpa_class", "hpa.autoscaling.knative.dev"), "corymb_concurrency"),
        Class::Keda => (("keda_class", "hpa.autoscaling.knative.dev"), "corymb_concurrency"),
    };
    values.insert(class.0, text(class.1));
    values.insert("metric", text(metric));
    values.insert("port_name", if arguments.http1 { "http1" } else { "h2c" }.to_owned());
    if arguments.class != Class::Kpa {
        // Knative's utilisation is for its own autoscaler; what the others aim for is the target itself.
        values.remove("utilization");
        values.insert("target", text(&settings.effective().ceil().to_string()));
        values.insert("min_scale", text(&settings.min_scale.unwrap_or(1).to_string()));
    }
    if arguments.class == Class::Keda {
        let query =
            "sum(rate(corymb_server_concurrency_time_seconds_total{pod=~\"{{ .revisionName }}-deployment-.*\"}[30s]))";
        values.insert("keda_query", format!("'{query}'"));
        values.insert("keda_metric_type", text("AverageValue"));
    }
    fill(include_str!("manifest/knative.yaml"), &values)
}

fn kserve(arguments: &KserveArguments) -> anyhow::Result<String> {
    let settings = &arguments.settings;
    let mut values = settings.values(TIMEOUT)?;
    if arguments.runtime {
        return fill(include_str!("manifest/runtime.yaml"), &values);
    }
    let Some(model) = &settings.model else {
        bail!("KServe fetches the model: name it by --model, e.g. --model gs://bucket/model");
    };
    values.insert("model", text(model));
    values.insert("sidecar", text(&format!("{}-predictor", settings.name)));
    values.insert("effective", text(&settings.effective().to_string()));
    values.insert("min_replicas_standard", settings.min_scale.unwrap_or(1).max(1).to_string());
    let template = match arguments.mode {
        Mode::Knative => include_str!("manifest/kserve-knative.yaml"),
        Mode::Standard => include_str!("manifest/kserve-standard.yaml"),
    };
    fill(template, &values)
}

impl Settings {
    /// What a pod is kept at.
    fn effective(&self) -> f64 {
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

    fn values(&self, timeout: u32) -> anyhow::Result<Values> {
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

/// A JSON string, which YAML reads as it is, whatever is in it.
fn text(value: &str) -> String {
    serde_json::Value::from(value).to_string()
}

/// Fills a template in.
fn fill(template: &str, values: &Values) -> anyhow::Result<String> {
    let mut filled = String::new();
    // Comments that wait for the line that they speak of.
    let mut comments = String::new();
    'lines: for line in template.lines() {
        if line.starts_with(' ') && line.trim_start().starts_with('#') {
            comments.push_str(line);
            comments.push('\n');
            continue;
        }
        let mut written = String::new();
        let mut rest = line;
        while let Some((before, behind)) = rest.split_once("${") {
            let Some((name, after)) = behind.split_once('}') else { bail!("a placeholder has no end: {line}") };
            let Some(value) = values.get(name) else {
                comments.clear();
                continue 'lines;
            };
            written.push_str(before);
            written.push_str(value);
            rest = after;
        }
        filled.push_str(&std::mem::take(&mut comments));
        filled.push_str(&written);
        filled.push_str(rest);
        filled.push('\n');
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_without_a_value_go_with_their_comments() {
        let template = "# Head.\na:\n  # Of b.\n  # More of b.\n  b: ${b}\n  # Of c.\n  c: ${c}\n  d: {{.Name}}\n";
        let filled = fill(template, &Values::from([("c", text("x: \"y\""))])).expect("filled");
        assert_eq!(filled, "# Head.\na:\n  # Of c.\n  c: \"x: \\\"y\\\"\"\n  d: {{.Name}}\n");
    }

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
