//! The models that flags name: opened, checked, and the embedded one where none is named.

mod progress;

pub(crate) use self::progress::Loading;

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use corymb_engine::Sources;
use corymb_repository::{
    Found, ModelFolder, Offline, Repository, RepositoryError, RepositoryOptions, SignaturePolicy, Trust,
};
use futures::future::BoxFuture;
use futures::{FutureExt as _, StreamExt as _, TryStreamExt as _, stream};

use crate::config::{NamedFile, NamedModel, SourceFlags, cache, environment};
use crate::embedded;

/// Models that are opened at a time.
const AT_ONCE: usize = 16;

/// How long downloads may bring nothing.
const DOWNLOAD_TIMEOUT: Duration = Duration::from_secs(60);

/// What opens the models that are named, and keeps what it downloads. Fails when a key cannot be read: without it
/// nothing could be refused.
pub(crate) fn repository(flags: &SourceFlags) -> anyhow::Result<Repository> {
    repository_with(flags, Offline::Unreachable)
}

/// The same, with what stands for stores that cannot be reached, unless --offline says that none is asked.
pub(crate) fn repository_with(flags: &SourceFlags, unreachable: Offline) -> anyhow::Result<Repository> {
    let environment = environment();
    let signatures = signatures(flags)?;
    libraries(flags)?;
    let of_hub = environment.get("HF_HUB_OFFLINE").map(|value| value.to_ascii_lowercase());
    let is_offline = flags.offline || of_hub.is_some_and(|value| matches!(value.as_str(), "1" | "true" | "yes" | "on"));
    Ok(Repository::new(RepositoryOptions {
        cache: cache(flags.cache.as_ref(), &environment).folder,
        cache_size: flags.cache_size.map(|size| size.as_u64()),
        download_timeout: flags.download_timeout.unwrap_or(DOWNLOAD_TIMEOUT),
        environment,
        progress: Some(progress::of_this_terminal()),
        signatures,
        offline: if is_offline { Offline::Always } else { unreachable },
    }))
}

/// Fails where a library of custom operators is named that is not there, whether or not a model asks for it.
pub(crate) fn libraries(flags: &SourceFlags) -> anyhow::Result<()> {
    let absent = flags.custom_operators.iter().find(|library| !library.file.exists());
    absent.map_or(Ok(()), |library| bail!("--custom-operators {}: is not there", library.file.display()))
}

/// Who must have signed which models.
pub(crate) fn signatures(flags: &SourceFlags) -> anyhow::Result<SignaturePolicy> {
    let mut policy = SignaturePolicy::default();
    for NamedFile { name, file } in &flags.verify_signature {
        let trust = Trust::read(file).context("--verify-signature")?;
        match name {
            Some(name) => policy.demand_of(name, trust),
            None => policy.demand(trust),
        }
    }
    Ok(policy)
}

/// The places of the models that are named, for whoever goes on looking at them. `roots` are further places of models that are loaded by request.
pub(crate) fn live(flags: &SourceFlags, roots: &[String]) -> Sources {
    Sources {
        named: flags.model.iter().map(|model| (model.name.clone(), model.uri.clone())).collect(),
        folder: flags.model_dir.clone(),
        folder_name: flags.model_name.clone(),
        roots: roots.to_vec(),
        embedded: None,
    }
}

/// By name, the versions of each model, or what is wrong with it.
type Models = Vec<(String, Result<Vec<ModelFolder>, RepositoryError>)>;

/// The models that are named.
#[derive(Default)]
pub(crate) struct Opened {
    /// All versions of each that its policy takes, ascending; their files are checked.
    pub(crate) folders: Vec<ModelFolder>,
    /// Those that could not be opened, and why.
    pub(crate) failed: Vec<(String, RepositoryError)>,
}

impl Opened {
    /// All models.
    ///
    /// # Errors
    /// Why the first of those that could not be opened was not.
    pub(crate) fn all(self) -> Result<Vec<ModelFolder>, RepositoryError> {
        self.failed.into_iter().next().map_or(Ok(self.folders), |(_, error)| Err(error))
    }
}

