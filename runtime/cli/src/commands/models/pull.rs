//! `corymb models pull`: models are downloaded into the cache.

use anyhow::bail;
use corymb_repository::{Offline, UNCHECKED};
use serde_json::json;

use super::ModelArguments;
use crate::config::LogFormat;
use crate::wiring::LogBridge;
use crate::{logs, sources};

/// Downloads what the arguments name; says where it lies.
pub(super) fn pull(arguments: &ModelArguments) -> anyhow::Result<()> {
    let flags = arguments.named();
    if flags.is_empty() {
        bail!("nothing to download; name a model by its URI");
    }
    // What could not be checked is said, too.
    let level = format!("warn,{UNCHECKED}=info");
    let _log = logs::start(LogFormat::Text, &level, LogBridge::default())?;
    // What is already here is no download.
    let repository = sources::repository_with(&flags, Offline::Never)?;
    for folder in sources::open_blocking(&flags, &repository)? {
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
