//! How the server works: the limits and timers of its connections, and how it stops.

use corymb_server::{KnativeStats, Propagator, ServerOptions};

use super::flags::ServeFlags;

/// The options that flags decide; what only the running process has is added where the server is made.
pub(super) fn options(
    flags: &ServeFlags,
    propagators: Vec<Propagator>,
    knative_stats: Option<KnativeStats>,
) -> ServerOptions {
    let defaults = ServerOptions::default();
    ServerOptions {
        max_body: flags.limits.max_body(),
        header_timeout: flags.timeouts.header_timeout.unwrap_or(defaults.header_timeout),
        body_timeout: flags.timeouts.body_timeout.unwrap_or(defaults.body_timeout),
        idle_timeout: flags.timeouts.idle_timeout.unwrap_or(defaults.idle_timeout),
        drain_delay: flags.drain.drain_delay.unwrap_or(defaults.drain_delay),
        drain_timeout: flags.drain.drain_timeout.unwrap_or(defaults.drain_timeout),
        propagators,
        knative_stats,
        ..defaults
    }
}