/// Every model that is named. A folder of models without any is an error unless models may come later.
pub(crate) async fn open(flags: &SourceFlags, repository: &Repository, later: bool) -> anyhow::Result<Opened> {
    let mut opens: Vec<BoxFuture<'_, Result<Models, RepositoryError>>> = Vec::new();
    for NamedModel { name, uri } in &flags.model {
        opens.push(repository.open(name, uri).map(|opened| Ok(vec![(name.clone(), opened)])).boxed());
    }
    if let Some(uri) = &flags.model_dir {
        let found = repository.look_into(uri, flags.model_name.as_deref());
        opens.push(found.map(move |found| none_unless(later, found?)).boxed());
    }
    if flags.is_empty() {
        ensure!(
            flags.verify_signature.is_empty(),
            "--verify-signature: the flowers model inside the binary has no signature of its own; name a model"
        );
        return Ok(Opened { folders: vec![embedded::flowers()?], failed: Vec::new() });
    }
    let models: Vec<Models> = stream::iter(opens).buffered(AT_ONCE).try_collect().await?;
    let models: Models = models.into_iter().flatten().collect();
    check_names(flags, models.iter().map(|(name, _)| name.as_str()), later)?;
    let mut all = Opened::default();
    for (name, opened) in models {
        match opened {
            Ok(folders) => all.folders.extend(folders),
            Err(error) => all.failed.push((name, error)),
        }
    }
    Ok(all)
}

/// The names of the models that are named, where `in_folder` are those of --model-dir, none of which is opened. What [`open`] refuses
/// whatever the models are made of is refused here, too.
pub(crate) async fn listed(
    flags: &SourceFlags,
    repository: &Repository,
    in_folder: Vec<String>,
    later: bool,
) -> anyhow::Result<Vec<String>> {
    if let (Some(uri), true) = (&flags.model_dir, in_folder.is_empty()) {
        // It says why there is none.
        none_unless(later, repository.look_into(uri, flags.model_name.as_deref()).await?)?;
    }
    let names: Vec<String> = flags.model.iter().map(|model| model.name.clone()).chain(in_folder).collect();
    check_names(flags, names.iter().map(String::as_str), later)?;
    Ok(names)
}

/// As [`listed`], for who has no list yet.
pub(crate) async fn list(flags: &SourceFlags, repository: &Repository, later: bool) -> anyhow::Result<Vec<String>> {
    let in_folder = match &flags.model_dir {
        Some(uri) => repository.list(uri, flags.model_name.as_deref()).await?,
        None => Vec::new(),
    };
    listed(flags, repository, in_folder.into_iter().map(|listed| listed.name).collect(), later).await
}

fn check_names<'a>(flags: &SourceFlags, names: impl Iterator<Item = &'a str>, later: bool) -> anyhow::Result<()> {
    let mut known = BTreeSet::new();
    for name in names {
        ensure!(known.insert(name), "two models are named '{name}'");
    }
    // A name that is mistyped would leave a model unverified. Where models come by request it may be one of those.
    let signers = flags.verify_signature.iter().filter_map(|signer| signer.name.as_deref());
    if let Some(stray) = signers.into_iter().find(|name| !later && !known.contains(*name)) {
        bail!("--verify-signature names '{stray}', but no model has that name");
    }
    Ok(())
}

/// As [`open`], for commands that are done when it is.
pub(crate) fn open_blocking(flags: &SourceFlags, repository: &Repository) -> anyhow::Result<Vec<ModelFolder>> {
    Ok(open_each(flags, repository)?.all()?)
}

/// The same, with what is wrong with some of them beside the others.
pub(crate) fn open_each(flags: &SourceFlags, repository: &Repository) -> anyhow::Result<Opened> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().context("start a runtime")?;
    runtime.block_on(open(flags, repository, false))
}

fn none_unless(later: bool, found: Found) -> Result<Models, RepositoryError> {
    match found {
        Found::None(_, path) if later => {
            tracing::info!(folder = %path.display(), "there are no models yet");
            Ok(Vec::new())
        }
        none @ Found::None(..) => none.all().map(|_| Vec::new()),
        Found::One(name, opened) => Ok(vec![(name, opened)]),
        Found::Many(models) => Ok(models),
    }
}
