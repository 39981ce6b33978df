//! Which models: the flags that name them, and the folders they stand for.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use bytesize::ByteSize;
use clap::Args;
use corymb_engine::Sources;
use corymb_repository::{Found, ModelFolder, Repository, RepositoryError, RepositoryOptions, SignaturePolicy, Trust};
use futures::future::BoxFuture;
use futures::{FutureExt as _, StreamExt as _, TryStreamExt as _, stream};

use crate::config::{cache_folder, environment};
use crate::{embedded, models_progress};

/// Models that are opened at a time.
const AT_ONCE: usize = 16;

/// How long downloads may bring nothing.
const DOWNLOAD_TIMEOUT: Duration = Duration::from_secs(60);

/// What to load. Without any, the embedded flowers model.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct SourceFlags {
    /// A model under a name of its own; may be repeated
    #[arg(long, value_name = "NAME=URI", value_parser = parse_named)]
    pub(crate) model: Vec<NamedModel>,
    /// A model's folder or .onnx file, or a folder of models: a path, file://, s3://, gs://, az://, hf://, http(s)://
    #[arg(long, value_name = "URI", alias = "model_dir")]
    pub(crate) model_dir: Option<String>,
    /// The name of the model in --model-dir, where it is one; by default its folder's
    #[arg(long, value_name = "NAME", alias = "model_name")]
    pub(crate) model_name: Option<String>,
    /// For models whose manifest does not say: auto, onnxruntime, tract [default: auto]
    #[arg(long, value_name = "NAME")]
    pub(crate) backend: Option<String>,
    /// For models whose manifest does not say: auto, cpu, cuda, cuda:N [default: auto]
    #[arg(long, value_name = "DEVICE")]
    pub(crate) device: Option<String>,
    /// ONNX Runtime's library, or none to do without it [default: looked for, the newest pip package included]
    #[arg(long, value_name = "PATH")]
    pub(crate) onnxruntime: Option<PathBuf>,
    /// Where to keep downloaded models and compiled plugins [default: the user's cache folder]
    #[arg(long, value_name = "DIR")]
    pub(crate) cache: Option<PathBuf>,
    /// Bytes of downloaded models that are kept; the least recently used go first [default: no bound]
    #[arg(long, value_name = "SIZE")]
    pub(crate) cache_size: Option<ByteSize>,
    /// Refuse models that are not signed with this public key or by a certificate below this root (PEM); of one model
    /// where it is named; may be repeated
    #[arg(long, value_name = "[NAME=]FILE", value_parser = parse_signer)]
    pub(crate) verify_signature: Vec<NamedSigner>,
    /// How long all tries of a download together may bring nothing [default: 60s]
    #[arg(long, value_parser = humantime::parse_duration)]
    pub(crate) download_timeout: Option<Duration>,
}

/// `NAME=URI`
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NamedModel {
    pub(crate) name: String,
    pub(crate) uri: String,
}

fn parse_named(text: &str) -> Result<NamedModel, String> {
    match text.split_once('=') {
        Some((name, uri)) if !name.is_empty() && !uri.is_empty() => {
            Ok(NamedModel { name: name.to_owned(), uri: uri.to_owned() })
        }
        _ => Err("expected NAME=URI, e.g. flowers=/models/flowers".to_owned()),
    }
}

/// `FILE` or `NAME=FILE`
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NamedSigner {
    /// Of the model that must be signed so; none for all that are not named.
    name: Option<String>,
    file: PathBuf,
}

impl NamedSigner {
    /// As it was typed.
    pub(crate) fn typed(&self) -> OsString {
        let mut text = self.name.as_ref().map_or_else(OsString::new, |name| format!("{name}=").into());
        text.push(&self.file);
        text
    }
}

fn parse_signer(text: &str) -> Result<NamedSigner, String> {
    let (name, file) = match text.split_once('=') {
        // A path that has a `=` in it can be written with a slash before that.
        Some((name, file)) if !name.contains('/') => (Some(name.to_owned()), file),
        _ => (None, text),
    };
    if file.is_empty() || name.as_deref() == Some("") {
        return Err("expected a PEM file, or NAME=FILE for one model, e.g. flowers=keys/flowers.pem".to_owned());
    }
    Ok(NamedSigner { name, file: file.into() })
}

