//! From a store into the cache: once among all processes, resumed, checked before it is seen.

mod parts;
mod patience;
mod progress;
#[cfg(test)]
mod tests;
mod transfer;

use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;

pub(crate) use patience::Patience;
pub(crate) use progress::Silent;
pub use progress::{Meter, Progress};

use crate::cache::{BlobRecord, Cache, CacheFull, Hold, boot_id};
use crate::download::transfer::Transfer;
use crate::error::RepositoryError;
use crate::hashing::digests_of;
use crate::store::{Algorithm, Answer, Check, Digests, Fault, FaultKind, Object, Source};

/// Requests at a time, of all downloads together.
const REQUESTS: usize = 32;
/// How often an object may be replaced while it is being downloaded.
const CHANGES: usize = 3;
/// How often one looks whether another process has finished.
const LOOK: Duration = Duration::from_millis(50);

/// Downloads into one cache. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Downloads {
    pub(crate) cache: Cache,
    pub(crate) progress: Arc<dyn Progress>,
    /// How long all tries together may bring nothing.
    pub(crate) timeout: Duration,
    requests: Arc<Semaphore>,
}

/// A file of the cache.
#[derive(Clone, Debug)]
pub(crate) struct Blob {
    pub(crate) key: String,
    pub(crate) record: BlobRecord,
    /// Keeps it there.
    _hold: Arc<Hold>,
}

/// Why a download under the lock did not end well.
enum Failure {
    Store(Fault),
    Cache(io::Error),
    Full(CacheFull),
    /// The content is not what was stated: `(by whom, what of it, found, stated)`.
    Content(&'static str, Check, String, String),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Cache(error)
    }
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        Self::Store(fault)
    }
}

impl Downloads {
    pub(crate) fn new(cache: Cache, progress: Arc<dyn Progress>, timeout: Duration) -> Self {
        Self { cache, progress, timeout, requests: Arc::new(Semaphore::new(REQUESTS)) }
    }

    /// The same downloads, with less patience.
    pub(crate) fn within(&self, timeout: Duration) -> Self {
        Self { timeout: self.timeout.min(timeout), ..self.clone() }
    }

    /// Asks a store until it answers or patience ends.
    pub(crate) async fn ask<T, F: Future<Output = Result<T, Fault>>>(
        &self,
        object: &str,
        request: impl FnMut() -> F,
    ) -> Result<T, RepositoryError> {
        self.ask_store(request).await.map_err(|fault| remote(object, &fault))
    }

    /// The same, with what the store says when it does not.
    pub(crate) async fn ask_store<T, F: Future<Output = Result<T, Fault>>>(
        &self,
        mut request: impl FnMut() -> F,
    ) -> Result<T, Fault> {
        let patience = Patience::new(self.timeout);
        let mut tries = 0;
        loop {
            let result = {
                let _permit = self.requests.acquire().await;
                request().await
            };
            match result {
                Ok(answer) => return Ok(answer),
                Err(fault) => patience.wait(fault, &mut tries).await?,
            }
        }
    }

    /// The object at `path`, with the answer if it came whole.
    pub(crate) async fn probe(&self, source: &Source, path: &str) -> Result<(Object, Option<Answer>), RepositoryError> {
        self.ask(&source.shown(path), || source.probe(path)).await
    }

    /// The blob of an object: as it is in the cache, else downloaded. `sha256` is what the user says it must be.
    pub(crate) async fn fetch(
        &self,
        source: &Source,
        path: &str,
        mut object: Object,
        mut first: Option<Answer>,
        sha256: Option<&str>,
    ) -> Result<Blob, RepositoryError> {
        let uri = source.shown(path);
        let mut changes = 0;
        loop {
            let failure = match self.fetch_as(source, path, &object, first.take(), sha256).await {
                Ok(blob) => return Ok(blob),
                Err(failure) => failure,
            };
            match failure {
                Failure::Store(fault) if fault.kind == FaultKind::Changed && changes < CHANGES => {
                    changes += 1;
                    tracing::warn!(object = uri, reason = fault.reason, "the object has changed; downloading it anew");
                    (object, first) = self.probe(source, path).await?;
                }
                Failure::Store(fault) => return Err(remote(&uri, &fault)),
                Failure::Cache(reason) => {
                    let path = self.cache.folder().to_owned();
                    return Err(RepositoryError::Cache { path, object: uri, reason });
                }
                Failure::Full(full) => {
                    let reason = io::Error::new(io::ErrorKind::StorageFull, full);
                    return Err(RepositoryError::Cache { path: self.cache.folder().to_owned(), object: uri, reason });
                }
                Failure::Content(by, check, found, stated) => {
                    let algorithm = check.to_string().into();
                    return Err(RepositoryError::Content { object: uri, algorithm, found, by, stated });
                }
            }
        }
    }

