//! `corymb models`: what models there are, and which of them lie in the cache.

mod cache;
mod list;
mod pull;
mod remove;
mod verify;

use clap::{Args, Subcommand};

use self::list::ListArguments;
use self::remove::RemoveArguments;
use self::verify::VerifyArguments;
use crate::config::SourceFlags;

#[derive(Debug, Subcommand)]
pub(crate) enum ModelsCommand {
    /// List models with what they take and give, and the backend that would run them. Fails when one has none
    List(ListArguments),
    /// Say of one model what it takes and gives, its operator set and size, and the backend that would run it. Fails when
    /// none would
    Inspect(ModelArguments),
    /// Download models into the cache
    Pull(ModelArguments),
    /// Read downloaded models again and compare them with what was downloaded, or models with their signatures
    Verify(VerifyArguments),
    /// Remove downloaded models that no running server uses
    Rm(RemoveArguments),
}

#[derive(Debug, Args)]
pub(crate) struct ModelArguments {
    /// A model, or a folder of models; as --model-dir
    #[arg(value_name = "URI", conflicts_with = "model_dir")]
    uri: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    sources: SourceFlags,
}

impl ModelArguments {
    /// The flags, with the URI among them.
    fn named(&self) -> SourceFlags {
        let mut sources = self.sources.clone();
        sources.model_dir = self.uri.clone().or(sources.model_dir);
        sources
    }
}

/// Runs the subcommand that is named.
pub(crate) fn models(command: &ModelsCommand) -> anyhow::Result<()> {
    match command {
        ModelsCommand::List(arguments) if arguments.cached => cache::list(arguments),
        ModelsCommand::List(arguments) => list::list(&arguments.named(), arguments.json),
        ModelsCommand::Inspect(arguments) => list::list(&arguments.named(), arguments.json),
        ModelsCommand::Pull(arguments) => pull::pull(arguments),
        ModelsCommand::Verify(arguments) => verify::verify(arguments),
        ModelsCommand::Rm(arguments) => remove::remove(arguments),
    }
}
