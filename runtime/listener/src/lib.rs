//! Connections of one HTTP service: accepted, bounded, timed, taken fairly and drained.
//!
//! A [`Listener`] accepts connections up to a limit, tells HTTP/1.1 from HTTP/2 with prior knowledge by their first
//! bytes, and hands every request to one [`Service`]. It owns the timers that hyper leaves to its users: first bytes,
//! heads, idle connections, readers that do not read, ages. When it is told to stop it loses no request that it has
//! accepted. It knows nothing of what is served.
//!
//! # A connection's way
//!
//! `accept` takes it when there is a place, `sniff` reads what it speaks, `connection` lets hyper drive it in the turns
//! of `turn`, while `activity` watches its timers. A request is counted from its head to the last byte of its answer
//! (`answer`); `request` reads on what a service refused, `stall` gives up readers that do not read. `stop` is the
//! sequence of a drain, `drain` its phases.
//!
//! # Why turns are written by hand
//!
//! hyper wakes its own task between the steps of one request, and begins each HTTP/2 stream as a task of its own. Each
//! way through the scheduler wakes another core; a small request costs less than that. `corymb-tests-bench tiny` shows
//! it: it sets the server's processor time for each small request beside that of hand-written handlers on the same
//! libraries. So one turn polls a connection while it wakes itself, up to a bound that leaves other connections their
//! share, and polls a stream that is alone on its connection in place. Whoever replaces `turn` by plain tasks should
//! measure that again.
//!
//! # Example
//!
//! ```
//! use std::future::{Ready, pending, ready};
//!
//! use bytes::Bytes;
//! use corymb_listener::{Connection, Drain, Listener, ListenerOptions, RequestBody, Service};
//! use http::{Request, Response};
//! use http_body_util::Full;
//! use tokio::io::{AsyncReadExt, AsyncWriteExt};
//! use tokio::net::{TcpListener, TcpStream};
//! use tokio::sync::oneshot;
//!
//! struct Greeter;
//!
//! impl Service for Greeter {
//!     type Body = Full<Bytes>;
//!     type Answer = Ready<Response<Full<Bytes>>>;
//!
//!     fn call(&self, request: Request<RequestBody>, _connection: &Connection) -> Self::Answer {
//!         ready(Response::new(format!("hello from {}\n", request.uri().path()).into()))
//!     }
//! }
//!
//! #[tokio::main]
//! async fn main() -> std::io::Result<()> {
//!     let socket = TcpListener::bind("127.0.0.1:0").await?;
//!     let address = socket.local_addr()?;
//!     let (stop, stopped) = oneshot::channel::<()>();
//!     let listener = Listener::new(ListenerOptions::default(), Drain::new(), Greeter);
//!     let serving = tokio::spawn(listener.serve(vec![socket], async { drop(stopped.await) }, pending()));
//!
//!     let mut client = TcpStream::connect(address).await?;
//!     client.write_all(b"GET /here HTTP/1.1\r\nhost: example\r\nconnection: close\r\n\r\n").await?;
//!     let mut answer = String::new();
//!     client.read_to_string(&mut answer).await?;
//!     assert!(answer.ends_with("hello from /here\n"));
//!
//!     drop(stop);
//!     assert_eq!(serving.await?.cut, 0);
//!     Ok(())
//! }
//! ```

mod accept;
mod activity;
mod answer;
mod connection;
mod counts;
mod drain;
mod io;
mod listener;
mod options;
mod pieces;
mod request;
mod service;
mod sniff;
mod stall;
mod stop;
mod turn;

#[cfg(test)]
mod tests;

pub use drain::{Drain, Phase};
pub use listener::Listener;
pub use options::ListenerOptions;
pub use pieces::Pieces;
pub use request::RequestBody;
pub use service::{Connection, Service};
pub use stop::Drained;
