//! The commands and what may be typed behind them.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::bench::BenchArguments;
use crate::config::ServeFlags;
use crate::manifest::ManifestCommand;
use crate::sources::SourceFlags;
use crate::tune::TuneArguments;

/// Serves ONNX models through V1 REST, V2 REST and gRPC on one port, with Wasm plugins around them.
#[derive(Debug, Parser)]
#[command(name = "corymb", version, propagate_version = true)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Serve models; the embedded flowers model when none is named
    Serve(Box<ServeFlags>),
    /// Make one prediction per file, in this process or by a running server
    Predict(PredictArguments),
    /// Measure throughput and latency of a server under load
    Bench(Box<BenchArguments>),
    /// Find the concurrency that a model is best served at, and the autoscaler's settings that follow
    Tune(Box<TuneArguments>),
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
}

/// Takes the flags of `serve`, its variables and its file, and looks at what `serve` would use. Models are not opened.
#[derive(Debug, Args)]
pub(crate) struct DoctorArguments {
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) flags: ServeFlags,
}

#[derive(Debug, Args)]
pub(crate) struct PredictArguments {
    /// Pictures (JPEG, PNG, WebP), requests (V1 or V2 JSON), or tensors (.npy)
    #[arg(required = true)]
    pub(crate) files: Vec<PathBuf>,
    /// A running server, e.g. http://localhost:8080; without it the model is loaded here
    #[arg(long)]
    pub(crate) url: Option<String>,
    /// Class names, one a line, in the order of the scores
    #[arg(long, value_name = "FILE")]
    pub(crate) labels: Option<PathBuf>,
    /// Print the answers as JSON
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) sources: SourceFlags,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ModelsCommand {
    /// List models with what they take and give, and the backend that would run them
    List(ListArguments),
    /// Say of one model what it takes and gives, its operator set and size, and the backend that would run it
    Inspect(ModelArguments),
    /// Download models into the cache
    Pull(ModelArguments),
    /// Read downloaded models again and compare them with what was downloaded, or models with their signatures
    Verify(CacheArguments),
    /// Remove downloaded models that no running server uses
    Rm(RemoveArguments),
}

#[derive(Debug, Args)]
pub(crate) struct ListArguments {
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// List what lies in the cache instead
    #[arg(long)]
    pub(crate) cached: bool,
    #[command(flatten)]
    pub(crate) sources: SourceFlags,
}

#[derive(Debug, Args)]
pub(crate) struct ModelArguments {
    /// A model, or a folder of models; as --model-dir
    #[arg(value_name = "URI", conflicts_with = "model_dir")]
    pub(crate) uri: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) sources: SourceFlags,
}

impl ModelArguments {
    /// The flags, with the URI among them.
    pub(crate) fn named(&self) -> SourceFlags {
        let mut sources = self.sources.clone();
        sources.model_dir = self.uri.clone().or(sources.model_dir);
        sources
    }
}

#[derive(Debug, Args)]
pub(crate) struct CacheArguments {
    /// Where the models are from, or a prefix of it; without it all of them. With --verify-signature also a path
    #[arg(value_name = "URI")]
    pub(crate) uri: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// Say whether they are signed with this public key or by a certificate below this root (PEM); may be repeated
    #[arg(long, value_name = "FILE")]
    pub(crate) verify_signature: Vec<PathBuf>,
    /// Where the cache is [default: the user's cache folder]
    #[arg(long, value_name = "DIR")]
    pub(crate) cache: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct RemoveArguments {
    /// Where the models are from, or a prefix of it
    #[arg(value_name = "URI", required_unless_present = "all", conflicts_with = "all")]
    pub(crate) uri: Option<String>,
    /// Remove all of them
    #[arg(long)]
    pub(crate) all: bool,
    /// Where the cache is [default: the user's cache folder]
    #[arg(long, value_name = "DIR")]
    pub(crate) cache: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum PluginCommand {
    /// Compile a plugin ahead of time, for images and model folders
    Compile(CompileArguments),
}

#[derive(Debug, Args)]
pub(crate) struct CompileArguments {
    /// The component
    pub(crate) file: PathBuf,
    /// Where to write; by default beside the component, ending in .cwasm
    #[arg(short, long)]
    pub(crate) output: Option<PathBuf>,
}
