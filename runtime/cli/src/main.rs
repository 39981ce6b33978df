//! The Corymb model server: `corymb serve` and the commands around it.

mod args;
mod bench;
mod config;
mod doctor;
mod embedded;
mod logs;
mod manifest;
mod models;
mod models_cache;
mod models_progress;
mod plugin;
mod predict;
mod serve;
mod sources;
mod telemetry;
mod transport;
mod tune;
mod wiring;

use std::process::ExitCode;
use std::time::Instant;

use clap::Parser as _;

use crate::args::{Arguments, Command, ModelsCommand, PluginCommand};

// Measured against the system's allocator: see ARCHITECTURE.md.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let start = Instant::now();
    let result = match Arguments::parse().command {
        Command::Serve(flags) => serve::serve(*flags, start),
        Command::Predict(arguments) => predict::predict(&arguments),
        Command::Bench(arguments) => bench::bench(&arguments),
        Command::Tune(arguments) => tune::tune(&arguments),
        Command::Manifest(command) => manifest::print(&command),
        Command::Models(command) => models_command(command),
        Command::Plugin(PluginCommand::Compile(arguments)) => plugin::compile(&arguments),
        Command::Doctor(arguments) => doctor::doctor(*arguments),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // One line: the chain of causes, outermost first.
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn models_command(command: ModelsCommand) -> anyhow::Result<()> {
    match command {
        ModelsCommand::List(arguments) if arguments.cached => models_cache::list(&arguments),
        ModelsCommand::List(arguments) => models::list(&arguments.sources, arguments.json),
        ModelsCommand::Inspect(arguments) => models::list(&arguments.named(), arguments.json),
        ModelsCommand::Pull(arguments) => models_cache::pull(&arguments),
        ModelsCommand::Verify(arguments) => models_cache::verify(&arguments),
        ModelsCommand::Rm(arguments) => models_cache::remove(&arguments),
    }
}
