//! Lines for the server's log; on standard error in a native build.

pub use crate::bindings::corymb::plugin::logging::Level;

/// Writes one line. The macros [`info!`](crate::info), [`warn!`](crate::warn), … format it.
pub fn log(level: Level, message: &str) {
    #[cfg(target_arch = "wasm32")]
    crate::bindings::corymb::plugin::logging::log(level, message);
    #[cfg(not(target_arch = "wasm32"))]
    eprintln!("{level:?}: {message}");
}

/// `log!(Level::Info, "{} pictures", count)`
#[macro_export]
macro_rules! log {
    ($level:expr, $($message:tt)+) => { $crate::logging::log($level, &::std::format!($($message)+)) };
}

/// A line for whoever follows the plugin step by step.
#[macro_export]
macro_rules! trace {
    ($($message:tt)+) => { $crate::log!($crate::logging::Level::Trace, $($message)+) };
}

/// A line for whoever looks for a fault in the plugin.
#[macro_export]
macro_rules! debug {
    ($($message:tt)+) => { $crate::log!($crate::logging::Level::Debug, $($message)+) };
}

/// A line for the operator.
#[macro_export]
macro_rules! info {
    ($($message:tt)+) => { $crate::log!($crate::logging::Level::Info, $($message)+) };
}

/// A line for the operator: something is odd.
#[macro_export]
macro_rules! warn {
    ($($message:tt)+) => { $crate::log!($crate::logging::Level::Warn, $($message)+) };
}

/// A line for the operator: something failed.
#[macro_export]
macro_rules! error {
    ($($message:tt)+) => { $crate::log!($crate::logging::Level::Error, $($message)+) };
}
