//! What of a place a model is made of: decided once, from the names that lie there and the small texts that describe the model, for
//! folders of this machine, buckets, hubs and archives alike.
//!
//! Nothing is read here. Which texts are needed is answered, and whoever asks reads or fetches them and asks again.

mod below;
mod said;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use corymb_core::FileSource;

pub(crate) use self::said::{AgentCheck, PlannedSample};

pub(crate) use self::below::{Below, below_of};
pub(crate) use self::said::MOST_SAID;
use self::said::{Said, said};
use crate::error::RepositoryError;
use crate::manifest::{Manifest, VersionsSection};
use crate::shape::{
    Aside, Disk, Folders, Item, MANIFEST, Shape, USUAL, WARMUP, below, file_name, is_inside, linked, normal, only_onnx,
};

/// What is asked for.
#[derive(Clone, Debug)]
pub(crate) struct Ask<'a> {
    /// As the model is called.
    pub(crate) name: &'a str,
    /// Numbers of versions that count as not there.
    pub(crate) without: Vec<u64>,
    /// Only versions before this one count.
    pub(crate) before: Option<u64>,
}

impl<'a> Ask<'a> {
    pub(crate) fn of(name: &'a str) -> Self {
        Self { name, without: Vec::new(), before: None }
    }
}

/// Texts that have been read, by their paths.
pub(crate) type Texts = BTreeMap<String, String>;

/// The next thing to do.
#[derive(Debug)]
pub(crate) enum Step {
    /// Read this text: it is there.
    Read(String),
    Done(Plan),
}

/// What a model is made of. Paths are relative to the place that was asked about.
#[derive(Debug)]
pub(crate) struct Plan {
    /// The folder of the model: the place itself, or one below it.
    pub(crate) base: String,
    /// Ascending.
    pub(crate) versions: Vec<Planned>,
    /// Whether they are numbered folders.
    pub(crate) numbered: bool,
    /// Whether the manifest says which.
    pub(crate) named: bool,
    /// The text beside numbered folders that says what all have in common.
    pub(crate) top: Option<String>,
    pub(crate) notes: Vec<Note>,
}

/// One version.
#[derive(Clone, Debug)]
pub(crate) struct Planned {
    pub(crate) number: u64,
    pub(crate) folder: String,
    pub(crate) manifest: Manifest,
    /// The text that says it; where there is none, where one would be.
    pub(crate) said: String,
    /// Whether there is one.
    pub(crate) is_said: bool,
    pub(crate) model: Option<String>,
    pub(crate) plugin: Option<String>,
    pub(crate) labels: Option<String>,
    pub(crate) samples: Vec<PlannedSample>,
    /// Checksums that Triton's agent would compare, but for those of versions before this one: a text that several share names
    /// the files of all of them.
    pub(crate) checks: Vec<AgentCheck>,
}

/// What whoever reads the log should know of a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Note {
    /// Keys of a text that have no effect.
    Ignored { file: String, keys: String },
    /// Of several files the usual one is taken.
    Others { folder: String, others: String },
    /// A file beside numbered versions that is none.
    Stray { file: String },
    /// A version that is not whole, as while it is being written.
    Unfinished { version: u64, reason: String },
    /// What lies beside the model and is not served.
    Aside(Aside),
}

impl Plan {
    /// Says what is to be said.
    pub(crate) fn announce(&self, name: &str) {
        for note in &self.notes {
            match note {
                Note::Ignored { file, keys } => {
                    tracing::warn!(model = name, file, keys, "these keys have no effect here");
                }
                Note::Others { folder, others } => tracing::info!(
                    folder,
                    others,
                    "model.onnx is served; `file` in {MANIFEST} names another, and so does --model NAME=FOLDER/FILE.onnx"
                ),
                Note::Stray { file } => {
                    tracing::warn!(file, "it lies beside numbered versions, and is none; it is not served");
                }
                Note::Aside(aside) => aside.announce(),
                Note::Unfinished { version, reason } => {
                    tracing::warn!(
                        model = name,
                        version,
                        error = reason,
                        "this version cannot be opened; it is passed over"
                    );
                }
            }
        }
    }

