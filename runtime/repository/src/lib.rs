//! A place where models lie in, verified descriptions of them out: layouts, manifests, samples.

mod error;
mod keys;
mod layout;
mod manifest;
mod npy;
mod sample;

pub use error::RepositoryError;
pub use keys::{check_keys, nearest};
pub use layout::{ModelFolder, PluginFile, embedded, open, open_dir};
pub use manifest::{BatchingSection, InstancesSection, Manifest, PluginSection, QueueSection};
pub use npy::read_npy;
pub use sample::Sample;
