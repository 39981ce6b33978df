//! What is served changes while it is served: models are loaded and unloaded by name, and their sources are watched.

mod demand;
mod watch;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use corymb_core::{Code, Error};
use corymb_repository::{Found, Listed, ModelFolder, Repository, RepositoryError};

pub use self::demand::{OnDemand, OnDemandOptions, Waiting};
pub use self::watch::Seen;
use crate::engine::Engine;
use crate::error::LoadError;
use crate::split::Split;

/// Where models come from.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// Names and URIs.
    pub named: Vec<(String, String)>,
    /// The URI of a model, or of a folder of models, each named as its folder.
    pub folder: Option<String>,
    /// The name of the model in `folder`, where it is one.
    pub folder_name: Option<String>,
    /// Places below which models that are loaded at run time may lie, beside the above.
    pub roots: Vec<String>,
    /// A model that is inside the binary.
    pub embedded: Option<ModelFolder>,
}

impl Sources {
    /// The name that the model in `folder` has if it is one.
    fn own_name(&self) -> Option<String> {
        let folder = self.folder.as_ref()?;
        self.folder_name.clone().or_else(|| Repository::own_name(folder))
    }
}

/// How a model is to be loaded.
#[derive(Clone, Debug, Default)]
pub struct LoadAsk {
    /// Where it is, below one of the roots; by default where it was, or is known to be.
    pub uri: Option<String>,
    /// How requests that name no version are divided; by default as the manifest says.
    pub split: Option<Split>,
}

/// Loads and unloads by name. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Live(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    engine: Engine,
    repository: Arc<Repository>,
    sources: Sources,
    asked: Mutex<Asked>,
    /// Sources that are looked at at a time.
    looking: tokio::sync::Semaphore,
}

/// What was asked for at run time.
#[derive(Debug, Default)]
struct Asked {
    /// Where models are that were loaded from a URI of their own.
    places: BTreeMap<String, String>,
    /// What was unloaded stays unloaded, until it is loaded.
    unloaded: BTreeSet<String>,
}

impl Live {
    /// Does nothing until it is asked.
    #[must_use]
    pub fn new(engine: Engine, repository: Arc<Repository>, sources: Sources) -> Self {
        let (asked, looking) = (Mutex::default(), tokio::sync::Semaphore::new(watch::AT_ONCE));
        Self(Arc::new(Inner { engine, repository, sources, asked, looking }))
    }

    /// Loads a model, or what has changed of it; its versions are those that its policy takes. If that fails, what
    /// answered before goes on answering.
    ///
    /// # Errors
    /// Why not, without the paths of this machine; they are in the details.
    pub async fn load(&self, model: &str, ask: LoadAsk) -> Result<(), Error> {
        let LoadAsk { uri, split } = ask;
        let folders = self.opened(model, uri.as_deref()).await?;
        let loaded = self.0.engine.update(model, folders, split).await;
        loaded.map_err(|error: LoadError| failed(error.code(), model, &error.to_string()))?;
        self.taken(model, uri);
        Ok(())
    }

    /// What somebody asks to be loaded: from `uri`, by default from where it was or should be.
    async fn opened(&self, model: &str, uri: Option<&str>) -> Result<Vec<ModelFolder>, Error> {
        if let Some(uri) = uri {
            self.check_root(uri)?;
        }
        let opened = match uri {
            Some(uri) => self.0.repository.open(model, uri).await,
            None => self.open(model).await?,
        };
        if let Err(error) = &opened {
            self.0.engine.source_failed(model, &error.to_string());
        }
        opened.map_err(|error| match error.code() {
            Code::NotFound => Error { details: Some(error.to_string()), ..not_found(model) },
            code => failed(code, model, &error.to_string()),
        })
    }

    /// It was loaded as somebody asked.
    fn taken(&self, model: &str, uri: Option<String>) {
        let mut asked = self.asked();
        asked.unloaded.remove(model);
        if let Some(uri) = uri {
            asked.places.insert(model.to_owned(), uri);
        }
    }

    /// Loads a model as a start does: where its newest version cannot be loaded, the newest before that which can.
    ///
    /// # Errors
    /// Why the newest cannot, where none can.
    pub async fn load_or_older(&self, model: &str, folders: Vec<ModelFolder>) -> Result<(), LoadError> {
        let newest = folders.last().map(|folder| folder.version.clone());
        let Err(error) = self.0.engine.update(model, folders, None).await else { return Ok(()) };
        let (mut failed, Some(uri)) = (newest, self.place(model)) else { return Err(error) };
        while let Some(before) = failed.and_then(|version| version.parse().ok()) {
            let Ok(folders) = self.0.repository.open_before(model, &uri, before).await else { break };
            let version = folders.last().map(|folder| folder.version.clone());
            if self.0.engine.update(model, folders, None).await.is_ok() {
                tracing::warn!(model, version, reason = %error, "an older version is served in place of the newest");
                return Ok(());
            }
            failed = version;
        }
        Err(error)
    }

    /// Where a model was loaded from, or is known to be by its name.
    fn named(&self, model: &str) -> Option<String> {
        let place = self.asked().places.get(model).cloned();
        place.or_else(|| Some(self.0.sources.named.iter().find(|(name, _)| name == model)?.1.clone()))
    }

    /// The same, or where it lies in the folder that holds models, or is one.
    fn place(&self, model: &str) -> Option<String> {
        let Sources { folder, .. } = &self.0.sources;
        let is_itself = || self.0.sources.own_name().as_deref() == Some(model);
        let inside = || {
            let folder = folder.as_ref()?;
            if is_itself() { Some(folder.clone()) } else { Repository::child(folder, model).ok() }
        };
        self.named(model).or_else(inside)
    }

