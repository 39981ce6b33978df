//! The settings of those who scale, by their own names, with their own defaults and limits.

mod knative;
mod kubernetes;

pub(super) use knative::Spec;
pub use knative::{Aggregation, Autoscaling, Metric};
pub use kubernetes::{Hpa, Keda, Rules, SelectPolicy};
