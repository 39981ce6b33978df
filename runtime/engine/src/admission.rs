//! The first level of admission: requests that the server holds at once, and their memory.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use corymb_core::{Holder, MemoryPool};
use tokio::sync::Notify;

use crate::error::EngineError;

/// How long a body may be on its way before its place is another's, where all are taken.
const PATIENCE: Duration = Duration::from_secs(1);

/// The bounds of the whole server.
#[derive(Debug)]
pub(crate) struct Admission {
    requests: AtomicUsize,
    max_requests: usize,
    pool: MemoryPool,
    arriving: Mutex<Arriving>,
    patience: Duration,
}

/// Requests whose bodies are on their way, the oldest first.
#[derive(Debug, Default)]
struct Arriving {
    next: u64,
    all: BTreeMap<u64, (Instant, Arc<Arrival>)>,
}

/// A body on its way.
#[derive(Debug, Default)]
pub struct Arrival {
    lost: AtomicBool,
    told: Notify,
}

impl Arrival {
    /// Until the place of this request is another's.
    pub async fn displaced(&self) -> EngineError {
        self.told.notified().await;
        EngineError::Overloaded {
            what: "the server holds as many requests as it may, and the body of this one was still on its way"
                .to_owned(),
        }
    }
}

impl Admission {
    pub(crate) fn new(max_requests: usize, pool: MemoryPool) -> Arc<Self> {
        Self::with_patience(max_requests, pool, PATIENCE)
    }

    fn with_patience(max_requests: usize, pool: MemoryPool, patience: Duration) -> Arc<Self> {
        Arc::new(Self { requests: AtomicUsize::new(0), max_requests, pool, arriving: Mutex::default(), patience })
    }

    pub(crate) fn admit(self: &Arc<Self>) -> Result<Permit, EngineError> {
        let place = |held: usize| held.checked_add(1).filter(|sum| *sum <= self.max_requests);
        if self.requests.fetch_update(Ordering::Relaxed, Ordering::Relaxed, place).is_ok() || self.displace() {
            return Ok(Permit { memory: self.pool.holder(), admission: Arc::clone(self), arriving: None });
        }
        Err(EngineError::Overloaded { what: format!("the server already holds {} requests", self.max_requests) })
    }

    /// Takes the place of the request whose body has been on its way longest, if that is long. Clients that send a byte now and
    /// then would else keep everybody out.
    fn displace(&self) -> bool {
        let mut arriving = self.arriving();
        let Some(oldest) = arriving.all.first_entry().filter(|oldest| oldest.get().0.elapsed() >= self.patience) else {
            return false;
        };
        let (_, arrival) = oldest.remove();
        arrival.lost.store(true, Ordering::Relaxed);
        arrival.told.notify_one();
        true
    }

    fn arriving(&self) -> MutexGuard<'_, Arriving> {
        self.arriving.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request's place in the server, and the memory that it holds; dropping it gives both back.
#[derive(Debug)]
pub struct Permit {
    admission: Arc<Admission>,
    memory: Holder,
    /// While its body is on its way.
    arriving: Option<(u64, Arc<Arrival>)>,
}

impl Permit {
    /// Says that the body is on its way, and is waited for. Where the server is full, another may have its place.
    pub fn arriving(&mut self) -> Arc<Arrival> {
        let (_, arrival) = self.arriving.get_or_insert_with(|| {
            let (mut arriving, arrival) = (self.admission.arriving(), Arc::<Arrival>::default());
            let id = arriving.next;
            arriving.next += 1;
            arriving.all.insert(id, (Instant::now(), Arc::clone(&arrival)));
            (id, arrival)
        });
        Arc::clone(arrival)
    }

    /// Says that the body is there.
    ///
    /// # Errors
    /// [`EngineError::Overloaded`] where another has had the place.
    pub fn arrived(&mut self) -> Result<(), EngineError> {
        let Some((id, _)) = &self.arriving else { return Ok(()) };
        if self.admission.arriving().all.remove(id).is_some() {
            self.arriving = None;
            return Ok(());
        }
        Err(EngineError::Overloaded { what: "the body of the request came too slowly".to_owned() })
    }

    /// Adds `bytes` for `what` to the memory that this request holds.
    ///
    /// # Errors
    /// [`EngineError::Memory`] where the server has no more for one request, or none now.
    pub fn reserve(&mut self, what: &'static str, bytes: usize) -> Result<(), EngineError> {
        self.memory.grow(bytes as u64).map_err(|shortage| EngineError::Memory { what, shortage })
    }

    /// Gives the place back, and the memory but for `bytes`, which the answer takes until it is sent.
    #[must_use]
    pub fn keep(mut self, bytes: usize) -> Holder {
        let mut answer = self.admission.pool.holder();
        std::mem::swap(&mut answer, &mut self.memory);
        answer.set(bytes as u64);
        answer
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let is_displaced = self.arriving.take().is_some_and(|(id, arrival)| {
            self.admission.arriving().all.remove(&id);
            arrival.lost.load(Ordering::Relaxed)
        });
        if !is_displaced {
            self.admission.requests.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use corymb_core::{Code, Shortage};

    use super::*;

    #[tokio::test]
    async fn a_body_on_its_way_does_not_keep_others_out() {
        let patient = Admission::new(1, MemoryPool::default());
        let mut slow = patient.admit().expect("room");
        slow.arriving();
        assert!(patient.admit().is_err(), "it has only begun");
        slow.arrived().expect("in time");

        let admission = Admission::with_patience(2, MemoryPool::default(), Duration::ZERO);
        let (mut first, mut second) = (admission.admit().expect("room"), admission.admit().expect("room"));
        assert!(admission.admit().is_err(), "both are there");
        let arrival = first.arriving();
        second.arriving();
        let third = admission.admit().expect("the place of the first");
        assert_eq!(arrival.displaced().await.code(), Code::Overloaded);
        assert!(first.arrived().is_err(), "too late");
        second.arrived().expect("nobody has taken its place");
        drop(first);
        assert!(admission.admit().is_err(), "two places are taken, as before");
        drop((second, third));
        let held = [admission.admit(), admission.admit()];
        assert!(held.iter().all(Result::is_ok) && admission.admit().is_err());
    }

    #[test]
    fn requests_and_their_memory_are_bounded_and_given_back() {
        let pool = MemoryPool::fixed(160);
        let admission = Admission::new(2, pool.clone());
        let mut first = admission.admit().expect("room");
        let mut second = admission.admit().expect("room");
        assert!(matches!(admission.admit(), Err(EngineError::Overloaded { .. })));
        first.reserve("the body", 100).expect("room");
        let error = second.reserve("the body", 41).expect_err("none now");
        assert_eq!((error.code(), error.retry_after().is_some()), (Code::Overloaded, true));
        let error = first.reserve("the body", usize::MAX).expect_err("never");
        assert_eq!((error.code(), error.retry_after()), (Code::TooLarge, None));
        assert!(matches!(error, EngineError::Memory { shortage: Shortage::Never { limit: 140, .. }, .. }));
        first.reserve("the body", 40).expect("room");
        let answer = first.keep(7);
        drop(second);
        assert_eq!(pool.held(), 7);
        assert!(admission.admit().is_ok());
        drop(answer);
        assert_eq!(pool.held(), 0);
    }
}
