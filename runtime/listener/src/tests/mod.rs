//! A listener on a real port, in front of a small service.

mod age;
mod bodies;
mod client;
mod drain;
mod load;
mod service;
mod timers;

use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use self::client::{Http1, Http2};
use self::service::Seen;
use crate::{Drain, Drained, Listener, ListenerOptions};

const SHORT: Duration = Duration::from_millis(50);
const LONG: Duration = Duration::from_secs(60);

/// A listener that runs until it is told to stop.
struct Running {
    address: SocketAddr,
    drain: Drain,
    seen: Seen,
    shutdown: oneshot::Sender<()>,
    hurry: oneshot::Sender<()>,
    serving: JoinHandle<Drained>,
}

async fn start(options: ListenerOptions) -> Running {
    let socket = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = socket.local_addr().expect("an address");
    let (shutdown, told) = oneshot::channel();
    let (hurry, hurried) = oneshot::channel();
    let (drain, seen) = (Drain::new(), Seen::default());
    let listener = Listener::new(options, drain.clone(), seen.service());
    let serving = tokio::spawn(async move {
        let told = async { drop(told.await) };
        // A sender that is dropped is no signal.
        let hurried = async {
            if hurried.await.is_err() {
                std::future::pending().await
            }
        };
        listener.serve(vec![socket], told, hurried).await
    });
    Running { address, drain, seen, shutdown, hurry, serving }
}

impl Running {
    async fn connect(&self) -> Http1 {
        Http1(TcpStream::connect(self.address).await.expect("connected"))
    }

    async fn http2(&self) -> Http2 {
        Http2::to(self.address).await
    }

    /// Stops the listener, and says how that went.
    async fn stop(self) -> Drained {
        self.shutdown.send(()).expect("it runs");
        within(self.serving).await.expect("no panic")
    }
}

/// What a broken listener would never do, given up after a time that a working one never needs.
async fn within<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(LONG, what).await.expect("it happens within a minute")
}

/// Until something that another task does has happened.
async fn until(what: impl Fn() -> bool) {
    for _ in 0..4000 {
        if what() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("it did not happen within twenty seconds");
}
