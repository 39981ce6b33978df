//! One model that is loaded when it is asked for: when that was last, what it takes, and why it could not be loaded.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytesize::ByteSize;
use corymb_core::{Code, Error};
use corymb_repository::Listed;
use futures::future::{BoxFuture, Shared};
use sha2::{Digest as _, Sha256};

/// After a load that failed nobody tries again for so long; each time for twice as long.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// And at most for so long.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// Measurements of which the least is the model's own.
const ENOUGH: u32 = 3;
/// For so long a model that is too large by them is not loaded to be measured anew.
const BELIEVED: Duration = Duration::from_secs(60 * 60);
/// A record is two numbers.
const MAX_RECORD: u64 = 64;

/// Why a model is not loaded.
#[derive(Clone, Debug)]
pub(super) enum Refusal {
    /// Bytes that it takes, and that all together may.
    TooLarge { needed: u64, budget: u64 },
    /// All others are in use. In bytes.
    NoRoom { needed: u64, budget: u64, used: u64 },
    /// It is where it was no more.
    Gone,
    /// Of what kind the failure is, and why.
    Failed(Code, String),
}

impl Refusal {
    /// The word of the metric.
    pub(super) fn outcome(&self) -> &'static str {
        match self {
            Self::TooLarge { .. } => "too_large",
            Self::NoRoom { .. } => "no_room",
            Self::Gone => "gone",
            Self::Failed(..) => "failed",
        }
    }

    /// For who asked for the model.
    pub(super) fn error(&self, model: &str) -> Error {
        let (code, message) = match self {
            Self::TooLarge { needed, budget } => {
                let (needed, budget) = (ByteSize(*needed), ByteSize(*budget));
                (Code::TooLarge, format!("model '{model}' takes {needed}, and all models together may take {budget}"))
            }
            Self::NoRoom { needed, budget, used } => {
                let (needed, budget, used) = (ByteSize(*needed), ByteSize(*budget), ByteSize(*used));
                let message = format!(
                    "model '{model}' takes {needed}; of {budget} for all models {used} are taken by others that are in use or pinned"
                );
                (Code::Overloaded, message)
            }
            Self::Gone => return crate::live::not_found(model),
            Self::Failed(_, reason) => {
                let message = format!("model '{model}' cannot be loaded: {}", crate::live::without_paths(reason));
                return Error { details: Some(reason.clone()), ..Error::new(Code::NotReady, message) };
            }
        };
        Error { retry_after: (code == Code::Overloaded).then_some(FIRST_PAUSE), ..Error::new(code, message) }
    }
}

/// A load that several may wait for.
pub(super) type Loading = Shared<BoxFuture<'static, Result<(), Refusal>>>;

/// What is known of a model.
#[derive(Debug, Default)]
pub(super) struct Item {
    /// Milliseconds since the beginning.
    used: AtomicU64,
    bytes: AtomicU64,
    pinned: AtomicBool,
    /// Requests that have asked for it and have not begun.
    waiting: AtomicUsize,
    /// Where the folder of models has it.
    listed: Mutex<Option<Listed>>,
    state: Mutex<State>,
}

/// A request that has asked for a model: until this is dropped, the model does not make room for others.
#[must_use]
#[derive(Debug)]
pub struct Waiting(Arc<Item>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::AcqRel);
    }
}

#[derive(Debug, Default)]
struct State {
    loading: Option<Loading>,
    failed: Option<Failed>,
}

#[derive(Debug)]
struct Failed {
    refusal: Refusal,
    until: Instant,
    pause: Duration,
}

impl Item {
    pub(super) fn wait(self: &Arc<Self>) -> Waiting {
        self.waiting.fetch_add(1, Ordering::AcqRel);
        Waiting(Arc::clone(self))
    }

    pub(super) fn is_awaited(&self) -> bool {
        self.waiting.load(Ordering::Acquire) > 0
    }

    pub(super) fn list(&self, listed: Listed) {
        *self.listed.lock().unwrap_or_else(PoisonError::into_inner) = Some(listed);
    }

    pub(super) fn listed(&self) -> Option<Listed> {
        self.listed.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn touch(&self, at: Duration) {
        let millis = u64::try_from(at.as_millis()).unwrap_or(u64::MAX);
        self.used.fetch_max(millis, Ordering::Relaxed);
    }

    pub(super) fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// As it was measured when it was loaded last; 0 before.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    pub(super) fn set_bytes(&self, bytes: u64) {
        self.bytes.store(bytes, Ordering::Relaxed);
    }

    pub(super) fn pin(&self, pinned: bool) {
        self.pinned.store(pinned, Ordering::Relaxed);
    }

    pub(super) fn is_pinned(&self) -> bool {
        self.pinned.load(Ordering::Relaxed)
    }

    /// The load that is under way, else the one that `begin` begins.
    pub(super) fn loading(&self, begin: impl FnOnce() -> Loading) -> Loading {
        self.state().loading.get_or_insert_with(begin).clone()
    }

    /// Why it is not tried at this time, and in how long it is.
    pub(super) fn failure(&self, now: Instant) -> Option<(Refusal, Duration)> {
        let state = self.state();
        let failed = state.failed.as_ref()?;
        let left = failed.until.checked_duration_since(now).filter(|left| !left.is_zero())?;
        Some((failed.refusal.clone(), left))
    }

