//! What happens on one connection, and the moments at which nothing has happened for too long.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

use crate::options::ServerOptions;
use crate::sniff::Speaks;
use crate::stall::Sending;

/// How long a closing connection that holds no request may stay quiet: a live peer answers our farewell much sooner,
/// a deaf one must not hold up the server's end.
const LINGER: Duration = Duration::from_secs(2);

/// What is known of one connection; shared by its stream, its requests and its [`Watch`].
#[derive(Clone, Debug)]
pub(crate) struct Activity(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    speaks: Speaks,
    // Changed with every read and write but never held across an await: a std Mutex.
    state: Mutex<State>,
    /// Of the only response that HTTP/1.1 can have at a time.
    sending: Sending,
}

#[derive(Debug)]
struct State {
    requests: usize,
    /// Since when there has been no request.
    quiet: Instant,
    /// When the first byte came since then.
    head: Option<Instant>,
    /// The last byte either way.
    last: Instant,
    closing: bool,
}

/// Why a connection should end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Overdue {
    /// No requests for too long: say farewell.
    Idle,
    /// A request's headers did not arrive in time.
    Head,
    /// The peer does not read its response.
    Stalled,
    /// The peer does not react to our farewell.
    Deaf,
}

impl Activity {
    pub(crate) fn new(speaks: Speaks) -> Self {
        let now = Instant::now();
        // What the sniff read is the beginning of a head.
        let state = State { requests: 0, quiet: now, head: Some(now), last: now, closing: false };
        Self(Arc::new(Inner { speaks, state: Mutex::new(state), sending: Sending::default() }))
    }

    /// Counts a request until the guard is dropped.
    pub(crate) fn request(&self) -> ActiveRequest {
        let mut state = self.state();
        state.requests += 1;
        state.head = None;
        ActiveRequest(self.clone())
    }

    /// Whether the connection holds one request and no other.
    pub(crate) fn is_alone(&self) -> bool {
        self.state().requests == 1
    }

    /// The note that a response on this connection keeps of its peer.
    pub(crate) fn sending(&self) -> Sending {
        Sending::of_stream().unwrap_or_else(|| self.0.sending.clone())
    }

    /// From now on only requests in flight keep the connection.
    pub(crate) fn close(&self) {
        let mut state = self.state();
        state.closing = true;
        state.last = Instant::now();
    }

    fn read(&self) {
        let now = Instant::now();
        let mut state = self.state();
        state.last = now;
        if state.requests == 0 && state.head.is_none() {
            state.head = Some(now);
        }
    }

    fn written(&self) {
        self.state().last = Instant::now();
    }

    /// What happens next if nothing else does, and when.
    fn due(&self, options: &ServerOptions) -> Option<(Instant, Overdue)> {
        if let Some(since) = self.0.sending.since() {
            return Some((since + options.body_timeout, Overdue::Stalled));
        }
        let state = self.state();
        if state.requests > 0 {
            return None;
        }
        if state.closing {
            return Some((state.last + LINGER, Overdue::Deaf));
        }
        match state.head {
            // HTTP/2 has bytes of its own between requests, so they do not tell of a head there.
            Some(since) if self.0.speaks == Speaks::Http1 => Some((since + options.header_timeout, Overdue::Head)),
            _ => Some((state.quiet + options.idle_timeout, Overdue::Idle)),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One request on a connection.
#[derive(Debug)]
pub(crate) struct ActiveRequest(Activity);

impl Drop for ActiveRequest {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.requests -= 1;
        if state.requests == 0 {
            state.quiet = Instant::now();
            state.head = None;
        }
    }
}

/// A future that resolves when a connection is overdue. It is polled whenever the connection is, so the timer needs to
/// be set again only when something is due earlier than before.
#[derive(Debug)]
pub(crate) struct Watch<'a> {
    activity: &'a Activity,
    options: &'a ServerOptions,
    timer: Pin<Box<Sleep>>,
}

impl<'a> Watch<'a> {
    pub(crate) fn new(activity: &'a Activity, options: &'a ServerOptions) -> Self {
        Self { activity, options, timer: Box::pin(tokio::time::sleep(LINGER)) }
    }
}

impl Future for Watch<'_> {
    type Output = Overdue;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Overdue> {
        loop {
            let due = self.activity.due(self.options);
            // Mostly the timer comes early enough, and the clock need not be read.
            let early = due.is_none_or(|(when, _)| self.timer.deadline() <= when.into());
            if self.timer.is_elapsed() || !early {
                let now = Instant::now();
                match due {
                    Some((when, what)) if when <= now => return Poll::Ready(what),
                    Some((when, _)) => self.timer.as_mut().reset(when.into()),
                    // Look again later, since an HTTP/2 stream may end without waking this task.
                    None => {
                        let later = now + self.options.idle_timeout.min(LINGER);
                        self.timer.as_mut().reset(later.into());
                    }
                }
            }
            ready!(self.timer.as_mut().poll(context));
        }
    }
}

/// A stream that gives back what was read of it, and tells an [`Activity`] what passes.
#[derive(Debug)]
pub(crate) struct Metered<S> {
    stream: S,
    first: Bytes,
    activity: Activity,
}

impl<S> Metered<S> {
    pub(crate) fn new(stream: S, first: Bytes, activity: Activity) -> Self {
        Self { stream, first, activity }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Metered<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.first.is_empty() {
            let len = self.first.len().min(buffer.remaining());
            buffer.put_slice(&self.first[..len]);
            self.first.advance(len);
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        if buffer.filled().len() > before {
            self.activity.read();
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Metered<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write(context, bytes))?;
        self.activity.written();
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write_vectored(context, slices))?;
        self.activity.written();
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn due(activity: &Activity) -> Option<Overdue> {
        activity.due(&ServerOptions::default()).map(|(_, what)| what)
    }

    #[test]
    fn a_connection_is_idle_reading_a_head_or_busy() {
        let activity = Activity::new(Speaks::Http1);
        assert_eq!(due(&activity), Some(Overdue::Head));
        let request = activity.request();
        assert_eq!(due(&activity), None);
        activity.read();
        activity.sending().handed_over();
        assert_eq!(due(&activity), Some(Overdue::Stalled));
        activity.sending().taken();
        drop(request);
        assert_eq!(due(&activity), Some(Overdue::Idle));
        activity.read();
        assert_eq!(due(&activity), Some(Overdue::Head));
        activity.close();
        assert_eq!(due(&activity), Some(Overdue::Deaf));
    }

    #[test]
    fn http2_has_no_heads_of_its_own() {
        let activity = Activity::new(Speaks::Http2);
        activity.read();
        assert_eq!(due(&activity), Some(Overdue::Idle));
        let (first, second) = (activity.request(), activity.request());
        drop(first);
        activity.close();
        assert_eq!(due(&activity), None);
        drop(second);
        assert_eq!(due(&activity), Some(Overdue::Deaf));
    }

    #[tokio::test]
    async fn the_watch_resolves_when_something_is_overdue() {
        let options = ServerOptions { idle_timeout: Duration::from_millis(5), ..ServerOptions::default() };
        let activity = Activity::new(Speaks::Http2);
        assert_eq!(Watch::new(&activity, &options).await, Overdue::Idle);
        let options = ServerOptions { header_timeout: Duration::from_millis(5), ..ServerOptions::default() };
        let activity = Activity::new(Speaks::Http1);
        assert_eq!(Watch::new(&activity, &options).await, Overdue::Head);
    }
}
