//! What the manifest that `tune` writes has its pods serve: what was measured. Where that cannot be said in a manifest, the reason is
//! told before anything is measured.

use anyhow::bail;
use serde::{Deserialize, Serialize};

use super::TuneArguments;
use crate::commands::bench::{LoadFlags, is_url};
use crate::commands::manifest::Served;
use crate::embedded;

/// Where the model of a sweep is, as pods would be told; part of the result, so that a manifest can be written from it later.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Source {
    /// The model's URI; none for the one inside the image.
    pub(super) uri: Option<String>,
    /// Flags of `serve` besides.
    #[serde(default)]
    pub(super) flags: Vec<String>,
}

/// What is asked for and cannot be in a manifest.
pub(super) fn check(arguments: &TuneArguments) -> anyhow::Result<()> {
    if arguments.manifest.is_none() {
        return match arguments.pod.given().iter().find(|(is_given, ..)| *is_given) {
            Some((_, flag, _)) => bail!("{flag} is of the manifest: name a file for it by --manifest"),
            None => Ok(()),
        };
    }
    if arguments.replay.is_asked_for() && arguments.replay.needs_no_server() && !arguments.replay.has_measured() {
        bail!("a manifest is of what was measured, and nothing is: leave out --service-time, or give --measured");
    }
    let sources = &arguments.load.sources;
    let local = [
        ("--onnxruntime", sources.onnxruntime.as_ref().is_some_and(|path| path.as_os_str() != "none")),
        ("--verify-signature", !sources.verify_signature.is_empty()),
        ("--custom-operators", !sources.custom_operators.is_empty()),
    ];
    if let Some((flag, _)) = local.iter().find(|(_, is_given)| *is_given) {
        bail!(
            "{flag} names a file of this machine, which pods do not have: measure without --manifest, then write one by \
             `corymb manifest`, and mount the file"
        );
    }
    let uris = sources.model.iter().map(|model| &model.uri).chain(&sources.model_dir);
    for uri in uris.chain(arguments.load.target.iter().filter(|target| !is_url(target))) {
        if is_local(uri) && (arguments.pod.image.is_none() || !uri.trim_start_matches("file://").starts_with('/')) {
            bail!(
                "{uri} is on this machine, where pods do not find it: give the model by a store's address, e.g. \
                 --model NAME=s3://bucket/model, or by its whole path in the image that --image names"
            );
        }
    }
    Ok(())
}

fn is_local(uri: &str) -> bool {
    !uri.contains("://") || uri.starts_with("file://")
}

/// Where the model is; none where only a running server knows.
pub(super) fn source(flags: &LoadFlags, model: &str) -> Option<Source> {
    let sources = &flags.sources;
    let named = sources.model.iter().find(|named| named.name == model).map(|named| named.uri.clone());
    let is_running = flags.target.as_deref().is_some_and(is_url);
    let place = flags.target.clone().filter(|_| !is_running).or_else(|| sources.model_dir.clone());
    let uri = named.or(place);
    // Of this name is the model inside the image.
    if uri.is_none() && model != embedded::NAME {
        return None;
    }
    let mut told = Vec::new();
    for (flag, value) in [("--backend", &sources.backend), ("--device", &sources.device)] {
        told.extend(value.iter().flat_map(|value| [flag.to_owned(), value.clone()]));
    }
    if sources.onnxruntime.as_ref().is_some_and(|path| path.as_os_str() == "none") {
        told.extend(["--onnxruntime".to_owned(), "none".to_owned()]);
    }
    Some(Source { uri, flags: told })
}

/// The same for a manifest.
///
/// # Errors
/// Where nobody says where the model is.
pub(super) fn served(source: Option<&Source>, model: &str) -> anyhow::Result<Served> {
    let Some(Source { uri, flags }) = source.cloned() else {
        bail!(
            "the server does not say where it has model '{model}' from: for the manifest, name it by \
             --model {model}=URI"
        );
    };
    Ok(Served { model: model.to_owned(), uri, flags })
}
