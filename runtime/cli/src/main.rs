//! The Corymb model server: `corymb serve` and the commands around it.

mod args;
mod config;
mod doctor;
mod embedded;
mod logs;
mod models;
mod plugin;
mod predict;
mod serve;
mod sources;
mod telemetry;
mod transport;
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
        Command::Models(ModelsCommand::List(arguments)) => models::list(&arguments),
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
