//! `corymb manifest`: the YAML to apply, from templates that are part of the program.

mod quantity;
mod settings;
mod template;

use std::io::Write as _;

use anyhow::bail;
use clap::{Args, Subcommand, ValueEnum};
use corymb_loadtest::advice::Recommendation;

use self::settings::Settings;
use self::template::{fill, text};

pub(crate) use self::settings::PodFlags;

/// Seconds that a pod has for a request, and to end.
const TIMEOUT: u32 = 60;

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
    /// How KServe deploys it: by Knative, or as a Deployment that KEDA scales [default: knative]
    #[arg(long)]
    mode: Option<Mode>,
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

/// Prints the manifest of the kind that is named.
pub(crate) fn manifest(command: &ManifestCommand) -> anyhow::Result<()> {
    let text = match command {
        ManifestCommand::Knative(arguments) => knative(arguments)?,
        ManifestCommand::Kserve(arguments) => kserve(arguments)?,
        ManifestCommand::Kfserving(settings) => {
            fill("a KFService", include_str!("kfserving.yaml"), &settings.values(TIMEOUT * 5)?)?
        }
    };
    // A closed pipe is not worth a panic.
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(())
}

/// What is served by what `tune` writes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Served {
    /// The model's name.
    pub(crate) model: String,
    /// Where pods find it; none for the one inside the image.
    pub(crate) uri: Option<String>,
    /// Flags of `serve` besides.
    pub(crate) flags: Vec<String>,
}

/// A Knative Service with the settings that `tune` found.
///
/// # Errors
/// For a namespace that Kubernetes does not take.
pub(crate) fn tuned(served: &Served, pod: &PodFlags, told: &Recommendation) -> anyhow::Result<String> {
    let most = told.replicas.map(|replicas| u32::try_from(replicas.saturating_mul(2)).unwrap_or(u32::MAX));
    let settings = Settings {
        name: Some(label(&served.model)),
        model: served.uri.clone(),
        target: Some(told.target),
        utilization: Some(told.target_utilization_percentage.round() as u8),
        // Knative takes no limit above 1000; 0 is none.
        container_concurrency: Some(
            u32::try_from(told.container_concurrency).ok().filter(|most| *most <= 1000).unwrap_or(0),
        ),
        min_scale: None,
        max_scale: most,
        pod: pod.clone(),
        serve: served.flags.clone(),
        served: Some(served.model.clone()),
    };
    let found = format!(
        "# By `corymb tune`: {:.1} answers a second at {} in flight; a pod kept at {:.1} in flight gives {:.1}.\n",
        told.knee_rps, told.knee, told.effective_concurrency, told.rps_per_replica
    );
    Ok(found + &knative(&KnativeArguments { class: Class::Kpa, http1: false, settings })?)
}

/// A name in Kubernetes that is like the model's.
fn label(model: &str) -> String {
    let letters = model.bytes().map(|byte| match byte {
        byte if byte.is_ascii_alphanumeric() => byte.to_ascii_lowercase() as char,
        _ => '-',
    });
    let label: String = letters.skip_while(|letter| !letter.is_ascii_lowercase()).take(63).collect();
    match label.trim_end_matches('-') {
        "" => "corymb".to_owned(),
        label => label.to_owned(),
    }
}

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
        values.remove("target");
        values.insert("effective", text(&settings.effective().ceil().to_string()));
        values.insert("min_scale", text(&settings.kept("this class")?.to_string()));
    }
    if arguments.class == Class::Keda {
        let query =
            "sum(rate(corymb_server_concurrency_time_seconds_total{pod=~\"{{ .revisionName }}-deployment-.*\"}[30s]))";
        values.insert("keda_query", format!("'{query}'"));
        values.insert("keda_metric_type", text("AverageValue"));
    }
    fill("a Knative Service of this class", include_str!("knative.yaml"), &values)
}

fn kserve(arguments: &KserveArguments) -> anyhow::Result<String> {
    let settings = &arguments.settings;
    let mut values = settings.values(TIMEOUT)?;
    if arguments.runtime {
        if arguments.mode.is_some() {
            bail!("--mode has no place in a ClusterServingRuntime: it is of the services that use it");
        }
        return fill("a ClusterServingRuntime", include_str!("runtime.yaml"), &values);
    }
    let Some(model) = &settings.model else {
        bail!("KServe fetches the model: name it by --model, e.g. --model gs://bucket/model");
    };
    values.insert("model", text(model));
    match arguments.mode.unwrap_or(Mode::Knative) {
        Mode::Knative => fill("an InferenceService in Knative mode", include_str!("kserve-knative.yaml"), &values),
        Mode::Standard => {
            values.insert("sidecar", text(&format!("{}-predictor", settings.name())));
            values.insert("effective", text(&settings.effective().to_string()));
            values.insert("min_replicas_kept", settings.kept("KServe's standard mode")?.to_string());
            fill("an InferenceService in standard mode", include_str!("kserve-standard.yaml"), &values)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_models_name_becomes_one_that_kubernetes_takes() {
        let long = "m".repeat(80);
        for (model, wanted) in [
            ("Flowers_Sample.v2", "flowers-sample-v2"),
            ("1st-model-", "st-model"),
            ("a/b c", "a-b-c"),
            ("日本", "corymb"),
            (&long, &long[..63]),
        ] {
            let label = label(model);
            assert!(label == wanted && settings::is_label(&label), "{model}: {label}");
        }
    }
}
