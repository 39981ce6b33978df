//! The open loop: requests start when the schedule says, whatever becomes of those before.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::timeout_at;

use crate::client::Client;
use crate::error::LoadError;
use crate::outcome::Failure;
use crate::schedule::{Arrivals, Schedule};
use crate::shared::Shared;

/// Requests that are begun or wait for a connection, at most. Beyond it they are counted as never sent.
const MAX_OUTSTANDING: usize = 1 << 16;

/// A sleep ends at the latest after this, to see whether the run was stopped.
const LONGEST_SLEEP: Duration = Duration::from_millis(50);

pub(crate) async fn run(
    shared: &Arc<Shared>,
    start: Instant,
    rate: f64,
    arrivals: Arrivals,
    connections: usize,
) -> Result<(), LoadError> {
    let pool = Arc::new(Pool {
        idle: Mutex::new(Vec::new()),
        free: Semaphore::new(connections),
        outstanding: Arc::new(Semaphore::new(MAX_OUTSTANDING)),
    });
    // Each request holds a sender: when all are gone, the last has ended.
    let (alive, mut all_ended) = mpsc::channel::<()>(1);
    let handle = Handle::current();
    let dispatcher = {
        let (shared, pool) = (Arc::clone(shared), Arc::clone(&pool));
        let schedule = Schedule::new(rate, arrivals, shared.plan.seed);
        // A thread that sleeps is punctual to some 50 µs; the runtime's timers know only milliseconds.
        tokio::task::spawn_blocking(move || {
            for offset in schedule {
                let intended = start + offset;
                if intended >= shared.end || !sleep_until(intended, &shared) {
                    break;
                }
                let Ok(permit) = Arc::clone(&pool.outstanding).try_acquire_owned() else {
                    shared.recorder.unsent(intended);
                    continue;
                };
                shared.recorder.begun(intended, intended.elapsed());
                let (shared, pool, alive) = (Arc::clone(&shared), Arc::clone(&pool), alive.clone());
                handle.spawn(async move {
                    one(&shared, &pool, intended).await;
                    drop((permit, alive));
                });
            }
        })
    };
    dispatcher.await?;
    // Requests give up by themselves, each at its own time.
    while all_ended.recv().await.is_some() {}
    Ok(())
}

struct Pool {
    idle: Mutex<Vec<Client>>,
    free: Semaphore,
    outstanding: Arc<Semaphore>,
}

async fn one(shared: &Shared, pool: &Pool, intended: Instant) {
    let deadline = (intended + shared.plan.timeout).into();
    let mut sent = None;
    let request = async {
        // Never closed; first come, first served.
        let _place = pool.free.acquire().await;
        let idle = pool.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut client = idle.unwrap_or_else(|| Client::new(&shared.plan.target));
        sent = Some(Instant::now());
        let outcome = client.send(shared.call()).await;
        pool.idle.lock().unwrap_or_else(PoisonError::into_inner).push(client);
        outcome
    };
    let outcome = timeout_at(deadline, request).await.unwrap_or(Err(Failure::Timeout));
    shared.recorder.ended(intended, sent, outcome);
}

/// Whether the run still goes on then.
fn sleep_until(when: Instant, shared: &Shared) -> bool {
    loop {
        if shared.is_stopped() {
            return false;
        }
        let left = when.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return true;
        }
        std::thread::sleep(left.min(LONGEST_SLEEP));
    }
}
