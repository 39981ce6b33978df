//! One run: warm up, load for a time, wait for what is in flight, report.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::error::LoadError;
use crate::plan::{Mode, Plan};
use crate::record::{Progress, Recorder};
use crate::report::Report;
use crate::shared::Shared;
use crate::{closed, open};

/// How often the view is told.
const VIEW: Duration = Duration::from_millis(500);

/// Runs `plan`, telling `progress` twice a second. When `stop` is ready first, what has been measured is reported.
///
/// It ends at most [`Plan::timeout`] after the last request was meant to start.
///
/// # Errors
/// Where the plan cannot be run. Requests that fail are part of the report.
pub async fn run(
    plan: Plan,
    mut progress: impl FnMut(&Progress),
    stop: impl Future<Output = ()>,
) -> Result<Report, LoadError> {
    plan.check()?;
    let start = Instant::now();
    let begin = start + plan.warm_up;
    let end = begin + plan.duration;
    let total = plan.warm_up + plan.duration;
    let mode = plan.mode;
    let shared = Arc::new(Shared::new(plan, Recorder::new(start, begin, end), end));
    let work = async {
        match mode {
            Mode::Closed { concurrency } => closed::run(&shared, concurrency).await,
            Mode::Open { rate, arrivals, connections } => open::run(&shared, start, rate, arrivals, connections).await,
        }
    };
    let mut view = tokio::time::interval(VIEW);
    view.tick().await;
    tokio::pin!(work, stop);
    loop {
        tokio::select! {
            done = &mut work => {
                done?;
                break;
            }
            () = &mut stop => {
                shared.stop();
                shared.recorder.stop();
                break;
            }
            _ = view.tick() => progress(&shared.recorder.progress(total)),
        }
    }
    Ok(shared.recorder.read(|state| Report::of(state, matches!(mode, Mode::Open { .. }))))
}
