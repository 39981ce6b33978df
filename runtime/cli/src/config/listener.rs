//! How connections are held: their timers, and how they end.

use corymb_listener::ListenerOptions;

use super::flags::ServeFlags;

/// The options that flags decide.
pub(super) fn options(flags: &ServeFlags) -> ListenerOptions {
    let defaults = ListenerOptions::default();
    let (timeouts, drain) = (&flags.timeouts, &flags.drain);
    ListenerOptions {
        max_connections: flags.limits.max_connections(),
        header_timeout: timeouts.header_timeout.unwrap_or(defaults.header_timeout),
        // A reader that stalls gets the same time as a writer.
        stall_timeout: timeouts.body_timeout.unwrap_or(defaults.stall_timeout),
        idle_timeout: timeouts.idle_timeout.unwrap_or(defaults.idle_timeout),
        max_connection_age: timeouts.max_connection_age,
        drain_delay: drain.drain_delay.unwrap_or(defaults.drain_delay),
        drain_timeout: drain.drain_timeout.unwrap_or(defaults.drain_timeout),
    }
}
