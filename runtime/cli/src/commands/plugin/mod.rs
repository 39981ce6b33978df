//! `corymb plugin`: work on Wasm plugins without a server.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::Context as _;
use clap::{Args, Subcommand};

use crate::wiring;

#[derive(Debug, Subcommand)]
pub(crate) enum PluginCommand {
    /// Compile a plugin ahead of time, for images and model folders
    Compile(CompileArguments),
}

#[derive(Debug, Args)]
pub(crate) struct CompileArguments {
    /// The component
    file: PathBuf,
    /// Where to write; by default beside the component, ending in .cwasm
    #[arg(short, long)]
    output: Option<PathBuf>,
}

/// Runs the subcommand that is named.
pub(crate) fn plugin(command: &PluginCommand) -> anyhow::Result<()> {
    match command {
        PluginCommand::Compile(arguments) => compile(arguments),
    }
}

/// Writes the compiled form of a component, for any machine of this architecture.
fn compile(arguments: &CompileArguments) -> anyhow::Result<()> {
    let input = &arguments.file;
    let output = arguments.output.clone().unwrap_or_else(|| input.with_extension("cwasm"));
    let component = std::fs::read(input).with_context(|| format!("{}", input.display()))?;
    let begin = Instant::now();
    let compiled = wiring::plugin_host(1)?.compile(&component).with_context(|| format!("{}", input.display()))?;
    std::fs::write(&output, &compiled).with_context(|| format!("{}", output.display()))?;
    println!(
        "{}: {} KiB to {} KiB in {} ms",
        output.display(),
        component.len() / 1024,
        compiled.len() / 1024,
        begin.elapsed().as_millis()
    );
    println!("It is used beside the component where only root can write the file and its folder.");
    Ok(())
}
