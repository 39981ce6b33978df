//! `corymb instance`: one instance of a model for the server that started this process.

use anyhow::Context as _;

use crate::config::InstanceFlags;
use crate::wiring;

/// Runs what it is sent until the server goes.
pub(crate) fn instance(flags: &InstanceFlags) -> anyhow::Result<()> {
    wiring::serve_instance(flags).context("this command is for servers, not for hands")
}
