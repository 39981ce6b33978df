//! Notices readers that do not read: a response that waits for its peer too long gives up its stream.
//!
//! hyper has no timer for this, and a response body cannot have one: while the peer's window is closed nobody polls it.
//! So the body notes when it last handed something over, and whoever drives the stream watches that note.

use std::future::poll_fn;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::{Duration, Instant};

use tokio::task_local;

use crate::turn::Begun;

task_local! {
    /// The note of the HTTP/2 stream that is being driven.
    static STREAM: Sending;
}

/// Since when a response waits for its peer to take what it was given.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sending(Arc<Mutex<Option<Instant>>>);

impl Sending {
    /// The note of the current HTTP/2 stream; none outside of one.
    pub(crate) fn of_stream() -> Option<Self> {
        STREAM.try_with(Self::clone).ok()
    }

    /// Something was handed over: the peer has to take it.
    pub(crate) fn handed_over(&self) {
        self.set(Some(Instant::now()));
    }

    /// The peer took it; the next move is ours.
    pub(crate) fn taken(&self) {
        self.set(None);
    }

    pub(crate) fn since(&self) -> Option<Instant> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, since: Option<Instant>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = since;
    }

    /// Returns when the peer has taken nothing for `limit`, at most one more `limit` late.
    async fn stalled(&self, limit: Duration) {
        loop {
            match self.since() {
                Some(since) if since.elapsed() >= limit => return,
                Some(since) => tokio::time::sleep_until((since + limit).into()).await,
                None => tokio::time::sleep(limit).await,
            }
        }
    }
}

/// Begins hyper's HTTP/2 streams and drops those that stall, which resets them.
#[derive(Clone, Debug)]
pub(crate) struct StreamExecutor {
    pub(crate) limit: Duration,
    /// Of the connection.
    pub(crate) begun: Begun,
}

impl<F> hyper::rt::Executor<F> for StreamExecutor
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, stream: F) {
        let limit = self.limit;
        let sending = Sending::default();
        // Moved once, here: it is large, and there are several hands between here and the task that drives it.
        let mut stream = Box::pin(stream);
        self.begun.push(Box::pin(STREAM.scope(sending.clone(), async move {
            let stalled = sending.stalled(limit);
            tokio::pin!(stalled);
            poll_fn(|context| {
                if stream.as_mut().poll(context).is_ready() {
                    return Poll::Ready(());
                }
                // The note changes only while the stream is polled: until a response waits for its peer, no timer.
                if sending.since().is_none() {
                    return Poll::Pending;
                }
                stalled.as_mut().poll(context).map(|()| {
                    tracing::debug!(?limit, "a response was not read and is given up");
                })
            })
            .await;
        })));
    }
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Waker};

    use hyper::rt::Executor;
    use tokio::sync::oneshot;

    use super::*;
    use crate::turn::Turns;

    /// As a connection does that holds other requests too.
    fn execute(limit: Duration, stream: impl Future<Output = ()> + Send + 'static) {
        let begun = Begun::default();
        StreamExecutor { limit, begun: begun.clone() }.execute(stream);
        let mut context = Context::from_waker(Waker::noop());
        let polled = Turns::new(begun).poll(&mut context, |_| Poll::<()>::Pending, || false);
        assert!(polled.is_pending());
    }

    #[tokio::test]
    async fn a_stream_whose_peer_does_not_read_is_dropped() {
        let (alive, dropped) = oneshot::channel::<()>();
        execute(Duration::from_millis(10), async move {
            Sending::of_stream().expect("in a stream").handed_over();
            std::future::pending::<()>().await;
            drop(alive);
        });
        assert!(dropped.await.is_err());
    }

    #[tokio::test]
    async fn a_stream_that_waits_for_us_is_kept() {
        let limit = Duration::from_millis(5);
        let (done, finished) = oneshot::channel();
        execute(limit, async move {
            let sending = Sending::of_stream().expect("in a stream");
            sending.handed_over();
            sending.taken();
            tokio::time::sleep(limit * 5).await;
            let _ = done.send(());
        });
        assert!(finished.await.is_ok());
        assert!(Sending::of_stream().is_none());
    }
}