    /// Lets go of a model. Requests that it has taken are finished.
    ///
    /// # Errors
    /// There is no such model.
    pub async fn unload(&self, model: &str) -> Result<(), Error> {
        // First, so that whoever watches its source does not bring it back.
        self.asked().unloaded.insert(model.to_owned());
        let unloaded = self.0.engine.unload(model).await;
        unloaded.map_err(|error| {
            self.asked().unloaded.remove(model);
            error.into()
        })
    }

    /// The model of that name, where it was or where it should be.
    async fn open(&self, model: &str) -> Result<Result<Vec<ModelFolder>, RepositoryError>, Error> {
        let Sources { folder, folder_name, embedded, .. } = &self.0.sources;
        if let Some(uri) = self.named(model) {
            return Ok(self.0.repository.open(model, &uri).await);
        }
        if let Some(embedded) = embedded.as_ref().filter(|folder| folder.name == model) {
            return Ok(Ok(vec![embedded.clone()]));
        }
        let Some(folder) = folder else { return Err(not_found(model)) };
        // The folder may be the model itself.
        if self.0.sources.own_name().as_deref() == Some(model) {
            match self.0.repository.look_into(folder, folder_name.as_deref()).await {
                Ok(Found::One(_, opened)) => return Ok(opened),
                Ok(_) => {}
                Err(error) => return Ok(Err(error)),
            }
        }
        let opened = match Repository::child(folder, model) {
            Ok(uri) => self.0.repository.open(model, &uri).await,
            Err(error) => Err(error),
        };
        // It may be a file, or be called otherwise than its folder.
        match &opened {
            Err(error) if error.is_absence() => {}
            _ => return Ok(opened),
        }
        let listed = self.0.repository.list(folder, folder_name.as_deref()).await;
        match listed.into_iter().flatten().find(|listed| listed.name == model) {
            Some(listed) => Ok(self.0.repository.open_listed(folder, &listed).await),
            // Files alone are one model together, but for who names one.
            None => match Repository::child(folder, &format!("{model}.onnx")) {
                Ok(uri) => {
                    let file = self.0.repository.open(model, &uri).await;
                    Ok(file.or_else(|other| if other.is_absence() { opened } else { Err(other) }))
                }
                Err(_) => Ok(opened),
            },
        }
    }

    /// The same of one that the folder of models lists, unless it was loaded from elsewhere since.
    async fn open_listed(
        &self,
        model: &str,
        listed: Option<&Listed>,
    ) -> Result<Result<Vec<ModelFolder>, RepositoryError>, Error> {
        match (listed, &self.0.sources.folder) {
            (Some(listed), Some(folder)) if self.named(model).is_none() => {
                Ok(self.0.repository.open_listed(folder, listed).await)
            }
            _ => self.open(model).await,
        }
    }

    fn check_root(&self, uri: &str) -> Result<(), Error> {
        let Sources { named, folder, roots, .. } = &self.0.sources;
        let roots = roots.iter().chain(folder).chain(named.iter().map(|(_, uri)| uri));
        for root in roots {
            if Repository::is_below(uri, root) {
                return Ok(());
            }
        }
        let message = format!(
            "'{}' is not below a place that models may be loaded from: --model-dir, a --model, or an --admin-root",
            corymb_repository::redact(uri)
        );
        Err(Error::new(Code::PermissionDenied, message))
    }

    fn asked(&self) -> MutexGuard<'_, Asked> {
        self.0.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn not_found(model: &str) -> Error {
    Error::new(Code::NotFound, format!("there is no model '{model}' in the places that models are loaded from"))
}

/// What is wrong with a model that somebody asks to be loaded is wrong with what he asks for, as Triton has it.
fn failed(code: Code, model: &str, reason: &str) -> Error {
    let code = if code == Code::Internal { Code::InvalidArgument } else { code };
    let message = format!("model '{model}' was not loaded: {}", without_paths(reason));
    Error { details: Some(reason.to_owned()), ..Error::new(code, message) }
}

/// The same words with the last part of each path of this machine in its place: enough for who knows the model.
#[must_use]
pub fn without_paths(text: &str) -> String {
    let ends =
        |letter: char| letter.is_whitespace() || matches!(letter, '\'' | '"' | '`' | '(' | ')' | ',' | ';' | ':');
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find('/') {
        let word = rest[..start].rfind(ends).map_or(0, |at| at + rest[at..].chars().next().map_or(1, char::len_utf8));
        let end = rest[start..].find(ends).map_or(rest.len(), |at| start + at);
        let path = &rest[start..end];
        // Only what begins with the slash is a path from the root; behind `://` stands a store.
        let absolute = word == start && !path.starts_with("//");
        let last = path.rsplit('/').find(|part| !part.is_empty()).unwrap_or("/");
        shown.push_str(&rest[..start]);
        shown.push_str(if absolute { last } else { path });
        rest = &rest[end..];
    }
    shown.push_str(rest);
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_this_machine_are_not_shown() {
        for (text, shown) in [
            ("/srv/models/a/model.toml: unknown key `fil`", "model.toml: unknown key `fil`"),
            ("open '/srv/x.onnx' (no such file)", "open 'x.onnx' (no such file)"),
            ("s3://bucket/a/b: 403", "s3://bucket/a/b: 403"),
            ("images/s and a/b stay", "images/s and a/b stay"),
            ("version is /; é/x", "version is /; é/x"),
        ] {
            assert_eq!(without_paths(text), shown);
        }
    }
}