    /// A load is over.
    pub(super) fn finished(&self, result: &Result<(), Refusal>, now: Instant) {
        let mut state = self.state();
        state.loading = None;
        state.failed = match result {
            // Room may come at any time.
            Ok(()) | Err(Refusal::NoRoom { .. }) => None,
            Err(refusal) => {
                let before = state.failed.take().map(|failed| failed.pause.saturating_mul(2));
                let pause = before.unwrap_or(FIRST_PAUSE).min(LONGEST_PAUSE);
                Some(Failed { refusal: refusal.clone(), until: now + pause, pause })
            }
        };
    }

    /// It was loaded, whoever asked for that.
    pub(super) fn succeeded(&self) {
        self.state().failed = None;
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What was seen of a model's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Measured {
    /// The least that it was seen to take, in bytes: others that came and went meanwhile make it more, never less.
    pub(super) least: u64,
    /// How often it was measured.
    pub(super) times: u32,
    /// Since then.
    pub(super) age: Duration,
}

impl Measured {
    /// With one measurement more.
    pub(super) fn and(before: Option<Self>, bytes: u64) -> Self {
        match before {
            Some(Self { least, times, .. }) => {
                Self { least: least.min(bytes), times: times.saturating_add(1), age: Duration::ZERO }
            }
            None => Self { least: bytes, times: 1, age: Duration::ZERO },
        }
    }

    /// Whether the model takes that, whatever others did meanwhile. What is not tried any more is measured again some day.
    pub(super) fn is_certain(&self) -> bool {
        self.times >= ENOUGH && self.age < BELIEVED
    }
}

/// What a model took, in a file of the cache.
#[derive(Clone, Debug)]
pub(super) struct Record(PathBuf);

impl Record {
    /// Of a model whose files have these stamps.
    pub(super) fn of(cache: &Path, model: &str, stamps: &[&str]) -> Self {
        let mut hash = Sha256::new();
        for word in std::iter::once(&model).chain(stamps) {
            hash.update((word.len() as u64).to_le_bytes());
            hash.update(word);
        }
        let key: String = hash.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect();
        Self(cache.join("memory").join(key))
    }

    pub(super) fn read(&self) -> Option<Measured> {
        let meta = std::fs::metadata(&self.0).ok()?;
        if meta.len() > MAX_RECORD {
            return None;
        }
        // A clock that was set back makes it new.
        let age = meta.modified().ok()?.elapsed().unwrap_or_default();
        let text = std::fs::read_to_string(&self.0).ok()?;
        let (least, times) = text.trim().split_once(' ')?;
        Some(Measured { least: least.parse().ok()?, times: times.parse().ok()?, age })
    }

    /// Without it the model is measured again.
    pub(super) fn write(&self, measured: Measured) {
        let Some(folder) = self.0.parent() else { return };
        let written = std::fs::create_dir_all(folder).and_then(|()| {
            let mut file = tempfile::NamedTempFile::new_in(folder)?;
            write!(file, "{} {}", measured.least, measured.times)?;
            file.persist(&self.0).map(drop).map_err(|error| error.error)
        });
        if let Err(error) = written {
            tracing::debug!(path = %self.0.display(), %error, "what a model takes cannot be kept");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use corymb_core::Code;

    use super::{BELIEVED, Item, Measured, Record, Refusal};

    #[test]
    fn pauses_after_failures_grow_and_end_with_a_success() {
        let (item, begin) = (Item::default(), Instant::now());
        let at = |seconds: u64| begin + Duration::from_secs(seconds);
        let failed = || Err(Refusal::Failed(Code::Internal, "no file".to_owned()));
        item.finished(&failed(), begin);
        assert!(item.failure(begin).is_some() && item.failure(at(1)).is_none());
        item.finished(&failed(), begin);
        assert!(item.failure(at(1)).is_some() && item.failure(at(2)).is_none());
        for _ in 0..10 {
            item.finished(&failed(), begin);
        }
        assert!(item.failure(at(59)).is_some() && item.failure(at(60)).is_none());
        item.finished(&Ok(()), begin);
        assert!(item.failure(begin).is_none());
        item.finished(&Err(Refusal::NoRoom { needed: 2, budget: 1, used: 1 }), begin);
        assert!(item.failure(begin).is_none());
    }

    #[test]
    fn what_a_model_takes_is_kept_by_its_files() {
        let cache = tempfile::tempdir().expect("a folder");
        let record = Record::of(cache.path(), "m", &["a"]);
        assert_eq!(record.read(), None);
        record.write(Measured::and(Some(Measured::and(None, 17)), 19));
        let known = Record::of(cache.path(), "m", &["a"]).read().expect("kept");
        assert_eq!((known.least, known.times, known.is_certain()), (17, 2, false));
        assert!(Measured::and(Some(known), 30).is_certain());
        assert!(!Measured { age: BELIEVED, ..Measured::and(Some(known), 30) }.is_certain());
        assert_eq!(Record::of(cache.path(), "m", &["b"]).read(), None);
        std::fs::write(&record.0, "not a number").expect("written");
        assert_eq!(record.read(), None);
    }
}
