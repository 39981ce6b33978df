//! The connections there are, the places left for more, and the requests on them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

/// What a listener counts; clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Counts(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    connections: watch::Sender<usize>,
    requests: AtomicUsize,
    places: Arc<Semaphore>,
}

/// Room for one connection.
#[derive(Debug)]
pub(crate) struct Place {
    _permit: OwnedSemaphorePermit,
}

impl Counts {
    pub(crate) fn new(max_connections: usize) -> Self {
        let places = Arc::new(Semaphore::new(max_connections.min(Semaphore::MAX_PERMITS)));
        Self(Arc::new(Inner { connections: watch::Sender::new(0), requests: AtomicUsize::new(0), places }))
    }

    /// Requests that are not yet answered to their last byte.
    pub(crate) fn requests(&self) -> usize {
        self.0.requests.load(Ordering::Relaxed)
    }

    /// Returns when no connection is open.
    pub(crate) async fn no_connection(&self) {
        // The sender lives in `self`, so the wait cannot fail.
        let _ = self.0.connections.subscribe().wait_for(|open| *open == 0).await;
    }

    /// Waits for room; says so once when there is none.
    pub(crate) async fn place(&self) -> Option<Place> {
        let places = Arc::clone(&self.0.places);
        if let Ok(permit) = Arc::clone(&places).try_acquire_owned() {
            return Some(Place { _permit: permit });
        }
        tracing::warn!("the limit of connections is reached; new ones wait");
        places.acquire_owned().await.ok().map(|permit| Place { _permit: permit })
    }

    /// Counts a connection until the guard is dropped, which gives its place back.
    pub(crate) fn connection(&self, place: Option<Place>) -> OpenConnection {
        self.0.connections.send_modify(|open| *open += 1);
        OpenConnection { counts: self.clone(), _place: place }
    }

    /// Counts a request until the guard is dropped.
    pub(crate) fn request(&self) -> OpenRequest {
        self.0.requests.fetch_add(1, Ordering::Relaxed);
        OpenRequest(self.clone())
    }
}

/// One connection that is counted.
#[derive(Debug)]
pub(crate) struct OpenConnection {
    counts: Counts,
    _place: Option<Place>,
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.counts.0.connections.send_modify(|open| *open -= 1);
    }
}

/// One request that is counted.
#[derive(Debug)]
pub(crate) struct OpenRequest(Counts);

impl Drop for OpenRequest {
    fn drop(&mut self) {
        self.0.0.requests.fetch_sub(1, Ordering::Relaxed);
    }
}
