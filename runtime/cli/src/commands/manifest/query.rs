//! What autoscalers ask Prometheus: PromQL for KEDA, and the names under which prometheus-adapter answers the same.
//!
//! Every query names the namespace: pods of the same name in another one are somebody else's load.

use super::scaling::Metric;

/// The name that `deploy/telemetry/prometheus-adapter.yaml` gives it.
pub(super) fn adapter_metric(metric: Metric) -> &'static str {
    match metric {
        Metric::Concurrency => "corymb_concurrency",
        Metric::Rps => "corymb_requests_per_second",
        Metric::Saturation => "corymb_saturation_percent",
    }
}

/// The sum over the pods whose names match `pods`, since KEDA divides it by their number.
pub(super) fn keda_query(metric: Metric, namespace: &str, pods: &str, window_seconds: u64) -> String {
    let selector = format!("{{namespace=\"{namespace}\",pod=~\"{pods}\"}}[{window_seconds}s]");
    match metric {
        // The integral of requests in flight grows by their average every second.
        Metric::Concurrency => format!("sum(rate(corymb_server_concurrency_time_seconds_total{selector}))"),
        Metric::Rps => format!("sum(rate(corymb_request_duration_seconds_count{selector}))"),
        Metric::Saturation => format!("100 * sum(avg_over_time(corymb_server_saturation_ratio{selector}))"),
    }
}

/// The pods of a Deployment, by name.
pub(super) fn pods_of(deployment: &str) -> String {
    format!("{deployment}-[a-z0-9]+-[a-z0-9]{{5}}")
}
