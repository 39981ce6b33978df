//! The limits and timers of a listener, which whoever starts it sets.

use std::time::Duration;

/// Limits and timers of a [`crate::Listener`]. What may grow later goes here.
#[derive(Clone, Debug)]
pub struct ListenerOptions {
    /// Connections held at once; beyond it, new ones wait in the kernel's queue.
    pub max_connections: usize,
    /// From the first byte of a request to the end of its headers.
    pub header_timeout: Duration,
    /// A reader of a response that takes nothing for this long loses it: its stream over HTTP/2, its connection over
    /// HTTP/1.1.
    pub stall_timeout: Duration,
    /// A connection without requests is closed after this long. More than 90 s, so that Go's pools give up first.
    pub idle_timeout: Duration,
    /// A connection that is older than this is ended as soon as that costs no request. Each connection's own age is up
    /// to 10 % more or less, so that connections made together do not end together. None: connections have no age.
    pub max_connection_age: Option<Duration>,
    /// How long a stopping listener goes on accepting while endpoints disappear.
    pub drain_delay: Duration,
    /// How long stopping may take in all, and how long streams of answers may outlive their connection's age.
    pub drain_timeout: Duration,
}

impl Default for ListenerOptions {
    fn default() -> Self {
        Self {
            max_connections: 16 * 1024,
            header_timeout: Duration::from_secs(30),
            stall_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(120),
            max_connection_age: None,
            drain_delay: Duration::ZERO,
            drain_timeout: Duration::from_secs(25),
        }
    }
}
