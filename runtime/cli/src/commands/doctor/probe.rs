//! What else serving needs, tried: plugins, the cache folder, the ports.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use bytesize::ByteSize;
use corymb_core::Finding;
use corymb_hardware::Hardware;

use crate::commands::serve::bind_one;
use crate::config::{Config, try_to_write};
use crate::wiring;

/// Runs what may load foreign code, for so long at most. What takes longer is left to itself.
pub(super) fn bounded<T: Send + 'static>(
    limit: Duration,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, String> {
    let (sender, answer) = channel();
    let thread = thread::Builder::new().name("probe".to_owned()).spawn(move || {
        let _ = sender.send(work());
    });
    thread.map_err(|error| format!("no thread to try it with: {error}"))?;
    answer.recv_timeout(limit).map_err(|error| match error {
        RecvTimeoutError::Timeout => format!("it did not answer within {limit:?}"),
        RecvTimeoutError::Disconnected => "trying it failed (it panicked)".to_owned(),
    })
}

pub(super) fn surroundings(config: &Config, hardware: &Hardware) -> Vec<Finding> {
    let mut found = vec![plugins(config, hardware), cache(config.engine.cache.as_deref())];
    found.extend(std::iter::once(config.listen).chain(config.second).map(port));
    found
}

fn plugins(config: &Config, hardware: &Hardware) -> Finding {
    const SUBJECT: &str = "plugins";
    match wiring::plugin_host(config.threads.workers) {
        Err(error) => {
            let remedy = "models without a plugin can be served; see whether this machine forbids executable memory";
            Finding::unusable(SUBJECT, format!("{error:#}"), Some(remedy))
        }
        Ok(host) => match host.unpooled() {
            None => Finding::usable(SUBJECT, "usable; their instances come from a pool"),
            Some(reason) => {
                let limit = hardware.address_space_bytes.map(|bytes| format!(", {} now", ByteSize(bytes)));
                let limit = limit.unwrap_or_default();
                let text = format!(
                    "usable, but slower: no address space for a pool of instances ({reason}); raise `ulimit -v`{limit}"
                );
                Finding::usable(SUBJECT, text)
            }
        },
    }
}

fn cache(folder: Option<&Path>) -> Finding {
    const SUBJECT: &str = "cache folder";
    let remedy = "name a folder that can be written by --cache";
    let Some(folder) = folder else {
        let reason = "none: neither the user's nor a temporary one can be written; plugins are compiled at each start";
        return Finding::unusable(SUBJECT, reason, Some(remedy));
    };
    match try_to_write(folder) {
        Ok(()) => Finding::usable(SUBJECT, format!("{} can be written", folder.display())),
        Err(error) => {
            let reason = format!("{} cannot be written: {error}; plugins are compiled at each start", folder.display());
            Finding::unusable(SUBJECT, reason, Some(remedy))
        }
    }
}

/// Why the server could not listen where it is told to. A port that is taken is no reason: the server may be running already.
pub(super) fn unreachable(config: &Config) -> Vec<String> {
    let refused = |address: SocketAddr| {
        let error = bind_one(address).err()?;
        let is_taken = error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::AddrInUse);
        (!is_taken).then(|| format!("{error:#}"))
    };
    std::iter::once(config.listen).chain(config.second).filter_map(refused).collect()
}

fn port(address: SocketAddr) -> Finding {
    let subject = format!("port {}", address.port());
    if address.port() == 0 {
        return Finding::usable(subject, "a free one is picked");
    }
    match bind_one(address) {
        Ok(_) => Finding::usable(subject, format!("{address} is free")),
        Err(error) => {
            let remedy = "where a server runs already, nothing; else name others by --host and --port";
            Finding::unusable(subject, format!("cannot {error:#}"), Some(remedy))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn work_that_hangs_or_panics_is_a_reason() {
        assert_eq!(bounded(Duration::from_secs(60), || 5), Ok(5));
        assert!(bounded(Duration::from_secs(60), || panic!("no")).map(|()| 0).is_err());
        let (_sender, never) = channel::<()>();
        let reason = bounded(Duration::from_millis(20), move || never.recv().is_ok()).expect_err("it waits");
        assert_eq!(reason, "it did not answer within 20ms");
    }

    #[test]
    fn a_taken_port_is_told() {
        let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = taken.local_addr().expect("bound");
        assert!(port(address).outcome.expect_err("taken").reason.contains("in use"));
    }
}
