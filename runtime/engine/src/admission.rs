//! The first level of admission: requests that the server holds at once, and their memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use corymb_core::{Holder, MemoryPool};

use crate::error::EngineError;

/// The bounds of the whole server.
#[derive(Debug)]
pub(crate) struct Admission {
    requests: AtomicUsize,
    max_requests: usize,
    pool: MemoryPool,
}

impl Admission {
    pub(crate) fn new(max_requests: usize, pool: MemoryPool) -> Arc<Self> {
        Arc::new(Self { requests: AtomicUsize::new(0), max_requests, pool })
    }

    pub(crate) fn admit(self: &Arc<Self>) -> Result<Permit, EngineError> {
        let place = |held: usize| held.checked_add(1).filter(|sum| *sum <= self.max_requests);
        match self.requests.fetch_update(Ordering::Relaxed, Ordering::Relaxed, place) {
            Ok(_) => Ok(Permit { memory: self.pool.holder(), admission: Arc::clone(self) }),
            Err(_) => Err(EngineError::Overloaded {
                what: format!("the server already holds {} requests", self.max_requests),
            }),
        }
    }
}

/// A request's place in the server, and the memory that it holds; dropping it gives both back.
#[derive(Debug)]
pub struct Permit {
    admission: Arc<Admission>,
    memory: Holder,
}

impl Permit {
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
        self.admission.requests.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use corymb_core::{Code, Shortage};

    use super::*;

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
