//! What happens on one connection, and the moments at which nothing has happened for too long.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use tokio::time::Sleep;

use crate::options::ListenerOptions;
use crate::sniff::Speaks;
use crate::stall::Sending;

/// How long a closing connection that holds no request may stay quiet: a live peer answers the farewell much sooner,
/// a deaf one must not hold up the listener's end.
pub(crate) const LINGER: Duration = Duration::from_secs(2);

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
    /// How long the connection may stay quiet, once it is closing.
    closing: Option<Duration>,
}

/// Why a connection should end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Overdue {
    /// It had no requests for too long: say farewell.
    Idle,
    /// It has reached its age: say farewell.
    Old,
    /// A request's headers did not arrive in time.
    Head,
    /// The peer does not read its response.
    Stalled,
    /// The peer does not react to the farewell.
    Deaf,
}

impl Activity {
    pub(crate) fn new(speaks: Speaks) -> Self {
        let now = Instant::now();
        // What the sniff read is the beginning of a head.
        let state = State { requests: 0, quiet: now, head: Some(now), last: now, closing: None };
        Self(Arc::new(Inner { speaks, state: Mutex::new(state), sending: Sending::default() }))
    }

    /// Counts a request until the guard is dropped.
    pub(crate) fn request(&self) -> ActiveRequest {
        let mut state = self.state();
        state.requests += 1;
        state.head = None;
        ActiveRequest(self.clone())
    }

    /// For how long there has been no request; none where there is one, or the connection is closing.
    pub(crate) fn idle(&self) -> Option<Duration> {
        let state = self.state();
        (state.requests == 0 && state.closing.is_none()).then(|| state.quiet.elapsed())
    }

    /// Whether the connection holds one request and no other.
    pub(crate) fn is_alone(&self) -> bool {
        self.state().requests == 1
    }

    /// From now on only requests in flight keep the connection; without one it may stay quiet for `limit`.
    pub(crate) fn close(&self, limit: Duration) {
        let mut state = self.state();
        state.closing = Some(limit);
        state.last = Instant::now();
    }

    /// Bytes came.
    pub(crate) fn read(&self) {
        let now = Instant::now();
        let mut state = self.state();
        state.last = now;
        if state.requests == 0 && state.head.is_none() {
            state.head = Some(now);
        }
    }

    /// The kernel took bytes.
    pub(crate) fn written(&self) {
        self.state().last = Instant::now();
    }

    /// What happens next if nothing else does, and when.
    fn due(&self, options: &ListenerOptions) -> Option<(Instant, Overdue)> {
        if let Some(since) = self.0.sending.since() {
            return Some((since + options.stall_timeout, Overdue::Stalled));
        }
        let state = self.state();
        if state.requests > 0 {
            return None;
        }
        if let Some(limit) = state.closing {
            return Some((state.last + limit, Overdue::Deaf));
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

impl ActiveRequest {
    /// The note that the response to this request keeps of its peer. Asked for where the response is driven, since an
    /// HTTP/2 stream has a note of its own.
    pub(crate) fn sending(&self) -> Sending {
        Sending::of_stream().unwrap_or_else(|| self.0.0.sending.clone())
    }
}

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
    options: &'a ListenerOptions,
    /// When the connection is old, whatever it holds.
    age: Option<Instant>,
    timer: Pin<Box<Sleep>>,
}

impl<'a> Watch<'a> {
    pub(crate) fn new(activity: &'a Activity, options: &'a ListenerOptions, age: Option<Instant>) -> Self {
        Self { activity, options, age, timer: Box::pin(tokio::time::sleep(LINGER)) }
    }
}

impl Future for Watch<'_> {
    type Output = Overdue;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Overdue> {
        loop {
            let due = self.activity.due(self.options);
            let old = self.age.map(|age| (age, Overdue::Old));
            let next = [due, old].into_iter().flatten();
            // Mostly the timer comes early enough, and the clock need not be read.
            let early = next.clone().all(|(when, _)| self.timer.deadline() <= when.into());
            if self.timer.is_elapsed() || !early {
                let now = Instant::now();
                if let Some((_, what)) = next.clone().find(|(when, _)| *when <= now) {
                    return Poll::Ready(what);
                }
                // Look again later, since an HTTP/2 stream may end without waking this task.
                let later = due.is_none().then(|| now + self.options.idle_timeout.min(LINGER));
                if let Some(when) = next.map(|(when, _)| when).chain(later).min() {
                    self.timer.as_mut().reset(when.into());
                }
            }
            ready!(self.timer.as_mut().poll(context));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn due(activity: &Activity) -> Option<Overdue> {
        activity.due(&ListenerOptions::default()).map(|(_, what)| what)
    }

    #[test]
    fn a_connection_is_idle_reading_a_head_or_busy() {
        let activity = Activity::new(Speaks::Http1);
        assert_eq!(due(&activity), Some(Overdue::Head));
        let request = activity.request();
        assert_eq!(due(&activity), None);
        activity.read();
        request.sending().handed_over();
        assert_eq!(due(&activity), Some(Overdue::Stalled));
        request.sending().taken();
        drop(request);
        assert_eq!(due(&activity), Some(Overdue::Idle));
        activity.read();
        assert_eq!(due(&activity), Some(Overdue::Head));
        activity.close(LINGER);
        assert_eq!(due(&activity), Some(Overdue::Deaf));
    }

    #[test]
    fn http2_has_no_heads_of_its_own() {
        let activity = Activity::new(Speaks::Http2);
        activity.read();
        assert_eq!(due(&activity), Some(Overdue::Idle));
        let (first, second) = (activity.request(), activity.request());
        drop(first);
        activity.close(LINGER);
        assert_eq!(due(&activity), None);
        drop(second);
        assert_eq!(due(&activity), Some(Overdue::Deaf));
    }

    #[tokio::test]
    async fn the_watch_resolves_when_something_is_overdue() {
        let (short, long) = (Duration::from_millis(5), Duration::from_secs(60));
        let watched = async |speaks, options: &ListenerOptions, age, busy: bool| {
            let activity = Activity::new(speaks);
            let _request = busy.then(|| activity.request());
            tokio::time::timeout(long, Watch::new(&activity, options, age)).await.ok()
        };
        let options = ListenerOptions { idle_timeout: short, ..ListenerOptions::default() };
        assert_eq!(watched(Speaks::Http2, &options, None, false).await, Some(Overdue::Idle));
        let options = ListenerOptions { header_timeout: short, ..ListenerOptions::default() };
        assert_eq!(watched(Speaks::Http1, &options, None, false).await, Some(Overdue::Head));
        // Requests keep a connection from everything but its age.
        let age = Some(Instant::now() + short);
        assert_eq!(watched(Speaks::Http2, &options, age, true).await, Some(Overdue::Old));
        let options = ListenerOptions { idle_timeout: short, ..ListenerOptions::default() };
        let age = Some(Instant::now() + long);
        assert_eq!(watched(Speaks::Http2, &options, age, false).await, Some(Overdue::Idle));
    }
}
