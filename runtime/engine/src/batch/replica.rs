//! An instance in its queue, and how many of each device are alive.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use corymb_core::Instance;

/// An instance, and which of the queue's models it runs.
pub(crate) struct Replica {
    pub(super) instance: Box<dyn Instance>,
    pub(super) model: usize,
    pub(super) threads: usize,
    /// None of one whose runs use all workers: it stands beside the others.
    pub(super) alive: Option<Alive>,
}

/// Instances of one model of a queue. Clones count together.
#[derive(Clone, Debug, Default)]
pub(super) struct Living(Arc<AtomicUsize>);

impl Living {
    /// Counts one more, until what is returned is dropped.
    pub(super) fn enter(&self) -> Alive {
        self.0.fetch_add(1, Ordering::Relaxed);
        Alive(self.clone())
    }

    pub(super) fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// One that is counted.
#[derive(Debug)]
pub(super) struct Alive(Living);

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The instances on one device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Instances {
    /// That wait for a run.
    pub(crate) idle: usize,
    /// That run.
    pub(crate) busy: usize,
}

/// The instances of each model of a queue, of which `idle` are free.
pub(super) fn instances(living: &[Living], idle: &[Replica]) -> Vec<Instances> {
    let of = |(model, living): (usize, &Living)| {
        let idle = idle.iter().filter(|replica| replica.model == model).count();
        Instances { idle, busy: living.count().saturating_sub(idle) }
    };
    living.iter().enumerate().map(of).collect()
}
