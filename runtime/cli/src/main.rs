//! The Corymb model server: `corymb serve` and the commands around it.

mod allocator;
mod commands;
mod config;
mod embedded;
mod logs;
mod request_file;
mod sources;
mod transport;
mod wiring;

use std::io::Write as _;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Parser, Subcommand};

use crate::commands::bench::BenchArguments;
use crate::commands::doctor::DoctorArguments;
use crate::commands::manifest::ManifestCommand;
use crate::commands::models::ModelsCommand;
use crate::commands::plugin::PluginCommand;
use crate::commands::predict::PredictArguments;
use crate::commands::simulate::SimulateArguments;
use crate::commands::tune::TuneArguments;
use crate::commands::{bench, compiler, doctor, instance, manifest, models, plugin, predict, serve, simulate, tune};
use crate::config::{CompilerFlags, InstanceFlags, ServeFlags};

/// How long an error that ends the server waits for who reads it.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Serves ONNX models through V1 REST, V2 REST and gRPC on one port, with Wasm plugins around them.
#[derive(Debug, Parser)]
#[command(name = "corymb", version, propagate_version = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve models; the embedded flowers model when none is named
    Serve(Box<ServeFlags>),
    /// Make one prediction per file, in this process or by a running server
    Predict(PredictArguments),
    /// Measure throughput and latency of a server under load
    Bench(Box<BenchArguments>),
    /// Find the concurrency that a model is best served at, and the autoscaler's settings that follow
    Tune(Box<TuneArguments>),
    /// What autoscalers would make of a load: pods, latency and cost, in virtual time
    Simulate(Box<SimulateArguments>),
    /// Print the YAML to apply
    #[command(subcommand)]
    Manifest(ManifestCommand),
    /// What models there are
    #[command(subcommand)]
    Models(ModelsCommand),
    /// Work on Wasm plugins
    #[command(subcommand)]
    Plugin(PluginCommand),
    /// What this machine gives, and whether a model can be served on it
    Doctor(Box<DoctorArguments>),
    /// One instance of a model, for the server that starts it
    #[command(hide = true)]
    Instance(InstanceFlags),
    /// Compile a plugin, for the server that starts it
    #[command(hide = true)]
    Compiler(CompilerFlags),
}

/// Writes to standard error, for as long as somebody who reads it may be expected to.
fn said_last(words: &str) {
    let (text, (done, written)) = (words.to_owned(), std::sync::mpsc::channel());
    let writer = std::thread::Builder::new().spawn(move || {
        // A full device is no reason for another code.
        let _ = std::io::stderr().write_all(text.as_bytes());
        let _ = done.send(());
    });
    if writer.is_ok() {
        let _ = written.recv_timeout(LAST_WORDS);
    } else {
        // There may be no more threads.
        let _ = std::io::stderr().write_all(words.as_bytes());
    }
}

/// Ends this process at once. Engines may still be at work, on models that nobody waits for; what a library does when a process
/// exits would take away what they work with.
#[allow(unsafe_code, reason = "the library of C has no other way to leave than this function")]
fn leave(code: i32) -> ! {
    // SAFETY: it takes a number and does not return.
    unsafe { libc::_exit(code) }
}

fn main() -> ExitCode {
    let start = Instant::now();
    allocator::be_quiet();
    let command = Arguments::parse().command;
    let serves = matches!(command, Command::Serve(_));
    if !serves {
        // `corymb … | head` ends as other tools do, not with a panic of `println!`.
        sigpipe::reset();
    }
    let result = match command {
        Command::Serve(flags) => serve::serve(*flags, start),
        Command::Predict(arguments) => predict::predict(&arguments),
        Command::Bench(arguments) => bench::bench(&arguments),
        Command::Tune(arguments) => tune::tune(&arguments),
        Command::Simulate(arguments) => simulate::simulate(&arguments),
        Command::Manifest(command) => manifest::manifest(&command),
        Command::Models(command) => models::models(&command),
        Command::Plugin(command) => plugin::plugin(&command),
        Command::Doctor(arguments) => doctor::doctor(*arguments),
        Command::Instance(flags) => instance::instance(&flags),
        Command::Compiler(flags) => compiler::compiler(&flags),
    };
    if let Err(error) = &result {
        // One line: the chain of causes, outermost first.
        if serves {
            said_last(&format!("error: {error:#}\n"));
        } else {
            eprintln!("error: {error:#}");
        }
    }
    if serves {
        leave(i32::from(result.is_err()));
    }
    if result.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
