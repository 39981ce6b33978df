//! Clients of one connection each: HTTP/1.1 as a test writes it, HTTP/2 over nothing but `h2`.

use std::net::SocketAddr;

use bytes::{Bytes, BytesMut};
use h2::client::SendRequest;
use http::{Method, Request, StatusCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use super::within;

/// A connection on which a test writes its own HTTP/1.1.
pub(super) struct Http1(pub(super) TcpStream);

#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    /// In lower case.
    pub(super) head: String,
    pub(super) body: Vec<u8>,
}

impl Answer {
    /// Whether it is the last of its connection.
    pub(super) fn closes(&self) -> bool {
        self.head.contains("\r\nconnection: close")
    }
}

impl Http1 {
    pub(super) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.write_all(bytes.as_ref()).await.expect("written");
    }

    pub(super) async fn begin(&mut self, path: &str) {
        self.send(format!("GET {path} HTTP/1.1\r\nhost: test\r\n\r\n")).await;
    }

    pub(super) async fn get(&mut self, path: &str) -> Answer {
        self.begin(path).await;
        self.answer().await
    }

    /// The next answer, which has a Content-Length.
    pub(super) async fn answer(&mut self) -> Answer {
        self.try_answer().await.expect("an answer")
    }

    /// None when the connection ends before the answer does.
    pub(super) async fn try_answer(&mut self) -> Option<Answer> {
        within(self.read_answer()).await
    }

    async fn read_answer(&mut self) -> Option<Answer> {
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

    /// What comes until the listener has closed the connection.
    pub(super) async fn rest(&mut self) -> String {
        let mut rest = Vec::new();
        // A reset is an end too.
        let _ = within(self.0.read_to_end(&mut rest)).await;
        String::from_utf8_lossy(&rest).into_owned()
    }

    /// Waits until the listener has closed the connection, without an answer.
    pub(super) async fn closed(&mut self) {
        assert_eq!(self.rest().await, "");
    }
}

/// One HTTP/2 connection.
pub(super) struct Http2 {
    pub(super) send: SendRequest<Bytes>,
    address: SocketAddr,
    driver: JoinHandle<Result<(), h2::Error>>,
}

/// Why there was no answer over HTTP/2.
#[derive(Debug)]
pub(super) enum Unanswered {
    /// The listener has said farewell: the request belongs on another connection, and was not begun.
    Farewell,
    /// It was lost.
    Lost(h2::Error),
}

impl From<h2::Error> for Unanswered {
    fn from(error: h2::Error) -> Self {
        // `h2` gives a farewell as the reason for streams only that lie behind the last one the peer has begun.
        if error.is_go_away() && error.reason() == Some(h2::Reason::NO_ERROR) {
            Self::Farewell
        } else {
            Self::Lost(error)
        }
    }
}

impl Http2 {
    pub(super) async fn to(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.expect("connected");
        // The connection's window is larger than a stream's: a stream that is not read leaves room for others.
        let mut builder = h2::client::Builder::new();
        builder.initial_connection_window_size(8 << 20);
        let (send, connection) = builder.handshake(stream).await.expect("HTTP/2");
        Self { send, address, driver: tokio::spawn(connection) }
    }

    /// The head of the answer.
    pub(super) async fn begin(
        send: SendRequest<Bytes>,
        address: SocketAddr,
        path: &str,
        body: &'static [u8],
    ) -> Result<http::Response<h2::RecvStream>, Unanswered> {
        let mut send = send.ready().await?;
        let request = Request::builder().method(Method::POST).uri(format!("http://{address}{path}"));
        let (response, mut stream) = send.send_request(request.body(()).expect("a request"), body.is_empty())?;
        if !body.is_empty() {
            stream.send_data(Bytes::from_static(body), true)?;
        }
        Ok(within(response).await?)
    }

    /// The whole answer.
    pub(super) async fn exchange(
        send: SendRequest<Bytes>,
        address: SocketAddr,
        path: &str,
        body: &'static [u8],
    ) -> Result<(StatusCode, Bytes), Unanswered> {
        let (head, mut stream) = Self::begin(send, address, path, body).await?.into_parts();
        let mut whole = BytesMut::new();
        while let Some(data) = within(stream.data()).await {
            let data = data?;
            let _ = stream.flow_control().release_capacity(data.len());
            whole.extend_from_slice(&data);
        }
        Ok((head.status, whole.freeze()))
    }

    pub(super) async fn get(&self, path: &str) -> Result<(StatusCode, Bytes), Unanswered> {
        Self::exchange(self.send.clone(), self.address, path, b"").await
    }

    /// A request whose body is sent piece by piece.
    pub(super) async fn open(&self, path: &str) -> (h2::client::ResponseFuture, h2::SendStream<Bytes>) {
        let mut send = self.send.clone().ready().await.expect("open");
        let request = Request::builder().method(Method::POST).uri(format!("http://{}{path}", self.address));
        send.send_request(request.body(()).expect("a request"), false).expect("sent")
    }

    /// An answer of which nothing is read.
    pub(super) async fn unread(&self, path: &str) -> h2::RecvStream {
        Self::begin(self.send.clone(), self.address, path, b"").await.expect("an answer").into_body()
    }

    /// Waits until the listener has ended the connection in order.
    pub(super) async fn ended(self) {
        let Self { send, driver, .. } = self;
        within(driver).await.expect("no panic").expect("no error");
        drop(send);
    }
}
