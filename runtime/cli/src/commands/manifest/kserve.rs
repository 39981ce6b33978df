//! `corymb manifest kserve`: an InferenceService in either of KServe's modes, or the runtime that it needs.

use anyhow::bail;
use clap::{Args, ValueEnum};

use super::TIMEOUT;
use super::kubernetes::{Autoscaler, address, scaler};
use super::query::pods_of;
use super::scaling::Metric;
use super::settings::Settings;
use super::template::{Values, fill, text};

/// A name has 63 characters at most.
const LONGEST: usize = 63 - "-predictor".len();

#[derive(Debug, Args)]
pub(crate) struct KserveArguments {
    /// How KServe deploys it: by Knative, or as a Deployment [default: knative]
    #[arg(long)]
    mode: Option<Mode>,
    /// Who scales the Deployment [default: keda]
    #[arg(long)]
    autoscaler: Option<StandardScaler>,
    /// Where KEDA asks, e.g. http://prometheus.observability.svc:9090, in the place of a collector beside each pod
    #[arg(long, value_name = "URL", value_parser = address)]
    prometheus: Option<String>,
    /// Print the ClusterServingRuntime, which is applied once for the cluster
    #[arg(long)]
    runtime: bool,
    #[command(flatten)]
    settings: Settings,
}

#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
pub(crate) enum Mode {
    Knative,
    Standard,
}

#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
pub(crate) enum StandardScaler {
    /// KEDA, by a collector beside each pod, or by Prometheus where --prometheus names it
    Keda,
    /// A HorizontalPodAutoscaler of its own, on what prometheus-adapter tells it
    Hpa,
}

/// The InferenceService, or the runtime.
pub(super) fn kserve(arguments: &KserveArguments) -> anyhow::Result<String> {
    let settings = &arguments.settings;
    let mut values = settings.values(TIMEOUT)?;
    let is_standard = arguments.mode == Some(Mode::Standard);
    if arguments.runtime && arguments.mode.is_some() {
        bail!("--mode has no place in a ClusterServingRuntime: it is of the services that use it");
    }
    for (flag, is_given) in
        [("--autoscaler", arguments.autoscaler.is_some()), ("--prometheus", arguments.prometheus.is_some())]
    {
        if is_given && !is_standard {
            bail!("{flag} is of the standard mode: Knative scales the others");
        }
    }
    if arguments.runtime {
        return fill("a ClusterServingRuntime", include_str!("runtime.yaml"), &values);
    }
    let Some(model) = &settings.model else {
        bail!("KServe fetches the model: name it by --model, e.g. --model gs://bucket/model");
    };
    // Its storage initializer does (`kserve/storage`).
    settings.fetched_by("KServe", &["gs", "s3", "hf", "oci", "https", "http", "file", "pvc", "hdfs", "webhdfs"])?;
    values.insert("model", text(model));
    if settings.name().len() > LONGEST {
        bail!(
            "'{}' is too long: KServe appends -predictor to it; expected at most {LONGEST} characters",
            settings.name()
        );
    }
    if settings.pod.cpu_limit().is_none() {
        bail!("--cpu-limit none: KServe gives a service without a limit its own; say one");
    }
    if is_standard {
        return standard(arguments, values);
    }
    values.insert("metric", settings.knative_metric()?.to_owned());
    fill("an InferenceService in Knative mode", include_str!("kserve-knative.yaml"), &values)
}

fn standard(arguments: &KserveArguments, mut values: Values) -> anyhow::Result<String> {
    let KserveArguments { settings, prometheus, .. } = arguments;
    let deployment = format!("{}-predictor", settings.name());
    settings.pod.leaves(&["CORYMB_DRAIN_DELAY"])?;
    settings.scaling.bounded("KServe's standard mode")?;
    values.insert("min_replicas_kept", settings.scaling.kept("KServe's standard mode")?.to_string());
    let marker = |values: &mut Values, name| values.insert(name, String::new());
    let service = include_str!("kserve-standard.yaml");
    if arguments.autoscaler == Some(StandardScaler::Hpa) {
        if prometheus.is_some() {
            bail!("--prometheus is of KEDA; an HPA asks prometheus-adapter");
        }
        marker(&mut values, "of_hpa");
        let hpa = scaler(Autoscaler::Hpa, &deployment, settings, None, &mut values)?;
        let kind = "an InferenceService that an HPA scales";
        return fill(kind, &[service, hpa].join("---\n"), &values);
    }
    marker(&mut values, "of_keda");
    let effective = text(&settings.scaling.effective()?.to_string());
    if let Some(delay) = settings.scaling.scale_down_delay {
        values.insert("scale_down_of_keda", delay.as_secs().to_string());
    }
    if let Some(prometheus) = prometheus {
        marker(&mut values, "of_prometheus");
        values.insert("prometheus", text(prometheus));
        values.insert("keda_query", settings.keda_query(&pods_of(&deployment)?)?);
        values.insert("effective_of_prometheus", effective);
        return fill("an InferenceService that KEDA scales by Prometheus", service, &values);
    }
    if settings.scaling.metric != Metric::Concurrency {
        bail!(
            "--metric: the collector beside a pod sends on requests in flight alone; --prometheus URL has all of them"
        );
    }
    marker(&mut values, "of_sidecar");
    values.insert("sidecar", text(&deployment));
    values.insert("effective_of_sidecar", effective);
    fill("an InferenceService in standard mode", service, &values)
}
