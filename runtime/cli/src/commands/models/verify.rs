//! `corymb models verify`: files of the cache against what was downloaded, and models against their signatures.

use std::path::PathBuf;

use anyhow::{Context as _, bail};
use bytesize::ByteSize;
use clap::Args;
use corymb_repository::{Trust, is_local, verify as verify_cached, verify_signatures};
use serde_json::json;

use super::cache;

#[derive(Debug, Args)]
pub(crate) struct VerifyArguments {
    /// Where the models are from, or a prefix of it; without it all of them. With --verify-signature also a path
    #[arg(value_name = "URI")]
    uri: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Say whether they are signed with this public key or by a certificate below this root (PEM); may be repeated
    #[arg(long, value_name = "FILE")]
    verify_signature: Vec<PathBuf>,
    /// Where the cache is [default: the user's cache folder]
    #[arg(long, value_name = "DIR")]
    cache: Option<PathBuf>,
}

/// Reads what lies in the cache; fails when something has changed. With a key it fails too when a model is not signed.
pub(super) fn verify(arguments: &VerifyArguments) -> anyhow::Result<()> {
    let signers = &arguments.verify_signature;
    let trust = signers.iter().map(|file| Trust::read(file)).collect::<Result<Vec<_>, _>>();
    let trust = trust.context("--verify-signature")?.into_iter().reduce(Trust::and);
    let Some(trust) = trust else { return compare(arguments) };
    // Of a path the cache knows nothing.
    let local = arguments.uri.as_deref().is_some_and(is_local);
    if !local {
        compare(arguments)?;
    }
    let folder = if local { PathBuf::new() } else { cache::folder(arguments.cache.as_ref())? };
    let models = verify_signatures(&folder, arguments.uri.as_deref(), &trust)?;
    for model in &models {
        if arguments.json {
            let (signed, fault) = (model.signed.as_ref().ok(), model.signed.as_ref().err());
            println!("{}", json!({"uri": model.uri, "signed": signed, "fault": fault}));
        } else {
            let verdict = model.signed.clone().map(|signed| format!("signed, {signed}"));
            println!("{}: {}", model.uri, verdict.unwrap_or_else(|fault| format!("not as signed: {fault}")));
        }
    }
    match models.iter().filter(|model| model.signed.is_err()).count() {
        0 => Ok(()),
        1 if models.len() == 1 => bail!("the model is not as somebody who is trusted signed it"),
        refused => bail!("{refused} of {} models are not as somebody who is trusted signed them", models.len()),
    }
}

/// What lies in the cache with what was downloaded.
fn compare(arguments: &VerifyArguments) -> anyhow::Result<()> {
    let files = verify_cached(&cache::folder(arguments.cache.as_ref())?, arguments.uri.as_deref())?;
    if let Some(uri) = arguments.uri.as_ref().filter(|_| files.is_empty()) {
        bail!("nothing of {} is in the cache", corymb_repository::redact(uri));
    }
    if files.is_empty() && !arguments.json {
        println!("the cache is empty");
    }
    for file in &files {
        let (by, size) = (file.checksums.join(", "), ByteSize(file.bytes));
        if arguments.json {
            println!(
                "{}",
                json!({"uri": file.uri, "bytes": file.bytes, "checksums": file.checksums, "fault": file.fault})
            );
        } else {
            let verdict = file.fault.clone().unwrap_or_else(|| format!("unchanged ({by})"));
            println!("{} {size}: {verdict}", file.uri);
        }
    }
    match files.iter().filter(|file| file.fault.is_some()).count() {
        0 => Ok(()),
        1 if files.len() == 1 => bail!("the file has changed and was removed; the next start downloads it"),
        changed => {
            bail!("{changed} of {} files have changed and were removed; the next start downloads them", files.len())
        }
    }
}
