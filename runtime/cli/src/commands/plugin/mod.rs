//! `corymb plugin`: work on Wasm plugins without a server.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context as _, bail, ensure};
use clap::{Args, Subcommand};
use corymb_engine::{EngineOptions, compiled_plugins};
use corymb_repository::Offline;

use crate::config::{LogFormat, SourceFlags, cache, environment};
use crate::wiring::{self, LogBridge};
use crate::{logs, sources};

#[derive(Debug, Subcommand)]
pub(crate) enum PluginCommand {
    /// Compile a plugin ahead of time, for images and model folders; or, without FILE, the plugins of models into the
    /// cache, where `serve` finds them
    Compile(Box<CompileArguments>),
}

#[derive(Debug, Args)]
pub(crate) struct CompileArguments {
    /// The component; without one, the models that are named, which are downloaded where they are not in the cache
    #[arg(conflicts_with_all = ["model", "model_dir", "model_name", "cache"])]
    file: Option<PathBuf>,
    /// Where to write; by default beside the component, ending in .cwasm
    #[arg(short, long)]
    output: Option<PathBuf>,
    #[command(flatten)]
    sources: SourceFlags,
}

/// Runs the subcommand that is named.
pub(crate) fn plugin(command: &PluginCommand) -> anyhow::Result<()> {
    match command {
        PluginCommand::Compile(arguments) => match &arguments.file {
            Some(file) => compile(file, arguments.output.clone()),
            None if arguments.output.is_some() => bail!("--output is of a FILE; what models have goes to the cache"),
            None => compile_models(&arguments.sources),
        },
    }
}

/// Writes the compiled form of a component, for any machine of this architecture.
fn compile(input: &Path, output: Option<PathBuf>) -> anyhow::Result<()> {
    let output = output.unwrap_or_else(|| input.with_extension("cwasm"));
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

/// Compiles the plugins of the models into the cache, for this kind of processor; what is there already is left as it is.
fn compile_models(flags: &SourceFlags) -> anyhow::Result<()> {
    let _log = logs::start(LogFormat::Text, "warn", LogBridge::default())?;
    let folder = cache(flags.cache.as_ref(), &environment()).folder;
    let folder = folder.context("there is no place for a cache; name one by --cache")?;
    let repository = sources::repository_with(flags, Offline::Unreachable)?;
    let host = wiring::plugin_host(1)?;
    let mut compiled = 0;
    for model in sources::open_blocking(flags, &repository)? {
        let Some(plugin) = &model.plugin else {
            println!("{} (version {}) has no plugin", model.name, model.version);
            continue;
        };
        let begin = Instant::now();
        let pool = EngineOptions::default().pool;
        let was_there =
            host.compile_into(&plugin.file, &compiled_plugins(&folder), &pool).with_context(|| model.name.clone())?;
        let what = if was_there { "was compiled already" } else { "is compiled" };
        println!("{} (version {}) {what}, {} ms", model.name, model.version, begin.elapsed().as_millis());
        compiled += 1;
    }
    ensure!(compiled > 0 || !flags.is_empty(), "no model has a plugin");
    Ok(())
}
