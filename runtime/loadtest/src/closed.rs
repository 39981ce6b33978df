//! The closed loop: callers that wait for their answers.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::client::Client;
use crate::error::LoadError;
use crate::outcome::Failure;
use crate::shared::Shared;

/// Between attempts of a caller that finds no server.
const PAUSE: Duration = Duration::from_millis(100);

pub(crate) async fn run(shared: &Arc<Shared>, concurrency: usize) -> Result<(), LoadError> {
    // Dropping the set ends the callers.
    let mut callers = JoinSet::new();
    for _ in 0..concurrency {
        callers.spawn(caller(Arc::clone(shared)));
    }
    while let Some(caller) = callers.join_next().await {
        caller?;
    }
    Ok(())
}

async fn caller(shared: Arc<Shared>) {
    let mut client = Client::new(&shared.plan.target);
    while !shared.is_stopped() {
        let start = Instant::now();
        if start >= shared.end {
            break;
        }
        shared.recorder.begun(start, Duration::ZERO);
        let sent = timeout(shared.plan.timeout, client.send(shared.call())).await;
        let outcome = sent.unwrap_or(Err(Failure::Timeout));
        shared.recorder.ended(start, Some(start), outcome);
        if outcome == Err(Failure::Connect) {
            sleep(PAUSE).await;
        }
    }
}
