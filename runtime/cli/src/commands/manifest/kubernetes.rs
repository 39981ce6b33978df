//! `corymb manifest kubernetes`: a Deployment with what belongs to it, scaled by an HPA, by KEDA or by nobody.

use anyhow::bail;
use clap::{Args, ValueEnum};

use super::query::{adapter_metric, pods_of};
use super::settings::Settings;
use super::template::{Values, fill, text};

/// Where `deploy/telemetry/collector.yaml` sends metrics.
const PROMETHEUS: &str = "http://prometheus.observability.svc:9090";

/// Seconds that a pod has for a request, and to end.
const TIMEOUT: u32 = 60;

/// Names have 63 characters at most, and the Job's has so many more.
const LONGEST_WITH_A_JOB: usize = 63 - "-compile-01234567".len();

#[derive(Debug, Args)]
pub(crate) struct KubernetesArguments {
    /// Who scales it [default: hpa]
    #[arg(long)]
    autoscaler: Option<Autoscaler>,
    /// Where KEDA asks [default: http://prometheus.observability.svc:9090]
    #[arg(long, value_name = "URL", value_parser = address)]
    prometheus: Option<String>,
    /// Print the alerts, as a PrometheusRule, which is applied once for the cluster
    #[arg(long, conflicts_with_all = ["autoscaler", "prometheus"])]
    rules: bool,
    #[command(flatten)]
    settings: Settings,
}

#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
pub(crate) enum Autoscaler {
    /// A HorizontalPodAutoscaler, on what prometheus-adapter tells it
    Hpa,
    /// KEDA, by a query to Prometheus
    Keda,
    /// Nobody: --min-scale pods
    None,
}

/// The address of a Prometheus.
pub(super) fn address(text: &str) -> Result<String, String> {
    let host = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
    match host.is_some_and(|host| !host.is_empty() && !host.contains(|letter: char| letter.is_whitespace())) {
        true => Ok(text.to_owned()),
        false => Err(format!("expected a URL, e.g. {PROMETHEUS}")),
    }
}

/// A Deployment's HorizontalPodAutoscaler, or its ScaledObject.
pub(super) fn scaler(
    autoscaler: Autoscaler,
    deployment: &str,
    settings: &Settings,
    prometheus: Option<&str>,
    values: &mut Values,
) -> anyhow::Result<&'static str> {
    let scaling = &settings.scaling;
    values.insert("deployment", text(deployment));
    if prometheus.is_some() {
        values.given("--prometheus", &["prometheus"]);
    }
    match autoscaler {
        Autoscaler::Hpa => {
            scaling.bounded("an HPA")?;
            values.insert("adapter_metric", text(adapter_metric(scaling.metric)));
            values.insert("effective", text(&scaling.effective()?.to_string()));
            values.insert("min_replicas_kept", scaling.kept("an HPA on these metrics")?.to_string());
            Ok(include_str!("hpa.yaml"))
        }
        Autoscaler::Keda => {
            scaling.bounded("KEDA")?;
            values.insert("prometheus", text(prometheus.unwrap_or(PROMETHEUS)));
            values.insert("keda_query", settings.keda_query(&pods_of(deployment)?)?);
            values.insert("effective", text(&scaling.effective()?.to_string()));
            values.insert("min_replicas_kept", scaling.kept("KEDA on pods' own metrics")?.to_string());
            Ok(include_str!("keda.yaml"))
        }
        Autoscaler::None => {
            values.insert("replicas", scaling.kept("a Deployment that nobody scales")?.to_string());
            Ok("")
        }
    }
}

/// Prints all of it.
pub(super) fn kubernetes(arguments: &KubernetesArguments) -> anyhow::Result<String> {
    let KubernetesArguments { autoscaler, prometheus, rules, settings } = arguments;
    let autoscaler = autoscaler.unwrap_or(Autoscaler::Hpa);
    let mut values = settings.values(TIMEOUT)?;
    if *rules {
        // They are of every model server, and no service's own.
        if settings.name.is_none() {
            values.insert("name", text("corymb"));
        }
        return fill("a PrometheusRule", include_str!("rules.yaml"), &values);
    }
    settings.fetched_by_corymb()?;
    settings.pod.leaves(&["CORYMB_DRAIN_DELAY", "POD_NAMESPACE"])?;
    let scaler = scaler(autoscaler, settings.name(), settings, prometheus.as_deref(), &mut values)?;
    if settings.pod.cache_claim.is_some() && settings.name().len() > LONGEST_WITH_A_JOB {
        bail!(
            "'{}' is too long: with --cache-claim its Job's name is longer by its own ending; expected at most {LONGEST_WITH_A_JOB} characters",
            settings.name()
        );
    }
    let job = if settings.pod.cache_claim.is_some() { include_str!("compile.yaml") } else { "" };
    let parts = [include_str!("kubernetes.yaml"), scaler, job];
    let template = parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("---\n");
    let kind = match autoscaler {
        Autoscaler::Hpa => "a Deployment that an HPA scales",
        Autoscaler::Keda => "a Deployment that KEDA scales",
        Autoscaler::None => "a Deployment that nobody scales",
    };
    fill(kind, &template, &values)
}
