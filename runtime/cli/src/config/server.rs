//! How the server works: its limits, and how it observes requests.

use corymb_hardware::Hardware;
use corymb_server::{KnativeStats, ObserveOptions, Propagator, ServerOptions};

use super::flags::ServeFlags;

/// The options that flags decide; what only the running process has is added where the server is made.
pub(super) fn options(
    flags: &ServeFlags,
    hardware: &Hardware,
    propagators: Vec<Propagator>,
    knative_stats: Option<KnativeStats>,
) -> ServerOptions {
    let defaults = ServerOptions::default();
    ServerOptions {
        max_body: flags.limits.max_body(hardware),
        body_timeout: flags.timeouts.body_timeout.unwrap_or(defaults.body_timeout),
        observe: ObserveOptions { propagators, knative_stats, ..defaults.observe },
        ..defaults
    }
}
