//! What autoscalers ask Prometheus: PromQL for KEDA, and the names under which prometheus-adapter answers the same.
//!
//! Every query names the namespace: pods of the same name in another one are somebody else's load.

use anyhow::bail;

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
    let of_each = match metric {
        // The integral of requests in flight grows by their average every second.
        Metric::Concurrency => format!("rate(corymb_server_concurrency_time_seconds_total{selector})"),
        Metric::Rps => format!("rate(corymb_request_duration_seconds_count{selector})"),
        Metric::Saturation => format!("100 * avg_over_time(corymb_server_saturation_ratio{selector})"),
    };
    // A pod that is scraped by two jobs, or scraped and pushing, has everything twice.
    format!("sum(max by (pod) (sum by (pod, job, instance) ({of_each})))")
}

/// Of what stands before the last five characters of a pod's name, Kubernetes keeps as much (`maxGeneratedNameLength` of
/// `apiserver/pkg/storage/names`).
const KEPT: usize = 58;

/// A Deployment's pods are named by it, by the hash of its template and by five characters.
const HASH: usize = "-0123456789-".len();

/// A pattern for the names of a Deployment's pods, which those of another whose name begins alike do not match.
///
/// # Errors
/// Where the name is so long that pods' names have a part of it.
pub(super) fn pods_of(deployment: &str) -> anyhow::Result<String> {
    let pattern = format!("{deployment}-[a-z0-9]+-[a-z0-9]{{5}}");
    fits(deployment, deployment.len() + HASH).map(|()| pattern)
}

/// The same of Knative's revision, whose name autoscaler-keda fills in.
pub(super) fn pods_of_revision(service: &str) -> anyhow::Result<String> {
    let begin = "{{ .revisionName }}-deployment-";
    fits(service, service.len() + "-00001-deployment-".len()).map(|()| format!("{begin}.*"))
}

fn fits(name: &str, length: usize) -> anyhow::Result<()> {
    match length.checked_sub(KEPT).filter(|over| *over > 0) {
        None => Ok(()),
        Some(over) => bail!(
            "'{name}' is too long by {over} for a query of its pods: Kubernetes cuts their names; expected at most {} characters",
            name.len() - over
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_kubernetes_cuts_are_refused() {
        let name = |length: usize| "m".repeat(length);
        assert!(pods_of(&name(46)).is_ok() && pods_of_revision(&name(40)).is_ok());
        let error = pods_of(&name(47)).expect_err("cut").to_string();
        assert!(error.contains("too long by 1") && error.contains("at most 46 characters"), "{error}");
        assert!(pods_of_revision(&name(41)).is_err());
    }
}
