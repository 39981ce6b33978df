//! `corymb models pull`, `verify`, `rm` and `list --cached`: what was downloaded.

use std::path::PathBuf;
use std::time::UNIX_EPOCH;

use anyhow::{Context as _, bail};
use bytesize::ByteSize;
use corymb_repository::{Trust, cached, is_local, remove as remove_cached, verify as verify_cached, verify_signatures};
use serde_json::json;

use crate::args::{CacheArguments, ListArguments, ModelArguments, RemoveArguments};
use crate::config::{LogFormat, cache_folder, environment};
use crate::logs;
use crate::wiring::LogBridge;

/// Downloads what the arguments name; says where it lies.
pub(crate) fn pull(arguments: &ModelArguments) -> anyhow::Result<()> {
    let sources = arguments.named();
    if sources.model.is_empty() && sources.model_dir.is_none() {
        bail!("nothing to download; name a model by its URI");
    }
    let _log = logs::start(LogFormat::Text, "warn", LogBridge::default())?;
    let repository = sources.repository()?;
    for folder in sources.open_blocking(&repository)? {
        let file =
            folder.model.as_ref().map(|files| &files.model).or(folder.plugin.as_ref().map(|plugin| &plugin.file));
        let path = file.and_then(|file| file.folder());
        if arguments.json {
            println!("{}", json!({"name": folder.name, "version": folder.version, "path": path}));
        } else {
            println!("{} (version {}) {}", folder.name, folder.version, path.unwrap_or("".as_ref()).display());
        }
    }
    Ok(())
}

/// Reads what lies in the cache; fails when something has changed. With a key it fails too when a model is not signed.
pub(crate) fn verify(arguments: &CacheArguments) -> anyhow::Result<()> {
    let signers = &arguments.verify_signature;
    let trust = signers.iter().map(|file| Trust::read(file)).collect::<Result<Vec<_>, _>>();
    let trust = trust.context("--verify-signature")?.into_iter().reduce(Trust::and);
    let Some(trust) = trust else { return compare(arguments) };
    // Of a path the cache knows nothing.
    let local = arguments.uri.as_deref().is_some_and(is_local);
    if !local {
        compare(arguments)?;
    }
    let folder = if local { PathBuf::new() } else { cache(arguments.cache.as_ref())? };
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
        refused => bail!("{refused} of {} models are not as somebody who is trusted signed them", models.len()),
    }
}

/// What lies in the cache with what was downloaded.
fn compare(arguments: &CacheArguments) -> anyhow::Result<()> {
    let files = verify_cached(&cache(arguments.cache.as_ref())?, arguments.uri.as_deref())?;
    if let Some(uri) = arguments.uri.as_ref().filter(|_| files.is_empty()) {
        bail!("nothing of {} is in the cache", corymb_repository::redact(uri));
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
        changed => {
            bail!("{changed} of {} files have changed and were removed; the next start downloads them", files.len())
        }
    }
}

/// Removes what no running server uses.
pub(crate) fn remove(arguments: &RemoveArguments) -> anyhow::Result<()> {
    let removed = remove_cached(&cache(arguments.cache.as_ref())?, arguments.uri.as_deref())?;
    if let Some(uri) = arguments.uri.as_ref().filter(|_| removed.models + removed.in_use == 0) {
        bail!("nothing of {} is in the cache", corymb_repository::redact(uri));
    }
    println!("{} models removed, {} freed", removed.models, ByteSize(removed.bytes));
    match removed.in_use {
        0 => Ok(()),
        stayed => bail!("{stayed} models stay: running servers use them"),
    }
}

/// Lists what lies in the cache.
pub(crate) fn list(arguments: &ListArguments) -> anyhow::Result<()> {
    let models = cached(&cache(arguments.sources.cache.as_ref())?)?;
    if arguments.json {
        let describe = |model: &corymb_repository::CachedModel| {
            let used = model.used.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
            json!({"uri": model.uri, "path": model.path, "bytes": model.bytes, "files": model.files, "used": used})
        };
        println!("{}", serde_json::to_string_pretty(&models.iter().map(describe).collect::<Vec<_>>())?);
        return Ok(());
    }
    for model in &models {
        let (files, size) = (model.files.len(), ByteSize(model.bytes));
        println!("{} {size} in {files} files, last used {}", model.uri, humantime::format_rfc3339_seconds(model.used));
    }
    Ok(())
}

fn cache(given: Option<&PathBuf>) -> anyhow::Result<PathBuf> {
    let folder = given.cloned().or_else(|| cache_folder(&environment()));
    folder.context("there is no cache: neither HOME nor XDG_CACHE_HOME is set; name one by --cache")
}
