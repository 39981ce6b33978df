//! The server behind a listener: one port, limits of bodies, and what clients see of a drain.

use std::sync::Arc;
use std::time::Duration;

use corymb_listener::ListenerOptions;
use tokio::net::TcpStream;

use super::{Http1, start, start_listening, until};
use crate::ServerOptions;

const SHORT: Duration = Duration::from_millis(50);

#[tokio::test(flavor = "multi_thread")]
async fn one_port_serves_rest_and_the_metrics_page() {
    let metrics = Some(Arc::new(|_| "up 1\n".to_owned()) as crate::MetricsPage);
    let server = start(ServerOptions { metrics, ..ServerOptions::default() }).await;
    let mut connection = server.connect().await;
    let answer = connection.get("/v2/health/ready").await;
    assert_eq!(answer.status, 200);
    assert!(answer.head.contains("\r\nx-request-id: "), "{}", answer.head);
    let answer = connection.get("/metrics").await;
    assert_eq!((answer.status, answer.text()), (200, "up 1\n"));
    let answer = connection.get("/nope").await;
    assert_eq!(answer.status, 404);
    assert!(answer.text().starts_with(r#"{"error":"#), "{}", answer.text());

    // gRPC's paths under another content type, and gRPC over HTTP/1.1.
    connection
        .send("POST /inference.GRPCInferenceService/ServerLive HTTP/1.1\r\nhost: t\r\ncontent-length: 0\r\n\r\n")
        .await;
    assert_eq!(connection.answer().await.status, 404);
    let grpc = "POST /inference.GRPCInferenceService/ServerLive HTTP/1.1\r\nhost: t\r\ncontent-type: application/grpc\r\n\
                content-length: 0\r\n\r\n";
    connection.send(grpc).await;
    assert_eq!(connection.answer().await.text(), r#"{"error":"gRPC needs HTTP/2"}"#);
    drop(connection);
    assert_eq!(server.stop().await.cut, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stalled_body_is_refused() {
    let server = start(ServerOptions { body_timeout: SHORT, ..ServerOptions::default() }).await;
    let mut connection = server.connect().await;
    connection.send("POST /v2/models/echo/infer HTTP/1.1\r\nhost: t\r\ncontent-length: 100\r\n\r\n{").await;
    assert_eq!(connection.answer().await.status, 504);
    assert_eq!(server.stop().await.cut, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_too_large_is_refused_before_it_is_sent() {
    let server = start(ServerOptions { max_body: 10, ..ServerOptions::default() }).await;
    let mut connection = server.connect().await;
    let head = "POST /v2/models/echo/infer HTTP/1.1\r\nhost: t\r\nexpect: 100-continue\r\ncontent-length: 11\r\n\r\n";
    connection.send(head).await;
    // No "100 Continue" comes first.
    assert_eq!(connection.answer().await.status, 413);

    let mut connection = server.connect().await;
    let chunks = "POST /v2/models/echo/infer HTTP/1.1\r\nhost: t\r\ntransfer-encoding: chunked\r\n\r\nb\r\n12345678901\r\n0\r\n\r\n";
    connection.send(chunks).await;
    assert_eq!(connection.answer().await.status, 413);
    assert_eq!(server.stop().await.cut, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_chunks_are_the_callers_mistake() {
    let server = start(ServerOptions::default()).await;
    let extension = "x".repeat(100 << 10);
    for chunk in ["zz", "5;", "1\u{1}"].map(str::to_owned).into_iter().chain([format!("1;{extension}")]) {
        let mut connection = server.connect().await;
        let head = "POST /v2/models/echo/infer HTTP/1.1\r\nhost: t\r\ntransfer-encoding: chunked\r\n\r\n";
        connection.send(format!("{head}{chunk}\r\n1\r\n0\r\n\r\n")).await;
        let answer = connection.answer().await;
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        assert_eq!(answer.status, 400, "{text}");
        assert!(text.contains("the request's body is malformed"), "{text}");
    }
    assert_eq!(server.stop().await.cut, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_does_not_read_loses_its_connection() {
    let server = start(ServerOptions { body_timeout: SHORT * 6, ..ServerOptions::default() }).await;
    let mut connection = server.connect().await;
    // More than the kernel's buffers take.
    let elements = 48 * 1024 * 1024;
    let json = format!(
        r#"{{"parameters":{{"binary_data_output":true}},"inputs":[{{"name":"uint8","datatype":"UINT8","shape":[{elements}],"parameters":{{"binary_data_size":{elements}}}}}]}}"#
    );
    let head = format!(
        "POST /v2/models/echo/infer HTTP/1.1\r\nhost: t\r\ninference-header-content-length: {}\r\ncontent-length: {}\r\n\r\n",
        json.len(),
        json.len() + elements
    );
    connection.send(head + &json).await;
    connection.send(vec![1; elements]).await;
    tokio::time::sleep(SHORT * 20).await;
    assert!(connection.try_answer().await.is_none());
    assert_eq!(server.stop().await.cut, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_in_flight_are_answered_before_the_server_ends() {
    let server = start(ServerOptions::default()).await;
    let (mut busy, mut idle) = (server.connect().await, server.connect().await);
    assert_eq!(idle.get("/v2").await.status, 200);
    busy.begin_sleep(SHORT * 6).await;
    until(|| server.engine.concurrency().in_flight() == 1).await;
    let address = server.address;
    let stopping = tokio::spawn(server.stop());
    let answer = busy.answer().await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(answer.closes(), "{}", answer.head);
    idle.closed().await;
    assert_eq!(stopping.await.expect("no panic").cut, 0);
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_drain_delay_still_serves() {
    let server = start_listening(ListenerOptions { drain_delay: SHORT * 30, ..ListenerOptions::default() }).await;
    let mut pooled = server.connect().await;
    assert!(!pooled.get("/v2").await.closes());
    let address = server.address;
    let stopping = tokio::spawn(server.stop());
    // Readiness goes first.
    let mut probe = loop {
        let mut probe = Http1(TcpStream::connect(address).await.expect("still open"));
        let answer = probe.get("/v2/health/ready").await;
        if answer.status == 503 {
            assert!(answer.closes());
            break probe;
        }
    };
    probe.closed().await;
    let mut late = Http1(TcpStream::connect(address).await.expect("still open"));
    let answer = late.get("/v2").await;
    assert_eq!(answer.status, 200);
    assert!(answer.closes());
    assert!(pooled.get("/v2").await.closes());
    assert_eq!(stopping.await.expect("no panic").cut, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_are_bounded() {
    let server = start_listening(ListenerOptions { max_connections: 1, ..ListenerOptions::default() }).await;
    let mut first = server.connect().await;
    assert_eq!(first.get("/v2").await.status, 200);
    // In the kernel's queue until there is room.
    let mut second = server.connect().await;
    second.send("GET /v2 HTTP/1.1\r\nhost: t\r\n\r\n").await;
    let mut byte = [0; 1];
    assert!(tokio::time::timeout(SHORT, second.0.peek(&mut byte)).await.is_err());
    drop(first);
    assert_eq!(second.answer().await.status, 200);
    // And what is still there is taken, not reset, when the server stops.
    let mut third = server.connect().await;
    third.send("GET /v2 HTTP/1.1\r\nhost: t\r\n\r\n").await;
    let stopping = tokio::spawn(server.stop());
    assert_eq!(third.answer().await.status, 200);
    assert_eq!(stopping.await.expect("no panic").cut, 0);
}
