//! One object's bytes: bounded ranges at a time, each from where it was, into their places in the file.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::future::try_join_all;
use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::Errno;

use crate::download::parts::Parts;
use crate::download::{Checksums, Downloads, Failure, Meter, Patience, in_background};
use crate::hashing::Hashing;
use crate::store::{Answer, Check, Composite, Digests, Expected, Fault, FaultKind, Object, Source};

/// How long a store may not say what the content must be.
const STATED: Duration = Duration::from_secs(10);
/// How often it is asked which bytes parts have, each time for as long.
const RESOLVES: u32 = 3;
/// Requests at a time for one object.
const CONNECTIONS: usize = 8;

/// A download in progress.
pub(super) struct Transfer<'a> {
    downloads: &'a Downloads,
    source: &'a Source,
    path: &'a str,
    size: u64,
    file: File,
    parts: Parts,
    patience: Patience,
    meter: Box<dyn Meter>,
    /// What an answer must be of. The hub's own tags are not those of the servers that it sends one to.
    expected: Mutex<Expected>,
    checks: Mutex<Checks>,
    received: AtomicU64,
    /// Whether it was asked which bytes the parts have that the object was uploaded in.
    is_resolved: AtomicBool,
    /// How often that brought no answer.
    unresolved: AtomicU32,
}

/// What the store says of the content, and what follows it.
struct Checks {
    stated: Digests,
    computed: Vec<Check>,
    hashing: Vec<Hashing>,
}

impl<'a> Transfer<'a> {
    #[expect(clippy::too_many_arguments, reason = "one caller, which has just made them")]
    pub(super) fn new(
        downloads: &'a Downloads,
        source: &'a Source,
        path: &'a str,
        object: &Object,
        file: File,
        record: File,
        part: &Path,
        checksums: &mut Checksums,
    ) -> io::Result<Self> {
        let size = object.size;
        // Looks at the file's length, so it comes before that is set.
        let parts = Parts::open(record, size, part)?;
        reserve(&file, size)?;
        let tag = if matches!(source, Source::Hub(_)) { None } else { object.tag.clone() };
        let Checksums(stated, computed) = checksums;
        let hashing = vec![Hashing::start(&file, size, computed)?];
        let checks = Checks { stated: std::mem::take(stated), computed: std::mem::take(computed), hashing };
        let meter = downloads.progress.begin(&source.shown(path), size, parts.present());
        Ok(Self {
            downloads,
            source,
            path,
            size,
            file,
            parts,
            patience: Patience::new(downloads.timeout),
            meter,
            expected: Mutex::new(Expected { size: Some(size), tag }),
            checks: Mutex::new(checks),
            received: AtomicU64::new(0),
            is_resolved: AtomicBool::new(false),
            unresolved: AtomicU32::new(0),
        })
    }

    /// To the end. Answers the bytes that came, the checksums, and what the store says they should be.
    pub(super) async fn run(self, first: Option<Answer>) -> Result<(u64, Digests, Digests), Failure> {
        self.follow();
        self.ask_for_checksums(first.as_ref()).await?;
        let gaps: VecDeque<usize> = self.parts.gaps().iter().map(|gap| gap.part).collect();
        if let Some(part) = gaps.front().copied() {
            // One request alone tells whether the server knows ranges.
            let answer = match first {
                Some(answer) => answer,
                None => self.ask(part).await?,
            };
            if answer.is_whole() {
                self.whole(answer).await?;
            } else {
                let count = gaps.len().min(CONNECTIONS);
                let queue = Mutex::new(gaps);
                let mut first = Some(answer);
                let workers = (0..count).map(|_| self.work(&queue, first.take()));
                try_join_all(workers).await?;
            }
        }
        let Self { size, meter, checks, received, .. } = self;
        let checks = checks.into_inner().unwrap_or_else(PoisonError::into_inner);
        let found = in_background(move || {
            let mut found = Digests::default();
            for hashing in checks.hashing {
                found.0.extend(hashing.finish(size)?.0);
            }
            Ok(found)
        });
        let found = found.await?;
        meter.finish();
        Ok((received.into_inner(), found, checks.stated))
    }