impl SourceFlags {
    /// These flags, and where one is absent, that of `lower`.
    pub(crate) fn or(self, lower: Self) -> Self {
        Self {
            model: if self.model.is_empty() { lower.model } else { self.model },
            model_dir: self.model_dir.or(lower.model_dir),
            model_name: self.model_name.or(lower.model_name),
            backend: self.backend.or(lower.backend),
            device: self.device.or(lower.device),
            onnxruntime: self.onnxruntime.or(lower.onnxruntime),
            cache: self.cache.or(lower.cache),
            cache_size: self.cache_size.or(lower.cache_size),
            verify_signature: match self.verify_signature.is_empty() {
                true => lower.verify_signature,
                false => self.verify_signature,
            },
            download_timeout: self.download_timeout.or(lower.download_timeout),
        }
    }

    /// What opens the models that are named, and keeps what it downloads. Fails when a key cannot be read: without it
    /// nothing could be refused.
    pub(crate) fn repository(&self) -> anyhow::Result<Repository> {
        let environment = environment();
        let signatures = self.signatures()?;
        Ok(Repository::new(RepositoryOptions {
            cache: self.cache.clone().or_else(|| cache_folder(&environment)),
            cache_size: self.cache_size.map(|size| size.as_u64()),
            download_timeout: self.download_timeout.unwrap_or(DOWNLOAD_TIMEOUT),
            environment,
            progress: Some(models_progress::of_this_terminal()),
            signatures,
        }))
    }

    /// Who must have signed which models.
    pub(crate) fn signatures(&self) -> anyhow::Result<SignaturePolicy> {
        let mut policy = SignaturePolicy::default();
        for NamedSigner { name, file } in &self.verify_signature {
            let trust = Trust::read(file).context("--verify-signature")?;
            match name {
                Some(name) => policy.demand_of(name, trust),
                None => policy.demand(trust),
            }
        }
        Ok(policy)
    }

    /// The same, for who goes on looking at them. `roots` are further places of models that are loaded by request.
    pub(crate) fn live(&self, roots: &[String]) -> Sources {
        Sources {
            named: self.model.iter().map(|model| (model.name.clone(), model.uri.clone())).collect(),
            folder: self.model_dir.clone(),
            folder_name: self.model_name.clone(),
            roots: roots.to_vec(),
            embedded: None,
        }
    }

    /// Whether the embedded model is what is served.
    pub(crate) fn is_empty(&self) -> bool {
        self.model.is_empty() && self.model_dir.is_none()
    }

    /// Every model that is named, its files checked: all versions that its policy takes, ascending. A folder of models
    /// without any is an error unless models may come later.
    pub(crate) async fn open(&self, repository: &Repository, later: bool) -> anyhow::Result<Vec<ModelFolder>> {
        let mut opens: Vec<BoxFuture<'_, _>> = Vec::new();
        for NamedModel { name, uri } in &self.model {
            opens.push(repository.open(name, uri).boxed());
        }
        if let Some(uri) = &self.model_dir {
            let found = repository.look_into(uri, self.model_name.as_deref());
            opens.push(found.map(move |found| none_unless(later, found?)).boxed());
        }
        if self.is_empty() {
            ensure!(
                self.verify_signature.is_empty(),
                "--verify-signature: the flowers model inside the binary has no signature of its own; name a model"
            );
            return Ok(vec![embedded::flowers()?]);
        }
        let groups: Vec<Vec<ModelFolder>> = stream::iter(opens).buffered(AT_ONCE).try_collect().await?;
        let mut names = BTreeSet::new();
        for group in &groups {
            let own: BTreeSet<&str> = group.iter().map(|folder| folder.name.as_str()).collect();
            if let Some(twice) = own.into_iter().find(|name| !names.insert(*name)) {
                bail!("two models are named '{twice}'");
            }
        }
        // A name that is mistyped would leave a model unverified. Where models come by request it may be one of those.
        let signers = self.verify_signature.iter().filter_map(|signer| signer.name.as_deref());
        if let Some(stray) = signers.into_iter().find(|name| !later && !names.contains(name)) {
            bail!("--verify-signature names '{stray}', but no model has that name");
        }
        Ok(groups.concat())
    }

    /// As [`SourceFlags::open`], for commands that are done when it is.
    pub(crate) fn open_blocking(&self, repository: &Repository) -> anyhow::Result<Vec<ModelFolder>> {
        let runtime = tokio::runtime::Builder::new_current_thread().build().context("start a runtime")?;
        runtime.block_on(self.open(repository, false))
    }
}

fn none_unless(later: bool, found: Found) -> Result<Vec<ModelFolder>, RepositoryError> {
    match found {
        Found::None(path) if later => {
            tracing::info!(folder = %path.display(), "there are no models yet");
            Ok(Vec::new())
        }
        found => found.all(),
    }
}
