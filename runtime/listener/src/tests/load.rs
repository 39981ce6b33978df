//! Clients under continuous load, as pools of connections behave: they change the connection when they are told to.

use std::net::SocketAddr;

use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::client::{Http1, Http2, Unanswered};

/// Requests at a time on each HTTP/2 connection.
const STREAMS: usize = 16;

/// What became of the requests.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Load {
    pub(super) answered: usize,
    /// What was sent, and neither answered nor given back.
    pub(super) lost: Vec<String>,
    pub(super) connections: usize,
}

impl Load {
    pub(super) fn add(&mut self, other: Self) {
        self.answered += other.answered;
        self.lost.extend(other.lost);
        self.connections += other.connections;
    }
}

/// When a client goes on.
pub(super) trait Goes: Clone + Send + 'static {
    /// With another request.
    fn on(&self) -> bool;

    /// With another connection, when it has to leave the one it has.
    fn elsewhere(&self) -> bool;
}

/// One request at a time over HTTP/1.1, on a connection that is kept until an answer says that it was the last.
pub(super) async fn http1(address: SocketAddr, goes: impl Goes) -> Load {
    let mut load = Load::default();
    while goes.elsewhere() {
        let mut connection = Http1(TcpStream::connect(address).await.expect("connected"));
        load.connections += 1;
        loop {
            if !goes.on() {
                return load;
            }
            connection.begin("/").await;
            let Some(answer) = connection.try_answer().await else {
                load.lost.push(format!("request {} of a client over HTTP/1.1", load.answered + 1));
                break;
            };
            assert_eq!((answer.status, answer.body.as_slice()), (200, &b"ok"[..]));
            load.answered += 1;
            if answer.closes() {
                break;
            }
        }
    }
    load
}

/// Several requests at a time over HTTP/2, on a connection that is kept until its farewell.
pub(super) async fn http2(address: SocketAddr, goes: impl Goes) -> Load {
    let mut load = Load::default();
    while goes.on() && goes.elsewhere() {
        let connection = Http2::to(address).await;
        load.connections += 1;
        let mut streams = JoinSet::new();
        for _ in 0..STREAMS {
            let (send, goes) = (connection.send.clone(), goes.clone());
            streams.spawn(async move {
                let mut load = Load::default();
                while goes.on() {
                    match Http2::exchange(send.clone(), address, "/echo", b"ok").await {
                        Ok((status, body)) => {
                            assert_eq!((status.as_u16(), &body[..]), (200, &b"ok"[..]));
                            load.answered += 1;
                        }
                        Err(Unanswered::Farewell) => break,
                        Err(Unanswered::Lost(error)) => {
                            load.lost.push(format!("a request over HTTP/2: {error}"));
                            break;
                        }
                    }
                }
                load
            });
        }
        for stream in streams.join_all().await {
            load.add(stream);
        }
    }
    load
}