    /// Takes the next part until there is none.
    async fn work(&self, queue: &Mutex<VecDeque<usize>>, mut answer: Option<Answer>) -> Result<(), Failure> {
        let mut tries = 0;
        loop {
            let next = queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
            let Some(part) = next else { return Ok(()) };
            while let Some(gap) = self.parts.gap(part) {
                let taken = match answer.take() {
                    Some(answer) => answer,
                    None => self.ask(part).await?,
                };
                if taken.is_whole() {
                    // It honoured ranges before. From a server behind the same name that does not, one part is taken.
                    tracing::debug!(start = gap.start, "the server ignored a range");
                }
                let fault = match self.part(part, taken).await {
                    Ok(()) => Fault::passing("an answer without content"),
                    Err(Failure::Store(fault)) => fault,
                    Err(failure) => return Err(failure),
                };
                // What came is progress, whatever ended it: the rest is asked for at once.
                match self.parts.gap(part) {
                    Some(left) if left.start == gap.start => self.patience.wait(fault, &mut tries).await?,
                    _ => tries = 0,
                }
            }
        }
    }

    /// Asks for what is missing of a part until there is an answer.
    async fn ask(&self, part: usize) -> Result<Answer, Failure> {
        let mut tries = 0;
        loop {
            let range = self.parts.gap(part).map(|gap| gap.start..gap.end);
            let expected = self.expected.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let result = {
                let _permit = self.downloads.requests.acquire().await;
                self.source.get(self.path, range, &expected).await
            };
            match result {
                Ok(answer) => {
                    self.learn(&answer).await?;
                    return Ok(answer);
                }
                Err(fault) => self.patience.wait(fault, &mut tries).await?,
            }
        }
    }

    /// Learns what the content must be, where answers to requests for parts of it would not say so.
    async fn ask_for_checksums(&self, first: Option<&Answer>) -> Result<(), Failure> {
        if let Some(answer) = first {
            self.learn(answer).await?;
        }
        let expected = self.expected.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match self.downloads.within(STATED).ask_store(|| self.source.stated(self.path)).await {
            Ok(Some(object)) if expected.tag.is_none() || object.tag == expected.tag => self.learn_of(object).await?,
            Ok(_) => {}
            // Whoever may read an object may ask of it. Of what cannot be read the download itself says more.
            Err(fault) => {
                tracing::debug!(object = self.path, reason = fault.reason, "its checksums cannot be asked for")
            }
        }
        // All came before the process that asked for it ended: what it must be was not written down.
        let is_open = self.checks.lock().unwrap_or_else(PoisonError::into_inner).stated.0.is_empty();
        if is_open && first.is_none() && self.size > 0 && self.parts.gaps().is_empty() {
            let answer = self.downloads.ask_store(|| self.source.get(self.path, Some(0..1), &expected)).await?;
            self.learn(&answer).await?;
        }
        Ok(())
    }

    /// What is stated of the parts of an object is computed once it is known which bytes they have. Where the store is silent on
    /// that it is asked again when the next bytes come.
    async fn resolve(&self, composite: &Composite) -> Result<(), Failure> {
        if self.is_resolved.swap(true, Ordering::Relaxed) {
            return Ok(());
        }
        let ask = || self.source.part_size(self.path, composite, self.size);
        match self.downloads.within(STATED).ask_store(ask).await {
            Ok(Some(size)) => self.compute([composite.of_parts(size)].into_iter()),
            Ok(None) => Ok(()),
            Err(fault) => {
                tracing::debug!(
                    object = self.path,
                    reason = fault.reason,
                    "the parts of an object cannot be asked for"
                );
                let is_silent = fault.kind == FaultKind::Silent;
                if is_silent && self.unresolved.fetch_add(1, Ordering::Relaxed) + 1 < RESOLVES {
                    self.is_resolved.store(false, Ordering::Relaxed);
                }
                Ok(())
            }
        }
    }

    /// The first answer's tag is what the others must have; a checksum that it states is computed from now on.
    async fn learn(&self, answer: &Answer) -> Result<(), Failure> {
        match answer.object() {
            Ok(object) => self.learn_of(object).await,
            Err(_) => Ok(()),
        }
    }

    async fn learn_of(&self, object: Object) -> Result<(), Failure> {
        if let Some(composite) = &object.composite {
            self.resolve(composite).await?;
        }
        let mut expected = self.expected.lock().unwrap_or_else(PoisonError::into_inner);
        if expected.tag.is_none() {
            expected.tag = object.tag;
        }
        drop(expected);
        self.compute(object.digests.0.into_iter())
    }

