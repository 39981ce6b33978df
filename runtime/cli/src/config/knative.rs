//! What Knative's autoscaler is told, in pods without its queue-proxy.

use std::net::SocketAddr;

use anyhow::Context as _;
use clap::Args;
use corymb_server::KnativeStats;

use super::environment::Environment;

/// The pod's name, which Knative's and most other manifests set; without it, the host's name is the pod's.
const POD_NAME: &str = "POD_NAME";
const HOST_NAME_FILE: &str = "/proc/sys/kernel/hostname";

/// Where the autoscaler asks.
#[derive(Clone, Copy, Debug, Default, Args)]
pub(super) struct KnativeFlags {
    /// Answer Knative's autoscaler on this address, in pods without its queue-proxy: GET /metrics
    #[arg(long, value_name = "ADDR")]
    pub(super) knative_stats: Option<SocketAddr>,
}

impl KnativeFlags {
    pub(super) fn or(self, lower: Self) -> Self {
        Self { knative_stats: self.knative_stats.or(lower.knative_stats) }
    }

    /// What counts for the autoscaler, where it may ask.
    pub(super) fn stats(&self, environment: &Environment) -> anyhow::Result<Option<KnativeStats>> {
        match self.knative_stats {
            None => Ok(None),
            Some(_) => Ok(Some(KnativeStats::new(pod_name(environment)?).context("--knative-stats")?)),
        }
    }
}

fn pod_name(environment: &Environment) -> anyhow::Result<String> {
    if let Some(name) = environment.get(POD_NAME).filter(|name| !name.is_empty()) {
        return Ok(name.clone());
    }
    let name = std::fs::read_to_string(HOST_NAME_FILE)
        .with_context(|| format!("--knative-stats: {POD_NAME} is not set, and {HOST_NAME_FILE}"))?;
    Ok(name.trim().to_owned())
}