    /// The files that are known before any of them is read, without the models' own: what those refer to follows from them.
    pub(crate) fn files(&self) -> impl Iterator<Item = &str> {
        self.versions.iter().flat_map(|version| {
            let samples = version.samples.iter().map(|sample| sample.path.as_str());
            version.plugin.as_deref().into_iter().chain(version.labels.as_deref()).chain(samples)
        })
    }

    /// The files whose checksums are compared, those of versions that are not served among them.
    pub(crate) fn checked(&self) -> impl Iterator<Item = &str> {
        self.versions.iter().flat_map(|version| &version.checks).map(|check| check.path.as_str())
    }
}

/// Why there is no plan yet.
enum Stop {
    Read(String),
    Wrong(RepositoryError),
}

impl From<RepositoryError> for Stop {
    fn from(error: RepositoryError) -> Self {
        Self::Wrong(error)
    }
}

/// One step towards a plan of the place at the root of `folders`.
///
/// # Errors
/// The first thing that is wrong with it.
pub(crate) fn step(folders: &dyn Folders, texts: &Texts, ask: &Ask<'_>) -> Result<Step, RepositoryError> {
    match (Planner { folders, texts, ask }).plan() {
        Ok(plan) => Ok(Step::Done(plan)),
        Err(Stop::Read(path)) => Ok(Step::Read(path)),
        Err(Stop::Wrong(error)) => Err(error),
    }
}

/// The plan of a folder of this machine.
///
/// # Errors
/// The first thing that is wrong with it.
pub(crate) fn of_disk(folder: &Path, ask: &Ask<'_>) -> Result<Plan, RepositoryError> {
    let (disk, mut texts) = (Disk(folder.to_owned()), Texts::new());
    loop {
        let wanted = match step(&disk, &texts, ask)? {
            Step::Done(plan) => return Ok(plan),
            Step::Read(wanted) => wanted,
        };
        let path = folder.join(&wanted);
        let text = FileSource::Path(path.clone()).read_up_to(MOST_SAID).and_then(|bytes| {
            String::from_utf8(bytes.into()).map_err(|error| std::io::Error::new(std::io::ErrorKind::InvalidData, error))
        });
        let text = text.map_err(|reason| RepositoryError::unreadable(&path, linked(&path, reason)))?;
        texts.insert(wanted, text);
    }
}

struct Planner<'a> {
    folders: &'a dyn Folders,
    texts: &'a Texts,
    ask: &'a Ask<'a>,
}

