//! A gRPC connection for the generated clients, over nothing but `h2`.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures::future::BoxFuture;
use h2::client::SendRequest;
use http::{Request, Response, Uri};
use http_body::Frame;
use http_body_util::BodyExt;
use tokio::net::TcpStream;

use super::Running;

/// One HTTP/2 connection; cheap to clone.
#[derive(Clone)]
pub(super) struct Channel {
    send: SendRequest<Bytes>,
    origin: Uri,
    reads: bool,
}

pub(super) type BoxError = Box<dyn std::error::Error + Send + Sync>;

impl Channel {
    pub(super) async fn to(server: &Running) -> Self {
        let stream = TcpStream::connect(server.address).await.expect("connected");
        let (send, connection) = h2::client::handshake(stream).await.expect("HTTP/2");
        tokio::spawn(connection);
        let origin = format!("http://{}", server.address).parse().expect("a URI");
        Self { send, origin, reads: true }
    }

    /// A client that never makes room for more of an answer.
    pub(super) fn without_reading(mut self) -> Self {
        self.reads = false;
        self
    }

    pub(super) fn origin(&self) -> Uri {
        self.origin.clone()
    }

    async fn exchange(mut self, request: Request<tonic::body::Body>) -> Result<Response<Answer>, BoxError> {
        std::future::poll_fn(|context| self.send.poll_ready(context)).await?;
        let (parts, mut body) = request.into_parts();
        let (response, mut stream) = self.send.send_request(Request::from_parts(parts, ()), false)?;
        tokio::spawn(async move {
            while let Some(Ok(frame)) = body.frame().await {
                if let Ok(mut data) = frame.into_data() {
                    while !data.is_empty() {
                        stream.reserve_capacity(data.len());
                        match std::future::poll_fn(|context| stream.poll_capacity(context)).await {
                            Some(Ok(room)) => {
                                let piece = data.split_to(room.min(data.len()));
                                if stream.send_data(piece, false).is_err() {
                                    return;
                                }
                            }
                            _ => return,
                        }
                    }
                }
            }
            let _ = stream.send_data(Bytes::new(), true);
        });
        let reads = self.reads;
        Ok(response.await?.map(|stream| Answer { stream, reads, ended: false }))
    }
}

impl tonic::client::GrpcService<tonic::body::Body> for Channel {
    type ResponseBody = Answer;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Response<Answer>, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<tonic::body::Body>) -> Self::Future {
        Box::pin(self.clone().exchange(request))
    }
}

pub(super) struct Answer {
    stream: h2::RecvStream,
    reads: bool,
    ended: bool,
}

impl http_body::Body for Answer {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if !self.ended {
            match ready!(self.stream.poll_data(context)) {
                Some(Ok(data)) => {
                    if self.reads {
                        let _ = self.stream.flow_control().release_capacity(data.len());
                    }
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                Some(Err(error)) => return Poll::Ready(Some(Err(error.into()))),
                None => self.ended = true,
            }
        }
        match ready!(self.stream.poll_trailers(context)) {
            Ok(trailers) => Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers)))),
            Err(error) => Poll::Ready(Some(Err(error.into()))),
        }
    }
}
