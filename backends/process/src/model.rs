//! A model whose instances are child processes.

use std::path::Path;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use corymb_core::{
    BackendError, CancelFlag, Device, Ending, FileSource, Holder, Instance, LoadOptions, MemoryPool, Model, ModelFiles,
    Profile, RunOptions, Signature, Tensors,
};

use crate::backoff::Backoff;
use crate::messages::{Order, Report};
use crate::parent::{Child, End};
use crate::records::{Described, Load, Settings, Source};
use crate::stamps::Stamps;
use crate::starter::Starter;
use crate::tensors;

/// How long a child may take to load a model.
const LOAD_LIMIT: Duration = Duration::from_secs(600);

/// What children are made of.
struct Recipe {
    starter: Arc<Starter>,
    /// What the files were when the model was loaded.
    stamps: Stamps,
    backend: &'static str,
    files: ModelFiles,
    options: LoadOptions,
    /// For messages.
    name: String,
}

/// The children of a model. An instance takes any that is idle, so that one that ended is missed by nobody while others are.
struct Family {
    recipe: Recipe,
    /// With the threads of its instance.
    idle: Mutex<Vec<(usize, Child)>>,
    backoff: Mutex<Backoff>,
    /// Children that ended while nobody asked for them, and have not been reported.
    lost: AtomicU64,
}

pub(crate) struct ApartModel {
    family: Arc<Family>,
    signature: Signature,
    device: Device,
    unverified: Option<String>,
    profile: Profile,
    /// The one that loaded the model first: the first instance's.
    first: Mutex<Option<Child>>,
}

impl ApartModel {
    pub(crate) fn load(
        starter: Arc<Starter>,
        backend: &'static str,
        files: &ModelFiles,
        options: &LoadOptions,
    ) -> Result<Self, BackendError> {
        let name = if options.model.is_empty() { files.model.name() } else { options.model.clone() };
        // A relative path would mean another file after a change of the working folder.
        let absolute = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let model = match &files.model {
            FileSource::Path(path) => FileSource::Path(absolute(path)),
            embedded @ FileSource::Embedded { .. } => embedded.clone(),
        };
        let stamps = Stamps::of(&model);
        let recipe = Recipe { starter, stamps, backend, files: ModelFiles { model }, options: options.clone(), name };
        let (child, described) = recipe.start()?;
        let strange = || BackendError::Failed("the process described the model in words that are not known".to_owned());
        let (signature, device, unverified, profile) = described.into_parts().ok_or_else(strange)?;
        let device = device.parse().map_err(|_| strange())?;
        let first = Mutex::new(Some(child));
        let family =
            Arc::new(Family { recipe, idle: Mutex::default(), backoff: Mutex::default(), lost: AtomicU64::new(0) });
        Ok(Self { family, signature, device, unverified, profile, first })
    }
}

impl Recipe {
    /// A child that has loaded the model: the same files as the first.
    fn start(&self) -> Result<(Child, Described), BackendError> {
        let is_as_loaded = || self.stamps == Stamps::of(&self.files.model);
        if !is_as_loaded() {
            return Err(BackendError::Changed);
        }
        let started = self.start_of_any()?;
        // Looked at again behind the loading: what is changed meanwhile is seen, too.
        if is_as_loaded() { Ok(started) } else { Err(BackendError::Changed) }
    }

    fn start_of_any(&self) -> Result<(Child, Described), BackendError> {
        let cannot = |error: std::io::Error| {
            BackendError::Failed(format!("a process for '{}' cannot be started: {error}", self.name))
        };
        let mut child = Child::new(self.starter.start().map_err(cannot)?, &self.name).map_err(cannot)?;
        let source = match &self.files.model {
            FileSource::Path(path) => Source::Path(path.clone()),
            FileSource::Embedded { name, bytes } => {
                std::os::unix::fs::FileExt::write_all_at(&child.memory, bytes, 0).map_err(cannot)?;
                Source::Embedded { name: name.clone(), len: bytes.len() }
            }
        };
        let load = Load {
            backend: self.backend.to_owned(),
            source,
            device: self.options.device.to_string(),
            cache: self.options.cache.clone(),
            unverified: self.options.unverified,
            settings: Settings::from(&self.options.settings),
        };
        match self.ask(&mut child, &Order::Load(Box::new(load)))? {
            Report::Loaded(described) => Ok((child, *described)),
            other => Err(self.unexpected(other)),
        }
    }

