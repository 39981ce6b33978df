//! Registry, lifecycle, admission, queue, and one request from start to end. Knows tokio, not HTTP.
//!
//! A request takes this way: the server asks [`Engine::admit`] for a permit when the headers arrive,
//! [`Engine::begin`] finds the version that answers, the server decodes the body against
//! [`Call::signature`], and [`Call::infer`] runs plugin, queue and model. `infer.rs` reads from top to bottom.

mod accounting;
mod admission;
mod batch;
mod call;
mod engine;
mod error;
mod infer;
mod lifecycle;
mod load;
mod models;
mod pool;
mod registry;
mod shared;
mod signals;
mod version;
mod waiting;
mod warmup;

pub use accounting::{Concurrency, InFlight};
pub use admission::Permit;
pub use call::Call;
pub use engine::{Engine, ModelDescription, ModelStatus, VersionStatus};
pub use error::{EngineError, LoadError};
pub use lifecycle::State;
pub use pool::Stage;
pub use shared::EngineOptions;
pub use signals::Protocol;