impl Planner<'_> {
    fn plan(&self) -> Result<Plan, Stop> {
        let (shape, asides) = Shape::look(self.folders, "")?;
        let mut notes: Vec<Note> = asides.into_iter().map(Note::Aside).collect();
        let (base, shape) = match shape {
            Shape::Models(_) | Shape::Nothing => self.only_below("", &mut notes)?,
            Shape::Snapshots => {
                let snapshot = self.snapshot("")?;
                match Shape::of(self.folders, &snapshot)? {
                    Shape::Models(_) | Shape::Nothing => self.only_below(&snapshot, &mut notes)?,
                    shape => (snapshot, shape),
                }
            }
            shape => (String::new(), shape),
        };
        match shape {
            Shape::Model if self.ask.before.is_none() => {
                let said = self.said(&base, &mut notes)?;
                let version = self.version(1, &base, &said, &base, &mut notes)?;
                // It is the only version.
                if let Err(reason) = version.manifest.versions.select(&[1]) {
                    let path = self.folders.shown(&version.said).into();
                    return Err(RepositoryError::Manifest { path, reason }.into());
                }
                let top = version.is_said.then(|| version.said.clone());
                Ok(Plan { base, versions: vec![version], numbered: false, named: true, top, notes })
            }
            Shape::Versions(versions) => self.versions(base, versions, notes),
            Shape::SavedModel => Err(RepositoryError::SavedModel { path: self.folders.shown(&base).into() }.into()),
            Shape::Model | Shape::Models(_) | Shape::Snapshots | Shape::Nothing => Err(self.empty(&base).into()),
        }
    }

    /// The only model below a folder that is none.
    fn only_below(&self, folder: &str, notes: &mut Vec<Note>) -> Result<(String, Shape), Stop> {
        let path = match below_of(self.folders, folder)? {
            Below::One(path) => path,
            Below::None => return Err(self.empty(folder).into()),
            Below::Several(names) => {
                // They are relative to the place.
                return Err(RepositoryError::Several { path: self.folders.shown("").into(), names }.into());
            }
        };
        let shape = Shape::of(self.folders, &path)?;
        if shape == Shape::Snapshots {
            return Err(self.empty(&path).into());
        }
        // A file of the usual name, and folders beside it.
        if let Shape::Models(items) = shape {
            let others: Vec<&str> = items.iter().map(Item::path).filter(|other| *other != USUAL).collect();
            notes.push(Note::Others { folder: self.folders.shown(&path), others: others.join(", ") });
            return Ok((path, Shape::Model));
        }
        Ok((path, shape))
    }

    /// The folder of the commit that the main branch is, or of the only one.
    fn snapshot(&self, folder: &str) -> Result<String, Stop> {
        let snapshots = below(folder, "snapshots");
        let commits = self.folders.entries(&snapshots)?;
        let branch = below(&below(folder, "refs"), "main");
        let commit = match (self.kind(&branch)?, commits.keys().next()) {
            (Some(false), _) => {
                let text = self.texts.get(&branch).ok_or_else(|| Stop::Read(branch.clone()))?;
                Some(text.trim().to_owned())
            }
            (_, first) if commits.len() == 1 => first.cloned(),
            _ => None,
        };
        let commit = commit.filter(|commit| commits.get(commit) == Some(&true));
        Ok(below(&snapshots, &commit.ok_or_else(|| self.empty(&snapshots))?))
    }

    fn empty(&self, folder: &str) -> RepositoryError {
        RepositoryError::Empty { path: self.folders.shown(folder).into() }
    }

    /// Of numbered folders those that the policy beside them takes. One that is not whole, as while it is being written, counts as
    /// not there, unless it is named; an older one may stand for it.
    fn versions(&self, base: String, found: Vec<(u64, String)>, mut notes: Vec<Note>) -> Result<Plan, Stop> {
        let top = self.said(&base, &mut notes)?;
        let named = top.manifest.versions.only.is_some();
        if named && self.ask.before.is_some() {
            return Err(self.empty(&base).into());
        }
        notes.extend(self.strays(&base)?);
        let counts =
            |number: u64| !self.ask.without.contains(&number) && self.ask.before.is_none_or(|before| number < before);
        let mut left: Vec<(u64, String)> = found.into_iter().filter(|(number, _)| counts(*number)).collect();
        let mut first = None;
        loop {
            if left.is_empty() {
                return Err(first.unwrap_or_else(|| self.empty(&base)).into());
            }
            let taken = self.select(&top, &left).map_err(|error| first.take().unwrap_or(error))?;
            let (number, error) = match self.these(&base, &top, &taken) {
                Ok((versions, said)) => {
                    notes.extend(said);
                    let policy = top.manifest.versions.clone();
                    let top = top.is_said.then_some(top.path);
                    let versions = versions.into_iter().map(|version| of_policy(version, &policy));
                    let versions = without_repetition(versions.collect());
                    return Ok(Plan { base, versions, numbered: true, named, top, notes });
                }
                Err((_, Stop::Read(path))) => return Err(Stop::Read(path)),
                Err((number, Stop::Wrong(error))) => (number, error),
            };
            if named {
                return Err(error.into());
            }
            notes.push(Note::Unfinished { version: number, reason: error.to_string() });
            first = first.or(Some(error));
            left.retain(|(other, _)| *other != number);
        }
    }

    fn select(&self, top: &Said, present: &[(u64, String)]) -> Result<Vec<(u64, String)>, RepositoryError> {
        let numbers: Vec<u64> = present.iter().map(|(number, _)| *number).collect();
        let taken = top.manifest.versions.select(&numbers).map_err(|reason| {
            let path = self.folders.shown(&top.path).into();
            RepositoryError::Manifest { path, reason: top.in_its_words(reason) }
        })?;
        Ok(present.iter().filter(|(number, _)| taken.contains(number)).cloned().collect())
    }

    /// These versions, and what is to be said of them if all are whole.
    fn these(&self, base: &str, top: &Said, taken: &[(u64, String)]) -> Result<(Vec<Planned>, Vec<Note>), (u64, Stop)> {
        let (mut versions, mut notes) = (Vec::new(), Vec::new());
        for (number, folder) in taken {
            let folder = below(base, folder);
            let version = self.said(&folder, &mut notes).and_then(|own| {
                let said = if own.is_said { &own } else { top };
                self.version(*number, &folder, said, base, &mut notes)
            });
            versions.push(version.map_err(|stop| (*number, stop))?);
        }
        Ok((versions, notes))
    }

    fn strays(&self, base: &str) -> Result<Vec<Note>, RepositoryError> {
        let entries = self.folders.entries(base)?;
        let onnx = entries.into_iter().filter(|(name, folder)| !folder && crate::onnx::is_onnx(name));
        Ok(onnx.map(|(name, _)| Note::Stray { file: self.folders.shown(&below(base, &name)) }).collect())
    }

    fn said(&self, folder: &str, notes: &mut Vec<Note>) -> Result<Said, Stop> {
        said(self.folders, self.texts, self.ask.name, folder, notes)
    }

    /// The files of one version: of those that several share, the ones that lie beside it, in `shared`, count too.
    fn version(
        &self,
        number: u64,
        folder: &str,
        said: &Said,
        shared: &str,
        notes: &mut Vec<Note>,
    ) -> Result<Planned, Stop> {
        let manifest = &said.manifest;
        let inside = |key: &'static str, file: &str| self.inside(key, file, said, folder, shared);
        let optional = |key, file: Option<&String>| file.map(|file| inside(key, file)).transpose();
        let named = optional("file", manifest.file.as_ref())?;
        let model = match named {
            // A folder of that name holds the file, and weights beside it.
            Some(path) if self.is_folder(&path)? => Some(self.onnx_in(&path, notes)?.ok_or_else(|| self.empty(&path))?),
            Some(path) => Some(path),
            None => self.onnx_in(folder, notes)?,
        };
        let plugin = optional("plugin.file", manifest.plugin.as_ref().map(|section| &section.file))?;
        let labels = optional("labels", manifest.labels.as_ref())?;
        if model.is_none() && plugin.is_none() {
            return Err(self.empty(folder).into());
        }
        let samples = match &said.samples {
            Some(named) => named.iter().map(|sample| self.named_sample(said, sample)).collect::<Result<_, _>>()?,
            None => self.samples_in(&[folder, shared])?,
        };
        Ok(Planned {
            number,
            folder: folder.to_owned(),
            manifest: manifest.clone(),
            said: said.path.clone(),
            is_said: said.is_said,
            model,
            plugin,
            labels,
            samples,
            checks: said.checks.clone(),
        })
    }

    /// The `.onnx` file of a folder, and a note where there are others.
    fn onnx_in(&self, folder: &str, notes: &mut Vec<Note>) -> Result<Option<String>, RepositoryError> {
        let Some((file, others)) = only_onnx(self.folders, folder)? else { return Ok(None) };
        if !others.is_empty() {
            notes.push(Note::Others { folder: self.folders.shown(folder), others: others.join(", ") });
        }
        Ok(Some(below(folder, &file)))
    }

    /// Where a file that is named lies: in the version's folder, else beside it.
    fn inside(
        &self,
        key: &'static str,
        file: &str,
        said: &Said,
        folder: &str,
        shared: &str,
    ) -> Result<String, RepositoryError> {
        if !is_inside(file) || self.folders.is_forbidden(file) {
            let path = self.folders.shown(&said.path).into();
            return Err(RepositoryError::Outside { path, key, value: file.to_owned() });
        }
        let file = normal(file);
        for place in [folder, shared] {
            let path = below(place, &file);
            if self.exists(&path)? {
                return Ok(path);
            }
        }
        let path = self.folders.shown(&below(folder, &file)).into();
        Err(RepositoryError::Missing { path, by: file_name(Path::new(&said.path)) })
    }

    fn kind(&self, path: &str) -> Result<Option<bool>, RepositoryError> {
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
        // What lies in a folder that is not there is not there, either.
        let mut known = String::new();
        for part in folder.split('/').filter(|part| !part.is_empty()) {
            if self.folders.entries(&known)?.get(part) != Some(&true) {
                return Ok(None);
            }
            known = below(&known, part);
        }
        Ok(self.folders.entries(folder)?.get(name).copied())
    }

    fn exists(&self, path: &str) -> Result<bool, RepositoryError> {
        Ok(self.kind(path)?.is_some())
    }

    fn is_folder(&self, path: &str) -> Result<bool, RepositoryError> {
        Ok(self.kind(path)? == Some(true))
    }

    /// The samples of the first of these folders that has any.
    fn samples_in(&self, places: &[&str]) -> Result<Vec<PlannedSample>, RepositoryError> {
        for place in places {
            let folder = below(place, WARMUP);
            match self.kind(&folder)? {
                None => continue,
                Some(false) => {
                    let reason =
                        std::io::Error::new(std::io::ErrorKind::NotADirectory, "it is not a folder of samples");
                    return Err(RepositoryError::Unreadable { path: self.folders.shown(&folder).into(), reason });
                }
                Some(true) => {}
            }
            let entries = self.folders.entries(&folder)?;
            let files = entries.into_iter().filter(|(name, is_folder)| !is_folder && !self.folders.is_forbidden(name));
            return Ok(files.map(|(name, _)| PlannedSample { path: below(&folder, &name), raw: None }).collect());
        }
        Ok(Vec::new())
    }

    /// One that Triton's configuration names.
    fn named_sample(&self, said: &Said, sample: &crate::triton::RawSample) -> Result<PlannedSample, RepositoryError> {
        if !is_inside(&sample.file) || self.folders.is_forbidden(&sample.file) {
            let (path, value) = (self.folders.shown(&said.path).into(), sample.file.clone());
            return Err(RepositoryError::Outside { path, key: "model_warmup.inputs.input_data_file", value });
        }
        let path = below(&below(&said.folder, WARMUP), &normal(&sample.file));
        if self.kind(&path)? != Some(false) {
            let by = file_name(Path::new(&said.path));
            return Err(RepositoryError::Missing { path: self.folders.shown(&path).into(), by });
        }
        Ok(PlannedSample { path, raw: Some(sample.clone()) })
    }
}

/// Which versions are served is not for one of them to say.
fn of_policy(version: Planned, policy: &VersionsSection) -> Planned {
    Planned { manifest: Manifest { versions: policy.clone(), ..version.manifest }, ..version }
}

/// Each check once: the files may be large.
fn without_repetition(mut versions: Vec<Planned>) -> Vec<Planned> {
    let mut known = BTreeSet::new();
    for version in &mut versions {
        version.checks.retain(|check| known.insert((check.path.clone(), check.md5.clone())));
    }
    versions
}

#[cfg(test)]
mod tests;
