//! A place where models lie in, verified descriptions of them out: layouts, manifests, samples.

mod archive;
mod cache;
mod cached;
mod download;
mod error;
mod gather;
mod hashing;
mod keys;
mod layers;
mod layout;
mod listed;
mod manifest;
mod npy;
mod offline;
mod onnx;
mod onnxruntime;
mod opened;
mod others;
mod plan;
mod repository;
mod revision;
mod sample;
mod shape;
mod signature;
mod store;
mod textproto;
mod triton;
mod unpacked;
mod uri;

pub use cached::{
    CachedModel, CheckedFile, CheckedSignature, Removed, cached, is_local, remove, verify, verify_signatures,
};
pub use download::{Meter, Progress, UNCHECKED};
pub use error::RepositoryError;
pub use keys::{check_keys, nearest};
pub use layout::{Found, Held, ModelFolder, PluginFile, embedded};
pub use listed::Listed;
pub use manifest::{
    BatchingSection, InstancesSection, Isolation, Manifest, PluginSection, QueueSection, VersionsSection,
};
pub use npy::read_npy;
pub use offline::Offline;
pub use onnx::external_data;
pub use onnxruntime::OnnxRuntimeSection;
pub use repository::{Repository, RepositoryOptions};
pub use sample::Sample;
pub use signature::{SignaturePolicy, Signed, Trust};
pub use uri::redact;
