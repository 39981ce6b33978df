//! Models in child processes of this program: what ends a child costs the requests that it was running, and no more.
//!
//! [`Apart`] stands before a backend and passes on what is asked of it, but for models that are to be loaded apart: their
//! backend works in a child, which runs [`serve`]. The two sides speak over a socket, the child's standard input, in messages
//! (`messages.rs`, `stream.rs`); tensors lie in memory that both have open (`tensors.rs`).
#![cfg(target_os = "linux")]

mod backoff;
mod child;
mod limits;
mod messages;
mod model;
mod parent;
mod records;
mod stamps;
mod starter;
mod stream;
mod tensors;

use std::ffi::OsString;
use std::sync::Arc;

use corymb_core::{Availability, Backend, BackendError, Finding, LoadOptions, Model, ModelFiles, ModelInfo};

pub use crate::child::serve;
pub use crate::limits::Limits;
use crate::model::ApartModel;
use crate::starter::Starter;

/// A backend whose models may be loaded in processes of their own.
pub struct Apart {
    inner: Arc<dyn Backend>,
    starter: Arc<Starter>,
}

impl Apart {
    /// `arguments` are those with which this program [serves](serve) as a child; they are asked for when there is to be one.
    /// Children get the priority of the thread that calls this.
    ///
    /// # Errors
    /// The operating system's, when there can be no thread.
    pub fn new(
        inner: Arc<dyn Backend>,
        arguments: impl Fn() -> Vec<OsString> + Send + Sync + 'static,
    ) -> std::io::Result<Self> {
        Ok(Self { inner, starter: Arc::new(Starter::new(Box::new(arguments))?) })
    }
}

impl std::fmt::Debug for Apart {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Apart").field("inner", &self.inner.name()).finish_non_exhaustive()
    }
}

impl Backend for Apart {
    fn name(&self) -> &'static str {
        self.inner.name()
    }

    fn check(&self) -> Result<Availability, BackendError> {
        self.inner.check()
    }

    fn inspect(&self, files: &ModelFiles, options: &LoadOptions) -> Result<ModelInfo, BackendError> {
        self.inner.inspect(files, options)
    }

    fn load(&self, files: &ModelFiles, options: &LoadOptions) -> Result<Box<dyn Model>, BackendError> {
        if !options.apart {
            return self.inner.load(files, options);
        }
        Ok(Box::new(ApartModel::load(Arc::clone(&self.starter), self.inner.name(), files, options)?))
    }

    fn diagnose(&self) -> Vec<Finding> {
        self.inner.diagnose()
    }
}
