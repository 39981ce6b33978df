//! The whole server on a real port, in front of an engine that echoes.

mod client;
mod grpc;
mod parity;
mod transport;

use std::net::SocketAddr;
use std::time::Duration;

use corymb_engine::{Engine, EngineOptions};
use corymb_listener::{Drain, Drained, Listener, ListenerOptions};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::{Server, ServerOptions, fake};

/// A server that runs until it is told to stop.
struct Running {
    address: SocketAddr,
    engine: Engine,
    shutdown: oneshot::Sender<()>,
    server: JoinHandle<Drained>,
}

async fn start(options: ServerOptions) -> Running {
    start_with(EngineOptions::default(), options).await
}

async fn start_listening(options: ListenerOptions) -> Running {
    start_all(EngineOptions::default(), ServerOptions::default(), options).await
}

async fn start_with(engine_options: EngineOptions, options: ServerOptions) -> Running {
    let stall_timeout = options.body_timeout;
    start_all(engine_options, options, ListenerOptions { stall_timeout, ..ListenerOptions::default() }).await
}

async fn start_all(
    engine_options: EngineOptions,
    options: ServerOptions,
    listener_options: ListenerOptions,
) -> Running {
    start_on(fake::engine(engine_options).await, options, listener_options).await
}

async fn start_on(engine: Engine, options: ServerOptions, listener_options: ListenerOptions) -> Running {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let (shutdown, told) = oneshot::channel();
    let drain = Drain::new();
    let server = Listener::new(listener_options, drain.clone(), Server::new(engine.clone(), options, drain));
    let server = tokio::spawn(async move {
        let told = async { drop(told.await) };
        server.serve(vec![listener], told, std::future::pending()).await
    });
    Running { address, engine, shutdown, server }
}

impl Running {
    async fn connect(&self) -> Http1 {
        Http1(TcpStream::connect(self.address).await.expect("connected"))
    }

    /// Stops the server, and says how that went.
    async fn stop(self) -> Drained {
        self.shutdown.send(()).expect("it runs");
        self.server.await.expect("no panic")
    }
}

/// A connection on which a test writes its own HTTP/1.1.
struct Http1(TcpStream);

#[derive(Debug)]
struct Answer {
    status: u16,
    /// In lower case.
    head: String,
    body: Vec<u8>,
}

impl Answer {
    fn closes(&self) -> bool {
        self.head.contains("\r\nconnection: close")
    }

    fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("text")
    }
}

impl Http1 {
    async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.write_all(bytes.as_ref()).await.expect("written");
    }

    async fn get(&mut self, path: &str) -> Answer {
        self.send(format!("GET {path} HTTP/1.1\r\nhost: test\r\n\r\n")).await;
        self.answer().await
    }

    /// Sends a V2 request that keeps the model busy for so long.
    async fn begin_sleep(&mut self, time: Duration) {
        let body = format!(
            r#"{{"inputs":[{{"name":"sleep","datatype":"INT32","shape":[1],"data":[{}]}}]}}"#,
            time.as_millis()
        );
        let length = body.len();
        self.send(format!(
            "POST /v2/models/echo/infer HTTP/1.1\r\nhost: test\r\ncontent-length: {length}\r\n\r\n{body}"
        ))
        .await;
    }

    /// The next answer, which has a Content-Length.
    async fn answer(&mut self) -> Answer {
        self.try_answer().await.expect("an answer")
    }

    /// None when the connection ends before the answer does.
    async fn try_answer(&mut self) -> Option<Answer> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(self.0.read_u8().await.ok()?);
        }
        let head = String::from_utf8(head).expect("text").to_lowercase();
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        let length = head.split("\r\ncontent-length: ").nth(1).and_then(|rest| rest.split("\r\n").next());
        let mut body = vec![0; length.map_or(0, |length| length.parse().expect("a number"))];
        self.0.read_exact(&mut body).await.ok()?;
        Some(Answer { status, head, body })
    }

    /// Waits until the server has closed the connection, without an answer.
    async fn closed(&mut self) {
        let mut rest = Vec::new();
        // A reset is an end too.
        let _ = self.0.read_to_end(&mut rest).await;
        assert_eq!(String::from_utf8_lossy(&rest), "");
    }
}

/// Until something that another task does has happened.
async fn until(what: impl Fn() -> bool) {
    for _ in 0..2000 {
        if what() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("it did not happen within ten seconds");
}
