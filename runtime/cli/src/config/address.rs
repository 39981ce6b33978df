//! Where the server listens.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use anyhow::{Context as _, ensure};
use clap::Args;
use tokio::net::TcpSocket;

use super::environment::Environment;

/// Set by Knative, read when neither flag nor `CORYMB_PORT` is given.
const KNATIVE_PORT: &str = "PORT";

const DEFAULT_PORT: u16 = 8080;

/// The addresses that are listened on.
#[derive(Clone, Copy, Debug, Default, Args)]
pub(super) struct AddressFlags {
    /// The address to listen on [default: ::, which is every address of both families; 0.0.0.0 where the kernel has no IPv6]
    #[arg(long)]
    host: Option<IpAddr>,
    /// The one port of every protocol; 0 picks one [default: $PORT, or 8080]
    #[arg(long, alias = "http_port")]
    port: Option<u16>,
    /// A second port
    #[arg(long, alias = "grpc_port")]
    grpc_port: Option<u16>,
}

impl AddressFlags {
    pub(super) fn or(self, lower: Self) -> Self {
        Self {
            host: self.host.or(lower.host),
            port: self.port.or(lower.port),
            grpc_port: self.grpc_port.or(lower.grpc_port),
        }
    }

    /// These flags, and where no port is named, Knative's.
    pub(super) fn or_port_of_knative(mut self, environment: &Environment) -> anyhow::Result<Self> {
        if self.port.is_none()
            && let Some(port) = environment.get(KNATIVE_PORT)
        {
            let number = port.parse().ok();
            self.port = Some(number.with_context(|| format!("$PORT is '{port}'; expected a port number"))?);
        }
        Ok(self)
    }

    /// Fails where both ports are one.
    pub(super) fn check(&self) -> anyhow::Result<()> {
        let (first, second) = (self.first().port(), self.grpc_port);
        ensure!(first == 0 || second != Some(first), "--grpc-port is {first}, as --port is; expected another");
        Ok(())
    }

    /// The address of every protocol.
    pub(super) fn first(&self) -> SocketAddr {
        SocketAddr::new(self.host(), self.port.unwrap_or(DEFAULT_PORT))
    }

    /// The address of the second port, where one is named.
    pub(super) fn second(&self) -> Option<SocketAddr> {
        self.grpc_port.map(|port| SocketAddr::new(self.host(), port))
    }

    fn host(&self) -> IpAddr {
        let every = || if has_ipv6() { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() };
        self.host.unwrap_or_else(every)
    }
}

/// Whether the kernel makes sockets of that family.
fn has_ipv6() -> bool {
    TcpSocket::new_v6().is_ok()
}
