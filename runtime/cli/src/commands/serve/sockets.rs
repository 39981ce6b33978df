//! The sockets: bound before anything is loaded, listening when that is wanted.

use std::net::SocketAddr;

use anyhow::Context as _;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use socket2::SockRef;
use tokio::net::{TcpListener, TcpSocket};

use crate::config::Config;

/// Connections that wait in the kernel to be accepted.
const BACKLOG: u32 = 1024;

/// Raises the limit of open files to what the system allows, as the runtimes of Go and of Java do: containers start with 1,024.
pub(super) fn raise_open_files() -> std::io::Result<()> {
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit })?;
    }
    Ok(())
}

/// A taken port fails at once, long before the models are loaded. A bound socket refuses connections until it listens.
pub(super) fn bind(config: &Config) -> anyhow::Result<Vec<TcpSocket>> {
    std::iter::once(config.listen).chain(config.second).map(bind_one).collect()
}

pub(crate) fn bind_one(address: SocketAddr) -> anyhow::Result<TcpSocket> {
    let bound = || {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        socket.set_reuseaddr(true)?;
        if address.is_ipv6() {
            // `::` is every address of IPv4, too, whatever the system's default.
            SockRef::from(&socket).set_only_v6(false)?;
        }
        socket.bind(address)?;
        Ok::<_, std::io::Error>(socket)
    };
    bound().with_context(|| format!("listen on {address}"))
}

pub(super) fn listen(sockets: Vec<TcpSocket>) -> anyhow::Result<Vec<TcpListener>> {
    let listen = |socket: TcpSocket| {
        let address = socket.local_addr()?;
        socket.listen(BACKLOG).with_context(|| format!("listen on {address}"))
    };
    sockets.into_iter().map(listen).collect()
}

/// As the log names them.
pub(super) fn addresses(listeners: &[TcpListener]) -> anyhow::Result<String> {
    let all = listeners.iter().map(|listener| Ok(listener.local_addr()?.to_string()));
    Ok(all.collect::<std::io::Result<Vec<_>>>()?.join(", "))
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpStream};

    use super::*;

    /// An address of IPv4 as one of IPv6 can only be bound by a socket of both.
    #[tokio::test]
    async fn a_socket_of_ipv6_takes_connections_of_ipv4() {
        if TcpSocket::new_v6().is_err() {
            assert!(std::env::var("CI").as_deref() != Ok("true"), "missing under CI: IPv6");
            eprintln!("skipped: the kernel has no IPv6");
            return;
        }
        let socket = bind_one("[::ffff:127.0.0.1]:0".parse().expect("an address")).expect("bound");
        let listener = socket.listen(1).expect("it listens");
        let port = listener.local_addr().expect("bound").port();
        TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("connected");
    }
}