    /// Makes the child's instance.
    fn prepare(&self, mut child: Child, threads: usize) -> Result<Child, BackendError> {
        match self.ask(&mut child, &Order::Instance { threads })? {
            Report::Ready => Ok(child),
            other => Err(self.unexpected(other)),
        }
    }

    /// What is not a run, and takes as long as it takes.
    fn ask(&self, child: &mut Child, order: &Order) -> Result<Report, BackendError> {
        let ends = Instant::now().checked_add(LOAD_LIMIT);
        let report = child.ask(order, &CancelFlag::new(), ends, &mut MemoryPool::default().holder());
        let _ = tensors::trim(&child.memory);
        report.map_err(|end| match end {
            End::Late => ended(format!("loading '{}' did not end within {LOAD_LIMIT:?}", self.name), Ending::Late),
            End::Gone { how, by } => ended(format!("the process that loaded '{}' {how}", self.name), by),
        })
    }

    fn unexpected(&self, report: Report) -> BackendError {
        match report {
            Report::Failed(failure) => failure.into_error(self.backend),
            _ => BackendError::Failed("the process answered what it was not asked".to_owned()),
        }
    }
}

impl Model for ApartModel {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn device(&self) -> &Device {
        &self.device
    }

    fn profile(&self) -> Profile {
        self.profile.clone()
    }

    fn unverified(&self) -> Option<&str> {
        self.unverified.as_deref()
    }

    fn is_apart(&self) -> bool {
        true
    }

    fn take_lost(&self) -> u64 {
        self.family.lost.swap(0, Relaxed)
    }

    fn instance(&self, threads: usize) -> Result<Box<dyn Instance>, BackendError> {
        let first = lock(&self.first).take();
        let recipe = &self.family.recipe;
        let child = match first {
            Some(child) => child,
            None => recipe.start()?.0,
        };
        self.family.give_back(threads, recipe.prepare(child, threads)?);
        Ok(Box::new(ApartInstance { family: Arc::clone(&self.family), threads }))
    }
}

/// A place at a child.
struct ApartInstance {
    family: Arc<Family>,
    threads: usize,
}

impl Instance for ApartInstance {
    fn run(&mut self, batch: &[Tensors], options: &RunOptions) -> Result<Vec<Tensors>, BackendError> {
        if options.cancel.is_cancelled() {
            return Err(BackendError::Cancelled);
        }
        let family = &self.family;
        let mut child = family.child(self.threads)?;
        let mut holder = family.recipe.options.memory.holder();
        let answers = match ask(&mut child, batch, options, &mut holder) {
            Ok(Ok(Report::Ran(answers))) => {
                child.has_served = true;
                receive(&child, &answers, holder)
            }
            Ok(Ok(other)) => Err(match family.recipe.unexpected(other) {
                // It is told to stop either way.
                BackendError::Cancelled if !options.cancel.is_cancelled() => BackendError::TimedOut,
                error => error,
            }),
            Ok(Err(error)) => Err(error),
            Err(end) => return Err(family.ended(end, child.has_served)),
        };
        let _ = tensors::trim(&child.memory);
        family.give_back(self.threads, child);
        answers
    }
}

/// The child's report, which may be that it failed.
type Asked = Result<Result<Report, BackendError>, End>;