    async fn fetch_as(
        &self,
        source: &Source,
        path: &str,
        object: &Object,
        mut first: Option<Answer>,
        sha256: Option<&str>,
    ) -> Result<Blob, Failure> {
        let uri = source.shown(path);
        let key = Cache::blob_key(&uri, object);
        let hold = Arc::new(self.cache.hold_blob(&key)?);
        let mut others = Others::new(self.timeout);
        loop {
            // Without a tag nothing says whether it is still the same.
            if object.tag.is_some()
                && let Some(record) = self.cache.find(&key)
            {
                return self.known(Blob { key, record, _hold: hold }, sha256).await;
            }
            let state_path = self.cache.blob_file(&key, "state");
            let state = File::options().create(true).truncate(false).read(true).write(true).open(&state_path)?;
            match state.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => {
                    others.wait(&uri, &state).await?;
                    continue;
                }
                Err(TryLockError::Error(error)) => return Err(error.into()),
            }
            if self.is_over(&key, object, &state) {
                continue;
            }
            let mut again = true;
            loop {
                match self.download(source, path, object, first.take(), sha256, &key, &state).await {
                    // Bytes that flipped on their way arrive the second time; a wrong statement stays wrong.
                    Err(Failure::Content("the store", ..)) if again => {
                        again = false;
                        tracing::warn!(object = uri, "what arrived is not what the store has; downloading it anew");
                    }
                    Err(Failure::Store(fault)) if fault.kind == FaultKind::Changed => {
                        self.forget_part(&key);
                        let _ = fs::remove_file(&state_path);
                        return Err(fault.into());
                    }
                    result => {
                        if result.is_ok() {
                            let _ = fs::remove_file(&state_path);
                        }
                        return result.map(|record| Blob { key, record, _hold: hold });
                    }
                }
            }
        }
    }

    /// Whether whoever held `state` before has finished or has removed it since this process looked into the cache.
    fn is_over(&self, key: &str, object: &Object, state: &File) -> bool {
        let path = self.cache.blob_file(key, "state");
        let same = fs::metadata(&path).is_ok_and(|meta| state.metadata().is_ok_and(|own| own.ino() == meta.ino()));
        if !same {
            return true;
        }
        let finished = object.tag.is_some() && self.cache.find(key).is_some();
        if finished {
            let _ = fs::remove_file(&path);
        }
        finished
    }

    /// A blob that was downloaded before may have to be something now that was not asked of it then.
    async fn known(&self, mut blob: Blob, sha256: Option<&str>) -> Result<Blob, Failure> {
        let Some(stated) = sha256 else { return Ok(blob) };
        if !blob.record.digests.0.contains_key(&Algorithm::Sha256.into()) {
            let file = File::open(self.cache.blob(&blob.key))?;
            let digests = in_background(move || digests_of(&file, &[Algorithm::Sha256.into()])).await?;
            blob.record.digests.0.extend(digests.0);
            crate::cache::write_json(&self.cache.blob_file(&blob.key, "json"), &blob.record)?;
        }
        compare(&blob.record.digests, &Digests::default(), Some(stated))?;
        Ok(blob)
    }

    /// Under the lock of its state.
    #[expect(clippy::too_many_arguments, reason = "one caller, which has just made them")]
    async fn download(
        &self,
        source: &Source,
        path: &str,
        object: &Object,
        first: Option<Answer>,
        sha256: Option<&str>,
        key: &str,
        state: &File,
    ) -> Result<BlobRecord, Failure> {
        let part = self.cache.blob_file(key, "part");
        let uri = source.shown(path);
        let present = fs::metadata(&part).map_or(0, |meta| meta.blocks() * 512);
        self.cache.make_room(object.size.saturating_sub(present)).map_err(Failure::Full)?;
        let started = Instant::now();
        let file = File::options().create(true).truncate(false).read(true).write(true).open(&part)?;
        let mut stated = Checksums::of(object, sha256);
        let transfer = Transfer::new(self, source, path, object, file, state.try_clone()?, &part, &mut stated)?;
        let (received, found, stated) = transfer.run(first).await?;
        if let Err(failure) = compare(&found, &stated, sha256) {
            self.forget_part(key);
            state.set_len(0)?;
            return Err(failure);
        }
        let record = BlobRecord {
            uri: uri.clone(),
            tag: object.tag.clone(),
            size: object.size,
            digests: found,
            boot: boot_id(),
            synced: false,
            modified: None,
        };
        self.cache.keep(key, &part, record.clone())?;
        let milliseconds = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        tracing::info!(object = uri, bytes = object.size, received, milliseconds, "downloaded");
        if stated.0.is_empty() && sha256.is_none() {
            tracing::info!(target: UNCHECKED, object = uri, "not checked: the store states no checksum of it, and nobody else does");
        }
        Ok(record)
    }

    fn forget_part(&self, key: &str) {
        let _ = fs::remove_file(self.cache.blob_file(key, "part"));
    }
}

