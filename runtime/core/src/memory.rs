//! The memory that requests, their answers, runs and plugins hold together.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::error::Shortage;
use crate::tensor::Tensor;

/// Of a limit on the process so much may be taken, in sixteenths. The rest is for what nobody counts: buffers of
/// connections, stacks, and what lies between the blocks of an allocator.
const USABLE: u64 = 11;
/// So much of the limit may be held whatever the models take, in sixteenths.
const LEAST: u64 = 2;
/// So much of it may be held whatever the process takes, in sixteenths, and by one alone all of the [`LEAST`]: a server that
/// refuses everything helps nobody.
const ALWAYS: u64 = 1;
/// Who holds more than this part of the pool leaves the last eighth of it to others: large requests then never take the place
/// of small ones.
const LARGE_PART: u64 = 16;
/// What one run or plugin instance holds beyond this, in bytes, is counted: less than that costs more to count than it is worth.
pub const UNCOUNTED: u64 = 4 << 20;
/// How often what the process takes beside the pool is measured.
const INTERVAL: Duration = Duration::from_secs(1);
/// What is held may bring the process to this part of the limit and no further, in sixteenths: what nobody counts then has
/// less than it was given, and nothing more is taken until that has passed.
const CEILING: u64 = 12;
/// The same where little is taken for one that holds little, in sixteenths: what others have taken in large pieces is no reason to
/// refuse it.
const SMALL_CEILING: u64 = 13;
/// What is little: so many bytes, and no more than this part of the limit.
const LITTLE: u64 = 1 << 20;
const LITTLE_PART: u64 = 256;
/// For so long it is believed what the process was seen to take, beside what has been taken since.
const GLANCE: Duration = Duration::from_millis(10);
/// What was taken for so long, or twice as long, is taken for memory that was not yet written to: the process does not have it,
/// and will.
const UNTOUCHED: Duration = Duration::from_millis(100);
/// So long after the allocator was told to give back what was freed it is not told again for want of room.
const PURGE_PAUSE: Duration = Duration::from_millis(50);

/// A bound of what is held at the same time, in bytes. Clones share it.
#[derive(Clone)]
pub struct MemoryPool(Arc<Pool>);

struct Pool {
    limit: AtomicU64,
    held: AtomicU64,
    process: Option<Process>,
    lender: Option<Lender>,
}

/// Who gives more: asked for bytes, and refusing with what it has.
type Lender = Box<dyn Fn(u64) -> Result<(), Shortage> + Send + Sync>;

/// The process whose memory a pool is a part of.
struct Process {
    total: u64,
    used: Box<dyn Fn() -> Option<u64> + Send + Sync>,
    next: Mutex<Instant>,
    /// What was given back since the allocator last was told to do so, too: it keeps what is freed for who comes next, in
    /// places where who comes next need not look.
    freed: AtomicU64,
    purge: Box<dyn Fn() + Send + Sync>,
    purging: Mutex<()>,
    glance: Glance,
    recent: Recent,
}

/// What was taken of late.
struct Recent {
    begin: Instant,
    /// When the present span of time began, in microseconds since `begin`.
    since: AtomicU64,
    /// In the present span and in the one before, in bytes.
    taken: [AtomicU64; 2],
}

impl Recent {
    fn new() -> Self {
        Self { begin: Instant::now(), since: AtomicU64::new(0), taken: Default::default() }
    }

    fn add(&self, bytes: u64) {
        let now = micros(self.begin.elapsed());
        let since = self.since.load(Ordering::Relaxed);
        let spans = now.saturating_sub(since) / micros(UNTOUCHED);
        // One of those that see the end of the span begins another.
        if spans > 0 && self.since.compare_exchange(since, now, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            let ended = self.taken[0].swap(0, Ordering::Relaxed);
            self.taken[1].store(if spans == 1 { ended } else { 0 }, Ordering::Relaxed);
        }
        self.taken[0].fetch_add(bytes, Ordering::Relaxed);
    }

    /// It was not taken after all.
    fn remove(&self, bytes: u64) {
        let less = |taken: u64| Some(taken.saturating_sub(bytes));
        let _ = self.taken[0].fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
    }

