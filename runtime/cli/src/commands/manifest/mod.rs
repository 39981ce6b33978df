//! `corymb manifest`: the YAML to apply, from templates that are part of the program.

mod kserve;
mod kubernetes;
mod pod;
mod quantity;
mod query;
mod scaling;
mod settings;
mod template;

use std::io::Write as _;

use anyhow::bail;
use clap::{Args, Subcommand, ValueEnum};
use corymb_loadtest::advice::Recommendation;

use self::kserve::{KserveArguments, kserve};
use self::kubernetes::{KubernetesArguments, kubernetes};
use self::query::{adapter_metric, pods_of_revision};
use self::scaling::ScalingFlags;
use self::settings::Settings;
use self::template::{fill, text};

pub(crate) use self::pod::PodFlags;

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
    /// A Deployment with its Service, PodDisruptionBudget, PodMonitor and autoscaler
    Kubernetes(KubernetesArguments),
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

#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
pub(crate) enum Class {
    /// Knative's autoscaler
    Kpa,
    /// A HorizontalPodAutoscaler on Corymb's own metric
    Hpa,
    /// KEDA on Corymb's own metric
    Keda,
}

/// Prints the manifest of the kind that is named.
pub(crate) fn manifest(command: &ManifestCommand) -> anyhow::Result<()> {
    let text = match command {
        ManifestCommand::Knative(arguments) => knative(arguments)?,
        ManifestCommand::Kserve(arguments) => kserve(arguments)?,
        ManifestCommand::Kfserving(settings) => {
            settings.fetched_by_corymb()?;
            fill("a KFService", include_str!("kfserving.yaml"), &settings.values(TIMEOUT * 5)?)?
        }
        ManifestCommand::Kubernetes(arguments) => kubernetes(arguments)?,
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
        scaling: ScalingFlags {
            target: Some(told.target),
            utilization: Some(told.target_utilization_percentage.round() as u8),
            // Knative takes no limit above 1000; 0 is none.
            container_concurrency: Some(
                u32::try_from(told.container_concurrency).ok().filter(|most| *most <= 1000).unwrap_or(0),
            ),
            max_scale: most,
            ..ScalingFlags::default()
        },
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
    settings.fetched_by_corymb()?;
    let mut values = settings.values(TIMEOUT)?;
    let (class, kind) = match arguments.class {
        Class::Kpa => (("kpa_class", "kpa.autoscaling.knative.dev"), "a Knative Service"),
        Class::Hpa => (("hpa_class", "hpa.autoscaling.knative.dev"), "a Knative Service of class hpa"),
        Class::Keda => (("keda_class", "hpa.autoscaling.knative.dev"), "a Knative Service of class keda"),
    };
    values.insert(class.0, text(class.1));
    values.insert("port_name", if arguments.http1 { "http1" } else { "h2c" }.to_owned());
    if arguments.class == Class::Kpa {
        values.insert("metric", text(settings.knative_metric()?));
    } else {
        // Knative's utilisation and its pace are its own autoscaler's; what the others aim for is the target itself.
        for own in ["utilization", "target", "panic_window", "panic_threshold", "burst_capacity", "scale_down_delay"] {
            values.remove(own);
        }
        // They would make a stabilisation window of it, up and down; they average elsewhere.
        values.remove("window");
        let effective = settings.scaling.effective()?;
        if effective < 1.0 {
            bail!(
                "a pod is to be kept at {effective}, and Knative cuts what this class aims at to a whole number; --metric \
                 saturation has whole numbers for every model"
            );
        }
        values.insert("metric", text(adapter_metric(settings.scaling.metric)));
        values.insert("effective", text(&effective.ceil().to_string()));
        values.insert("min_scale", text(&settings.scaling.kept("this class")?.to_string()));
    }
    if arguments.class == Class::Keda {
        values.insert("keda_query", settings.keda_query(&pods_of_revision(settings.name())?)?);
        values.insert("keda_metric_type", text("AverageValue"));
    }
    fill(kind, include_str!("knative.yaml"), &values)
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
