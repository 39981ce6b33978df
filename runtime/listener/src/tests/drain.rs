//! How a listener stops, and what it loses then: nothing.

use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::client::Http1;
use super::load::{self, Goes, Load};
use super::service::Seen;
use super::{LONG, SHORT, start, until, within};
use crate::{Drain, Listener, ListenerOptions, Phase};

/// Clients that connect while the listener serves, as if its address disappeared with readiness, and leave when they
/// are told to.
#[derive(Clone)]
struct UntilTold(Drain);

impl Goes for UntilTold {
    fn on(&self) -> bool {
        true
    }

    fn elsewhere(&self) -> bool {
        self.0.phase() == Phase::Serving
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_loses_nothing_under_load() {
    let options = ListenerOptions { drain_delay: SHORT * 10, drain_timeout: LONG, ..ListenerOptions::default() };
    let listener = start(options).await;
    let goes = UntilTold(listener.drain.clone());
    let mut clients = JoinSet::new();
    for _ in 0..8 {
        clients.spawn(load::http1(listener.address, goes.clone()));
    }
    for _ in 0..4 {
        clients.spawn(load::http2(listener.address, goes.clone()));
    }
    let seen = listener.seen.clone();
    until(|| seen.begun() > 500).await;
    let drained = listener.stop().await;
    let mut all = Load::default();
    for client in clients.join_all().await {
        all.add(client);
    }
    assert_eq!(all.lost, Vec::<String>::new());
    assert_eq!(seen.begun(), all.answered);
    assert_eq!(drained.cut, 0);
    assert!(drained.took < LONG);
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_in_flight_are_answered_before_the_listener_ends() {
    let listener = start(ListenerOptions::default()).await;
    let (mut busy, mut idle) = (listener.connect().await, listener.connect().await);
    let http2 = listener.http2().await;
    assert_eq!(idle.get("/").await.status, 200);
    busy.begin("/sleep/400").await;
    let (address, seen) = (listener.address, listener.seen.clone());
    let stopping = async {
        until(|| seen.open() == 2).await;
        listener.stop().await
    };
    let (response, drained) = tokio::join!(http2.get("/sleep/400"), stopping);
    assert_eq!(drained.cut, 0);
    assert_eq!(response.expect("an answer").1, "ok");
    let answer = busy.answer().await;
    assert_eq!(answer.status, 200);
    assert!(answer.closes(), "{}", answer.head);
    idle.closed().await;
    http2.ended().await;
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_drain_delay_still_serves() {
    let listener = start(ListenerOptions { drain_delay: SHORT * 30, ..ListenerOptions::default() }).await;
    let mut pooled = listener.connect().await;
    assert!(!pooled.get("/").await.closes());
    let (address, drain) = (listener.address, listener.drain.clone());
    let stopping = tokio::spawn(listener.stop());
    drain.reached(Phase::Leaving).await;
    let mut late = Http1(TcpStream::connect(address).await.expect("still open"));
    let answer = late.get("/").await;
    assert_eq!(answer.status, 200);
    assert!(answer.closes());
    assert!(pooled.get("/").await.closes());
    assert_eq!(stopping.await.expect("no panic").cut, 0);
    assert_eq!(drain.phase(), Phase::Cut);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_done_in_time_is_cut_and_counted() {
    let listener = start(ListenerOptions { drain_timeout: SHORT, ..ListenerOptions::default() }).await;
    let mut busy = listener.connect().await;
    busy.begin("/sleep/60000").await;
    until(|| listener.seen.open() == 1).await;
    assert_eq!(listener.stop().await.cut, 1);
    assert!(busy.try_answer().await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_cuts_it_short() {
    let options = ListenerOptions { drain_delay: LONG, drain_timeout: LONG, ..ListenerOptions::default() };
    let listener = start(options).await;
    let mut busy = listener.connect().await;
    busy.begin("/sleep/60000").await;
    until(|| listener.seen.open() == 1).await;
    listener.shutdown.send(()).expect("it runs");
    listener.hurry.send(()).expect("it runs");
    assert_eq!(within(listener.serving).await.expect("no panic").cut, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deaf_peer_does_not_hold_the_listener() {
    let listener = start(ListenerOptions { drain_timeout: LONG, ..ListenerOptions::default() }).await;
    let mut deaf = listener.connect().await;
    // A preface and empty settings; the listener's farewell is never answered.
    deaf.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await;
    let mut settings = [0; 9];
    deaf.0.read_exact(&mut settings).await.expect("the listener's settings");
    let drained = listener.stop().await;
    assert_eq!(drained.cut, 0);
    assert!(drained.took < LONG);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listener_that_is_dropped_accepts_no_more() {
    let socket = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = socket.local_addr().expect("an address");
    let listener = Listener::new(ListenerOptions::default(), Drain::new(), Seen::default().service());
    let serving = tokio::spawn(listener.serve(vec![socket], std::future::pending(), std::future::pending()));
    let mut connection = Http1(TcpStream::connect(address).await.expect("connected"));
    assert_eq!(connection.get("/").await.status, 200);
    serving.abort();
    assert!(serving.await.expect_err("it does not end by itself").is_cancelled());
    until(|| std::net::TcpStream::connect(address).is_err()).await;
    assert_eq!(connection.get("/").await.status, 200, "what is open is served");
}
