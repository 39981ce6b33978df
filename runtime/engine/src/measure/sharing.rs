//! How many rows share a run: what the manifest says, and what follows from a record.

use std::time::Duration;

use crate::batch::Rows;
use crate::record::Record;

/// Rows of a run where somebody wants them gathered, and says no number.
const USUAL_MAX: usize = 8;
/// What a row must gain in company, and a single run by more threads, to be worth it.
pub(super) const WORTH: f64 = 0.85;

/// What the manifest says about sharing runs.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sharing {
    pub(crate) enabled: Option<bool>,
    pub(crate) max_size: Option<usize>,
    pub(crate) max_delay: Duration,
    pub(crate) preferred: Vec<usize>,
    pub(crate) latency_target: Option<Duration>,
    /// Whether a request that is alone may have all workers.
    pub(crate) alone: bool,
}

impl Sharing {
    /// Whether somebody chose sizes: what runs hold then needs no measurement.
    pub(super) fn has_sizes(&self) -> bool {
        self.max_size.is_some() || !self.preferred.is_empty() || !self.max_delay.is_zero()
    }

    fn together(&self, max: usize) -> Rows {
        Rows::Together { max, preferred: self.preferred.clone(), max_delay: self.max_delay }
    }
}

/// The rows of a run while nothing is measured, of a model whose rows may be divided or not.
pub(crate) fn unmeasured(sharing: &Sharing, divides: bool, batches_pay: bool) -> Rows {
    if !divides || sharing.enabled == Some(false) || (sharing.enabled.is_none() && !sharing.has_sizes()) {
        return Rows::Whole;
    }
    match sharing.max_size.or(sharing.preferred.last().copied()) {
        Some(max) if batches_pay => sharing.together(max),
        None if batches_pay && sharing.has_sizes() => sharing.together(USUAL_MAX),
        _ => Rows::Apart,
    }
}

/// The rows of a run that follow from a record, and the words for them. Of a model whose rows may be divided.
pub(crate) fn rows_by(record: &Record, sharing: &Sharing, trusted: bool, batches_pay: bool) -> (Rows, String) {
    match &record.compared {
        _ if trusted => {}
        Some((_, difference)) if !difference.is_empty() => return (Rows::Whole, format!("off: {difference}")),
        None if !sharing.has_sizes() => return (Rows::Whole, "off: not measured yet".to_owned()),
        _ => {}
    }
    if !batches_pay {
        return (Rows::Apart, "rows run apart: larger runs do not pay on this backend".to_owned());
    }
    if record.times.is_empty() {
        let wanted = Sharing { enabled: Some(true), ..sharing.clone() };
        return (unmeasured(&wanted, true, true), "sizes are not measured yet".to_owned());
    }
    let allowed = |rows: usize, run: Duration| {
        sharing.max_size.is_none_or(|max| rows <= max) && sharing.latency_target.is_none_or(|target| run <= target / 2)
    };
    let times = record.times.iter().map(|(rows, micros)| (*rows, Duration::from_micros(*micros)));
    let allowed: Vec<_> = times.filter(|(rows, run)| *rows == 1 || allowed(*rows, *run)).collect();
    let per_row = |(rows, run): &(usize, Duration)| run.as_secs_f64() / *rows as f64;
    let least = allowed.iter().map(per_row).fold(f64::INFINITY, f64::min);
    let single = allowed.iter().find(|(rows, _)| *rows == 1).map_or(f64::INFINITY, per_row);
    let said = || {
        let text = allowed.iter().map(|(rows, run)| format!("{rows} in {run:.1?}"));
        text.collect::<Vec<_>>().join(", ")
    };
    let forced = sharing.has_sizes();
    if least > WORTH * single && !forced {
        return (Rows::Apart, format!("rows run apart: larger runs bring little ({})", said()));
    }
    // The smallest that is nearly as good as the best: less waiting for the same throughput.
    let best = allowed.iter().filter(|pair| per_row(pair) <= 1.05 * least).map(|(rows, _)| *rows).min();
    let max = match (sharing.max_size, best) {
        (Some(max), _) if forced => max,
        (_, Some(best)) => best.max(sharing.preferred.last().copied().unwrap_or(1)),
        (max, None) => max.or(sharing.preferred.last().copied()).unwrap_or(USUAL_MAX),
    };
    (sharing.together(max), format!("up to {max} rows a run ({})", said()))
}

#[cfg(test)]
mod tests;
