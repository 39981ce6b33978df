//! The age of connections, which ends them without costing a request.

use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::load::{self, Goes, Load};
use super::{LONG, SHORT, start, until};
use crate::ListenerOptions;

/// Clients go on, on one connection after the other, until then.
#[derive(Clone)]
struct Until(Instant);

impl Goes for Until {
    fn on(&self) -> bool {
        Instant::now() < self.0
    }

    fn elsewhere(&self) -> bool {
        self.on()
    }
}

fn aged(age: Duration, drain_timeout: Duration) -> ListenerOptions {
    ListenerOptions { max_connection_age: Some(age), drain_timeout, ..ListenerOptions::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_request_is_lost_to_an_age() {
    let listener = start(aged(SHORT * 3, LONG)).await;
    let goes = Until(Instant::now() + Duration::from_secs(2));
    let mut clients = JoinSet::new();
    for _ in 0..4 {
        clients.spawn(load::http1(listener.address, goes.clone()));
    }
    for _ in 0..2 {
        clients.spawn(load::http2(listener.address, goes.clone()));
    }
    let mut all = Load::default();
    for client in clients.join_all().await {
        assert!(client.connections > 1, "{client:?}");
        all.add(client);
    }
    assert_eq!(all.lost, Vec::<String>::new());
    // What was begun was answered: a farewell gives back only requests that were not.
    assert_eq!(listener.seen.begun(), all.answered);
    assert_eq!(listener.stop().await.cut, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_busy_request_at_its_age_is_finished() {
    let listener = start(aged(SHORT, LONG)).await;
    let mut http1 = listener.connect().await;
    let http2 = listener.http2().await;
    let (answer, response) = tokio::join!(http1.get("/sleep/500"), http2.get("/sleep/500"));
    assert_eq!((answer.status, answer.body.as_slice()), (200, &b"ok"[..]));
    assert!(answer.closes(), "{}", answer.head);
    http1.closed().await;
    assert_eq!(response.expect("an answer").1, "ok");
    http2.ended().await;
    assert_eq!(listener.stop().await.cut, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_http1_connection_outlives_its_age_by_one_answer() {
    let listener = start(aged(SHORT * 20, LONG)).await;
    // On a slow machine the first answer may come too late.
    let mut pooled = loop {
        let mut connection = listener.connect().await;
        if !connection.get("/").await.closes() {
            break connection;
        }
    };
    let mut byte = [0; 1];
    let end = tokio::time::timeout(SHORT * 30, pooled.0.peek(&mut byte)).await;
    assert!(end.is_err(), "still open");
    let answer = pooled.get("/").await;
    assert_eq!(answer.status, 200);
    assert!(answer.closes(), "{}", answer.head);
    pooled.closed().await;
    assert_eq!(listener.stop().await.cut, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_http2_connection_ends_at_its_age() {
    let listener = start(aged(SHORT * 4, LONG)).await;
    let silent = listener.http2().await;
    let used = listener.http2().await;
    let _ = used.get("/").await;
    silent.ended().await;
    used.ended().await;
    assert_eq!(listener.stop().await.cut, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_without_an_age_stays() {
    let listener = start(ListenerOptions::default()).await;
    let (mut http1, http2) = (listener.connect().await, listener.http2().await);
    for _ in 0..3 {
        assert!(!http1.get("/").await.closes());
        assert_eq!(http2.get("/").await.expect("an answer").1, "ok");
        tokio::time::sleep(SHORT).await;
    }
    assert_eq!(listener.stop().await.cut, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_end_a_drain_timeout_behind_the_age() {
    let listener = start(aged(SHORT, SHORT * 2)).await;
    let (mut http1, http2) = (listener.connect().await, listener.http2().await);
    let (answer, response) = tokio::join!(http1.get("/over"), http2.get("/over"));
    assert_eq!(answer.body, b"over");
    assert!(answer.closes());
    assert_eq!(response.expect("an answer").1, "over");
    http2.ended().await;
    let http2 = listener.http2().await;
    assert_eq!(http2.get("/stream").await.expect("an answer").1, "first,over");
    assert_eq!(listener.stop().await.cut, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_end_when_the_drain_closes() {
    for options in [ListenerOptions { drain_timeout: LONG, ..ListenerOptions::default() }, aged(LONG, LONG)] {
        let listener = start(options).await;
        let (mut http1, http2) = (listener.connect().await, listener.http2().await);
        http1.begin("/over").await;
        let stream = http2.get("/stream");
        let stopping = async {
            until(|| listener.seen.open() == 2).await;
            listener.stop().await
        };
        let (stream, drained) = tokio::join!(stream, stopping);
        assert_eq!(stream.expect("an answer").1, "first,over");
        assert_eq!(http1.answer().await.body, b"over");
        assert_eq!(drained.cut, 0);
        assert!(drained.took < LONG);
    }
}
