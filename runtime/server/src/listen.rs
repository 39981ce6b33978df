//! The listeners and the server that owns them: accepts connections, bounds their number, never stops on an error.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;

use crate::app::{App, Routes};
use crate::connection::Endpoint;
use crate::drain::{self, Drained, Phase};
use crate::observe::Observer;
use crate::options::ServerOptions;

/// One engine behind one or more listeners, each of which speaks every protocol.
#[derive(Debug)]
pub struct Server {
    app: App,
}

impl Server {
    /// Nothing is read or bound here; the listeners are the caller's.
    #[must_use]
    pub fn new(engine: corymb_engine::Engine, options: ServerOptions) -> Self {
        Self { app: App::new(engine, options) }
    }

    /// Serves until `shutdown` resolves, then stops as [`ServerOptions`] says; `hurry` cuts that short.
    ///
    /// May be called before the models are ready: readiness answers for them until then. The engine, and whatever
    /// collects signals, are stopped by the caller afterwards.
    pub async fn serve(
        self,
        listeners: Vec<TcpListener>,
        shutdown: impl Future<Output = ()>,
        hurry: impl Future<Output = ()>,
    ) -> Drained {
        let Self { app } = self;
        let options = Arc::clone(&app.options);
        let drain = app.drain.clone();
        let connections = Connections::new(options.max_connections);
        let routes = Routes::new(&app);
        let endpoint = Arc::new(Endpoint::new(Observer::new(app, routes), connections.clone()));

        let mut acceptors = Acceptors(JoinSet::new());
        for listener in listeners {
            acceptors.0.spawn(accept(listener, Arc::clone(&endpoint)));
        }
        shutdown.await;
        drain::stop(&drain, &options, acceptors, connections, hurry).await
    }
}

/// The tasks that accept.
#[derive(Debug)]
pub(crate) struct Acceptors(JoinSet<()>);

impl Acceptors {
    /// Returns when every listener is closed, which [`Phase::Closing`] makes them do.
    pub(crate) async fn finished(mut self) {
        while self.0.join_next().await.is_some() {}
    }
}

/// The connections there are, and the requests on them.
#[derive(Clone, Debug)]
pub(crate) struct Connections(Arc<Counts>);

#[derive(Debug)]
struct Counts {
    open: watch::Sender<usize>,
    requests: AtomicUsize,
    places: Arc<Semaphore>,
}

impl Connections {
    pub(crate) fn new(max: usize) -> Self {
        let places = Arc::new(Semaphore::new(max.min(Semaphore::MAX_PERMITS)));
        Self(Arc::new(Counts { open: watch::Sender::new(0), requests: AtomicUsize::new(0), places }))
    }

    /// Requests that are not yet answered to their last byte.
    pub(crate) fn requests(&self) -> usize {
        self.0.requests.load(Ordering::Relaxed)
    }

    /// Returns when no connection is open.
    pub(crate) async fn gone(&self) {
        // The sender lives in `self`, so the wait cannot fail.
        let _ = self.0.open.subscribe().wait_for(|open| *open == 0).await;
    }

    /// Waits for room; says so once when there is none.
    async fn place(&self) -> Option<OwnedSemaphorePermit> {
        let places = Arc::clone(&self.0.places);
        if let Ok(place) = Arc::clone(&places).try_acquire_owned() {
            return Some(place);
        }
        tracing::warn!("the limit of connections is reached; new ones wait");
        places.acquire_owned().await.ok()
    }

    fn open(&self, place: Option<OwnedSemaphorePermit>) -> Open {
        self.0.open.send_modify(|open| *open += 1);
        Open { connections: self.clone(), _place: place }
    }

    /// Counts a request until the guard is dropped.
    pub(crate) fn request(&self) -> OpenRequest {
        self.0.requests.fetch_add(1, Ordering::Relaxed);
        OpenRequest(self.clone())
    }
}

/// One open connection; dropping it gives its place back.
#[derive(Debug)]
pub(crate) struct Open {
    connections: Connections,
    _place: Option<OwnedSemaphorePermit>,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.connections.0.open.send_modify(|open| *open -= 1);
    }
}

/// One request that is counted.
#[derive(Debug)]
pub(crate) struct OpenRequest(Connections);

impl Drop for OpenRequest {
    fn drop(&mut self) {
        self.0.0.requests.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Accepts until the server closes, then takes what the kernel has accepted already: closing would reset it.
async fn accept(listener: TcpListener, endpoint: Arc<Endpoint>) {
    let drain = endpoint.drain().clone();
    let closing = drain.reached(Phase::Closing);
    tokio::pin!(closing);
    let mut pause = Pause::new();
    loop {
        let next = async {
            let place = endpoint.connections().place().await;
            (place, listener.accept().await)
        };
        let (place, accepted) = tokio::select! {
            biased;
            () = &mut closing => break,
            next = next => next,
        };
        match accepted {
            Ok((stream, _)) => {
                pause.reset();
                spawn(&endpoint, stream, place);
            }
            // The peer was gone before we came to it; the next one may be there.
            Err(error) if of_the_peer(&error) => {}
            Err(error) => pause.take(&error).await,
        }
    }
    let Ok(listener) = listener.into_std() else { return };
    while let Ok((stream, _)) = listener.accept() {
        if stream.set_nonblocking(true).is_ok()
            && let Ok(stream) = TcpStream::from_std(stream)
        {
            spawn(&endpoint, stream, None);
        }
    }
}

fn spawn(endpoint: &Arc<Endpoint>, stream: TcpStream, place: Option<OwnedSemaphorePermit>) {
    let open = endpoint.connections().open(place);
    let endpoint = Arc::clone(endpoint);
    tokio::spawn(async move {
        endpoint.serve(stream).await;
        drop(open);
    });
}

pub(crate) fn of_the_peer(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

/// The wait after an error of ours, such as too many open files: it would come again at once, and fill the log.
#[derive(Debug)]
pub(crate) struct Pause {
    wait: Duration,
    logged: Option<Instant>,
}

impl Pause {
    const MIN: Duration = Duration::from_millis(10);
    const MAX: Duration = Duration::from_secs(1);
    /// At most one line in this time while the error stays.
    const SILENCE: Duration = Duration::from_secs(10);

    pub(crate) fn new() -> Self {
        Self { wait: Self::MIN, logged: None }
    }

    /// A connection was accepted.
    pub(crate) fn reset(&mut self) {
        self.wait = Self::MIN;
    }

    pub(crate) async fn take(&mut self, error: &std::io::Error) {
        if self.logged.is_none_or(|logged| logged.elapsed() >= Self::SILENCE) {
            tracing::warn!(%error, "connections cannot be accepted; trying again");
            self.logged = Some(Instant::now());
        }
        tokio::time::sleep(self.wait).await;
        self.wait = (self.wait * 2).min(Self::MAX);
    }
}