fn ask(child: &mut Child, batch: &[Tensors], options: &RunOptions, holder: &mut Holder) -> Asked {
    let inputs = batch.iter().map(Tensors::byte_len).sum::<usize>() as u64;
    // Here and in the child.
    if let Err(shortage) = holder.grow(2 * inputs) {
        return Ok(Err(BackendError::Memory(shortage)));
    }
    let requests = match tensors::write(&child.memory, batch) {
        Ok(requests) => requests,
        Err(error) => return Ok(Err(BackendError::Failed(format!("write for the process: {error}")))),
    };
    let left = options.ends.map(|ends| ends.saturating_duration_since(Instant::now()));
    let ends_in = left.map(|left| u64::try_from(left.as_millis()).unwrap_or(u64::MAX));
    let order = Order::Run { requests, outputs: options.outputs.clone(), ends_in };
    child.ask(&order, &options.cancel, options.ends, holder).map(Ok)
}

/// Reads what the child answered. `holder` holds what the child took, which it has no more.
fn receive(child: &Child, answers: &tensors::Batch, mut holder: Holder) -> Result<Vec<Tensors>, BackendError> {
    let bytes = tensors::len(answers);
    // Here, and until they are read in the memory that both have open.
    let needed = bytes.saturating_mul(2);
    match needed.checked_sub(holder.bytes()) {
        Some(more) => holder.grow(more).map_err(BackendError::Memory)?,
        None => holder.set(needed),
    }
    let read = tensors::read(&child.memory, answers);
    let read = read.map_err(|error| BackendError::Failed(format!("what the process answered: {error}")))?;
    let names: Vec<Vec<String>> =
        read.iter().map(|tensors| tensors.iter().map(|(name, _)| name.to_owned()).collect()).collect();
    let all = read.into_iter().flat_map(|tensors| tensors.into_iter().map(|(_, tensor)| tensor)).collect();
    let mut kept = holder.keep_with_tensors(all).into_iter();
    Ok(names.into_iter().map(|names| names.into_iter().zip(kept.by_ref()).collect()).collect())
}

impl Family {
    fn give_back(&self, threads: usize, child: Child) {
        lock(&self.idle).push((threads, child));
    }

    fn take_idle(&self, threads: usize) -> Option<Child> {
        let mut idle = lock(&self.idle);
        let place = idle.iter().rposition(|(known, _)| *known == threads)?;
        Some(idle.swap_remove(place).1)
    }

    /// A child with so many threads: one that is idle, else another in place of one that ended.
    fn child(&self, threads: usize) -> Result<Child, BackendError> {
        while let Some(mut child) = self.take_idle(threads) {
            // One that ended while nobody asked for it costs no request.
            match child.has_ended() {
                None => return Ok(child),
                Some(End::Gone { how, .. }) => {
                    tracing::error!(model = self.recipe.name, how, "an idle instance has lost its process");
                    lock(&self.backoff).ended(Instant::now(), child.has_served);
                    self.lost.fetch_add(1, Relaxed);
                }
                Some(End::Late) => {}
            }
        }
        if let Some(wait) = lock(&self.backoff).wait(Instant::now()) {
            return Err(BackendError::Restarting(wait));
        }
        let (begin, recipe) = (Instant::now(), &self.recipe);
        let started = recipe.start().and_then(|(child, _)| recipe.prepare(child, threads));
        match &started {
            Ok(_) => tracing::info!(model = recipe.name, took = ?begin.elapsed(), "its process was started again"),
            Err(error) => {
                // What has changed is not there again after some time.
                if !matches!(error, BackendError::Changed) {
                    lock(&self.backoff).ended(Instant::now(), false);
                }
                tracing::error!(model = recipe.name, %error, "its process could not be started again");
            }
        }
        started
    }

    fn ended(&self, end: End, had_served: bool) -> BackendError {
        // One that was ended for want of time is as good as any.
        let is_sound = had_served || matches!(end, End::Late);
        lock(&self.backoff).ended(Instant::now(), is_sound);
        let model = &self.recipe.name;
        let error = match end {
            End::Gone { how, by } => ended(format!("the process of '{model}' {how}"), by),
            End::Late => {
                let how = format!("a run of '{model}' did not stop when it was told to; its process was ended");
                ended(how, Ending::Late)
            }
        };
        tracing::error!(model, %error, "an instance has lost its process");
        error
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn ended(how: String, by: Ending) -> BackendError {
    BackendError::Crashed { how, by }
}
