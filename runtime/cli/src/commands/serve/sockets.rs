//! The sockets: bound before anything is loaded, listening when that is wanted.

use std::net::SocketAddr;

use anyhow::Context as _;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
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

pub(super) fn bind_one(address: SocketAddr) -> anyhow::Result<TcpSocket> {
    let bound = || {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        Ok::<_, std::io::Error>(socket)
    };
    bound().with_context(|| format!("listen on {address}"))
}

pub(super) fn listen(sockets: Vec<TcpSocket>) -> anyhow::Result<Vec<TcpListener>> {
    sockets.into_iter().map(|socket| socket.listen(BACKLOG).context("listen")).collect()
}

/// As the log names them.
pub(super) fn addresses(listeners: &[TcpListener]) -> anyhow::Result<String> {
    let all = listeners.iter().map(|listener| Ok(listener.local_addr()?.to_string()));
    Ok(all.collect::<std::io::Result<Vec<_>>>()?.join(", "))
}
