//! Bodies of requests that are read, refused, or waited for.

use bytes::Bytes;
use http::StatusCode;

use super::{start, within};
use crate::ListenerOptions;

#[tokio::test(flavor = "multi_thread")]
async fn a_body_is_read_whole() {
    let listener = start(ListenerOptions::default()).await;
    let mut connection = listener.connect().await;
    connection.send("POST /echo HTTP/1.1\r\nhost: t\r\ncontent-length: 3\r\n\r\nabc").await;
    assert_eq!(connection.answer().await.body, b"abc");
    connection.send("POST /echo HTTP/1.1\r\nhost: t\r\ntransfer-encoding: chunked\r\n\r\n2\r\nde\r\n0\r\n\r\n").await;
    assert_eq!(connection.answer().await.body, b"de");
    assert_eq!(listener.stop().await.cut, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_whose_body_is_refused_reads_why() {
    let listener = start(ListenerOptions::default()).await;
    let mut connection = listener.connect().await;
    let body = vec![1; 16 << 20];
    connection.send(format!("POST /refuse HTTP/1.1\r\nhost: t\r\ncontent-length: {}\r\n\r\n", body.len())).await;
    connection.send(body).await;
    let answer = connection.answer().await;
    assert_eq!((answer.status, answer.body.as_slice()), (413, &b"no"[..]));
    assert_eq!(listener.stop().await.cut, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_is_told_to_continue_by_who_reads() {
    let listener = start(ListenerOptions::default()).await;
    let head =
        |path: &str| format!("POST {path} HTTP/1.1\r\nhost: t\r\nexpect: 100-continue\r\ncontent-length: 3\r\n\r\n");
    let mut connection = listener.connect().await;
    connection.send(head("/refuse")).await;
    assert_eq!(connection.answer().await.status, 413, "no \"100 Continue\" comes first");

    let mut connection = listener.connect().await;
    connection.send(head("/echo")).await;
    assert_eq!(connection.answer().await.status, 100);
    connection.send("abc").await;
    assert_eq!(connection.answer().await.body, b"abc");
    assert_eq!(listener.stop().await.cut, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn small_frames_that_wait_for_their_readers_cost_their_connection_nothing() {
    const FRAME: &[u8] = &[b' '; 128];
    let listener = start(ListenerOptions::default()).await;
    let http2 = listener.http2().await;
    let pending = http2.get("/sleep/1500");
    let unread = async {
        let begun = (0..8).map(|_| http2.open("/sleep/1000"));
        let mut streams: Vec<_> = futures::future::join_all(begun).await;
        // More than a window holds.
        for (_, body) in &mut streams {
            for _ in 0..(256 << 10) / FRAME.len() {
                body.send_data(Bytes::from_static(FRAME), false).expect("the stream is open");
            }
        }
        streams
    };
    let (answered, streams) = tokio::join!(pending, unread);
    assert_eq!(answered.expect("the connection goes on").0, StatusCode::OK);
    for (answer, _) in streams {
        assert_eq!(within(answer).await.expect("answered").status(), StatusCode::OK);
    }
    assert_eq!(listener.stop().await.cut, 0);
}
