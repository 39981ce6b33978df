//! Distributions as they are measured: quantiles with straight lines between them.

use crate::report::Latency;

/// (share, milliseconds), both rising, the shares from 0 to 1.
pub(super) type Quantiles = Vec<(f64, f64)>;

/// Of a latency. Percentiles come from buckets, whose width may put one a little beyond its neighbour.
pub(super) fn of(latency: &Latency) -> Quantiles {
    let mut greatest = 0.0_f64;
    [
        (0.0, latency.min_ms),
        (0.5, latency.p50_ms),
        (0.75, latency.p75_ms),
        (0.9, latency.p90_ms),
        (0.95, latency.p95_ms),
        (0.99, latency.p99_ms),
        (0.999, latency.p999_ms),
        (1.0, latency.max_ms),
    ]
    .into_iter()
    .map(|(share, time)| {
        greatest = greatest.max(time);
        (share, greatest)
    })
    .collect()
}

/// Whether they are a distribution of times above 0.
pub(super) fn is_valid(quantiles: &[(f64, f64)]) -> bool {
    quantiles.len() >= 2
        && quantiles.is_sorted_by(|left, right| left.0 <= right.0 && left.1 <= right.1)
        && quantiles.iter().all(|(_, time)| time.is_finite() && *time > 0.0)
}

/// Their mean.
pub(super) fn mean(quantiles: &[(f64, f64)]) -> f64 {
    quantiles.windows(2).map(|ends| (ends[1].0 - ends[0].0) * (ends[0].1 + ends[1].1) / 2.0).sum()
}

/// The value at a share.
pub(super) fn at(quantiles: &[(f64, f64)], share: f64) -> f64 {
    let after = quantiles.partition_point(|(known, _)| *known < share);
    match (after.checked_sub(1).map(|before| quantiles[before]), quantiles.get(after)) {
        (Some((x0, y0)), Some(&(x1, y1))) => y0 + (y1 - y0) * (share - x0) / (x1 - x0),
        (None, Some(&(_, time))) | (Some((_, time)), None) => time,
        (None, None) => 0.0,
    }
}