    fn bytes(&self) -> u64 {
        self.taken.iter().map(|taken| taken.load(Ordering::Relaxed)).fold(0, u64::saturating_add)
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// What the process really took when it was looked at last.
struct Glance {
    begin: Instant,
    /// Until when that is believed, in microseconds since `begin`.
    until: AtomicU64,
    /// What may be taken until then, in bytes.
    room: AtomicU64,
    /// When the allocator was last told to give back.
    purged: Mutex<Option<Instant>>,
}

impl MemoryPool {
    /// Of `limit` bytes.
    #[must_use]
    pub fn fixed(limit: u64) -> Self {
        Self(Arc::new(Pool { limit: AtomicU64::new(limit), held: AtomicU64::new(0), process: None, lender: None }))
    }

    /// Of what `lend` gives when it is asked for so many bytes more; it belongs to one thread.
    pub fn lent(lend: impl Fn(u64) -> Result<(), Shortage> + Send + Sync + 'static) -> Self {
        let (limit, held, lender) = (AtomicU64::new(0), AtomicU64::new(0), Some(Box::new(lend) as Lender));
        Self(Arc::new(Pool { limit, held, process: None, lender }))
    }

    /// What was [lent](Self::lent) is the lender's again, but for what is still held.
    pub fn repay(&self) {
        self.0.limit.store(self.held(), Ordering::Relaxed);
    }

    /// Of what a process that may take `total` bytes has left. `used` tells what it takes; it is asked while nothing of the
    /// pool is held, once a second at most: models come and go. `purge` makes the allocator give back what was freed; it is
    /// called where there is no room beside that.
    pub fn of_process(
        total: u64,
        used: impl Fn() -> Option<u64> + Send + Sync + 'static,
        purge: impl Fn() + Send + Sync + 'static,
    ) -> Self {
        let process = Process {
            total,
            used: Box::new(used),
            next: Mutex::new(Instant::now()),
            freed: AtomicU64::new(0),
            purge: Box::new(purge),
            purging: Mutex::default(),
            glance: Glance {
                begin: Instant::now(),
                until: AtomicU64::new(0),
                room: AtomicU64::new(0),
                purged: Mutex::default(),
            },
            recent: Recent::new(),
        };
        let limit = AtomicU64::new(part(total, LEAST));
        let pool = Self(Arc::new(Pool { limit, held: AtomicU64::new(0), process: Some(process), lender: None }));
        pool.measure();
        pool
    }

    /// Bytes of the whole pool.
    #[must_use]
    pub fn limit(&self) -> u64 {
        self.0.limit.load(Ordering::Relaxed)
    }

    /// Bytes that are held now.
    #[must_use]
    pub fn held(&self) -> u64 {
        self.0.held.load(Ordering::Relaxed)
    }

    /// Measures anew at the next opportunity: what the process takes beside the pool has changed.
    pub fn remeasure(&self) {
        if let Some(Process { next, .. }) = &self.0.process {
            *next.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        }
        if self.held() == 0 {
            self.measure();
        }
    }

    /// A holder of nothing yet.
    #[must_use]
    pub fn holder(&self) -> Holder {
        Holder { pool: self.clone(), bytes: 0 }
    }

    /// Takes `bytes` for a holder, who then has `all`.
    fn take(&self, bytes: u64, all: u64) -> bool {
        if bytes == 0 {
            return true;
        }
        if self.held() == 0 {
            self.measure();
        }
        let limit = self.limit();
        let limit = if all > limit / LARGE_PART { limit - limit / 8 } else { limit };
        let grown = |held: u64| held.checked_add(bytes).filter(|sum| *sum <= limit);
        let Ok(held) = self.0.held.fetch_update(Ordering::Relaxed, Ordering::Relaxed, grown) else { return false };
        let Some(process) = &self.0.process else { return true };
        let held = held.saturating_add(bytes);
        process.recent.add(bytes);
        if held.saturating_add(process.freed.load(Ordering::Relaxed)) > limit {
            process.give_back(Some(limit.saturating_sub(held)));
        }
        let ceiling = if all <= LITTLE.min(process.total / LITTLE_PART) { SMALL_CEILING } else { CEILING };
        let always = if held == all { LEAST } else { ALWAYS };
        let has_room = held <= part(process.total, always) || process.has_room(bytes, held, ceiling);
        if !has_room {
            self.0.held.fetch_sub(bytes, Ordering::Relaxed);
            process.recent.remove(bytes);
        }
        has_room
    }

    /// That `bytes` are held no more.
    fn put_back(&self, bytes: u64) {
        // First counted as freed: there is no moment at which it is neither.
        if let Some(process) = &self.0.process {
            process.freed.fetch_add(bytes, Ordering::Relaxed);
        }
        self.0.held.fetch_sub(bytes, Ordering::Relaxed);
    }

    fn measure(&self) {
        let Some(Process { total, used, next, .. }) = &self.0.process else { return };
        {
            // Who comes second while another measures goes on with what is known.
            let Ok(mut next) = next.try_lock() else { return };
            let now = Instant::now();
            if now < *next {
                return;
            }
            *next = now + INTERVAL;
        }
        if let Some(used) = used() {
            let limit = part(*total, USABLE).saturating_sub(used).max(part(*total, LEAST));
            self.0.limit.store(limit, Ordering::Relaxed);
        }
    }
}

impl Process {
    /// Whether the process may take `bytes` more, by what it really takes: others than the pool's holders take memory, too. Those
    /// bytes are among the `held`.
    fn has_room(&self, bytes: u64, held: u64, ceiling: u64) -> bool {
        let Glance { begin, until, room, purged } = &self.glance;
        let now = begin.elapsed();
        if micros(now) < until.load(Ordering::Relaxed) {
            let left = room.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |room| room.checked_sub(bytes));
            if left.is_ok() {
                return true;
            }
        }
        let untouched = || self.recent.bytes().min(held).saturating_sub(bytes);
        let taken = || Some((self.used)()?.saturating_add(untouched()));
        let below = |sixteenths, taken| part(self.total, sixteenths).saturating_sub(taken);
        // One looks at a time; those who wait here would see what it sees.
        let mut purged = purged.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(mut taken_now) = taken() else { return true };
        if below(CEILING, taken_now) < bytes && purged.is_none_or(|purged| purged.elapsed() >= PURGE_PAUSE) {
            self.give_back(None);
            *purged = Some(Instant::now());
            taken_now = taken().unwrap_or(taken_now);
        }
        let seen = below(CEILING, taken_now);
        let rest = seen.checked_sub(bytes);
        room.store(rest.unwrap_or(seen), Ordering::Relaxed);
        until.store(micros(now.saturating_add(GLANCE)), Ordering::Relaxed);
        rest.is_some() || below(ceiling, taken_now) >= bytes
    }

    /// Makes the allocator give back what was freed; where there is `room`, only if it is more than that.
    fn give_back(&self, room: Option<u64>) {
        let _purging = self.purging.lock().unwrap_or_else(PoisonError::into_inner);
        // Whoever waited here finds it done.
        let freed = self.freed.load(Ordering::Relaxed);
        if room.is_none_or(|room| freed > room) {
            (self.purge)();
            self.freed.fetch_sub(freed, Ordering::Relaxed);
        }
    }
}

impl Default for MemoryPool {
    /// Without a bound.
    fn default() -> Self {
        Self::fixed(u64::MAX)
    }
}

impl fmt::Debug for MemoryPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryPool").field("limit", &self.limit()).field("held", &self.held()).finish()
    }
}

