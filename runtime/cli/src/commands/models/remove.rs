//! `corymb models rm`: models that no running server uses are removed from the cache.

use std::path::PathBuf;

use anyhow::bail;
use bytesize::ByteSize;
use clap::Args;
use corymb_repository::remove as remove_cached;

use super::cache;

#[derive(Debug, Args)]
pub(crate) struct RemoveArguments {
    /// Where the models are from, or a prefix of it
    #[arg(value_name = "URI", required_unless_present = "all", conflicts_with = "all")]
    uri: Option<String>,
    /// Remove all of them
    #[arg(long)]
    all: bool,
    /// Where the cache is [default: the user's cache folder]
    #[arg(long, value_name = "DIR")]
    cache: Option<PathBuf>,
}

/// Removes what no running server uses.
pub(super) fn remove(arguments: &RemoveArguments) -> anyhow::Result<()> {
    let removed = remove_cached(&cache::folder(arguments.cache.as_ref())?, arguments.uri.as_deref())?;
    if let Some(uri) = arguments.uri.as_ref().filter(|_| removed.models + removed.in_use == 0) {
        bail!("nothing of {} is in the cache", corymb_repository::redact(uri));
    }
    println!("{} removed, {} freed", cache::counted(removed.models, "model"), ByteSize(removed.bytes));
    match removed.in_use {
        0 => Ok(()),
        1 => bail!("1 model stays: a running server uses it"),
        stayed => bail!("{stayed} models stay: running servers use them"),
    }
}
