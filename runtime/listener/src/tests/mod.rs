//! Listeners on real ports.
