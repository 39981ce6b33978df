//! The first level of admission: requests and bytes that the server holds at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::error::EngineError;

/// The bounds of the whole server.
#[derive(Debug)]
pub(crate) struct Admission {
    requests: AtomicUsize,
    bytes: AtomicUsize,
    max_requests: usize,
    max_bytes: usize,
}

impl Admission {
    pub(crate) fn new(max_requests: usize, max_bytes: usize) -> Arc<Self> {
        Arc::new(Self { requests: AtomicUsize::new(0), bytes: AtomicUsize::new(0), max_requests, max_bytes })
    }

    pub(crate) fn admit(self: &Arc<Self>) -> Result<Permit, EngineError> {
        if take(&self.requests, 1, self.max_requests) {
            Ok(Permit { admission: Arc::clone(self), bytes: 0 })
        } else {
            Err(EngineError::Overloaded { what: format!("the server already holds {} requests", self.max_requests) })
        }
    }
}

fn take(counter: &AtomicUsize, amount: usize, max: usize) -> bool {
    counter
        .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |held| held.checked_add(amount).filter(|sum| *sum <= max))
        .is_ok()
}

/// A request's place in the server, and the bytes of its body; dropping it gives both back.
#[derive(Debug)]
pub struct Permit {
    admission: Arc<Admission>,
    bytes: usize,
}

impl Permit {
    /// Adds `bytes` of body to what this request holds.
    ///
    /// # Errors
    /// [`EngineError::Overloaded`] when the bodies of all requests together would exceed the server's budget.
    pub fn reserve(&mut self, bytes: usize) -> Result<(), EngineError> {
        if take(&self.admission.bytes, bytes, self.admission.max_bytes) {
            self.bytes += bytes;
            Ok(())
        } else {
            let max = self.admission.max_bytes;
            Err(EngineError::Overloaded {
                what: format!("request bodies already take most of the {max} bytes set aside"),
            })
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.admission.requests.fetch_sub(1, Ordering::Relaxed);
        self.admission.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_and_bytes_are_bounded_and_given_back() {
        let admission = Admission::new(2, 100);
        let mut first = admission.admit().expect("room");
        let second = admission.admit().expect("room");
        assert!(matches!(admission.admit(), Err(EngineError::Overloaded { .. })));
        first.reserve(60).expect("room");
        assert!(first.reserve(41).is_err());
        assert!(first.reserve(usize::MAX).is_err());
        first.reserve(40).expect("room");
        drop(first);
        drop(second);
        assert_eq!(admission.bytes.load(Ordering::Relaxed), 0);
        assert!(admission.admit().is_ok());
    }
}
