//! Accepts connections within their bound, and never stops on an error.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::connection::Endpoint;
use crate::counts::Place;
use crate::drain::Phase;
use crate::service::{Connection, Service};

/// The tasks that accept. They end when this is dropped.
#[derive(Debug)]
pub(crate) struct Acceptors(JoinSet<()>);

impl Acceptors {
    /// Begins to accept on all `listeners`.
    pub(crate) fn begin<S: Service>(listeners: Vec<TcpListener>, endpoint: &Arc<Endpoint<S>>) -> Self {
        Self(listeners.into_iter().map(|listener| accept(listener, Arc::clone(endpoint))).collect())
    }

    /// Returns when every listener is closed, which [`Phase::Closing`] makes them do.
    pub(crate) async fn finished(mut self) {
        while self.0.join_next().await.is_some() {}
    }
}

/// Accepts until the drain closes, then takes what the kernel has accepted already: closing would reset it.
async fn accept<S: Service>(listener: TcpListener, endpoint: Arc<Endpoint<S>>) {
    let closing = endpoint.drain.reached(Phase::Closing);
    tokio::pin!(closing);
    let mut pause = Pause::new();
    loop {
        let next = async {
            let place = endpoint.counts.place().await;
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
            // The peer was gone before it was accepted; the next one may be there.
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

fn spawn<S: Service>(endpoint: &Arc<Endpoint<S>>, stream: TcpStream, place: Option<Place>) {
    let open = endpoint.counts.connection(place);
    let connection = Connection::accepted(&endpoint.options, &endpoint.drain);
    let endpoint = Arc::clone(endpoint);
    tokio::spawn(async move {
        endpoint.serve(stream, &connection).await;
        drop(open);
    });
}

fn of_the_peer(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

/// The wait after an error of this process, such as too many open files: it would come again at once, and fill the log.
#[derive(Debug)]
struct Pause {
    wait: Duration,
    logged: Option<Instant>,
}

impl Pause {
    const MIN: Duration = Duration::from_millis(10);
    const MAX: Duration = Duration::from_secs(1);
    /// At most one line in this time while the error stays.
    const SILENCE: Duration = Duration::from_secs(10);

    fn new() -> Self {
        Self { wait: Self::MIN, logged: None }
    }

    /// A connection was accepted.
    fn reset(&mut self) {
        self.wait = Self::MIN;
    }

    async fn take(&mut self, error: &std::io::Error) {
        if self.logged.is_none_or(|logged| logged.elapsed() >= Self::SILENCE) {
            tracing::warn!(%error, "connections cannot be accepted; trying again");
            self.logged = Some(Instant::now());
        }
        tokio::time::sleep(self.wait).await;
        self.wait = (self.wait * 2).min(Self::MAX);
    }
}
