//! `--knative-stats`: an address of its own for Knative's autoscaler.

use super::sockets::{bind_one, listen};
use crate::config::Config;

/// Knative reads the pod from its first second to its last: this ends with the process.
pub(super) fn serve_stats(config: &Config) -> anyhow::Result<()> {
    let (Some(address), Some(stats)) = (config.knative_stats, config.server.observe.knative_stats.clone()) else {
        return Ok(());
    };
    let listener = listen(vec![bind_one(address)?])?.swap_remove(0);
    tracing::info!(address = %listener.local_addr()?, "answering Knative's autoscaler");
    tokio::spawn(stats.serve(listener));
    Ok(())
}
