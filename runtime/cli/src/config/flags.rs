//! The flags of `serve` together: each is a flag, a variable `CORYMB_…` and a key of the configuration file.

use std::path::PathBuf;

use clap::Args;

use super::address::AddressFlags;
use super::drain::DrainFlags;
use super::knative::KnativeFlags;
use super::limits::LimitFlags;
use super::loading::LoadingFlags;
use super::log::LogFlags;
use super::models::SourceFlags;
use super::threads::ThreadFlags;
use super::timeouts::TimeoutFlags;

/// What `serve` takes. Their order is that of `--help`.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct ServeFlags {
    #[command(flatten)]
    pub(super) sources: SourceFlags,
    /// A configuration file in TOML: the names of these flags with _ for -
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    #[command(flatten)]
    pub(super) address: AddressFlags,
    #[command(flatten)]
    pub(super) loading: LoadingFlags,
    #[command(flatten)]
    pub(super) knative: KnativeFlags,
    #[command(flatten)]
    pub(super) drain: DrainFlags,
    #[command(flatten)]
    pub(super) threads: ThreadFlags,
    #[command(flatten)]
    pub(super) limits: LimitFlags,
    #[command(flatten)]
    pub(super) timeouts: TimeoutFlags,
    #[command(flatten)]
    pub(super) log: LogFlags,
}

impl ServeFlags {
    /// These flags, and where one is absent, that of `lower`.
    pub(super) fn or(self, lower: Self) -> Self {
        Self {
            sources: self.sources.or(lower.sources),
            config: self.config.or(lower.config),
            address: self.address.or(lower.address),
            loading: self.loading.or(lower.loading),
            knative: self.knative.or(lower.knative),
            drain: self.drain.or(lower.drain),
            threads: self.threads.or(lower.threads),
            limits: self.limits.or(lower.limits),
            timeouts: self.timeouts.or(lower.timeouts),
            log: self.log.or(lower.log),
        }
    }
}
