//! Numbers for the server's metrics; of no effect in a native build. Names are declared by first use, at most 64 per
//! plugin.

/// Adds to a counter.
pub fn counter_add(name: &str, value: u64) {
    #[cfg(target_arch = "wasm32")]
    crate::bindings::corymb::plugin::metrics::counter_add(name, value);
    #[cfg(not(target_arch = "wasm32"))]
    let _ = (name, value);
}

/// Records a value in a histogram.
pub fn histogram_record(name: &str, value: f64) {
    #[cfg(target_arch = "wasm32")]
    crate::bindings::corymb::plugin::metrics::histogram_record(name, value);
    #[cfg(not(target_arch = "wasm32"))]
    let _ = (name, value);
}
