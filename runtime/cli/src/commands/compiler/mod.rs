//! `corymb compiler`: compiles one component for the server that started this process.

use anyhow::Context as _;

use crate::config::CompilerFlags;
use crate::wiring;

/// Compiles standard input to standard output.
pub(crate) fn compiler(flags: &CompilerFlags) -> anyhow::Result<()> {
    wiring::compile_apart(flags).context("this command is for servers, not for hands")
}
