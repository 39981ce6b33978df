//! HTTP/1.1 with keep-alive, over TLS where the URL says so.

use bytes::Bytes;
use http::{HeaderValue, Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::{CONNECT_TIMEOUT, MAX_ANSWER};
use crate::call::RestCall;
use crate::outcome::{Failure, Outcome};
use crate::target::Target;

pub(super) struct Rest {
    target: Target,
    authority: HeaderValue,
    connection: Option<SendRequest<Full<Bytes>>>,
}

impl Rest {
    pub(super) fn new(target: &Target) -> Self {
        Self { target: target.clone(), authority: target.host_header(), connection: None }
    }

    pub(super) async fn send(&mut self, call: &RestCall) -> Outcome {
        // Taken out, so that a future that is dropped half way leaves no half-used connection behind.
        let kept = self.connection.take();
        let was_kept = kept.is_some();
        match self.send_once(kept, call).await {
            // The server may close a kept connection while it is idle, which is not an answer to this request.
            Err(Sent::Not) if was_kept => self.send_once(None, call).await.map_err(Sent::failure),
            outcome => outcome.map_err(Sent::failure),
        }
    }

    /// The answer with its body unread, on a connection of its own, or in words why there is none.
    pub(super) async fn ask(&self, call: &RestCall) -> Result<Response<Incoming>, String> {
        let mut connection = self.connect().await.map_err(|(_, words)| words)?;
        connection.send_request(self.request(call)).await.map_err(|error| format!("{}: {error}", Failure::Lost))
    }

    fn request(&self, call: &RestCall) -> Request<Full<Bytes>> {
        call.request(&self.authority, self.target.headers())
    }

    async fn send_once(&mut self, kept: Option<SendRequest<Full<Bytes>>>, call: &RestCall) -> Result<u64, Sent> {
        let mut connection = match kept {
            Some(mut kept) => {
                kept.ready().await.map_err(|_| Sent::Not)?;
                kept
            }
            None => self.connect().await.map_err(|(failure, _)| Sent::But(failure))?,
        };
        let answer = connection.send_request(self.request(call)).await;
        let answer = answer.map_err(|error| if error.is_canceled() { Sent::Not } else { Sent::But(Failure::Lost) })?;
        let status = answer.status();
        let mut body = answer.into_body();
        let mut bytes = 0;
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|_| Sent::But(Failure::Lost))?;
            bytes += frame.data_ref().map_or(0, Bytes::len);
            if bytes > MAX_ANSWER {
                return Err(Sent::But(Failure::TooLarge));
            }
        }
        // A server that says `Connection: close` has closed it by now, or `ready` tells so the next time.
        self.connection = Some(connection);
        if status.is_success() { Ok(bytes as u64) } else { Err(Sent::But(Failure::Http(status.as_u16()))) }
    }

    async fn connect(&self) -> Result<SendRequest<Full<Bytes>>, (Failure, String)> {
        let in_words = |failure: Failure, cause: String| (failure, format!("{failure}: {cause}"));
        let connect = async {
            let unreached = |error: std::io::Error| in_words(Failure::Connect, error.to_string());
            let stream = TcpStream::connect(self.target.address()).await.map_err(unreached)?;
            stream.set_nodelay(true).map_err(unreached)?;
            let shaken = match self.target.tls() {
                Some((config, name)) => {
                    let stream = TlsConnector::from(config).connect(name, stream).await;
                    shake_hands(stream.map_err(|error| in_words(Failure::Tls, error.to_string()))?).await
                }
                None if self.target.is_tls() => {
                    let name = self.target.certified();
                    return Err(in_words(Failure::Tls, format!("'{name}' is no name that a certificate is for")));
                }
                None => shake_hands(stream).await,
            };
            shaken.map_err(|error| in_words(Failure::Connect, error.to_string()))
        };
        let late = || in_words(Failure::Connect, format!("none within {} s", CONNECT_TIMEOUT.as_secs()));
        timeout(CONNECT_TIMEOUT, connect).await.unwrap_or_else(|_| Err(late()))
    }
}

async fn shake_hands(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
) -> hyper::Result<SendRequest<Full<Bytes>>> {
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // Ends with the connection; an error has been seen by the request it belongs to.
    tokio::spawn(connection);
    Ok(sender)
}

/// A failure, and whether the server can have seen the request.
enum Sent {
    Not,
    But(Failure),
}

impl Sent {
    fn failure(self) -> Failure {
        match self {
            Self::Not => Failure::Lost,
            Self::But(failure) => failure,
        }
    }
}
