//! From a metric to the replicas that it takes: the controller's `ReplicaCalculator`.

/// A metric of each pod. Values are thousandths, as the custom metrics API has them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct PodMetrics {
    /// Of the pods that have one.
    pub(super) sum: i64,
    pub(super) pods: i64,
    /// Pods that run and have none.
    pub(super) missing: i64,
    /// Pods that do not run yet.
    pub(super) pending: i64,
}

fn is_within(tolerance: f64, ratio: f64) -> bool {
    1.0 - tolerance <= ratio && ratio <= 1.0 + tolerance
}

/// Rounded up, as far as replicas go.
fn ceil(replicas: f64) -> i32 {
    replicas.ceil() as i32
}

/// `calcPlainMetricReplicas`; none where no pod has the metric.
pub(super) fn by_pods(metrics: PodMetrics, current: i32, target: i64, tolerance: f64) -> Option<i32> {
    let PodMetrics { sum, pods, missing, pending } = metrics;
    if pods == 0 {
        return None;
    }
    let ratio_of = |sum: i64, pods: i64| (sum / pods) as f64 / target as f64;
    let ratio = ratio_of(sum, pods);
    let counts_pending = pending > 0 && ratio > 1.0;
    if !counts_pending && missing == 0 {
        return Some(if is_within(tolerance, ratio) { current } else { ceil(ratio * pods as f64) });
    }
    // Whoever has no metric is taken for what makes less of a change.
    let (mut assumed, mut counted) = (sum, pods);
    if ratio < 1.0 {
        assumed += missing * target;
        counted += missing;
    } else if ratio > 1.0 {
        counted += missing;
    }
    if counts_pending {
        counted += pending;
    }
    let again = ratio_of(assumed, counted);
    if is_within(tolerance, again) || (ratio < 1.0 && again > 1.0) || (ratio > 1.0 && again < 1.0) {
        return Some(current);
    }
    let replicas = ceil(again * counted as f64);
    let turns = (again < 1.0 && replicas > current) || (again > 1.0 && replicas < current);
    Some(if turns { current } else { replicas })
}

/// `GetExternalPerPodMetricReplicas`: of a value for all pods together.
pub(super) fn by_sum(value: i64, pods: i32, target: i64, tolerance: f64) -> i32 {
    let ratio = value as f64 / (target as f64 * f64::from(pods));
    if is_within(tolerance, ratio) { pods } else { ceil(value as f64 / target as f64) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What Kubernetes' documentation works out, and its rules for pods without a metric.
    #[test]
    fn the_documented_examples_hold() {
        let ready = |value: i64, pods: i64| PodMetrics { sum: value * pods, pods, ..PodMetrics::default() };
        // "if the current metric value is 200m, and the desired value is 100m, the number of replicas will be doubled"
        assert_eq!(by_pods(ready(200, 3), 3, 100, 0.1), Some(6));
        // "If the current value is instead 50m, you'll halve the number of replicas"
        assert_eq!(by_pods(ready(50, 4), 4, 100, 0.1), Some(2));
        // "skips any scaling action if the ratio is sufficiently close to 1.0"
        assert_eq!((by_pods(ready(109, 3), 3, 100, 0.1), by_pods(ready(91, 3), 3, 100, 0.1)), (Some(3), Some(3)));
        assert_eq!(by_pods(ready(0, 3), 3, 100, 0.1), Some(0));
        assert_eq!(by_pods(PodMetrics { pending: 2, ..PodMetrics::default() }, 2, 100, 0.1), None);
        // A pod that starts dampens a scale-up, and one without a metric a scale-down.
        let starting = PodMetrics { pending: 2, ..ready(300, 2) };
        assert_eq!(by_pods(starting, 4, 100, 0.1), Some(6));
        let missing = PodMetrics { missing: 2, ..ready(20, 2) };
        assert_eq!(by_pods(missing, 4, 100, 0.1), Some(3));
        // What would turn the direction changes nothing.
        let many = PodMetrics { missing: 8, ..ready(150, 2) };
        assert_eq!(by_pods(many, 10, 100, 0.1), Some(10));
    }

    #[test]
    fn a_sum_is_divided_by_the_target() {
        assert_eq!(
            [(0, 1), (1050, 1), (1200, 1), (5000, 2), (5000, 5)].map(|(sum, pods)| by_sum(sum, pods, 1000, 0.1)),
            [0, 1, 2, 5, 5]
        );
        assert_eq!((by_sum(0, 0, 1000, 0.1), by_sum(1, 0, 1000, 0.1)), (0, 1));
    }
}
