//! One connection from its first byte to its last.

use std::future::poll_fn;

use http::{Request, Version};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use std::time::Duration;
use tokio::net::TcpStream;

use crate::activity::{Activity, LINGER, Overdue, Watch};
use crate::answer::Answering;
use crate::counts::{Counts, Crowded};
use crate::drain::{Drain, Phase};
use crate::io::Metered;
use crate::options::ListenerOptions;
use crate::request::RequestBody;
use crate::service::{Connection, Service};
use crate::sniff::{Limits, Sniffed, Speaks, sniff};
use crate::stall::StreamExecutor;
use crate::turn::{Begun, Turns};

/// HTTP/2: what one peer may ask at a time.
const MAX_STREAMS: u32 = 200;
/// HTTP/2: bytes of one request's headers; HTTP/1.1 has hyper's own bound of about 400 KiB.
const MAX_HEADERS: u32 = 16 * 1024;
/// HTTP/2: streams that a peer may open and reset before they are looked at ("rapid reset").
const MAX_PENDING_RESETS: usize = 20;
/// HTTP/2: fewer, larger frames for tensors than the standard's smallest size.
const MAX_FRAME: u32 = 64 * 1024;
/// HTTP/2: what a peer may send of one stream that nobody has read, in bytes, and of all streams of a connection. h2 ends a
/// connection that holds so many small frames unread that what it keeps beside their content is half of the latter. However long
/// their readers are busy, frames of 32 bytes do not get there in two streams, nor those of 128 bytes in fifteen. What is unread is
/// counted by nobody, so it is not much more.
const STREAM_WINDOW: u32 = 128 * 1024;
const CONNECTION_WINDOW: u32 = 4 << 20;
/// HTTP/2: how often, and for how long, a peer is asked whether it is still there.
const PING_INTERVAL: Duration = Duration::from_secs(20);
const PING_TIMEOUT: Duration = Duration::from_secs(20);
/// What arrived with the order to stop is taken before the farewell.
const LAST_LOOK: Duration = Duration::from_millis(5);

/// What all connections of a listener share.
#[derive(Debug)]
pub(crate) struct Endpoint<S> {
    pub(crate) options: ListenerOptions,
    pub(crate) drain: Drain,
    pub(crate) counts: Counts,
    pub(crate) service: S,
}

impl<S: Service> Endpoint<S> {
    /// Serves a connection until either side ends it.
    pub(crate) async fn serve(&self, mut stream: TcpStream, connection: &Connection) {
        // An answer is complete when it is written; waiting for more to send would only delay it.
        let _ = stream.set_nodelay(true);
        let limits = Limits { first: self.options.idle_timeout, rest: self.options.header_timeout };
        let mut crowded = self.counts.crowded();
        match sniff(&mut stream, limits, &self.drain, &mut crowded).await {
            Ok(Some(sniffed)) => self.drive(stream, sniffed, connection, crowded).await,
            Ok(None) => {}
            Err(error) => tracing::debug!(%error, "a connection failed before its first request"),
        }
    }

    async fn drive(&self, stream: TcpStream, sniffed: Sniffed, connection: &Connection, mut crowded: Crowded) {
        let (speaks, first) = sniffed;
        let activity = Activity::new(speaks);
        let service = service_fn(|request: Request<Incoming>| {
            let guards = (activity.request(), self.counts.request());
            let http1 = (request.version() < Version::HTTP_2).then(|| connection.clone());
            Answering::new(self.service.call(RequestBody::wrap(request), connection), http1, guards)
        });
        let begun = Begun::default();
        let turns = Turns::new(begun.clone());
        let builder = builder(speaks, StreamExecutor { limit: self.options.stall_timeout, begun });
        let io = TokioIo::new(Metered::new(stream, first, activity.clone()));
        let http = builder.serve_connection(io, service);
        let closing = async {
            self.drain.reached(Phase::Closing).await;
            tokio::time::sleep(LAST_LOOK).await;
        };
        let cut = self.drain.reached(Phase::Cut);
        tokio::pin!(http, closing, cut);

        // HTTP/2 alone has a farewell that costs no request: its peer may be sending one. hyper would close an HTTP/1.1
        // connection at once, so an old one goes on until its next answer, which says so.
        let mut age = connection.age().filter(|_| speaks == Speaks::Http2);
        let mut closed = false;
        loop {
            // The connection first, so that what has arrived is seen before it is judged.
            let overdue = tokio::select! {
                biased;
                end = poll_fn(|context| turns.poll(context, |own| http.as_mut().poll(own), || activity.is_alone())) => {
                    if let Err(error) = end {
                        tracing::debug!(%error, "a connection ended early");
                    }
                    return;
                }
                () = &mut cut => return,
                () = &mut closing, if !closed => {
                    closed = true;
                    Overdue::Idle
                }
                overdue = Watch::new(&activity, &self.options, age) => overdue,
                () = crowded.goes(|| activity.idle()) => Overdue::Idle,
            };
            let quiet = match overdue {
                Overdue::Idle => LINGER,
                // Nobody waits for this connection's end. What is left of an answer is the peer's to take, as long as
                // it reads.
                Overdue::Old => LINGER.max(self.options.stall_timeout),
                Overdue::Head | Overdue::Stalled | Overdue::Deaf => {
                    tracing::debug!(?overdue, "a connection is dropped");
                    return;
                }
            };
            age = None;
            activity.close(quiet);
            http.as_mut().graceful_shutdown();
        }
    }
}

/// hyper's settings, which hold what begins streams, so that each connection has its own.
fn builder(speaks: Speaks, executor: StreamExecutor) -> auto::Builder<StreamExecutor> {
    let mut builder = auto::Builder::new(executor);
    match speaks {
        Speaks::Http1 => {
            // hyper's timer runs from the last answer to the next head's end, and is set and taken back for each
            // request; ours tell the two apart and rarely move.
            builder.http1().header_read_timeout(None);
            builder.http1_only()
        }
        Speaks::Http2 => {
            builder
                .http2()
                .timer(TokioTimer::new())
                .max_concurrent_streams(MAX_STREAMS)
                .max_header_list_size(MAX_HEADERS)
                .max_pending_accept_reset_streams(MAX_PENDING_RESETS)
                .max_frame_size(MAX_FRAME)
                .initial_stream_window_size(STREAM_WINDOW)
                .initial_connection_window_size(CONNECTION_WINDOW)
                .keep_alive_interval(PING_INTERVAL)
                .keep_alive_timeout(PING_TIMEOUT);
            builder.http2_only()
        }
    }
}