    fn compute(&self, stated: impl Iterator<Item = (Check, String)>) -> Result<(), Failure> {
        let mut checks = self.checks.lock().unwrap_or_else(PoisonError::into_inner);
        for (check, value) in stated {
            if !checks.computed.contains(&check) {
                let hashing = Hashing::start(&self.file, self.size, &[check])?;
                hashing.reached(self.parts.prefix());
                checks.hashing.push(hashing);
                checks.computed.push(check);
            }
            checks.stated.0.entry(check).or_insert(value);
        }
        Ok(())
    }

    /// Writes what comes into one part, up to its end.
    async fn part(&self, part: usize, mut answer: Answer) -> Result<(), Failure> {
        let mut at = answer.start;
        while let Some(gap) = self.parts.gap(part) {
            let Some(piece) = answer.piece().await? else { break };
            let from = at;
            at += piece.len() as u64;
            self.count(&piece);
            if at > gap.start && from < gap.end {
                self.write(part, from, &piece)?;
            }
        }
        Ok(())
    }

    /// Writes what comes of a server that sends everything whatever is asked; again from the front until it is whole.
    async fn whole(&self, answer: Answer) -> Result<(), Failure> {
        let mut answer = Some(answer);
        let mut tries = 0;
        loop {
            let Some(missing) = self.parts.gaps().first().copied() else { return Ok(()) };
            let mut taken = match answer.take() {
                Some(answer) => answer,
                None => self.ask(missing.part).await?,
            };
            let before = self.parts.present();
            let mut at = taken.start;
            let fault = loop {
                match taken.piece().await {
                    Ok(Some(piece)) => {
                        self.count(&piece);
                        for gap in self.parts.gaps().iter().take(2) {
                            if at + (piece.len() as u64) > gap.start && at < gap.end {
                                self.write(gap.part, at, &piece)?;
                            }
                        }
                        at += piece.len() as u64;
                        if at > self.size {
                            return Err(Fault::changed("more came than it has bytes").into());
                        }
                    }
                    Ok(None) => break Fault::passing(format!("the connection ended after {at} bytes")),
                    Err(fault) => break fault,
                }
            };
            if self.parts.gaps().is_empty() {
                return Ok(());
            }
            if self.parts.present() > before {
                tries = 0;
            }
            self.patience.wait(fault, &mut tries).await?;
        }
    }

    fn count(&self, piece: &Bytes) {
        self.received.fetch_add(piece.len() as u64, Ordering::Relaxed);
    }

    /// Writes what of `piece`, which begins at `from` of the file, is missing of a part.
    fn write(&self, part: usize, from: u64, piece: &Bytes) -> Result<(), Failure> {
        let Some(gap) = self.parts.gap(part) else { return Ok(()) };
        let to = (from + piece.len() as u64).min(gap.end);
        if from > gap.start || to <= gap.start {
            return Ok(());
        }
        let offset = |position: u64| usize::try_from(position - from).unwrap_or(usize::MAX);
        let missing = &piece[offset(gap.start)..offset(to)];
        // Into the page cache: it blocks only when the disk cannot follow, and this thread does nothing but download.
        self.file.write_all_at(missing, gap.start)?;
        self.parts.advance(part, missing.len() as u64)?;
        self.meter.advance(missing.len() as u64);
        self.patience.renew();
        self.follow();
        Ok(())
    }

    fn follow(&self) {
        let prefix = self.parts.prefix();
        for hashing in &self.checks.lock().unwrap_or_else(PoisonError::into_inner).hashing {
            hashing.reached(prefix);
        }
    }
}

/// Takes the disk's space at once, so that a full disk is an error before anything is downloaded.
fn reserve(file: &File, size: u64) -> io::Result<()> {
    if file.metadata()?.len() != size {
        file.set_len(size)?;
    }
    if size == 0 {
        return Ok(());
    }
    match fallocate(file, FallocateFlags::empty(), 0, size) {
        Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(()),
        Err(error) => Err(io::Error::new(io::Error::from(error).kind(), format!("reserve {size} bytes: {error}"))),
    }
}
