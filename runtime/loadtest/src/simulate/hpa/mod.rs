//! Kubernetes' HorizontalPodAutoscaler on the concurrency that pods export, by itself or as KEDA makes one.
//!
//! `replicas` is `replica_calculator.go` and `behavior` the other half of `horizontal.go` in `pkg/controller/podautoscaler` of
//! Kubernetes 1.35; `rate` is what Prometheus computes for prometheus-adapter and for KEDA; `control` is the controller's loop with
//! that of KEDA's operator (`pkg/scaling/executor` of KEDA 2).

mod behavior;
mod control;
mod rate;
mod replicas;

pub(super) use control::Controller;
