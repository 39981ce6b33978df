//! The connections there are, the places left for more, and the requests on them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

/// Where there is no place, connections end that have been idle for this long, and sooner each time that it is looked again.
const LONG_IDLE: Duration = Duration::from_secs(64);
/// Who was idle for less than this keeps its place.
const SHORT_IDLE: Duration = Duration::from_secs(1);
/// How long those that are told have to go.
const LOOK: Duration = Duration::from_millis(20);

/// What a listener counts; clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Counts(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    connections: watch::Sender<usize>,
    requests: AtomicUsize,
    places: Arc<Semaphore>,
    /// How long a connection may be idle, while there is no place for another.
    crowded: watch::Sender<Option<Duration>>,
}

/// Room for one connection.
#[derive(Debug)]
pub(crate) struct Place {
    _permit: OwnedSemaphorePermit,
}

impl Counts {
    pub(crate) fn new(max_connections: usize) -> Self {
        let places = Arc::new(Semaphore::new(max_connections.min(Semaphore::MAX_PERMITS)));
        let (connections, crowded) = (watch::Sender::new(0), watch::Sender::new(None));
        Self(Arc::new(Inner { connections, requests: AtomicUsize::new(0), places, crowded }))
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

    /// Waits for room, which those make that were idle longest; says so when there is none.
    pub(crate) async fn place(&self) -> Option<Place> {
        let places = Arc::clone(&self.0.places);
        if let Ok(permit) = Arc::clone(&places).try_acquire_owned() {
            return Some(Place { _permit: permit });
        }
        if self.0.crowded.send_replace(Some(LONG_IDLE)).is_none() {
            tracing::warn!("the limit of connections is reached; idle ones end, and new ones wait");
        }
        let mut idle = LONG_IDLE;
        let permit = places.acquire_owned();
        tokio::pin!(permit);
        let permit = loop {
            let look = if idle > SHORT_IDLE { LOOK } else { SHORT_IDLE };
            tokio::select! {
                permit = &mut permit => break permit,
                () = tokio::time::sleep(look) => {}
            }
            idle = (idle / 2).max(SHORT_IDLE);
            self.0.crowded.send_replace(Some(idle));
        };
        self.0.crowded.send_replace(None);
        permit.ok().map(|permit| Place { _permit: permit })
    }

    /// Tells how long a connection may be idle, while there is no place for another.
    pub(crate) fn crowded(&self) -> Crowded {
        Crowded(self.0.crowded.subscribe())
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

/// Who has to make room.
#[derive(Debug)]
pub(crate) struct Crowded(watch::Receiver<Option<Duration>>);

impl Crowded {
    /// Until a connection has to go that has been idle for as long as `idle` says; none where it is not.
    pub(crate) async fn goes(&mut self, idle: impl Fn() -> Option<Duration>) {
        loop {
            if self.0.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
            let most = *self.0.borrow_and_update();
            if most.zip(idle()).is_some_and(|(most, idle)| idle >= most) {
                return;
            }
        }
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
