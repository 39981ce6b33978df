//! Every prediction protocol on one engine: routes, one prediction pipeline, health, admin and observation.
//!
//! [`Server`] is the service that `corymb-listener` hands requests to. A request takes this way: `observe` counts, names
//! and logs it, `routes` finds its handler, and a prediction goes through `predict`, which is the same for all protocols:
//! admission, the version that answers, bytes, tensors, the engine, bytes. What those bytes are is `corymb-wire`'s.
//! The only table of status codes is `status`.
//!
//! From low to high the modules are: `status`, `content`, `reply`, `target`, `tap`; `observe`; `options`, `app`; `body`; `predict`;
//! `call`; `metadata`, `health`, `admin`; `routes`; `server`, `local`. None imports from one further up.
//!
//! # What is written by hand
//!
//! tonic serves the small standard services. The inference service frames and reads its messages itself: tonic reserves the
//! declared length before a byte has come, decodes on the I/O thread and copies tensors out of generated types. The
//! access log's line is made once, when the last byte has gone. `corymb-tests-bench tiny` measures both beside
//! hand-written axum and tonic handlers: `just bench tiny`.

mod admin;
mod app;
mod body;
mod call;
mod content;
#[cfg(test)]
mod fake;
mod health;
mod local;
mod metadata;
mod observe;
mod options;
mod predict;
mod reply;
mod routes;
mod server;
mod status;
mod tap;
mod target;

#[cfg(test)]
mod tests;

pub use local::Local;
pub use observe::{
    KnativeStats, ObserveOptions, PodNameTooLong, Propagator, ResponseBody, Tracing, with_current_request,
};
pub use options::{MetricsFormat, MetricsPage, ServerOptions};
pub use server::Server;
pub use tap::Tap;
