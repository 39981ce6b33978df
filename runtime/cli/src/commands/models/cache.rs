//! `corymb models list --cached`: what lies in the cache, and where that is.

use std::path::PathBuf;
use std::time::UNIX_EPOCH;

use anyhow::Context as _;
use bytesize::ByteSize;
use corymb_repository::cached;
use serde_json::json;

use super::list::ListArguments;
use crate::config::{cache, environment};

/// Lists what lies in the cache.
pub(super) fn list(arguments: &ListArguments) -> anyhow::Result<()> {
    let models = cached(&folder(arguments.sources.cache.as_ref())?)?;
    if arguments.json {
        let describe = |model: &corymb_repository::CachedModel| {
            let used = model.used.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
            json!({"uri": model.uri, "path": model.path, "bytes": model.bytes, "files": model.files, "used": used})
        };
        println!("{}", serde_json::to_string_pretty(&models.iter().map(describe).collect::<Vec<_>>())?);
        return Ok(());
    }
    if models.is_empty() {
        println!("the cache is empty");
    }
    for model in &models {
        let (files, size) = (model.files.len(), ByteSize(model.bytes));
        let files = counted(files, "file");
        println!("{} {size} in {files}, last used {}", model.uri, humantime::format_rfc3339_seconds(model.used));
    }
    Ok(())
}

/// `1 file`, `2 files`
pub(super) fn counted(count: usize, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}

/// The folder that is named, else the user's, or what stands for it.
pub(super) fn folder(given: Option<&PathBuf>) -> anyhow::Result<PathBuf> {
    let cache = cache(given, &environment());
    cache.folder.with_context(|| format!("there is no cache: {}", cache.warning.unwrap_or_default()))
}
