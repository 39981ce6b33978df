//! What the two sides say.

use serde::{Deserialize, Serialize};

use crate::records::{Described, Failure, Load, Missing};
use crate::tensors::Batch;

/// From the server to the child. One is answered before the next is sent, but for those that need no answer.
#[derive(Serialize, Deserialize)]
pub(crate) enum Order {
    /// Answered by [`Report::Loaded`]. The first, and only once.
    Load(Box<Load>),
    /// Makes the instance that runs. Answered by [`Report::Ready`].
    Instance { threads: usize },
    /// Answered by [`Report::Ran`].
    Run {
        requests: Batch,
        outputs: Vec<String>,
        /// Milliseconds after which the run must have ended.
        ends_in: Option<u64>,
    },
    /// The run in progress is for nobody. Needs no answer beside the run's.
    Cancel,
    /// Answers [`Report::Lend`].
    Lent(Result<(), Missing>),
}

/// From the child to the server.
#[derive(Serialize, Deserialize)]
pub(crate) enum Report {
    Loaded(Box<Described>),
    Ready,
    Ran(Batch),
    Failed(Failure),
    /// What was asked for needs so many bytes more.
    Lend(u64),
}
