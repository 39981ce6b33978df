//! Bounds in time and number: heads, idle connections, readers that do not read, connections at once.

use super::service::LARGE;
use super::{LONG, SHORT, start, until, within};
use crate::ListenerOptions;

#[tokio::test(flavor = "multi_thread")]
async fn stalled_heads_and_prefaces_are_closed() {
    let listener = start(ListenerOptions { header_timeout: SHORT, ..ListenerOptions::default() }).await;
    for beginning in ["G", "GET / HTTP/1.1\r\nhost:", "PRI * HTTP/2", "POST /a/path HT"] {
        let mut connection = listener.connect().await;
        connection.send(beginning).await;
        connection.closed().await;
    }
    let mut used = listener.connect().await;
    assert_eq!(used.get("/").await.status, 200);
    used.send("GET / HT").await;
    used.closed().await;
    assert_eq!(listener.stop().await.cut, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_connections_outlast_the_header_timeout_only() {
    let options = ListenerOptions { header_timeout: SHORT, idle_timeout: LONG, ..ListenerOptions::default() };
    let listener = start(options).await;
    let mut pooled = listener.connect().await;
    assert_eq!(pooled.get("/").await.status, 200);
    tokio::time::sleep(SHORT * 4).await;
    assert_eq!(pooled.get("/").await.status, 200);
    assert_eq!(listener.stop().await.cut, 0);

    let listener = start(ListenerOptions { idle_timeout: SHORT, ..ListenerOptions::default() }).await;
    let mut silent = listener.connect().await;
    silent.closed().await;
    let mut pooled = listener.connect().await;
    assert_eq!(pooled.get("/").await.status, 200);
    pooled.closed().await;
    listener.http2().await.ended().await;
    assert_eq!(listener.stop().await.cut, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_busy_connection_is_not_idle() {
    let listener = start(ListenerOptions { idle_timeout: SHORT, ..ListenerOptions::default() }).await;
    let (mut http1, http2) = (listener.connect().await, listener.http2().await);
    let (answer, response) = tokio::join!(http1.get("/sleep/500"), http2.get("/sleep/500"));
    assert_eq!(answer.status, 200);
    assert_eq!(response.expect("an answer").1, "ok");
    assert_eq!(listener.stop().await.cut, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_over_http1_that_does_not_read_loses_its_connection() {
    let listener = start(ListenerOptions { stall_timeout: SHORT * 6, ..ListenerOptions::default() }).await;
    let mut connection = listener.connect().await;
    connection.begin("/large").await;
    until(|| listener.seen.begun() == 1 && listener.seen.open() == 0).await;
    assert!(connection.try_answer().await.is_none());
    assert_eq!(listener.stop().await.cut, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_over_http2_that_does_not_read_loses_its_stream() {
    let listener = start(ListenerOptions { stall_timeout: SHORT * 6, ..ListenerOptions::default() }).await;
    let connection = listener.http2().await;
    let mut unread = connection.unread("/large").await;
    let lost = loop {
        // What has come is taken, and no room made for more.
        match within(unread.data()).await.expect("it does not end in order") {
            Ok(data) => assert!(data.len() < LARGE),
            Err(error) => break error,
        }
    };
    assert!(lost.is_reset(), "{lost}");
    assert_eq!(connection.get("/").await.expect("an answer").1, "ok");
    assert_eq!(connection.get("/large").await.expect("an answer").1.len(), LARGE);
    assert_eq!(listener.stop().await.cut, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_are_bounded() {
    let listener = start(ListenerOptions { max_connections: 1, ..ListenerOptions::default() }).await;
    let mut first = listener.connect().await;
    assert_eq!(first.get("/").await.status, 200);
    // In the kernel's queue until there is room.
    let mut second = listener.connect().await;
    second.begin("/").await;
    let mut byte = [0; 1];
    assert!(tokio::time::timeout(SHORT, second.0.peek(&mut byte)).await.is_err());
    drop(first);
    assert_eq!(second.answer().await.status, 200);
    // And what is still there is taken, not reset, when the listener stops.
    let mut third = listener.connect().await;
    third.begin("/").await;
    let stopping = tokio::spawn(listener.stop());
    assert_eq!(third.answer().await.status, 200);
    assert_eq!(stopping.await.expect("no panic").cut, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_connections_make_room() {
    let listener = start(ListenerOptions { max_connections: 3, ..ListenerOptions::default() }).await;
    let (mut silent, mut idle, mut busy) =
        (listener.connect().await, listener.connect().await, listener.connect().await);
    assert_eq!(idle.get("/").await.status, 200);
    busy.begin("/sleep/2500").await;
    let mut another = listener.connect().await;
    assert_eq!(another.get("/").await.status, 200, "it has had the place of an idle one");
    silent.closed().await;
    assert_eq!(busy.answer().await.status, 200, "who is busy stays");
    // Used within the last second it stays, too.
    assert_eq!(another.get("/").await.status, 200);
    drop(idle);
    assert_eq!(listener.stop().await.cut, 0);
}
