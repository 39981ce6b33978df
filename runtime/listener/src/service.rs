//! What a listener hands requests to, and what it tells about the connection that each came on.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;

use crate::drain::{Drain, Phase};
use crate::options::ListenerOptions;
use crate::request::RequestBody;

/// Answers requests.
///
/// A panic in [`Service::call`], in an answer or in its body ends the connection; a service that wants to answer after
/// one catches it.
///
/// The listener sends the frames of a body as they are. A service whose frames may be large wraps its bodies in
/// [`Pieces`](crate::Pieces), inside of whatever counts the bytes that were handed over: without pieces a slow reader
/// looks like one that does not read, and loses its answer after
/// [`stall_timeout`](crate::ListenerOptions::stall_timeout).
pub trait Service: Send + Sync + 'static {
    /// The body of an answer.
    type Body: Body<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Send + 'static;

    /// The answer to come. It moves through several hands on its way to the task that drives it, so a large one should
    /// be boxed.
    type Answer: Future<Output = Response<Self::Body>> + Send + 'static;

    /// Begins to answer one request: with the call, not with the first poll.
    fn call(&self, request: Request<RequestBody>, connection: &Connection) -> Self::Answer;
}

/// The connection that a request came on; cheap to clone.
#[derive(Clone, Debug)]
pub struct Connection {
    drain: Drain,
    /// When it is old: from then on it ends as soon as that costs no request.
    age: Option<Instant>,
    /// From when on answers that would never end by themselves have to, since it is old.
    end: Option<Instant>,
}

impl Connection {
    /// How much more or less than the age that was set a connection's own age may be, as a part of it.
    const JITTER: f64 = 0.1;

    /// Of a connection that was accepted just now.
    pub(crate) fn accepted(options: &ListenerOptions, drain: &Drain) -> Self {
        let age = options.max_connection_age.and_then(|age| {
            let own = 1.0 + Self::JITTER * (fastrand::f64() * 2.0 - 1.0);
            // None where the clock does not reach that far.
            let own = Duration::try_from_secs_f64(age.as_secs_f64() * own).ok()?;
            Instant::now().checked_add(own)
        });
        let end = age.and_then(|age| age.checked_add(options.drain_timeout));
        Self { drain: drain.clone(), age, end }
    }

    /// When it is old.
    pub(crate) fn age(&self) -> Option<Instant> {
        self.age
    }

    /// Whether the client should make another connection for its next request.
    pub(crate) fn is_leaving(&self) -> bool {
        self.drain.phase() >= Phase::Leaving || self.age.is_some_and(|age| age <= Instant::now())
    }

    /// Resolves when answers that would never end by themselves, such as streams, must end: when the drain reaches
    /// [`Phase::Closing`], or [`drain_timeout`](ListenerOptions::drain_timeout) after the connection reached its age.
    pub fn over(&self) -> impl Future<Output = ()> + Send + 'static + use<> {
        let Self { drain, end, .. } = self.clone();
        async move {
            let closing = drain.reached(Phase::Closing);
            match end {
                Some(end) => {
                    // Either is the end.
                    let _ = tokio::time::timeout_at(end.into(), closing).await;
                }
                None => closing.await,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(60);
    const SHORT: Duration = Duration::from_millis(10);

    fn accepted(max_connection_age: Option<Duration>, drain_timeout: Duration) -> (Connection, Drain) {
        let drain = Drain::new();
        let options = ListenerOptions { max_connection_age, drain_timeout, ..ListenerOptions::default() };
        (Connection::accepted(&options, &drain), drain)
    }

    #[test]
    fn ages_differ_by_up_to_a_tenth() {
        let accepted: Vec<_> = (0..100).map(|_| accepted(Some(LONG), SHORT).0.age().expect("an age")).collect();
        let now = Instant::now();
        for age in &accepted {
            let own = *age - now;
            assert!(own > LONG.mul_f64(0.89) && own <= LONG.mul_f64(1.1), "{own:?}");
        }
        assert!(accepted.iter().max() > accepted.iter().min());
    }

    #[test]
    fn an_age_beyond_the_clock_is_none() {
        assert!(accepted(Some(Duration::MAX), SHORT).0.age().is_none());
        assert!(accepted(None, SHORT).0.age().is_none());
    }

    #[tokio::test]
    async fn a_connection_is_over_behind_its_age_or_when_the_drain_closes() {
        let (connection, _drain) = accepted(Some(SHORT), SHORT);
        tokio::time::timeout(LONG, connection.over()).await.expect("over by its age");
        assert!(connection.is_leaving());
        assert!(connection.age().expect("an age") + SHORT <= Instant::now());

        for age in [None, Some(SHORT)] {
            let (connection, drain) = accepted(age, LONG);
            let mut over = Box::pin(connection.over());
            assert!(tokio::time::timeout(SHORT * 3, &mut over).await.is_err());
            assert_eq!(connection.is_leaving(), age.is_some());
            drain.enter(Phase::Leaving);
            assert!(connection.is_leaving());
            assert!(tokio::time::timeout(SHORT, &mut over).await.is_err());
            drain.enter(Phase::Closing);
            tokio::time::timeout(LONG, over).await.expect("over by the drain");
            connection.over().await;
        }
    }
}
