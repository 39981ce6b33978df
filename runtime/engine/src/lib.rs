//! Registry, lifecycle, admission, queue, and one request from start to end. Knows tokio, not HTTP.
//!
//! A request takes this way: the server asks [`Engine::admit`] for a permit when the headers arrive,
//! [`Engine::begin`] finds the version that answers, the server decodes the body against
//! [`Call::signature`], and [`Call::infer`] runs plugin, queue and model. `infer.rs` reads from top to bottom.

mod accounting;
mod admission;
mod batch;
mod call;
mod capacity;
mod choice;
mod division;
mod engine;
mod error;
mod infer;
mod isolation;
mod lifecycle;
mod live;
mod load;
mod loads;
mod measure;
mod models;
mod pool;
mod record;
mod registry;
mod sample;
mod shared;
mod signals;
mod spans;
mod split;
mod update;
mod version;
mod waiting;
mod warmup;

pub use accounting::{Concurrency, InFlight, RequestStats, RequestStatsReport};
pub use admission::{Arrival, Permit};
pub use call::Call;
pub use division::Division;
pub use engine::{Engine, ModelDescription, ModelStatus, Opening};
pub use error::{EngineError, LoadError};
pub use lifecycle::State;
pub use live::{Live, LoadAsk, OnDemand, OnDemandOptions, Seen, Sources, Waiting, without_paths};
pub use load::compiled_plugins;
pub use loads::VersionStatus;
pub use pool::Stage;
pub use shared::{EngineOptions, MemoryBudget};
pub use signals::Protocol;
pub use spans::in_span;
pub use split::Split;