/// The target of events that say that nothing could be compared with what was downloaded.
pub const UNCHECKED: &str = "corymb_repository::unchecked";

/// Which checksums to compute: one always, so that the cache can be verified later.
pub(crate) struct Checksums(pub(crate) Digests, pub(crate) Vec<Check>);

impl Checksums {
    fn of(object: &Object, sha256: Option<&str>) -> Self {
        let mut computed = vec![Check::from(Algorithm::Crc32c)];
        computed.extend(object.digests.0.keys().copied());
        computed.extend(sha256.map(|_| Check::from(Algorithm::Sha256)));
        computed.sort_unstable();
        computed.dedup();
        Self(object.digests.clone(), computed)
    }
}

/// What was found against what the store and the user say.
fn compare(found: &Digests, store: &Digests, sha256: Option<&str>) -> Result<(), Failure> {
    if let Some((check, found, stated)) = found.conflict(store) {
        return Err(Failure::Content("the store", check, found.to_owned(), stated.to_owned()));
    }
    let own = found.0.get(&Algorithm::Sha256.into());
    match (own, sha256) {
        (Some(found), Some(stated)) if !found.eq_ignore_ascii_case(stated) => {
            Err(Failure::Content("the manifest or the URI", Algorithm::Sha256.into(), found.clone(), stated.to_owned()))
        }
        _ => Ok(()),
    }
}

/// Runs what computes or waits for the disk where it holds nothing up.
async fn in_background<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}

pub(crate) fn remote(object: &str, fault: &Fault) -> RepositoryError {
    let (object, reason) = (object.to_owned(), fault.reason.clone());
    match fault.kind {
        FaultKind::Silent => RepositoryError::Unreachable { object, reason },
        _ => RepositoryError::Remote { object, reason },
    }
}

/// Waits for a process that downloads the same, as long as that makes progress.
struct Others {
    limit: Duration,
    seen: Option<(std::time::SystemTime, Instant)>,
}

impl Others {
    fn new(timeout: Duration) -> Self {
        // Its own patience ends first, and its reason is the better one.
        Self { limit: timeout + Duration::from_secs(30), seen: None }
    }

    async fn wait(&mut self, object: &str, state: &File) -> Result<(), Failure> {
        let modified = state.metadata()?.modified()?;
        match self.seen {
            None => tracing::info!(object, "another process downloads it; waiting"),
            Some((before, since)) if before == modified && since.elapsed() > self.limit => {
                let seconds = since.elapsed().as_secs();
                return Err(
                    Fault::refused(format!("another process downloads it, and for {seconds} s nothing came")).into()
                );
            }
            Some(_) => {}
        }
        if self.seen.is_none_or(|(before, _)| before != modified) {
            self.seen = Some((modified, Instant::now()));
        }
        tokio::time::sleep(LOOK).await;
        Ok(())
    }
}
