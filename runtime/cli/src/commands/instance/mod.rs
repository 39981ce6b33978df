//! `corymb instance`: one instance of a model for the server that started this process.

use anyhow::Context as _;

use crate::config::InstanceFlags;
use crate::wiring;

/// Runs what it is sent until the server goes.
#[cfg(target_os = "linux")]
pub(crate) fn instance(flags: &InstanceFlags) -> anyhow::Result<()> {
    let backends = wiring::backends(wiring::of_instance(flags), flags.run_bytes);
    corymb_backend_process::serve(&backends, flags.memory).context("this command is for servers, not for hands")
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn instance(_: &InstanceFlags) -> anyhow::Result<()> {
    anyhow::bail!("processes of their own are not to be had on this system")
}