/// `sixteenths` of `total`.
const fn part(total: u64, sixteenths: u64) -> u64 {
    total / 16 * sixteenths
}

/// What one of those that share a pool holds; dropping it gives that back.
#[derive(Debug)]
pub struct Holder {
    pool: MemoryPool,
    bytes: u64,
}

impl Holder {
    /// Bytes held.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Holds `bytes` more.
    ///
    /// # Errors
    /// Where the pool does not have them; nothing has changed then.
    pub fn grow(&mut self, bytes: u64) -> Result<(), Shortage> {
        let all = self.bytes.saturating_add(bytes);
        if let Some(lender) = &self.pool.0.lender {
            let missing = self.pool.held().saturating_add(bytes).saturating_sub(self.pool.limit());
            if missing > 0 {
                lender(missing)?;
                self.pool.0.limit.fetch_add(missing, Ordering::Relaxed);
            }
            self.pool.0.held.fetch_add(bytes, Ordering::Relaxed);
            self.bytes = all;
            return Ok(());
        }
        if self.pool.take(bytes, all) {
            self.bytes = all;
            return Ok(());
        }
        let limit = self.pool.limit();
        let (bytes, limit) = (all, limit - limit / 8);
        Err(if bytes > limit { Shortage::Never { bytes, limit } } else { Shortage::Now { bytes, limit } })
    }

    /// Holds `bytes` from now on, more or less than before. What is there already is counted even beyond the bound.
    pub fn set(&mut self, bytes: u64) {
        if bytes >= self.bytes {
            self.pool.0.held.fetch_add(bytes - self.bytes, Ordering::Relaxed);
        } else {
            self.pool.put_back(self.bytes - bytes);
        }
        self.bytes = bytes;
    }
}

/// Bytes, and what is held for them.
struct Held(Bytes, #[allow(dead_code, reason = "held, not read")] Holder);

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Holder {
    /// The same bytes, of which this is held until the last view of them is dropped.
    #[must_use]
    pub fn keep_with(self, bytes: Bytes) -> Bytes {
        Bytes::from_owner(Held(bytes, self))
    }

    /// Holds from now on what the tensors of one run take, until the largest of them is dropped. There is no moment in between at
    /// which others could take it.
    #[must_use]
    pub fn keep_with_tensors(mut self, mut tensors: Vec<Tensor>) -> Vec<Tensor> {
        let bytes = tensors.iter().map(Tensor::byte_len).sum::<usize>() as u64;
        let largest =
            tensors.iter_mut().filter(|tensor| tensor.bytes().is_some()).max_by_key(|tensor| tensor.byte_len());
        let Some(largest) = largest.filter(|_| bytes > UNCOUNTED) else { return tensors };
        self.set(bytes);
        let (dtype, shape, own) = (largest.dtype(), largest.shape().to_vec(), largest.bytes().cloned());
        if let Some(kept) = own.and_then(|own| Tensor::new(dtype, shape, self.keep_with(own)).ok()) {
            *largest = kept;
        }
        tensors
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        self.pool.put_back(self.bytes);
    }
}

#[cfg(test)]
mod tests;
