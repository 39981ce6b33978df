//! Outcomes in words: a row for each, and what a picture is headed by.

use corymb_loadtest::simulate::{Model, Outcome};

use crate::commands::bench::milliseconds;

/// What a picture is headed by.
pub(crate) fn title(outcomes: &[Outcome]) -> String {
    let replicas = |outcome: &Outcome| {
        let name = match outcome.scaler {
            "kpa" => "Knative",
            "hpa" => "HPA",
            _ => "KEDA",
        };
        let target = outcome.autoscaling.target.map(|target| format!(" at target {target}")).unwrap_or_default();
        format!("{name}{target}: {:.1} replicas on average", outcome.summary.replicas_mean)
    };
    match outcomes {
        [] => String::new(),
        [only] => replicas(only),
        [first, ..] => format!("{} requests in {:.0} s", first.summary.requests, first.summary.seconds),
    }
}

/// A row for each scaler and target.
pub(crate) fn table(outcomes: &[Outcome]) -> String {
    let mut text = String::from(
        "\n  scaler    target  replicas mean / most  pod-hours  busy       p50       p95       p99  late by p95   cold  refused  gave up\n",
    );
    for Outcome { scaler, autoscaling, summary, .. } in outcomes {
        let target = autoscaling.target.map_or_else(|| "default".to_owned(), |target| target.to_string());
        text.push_str(&format!(
            "  {scaler:<6}  {target:>8}  {:>13.1} / {:<4}  {:>9.3}  {:>3.0}%  {:>8}  {:>8}  {:>8}  {:>11}  {:>5}  {:>7}  {:>7}\n",
            summary.replicas_mean,
            summary.replicas_max,
            summary.pod_seconds / 3600.0,
            summary.utilization * 100.0,
            milliseconds(summary.latency.p50_ms),
            milliseconds(summary.latency.p95_ms),
            milliseconds(summary.latency.p99_ms),
            milliseconds(summary.lateness.p95_ms),
            summary.cold,
            summary.refused,
            summary.timed_out,
        ));
    }
    for outcome in outcomes {
        let Some(compliance) = &outcome.summary.objective else { continue };
        text.push_str(&format!(
            "\n  {}: {} of {} ms is {}: {}, {:.2}% of the requests are later or lost\n",
            outcome.scaler,
            compliance.objective.percentile,
            compliance.objective.limit_ms,
            if compliance.met { "met" } else { "missed" },
            milliseconds(compliance.value_ms),
            compliance.late_share * 100.0,
        ));
    }
    if outcomes.iter().any(|outcome| outcome.model == Model::Fluid) {
        text.push_str("\nnote: so many requests are simulated as a fluid, by averages; --model events takes one after the other\n");
    }
    text
}
