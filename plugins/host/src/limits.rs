//! What a plugin may use, and how a call that uses more is stopped.

use std::time::Duration;

use corymb_core::{Holder, MemoryPool, Shortage, UNCOUNTED};
use wasmtime::ResourceLimiter;

/// Bytes that one call between guest and host may move: what a guest can make the host allocate at once. Larger
/// tensors are filled piece by piece.
pub(crate) const HOSTCALL_BYTES: usize = 64 << 20;

/// Bytes of tensors that a plugin may make while it serves one request.
pub(crate) const TENSOR_BYTES: usize = 256 << 20;

/// Tensor handles alive at once in one instance.
pub(crate) const HANDLES: usize = 1024;

/// Bytes that `carry` may hold beside its tensors.
pub(crate) const CARRY_BYTES: usize = 64 << 10;

/// Bytes of an error message that reach a caller.
pub(crate) const MAX_MESSAGE: usize = 4 << 10;

/// Bytes of what a plugin leaves in the log with an error: a backtrace with names of its own choosing.
pub(crate) const MAX_DETAILS: usize = 8 << 10;

/// Bytes of one log line.
pub(crate) const LOG_LINE: usize = 1 << 10;

/// Log lines per request.
pub(crate) const LOG_LINES: u32 = 64;

/// Parameters that a response may have.
pub(crate) const PARAMETERS: usize = 64;

/// Bytes of their names and texts together.
pub(crate) const PARAMETER_BYTES: usize = 64 << 10;

/// Tensors in one list of a description.
pub(crate) const SPECS: usize = 256;

/// Bytes of a tensor's name.
pub(crate) const NAME: usize = 256;

/// Table elements of one instance, all tables together.
pub(crate) const TABLE_ELEMENTS: usize = 20_000;

/// Why the host ended a call. Raised as a trap in the guest, found again in the error that the call answers.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum Stop {
    /// The request's deadline, or the time that one call has, whichever was nearer.
    #[error("time is up after {0:?}")]
    Deadline(Duration),
    /// The caller went away.
    #[error("the request was cancelled")]
    Cancelled,
    /// The memory that all requests share does not suffice.
    #[error("{0}")]
    Memory(Shortage),
    /// Something was asked for that the plugin may not have.
    #[error("{0}")]
    Limit(String),
    /// The guest did what the contract forbids.
    #[error("{0}")]
    Contract(String),
}

/// Linear memory and tables of one instance, and what the host uses for it.
#[derive(Debug)]
pub(crate) struct Memory {
    /// Bytes allowed, all memories together.
    allowed: usize,
    used: usize,
    table_elements: usize,
    /// What is used beyond a little is taken from the memory that all requests share.
    holder: Holder,
}

impl Memory {
    pub(crate) fn new(allowed: usize, pool: &MemoryPool) -> Self {
        Self { allowed, used: 0, table_elements: 0, holder: pool.holder() }
    }

    /// Does `work`, for which the host needs `bytes` beside the instance's own.
    pub(crate) fn beside<T>(&mut self, bytes: u64, work: impl FnOnce() -> T) -> Result<T, Stop> {
        let before = self.holder.bytes();
        self.hold((self.used as u64).saturating_add(bytes))?;
        let done = work();
        self.holder.set(before);
        Ok(done)
    }

    /// Holds so much in all, if it is more than before.
    fn hold(&mut self, bytes: u64) -> Result<(), Stop> {
        let missing = bytes.saturating_sub(UNCOUNTED).saturating_sub(self.holder.bytes());
        if missing > 0 { self.holder.grow(missing).map_err(Stop::Memory) } else { Ok(()) }
    }

    /// Bytes in use. Wasm memory never shrinks, so this is the peak as well.
    pub(crate) fn used(&self) -> usize {
        self.used
    }
}

impl ResourceLimiter for Memory {
    fn memory_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        // Wasmtime's own limit is per memory; a component may have several.
        let used = self.used + (desired - current);
        if used > self.allowed {
            return Err(Stop::Limit(format!("{used} bytes of memory; {} are allowed", self.allowed)).into());
        }
        self.hold(used as u64)?;
        self.used = used;
        Ok(true)
    }

    fn table_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        let elements = self.table_elements + (desired - current);
        if elements > TABLE_ELEMENTS {
            return Err(Stop::Limit(format!("{elements} table elements; {TABLE_ELEMENTS} are allowed")).into());
        }
        self.table_elements = elements;
        Ok(true)
    }

    fn instances(&self) -> usize {
        64
    }

    fn tables(&self) -> usize {
        16
    }

    fn memories(&self) -> usize {
        2
    }
}

/// At most `len` bytes of a text, cut between characters.
pub(crate) fn cut(mut text: String, len: usize) -> String {
    if text.len() > len {
        text.truncate(text.floor_char_boundary(len));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_cut_between_characters() {
        assert_eq!(cut("abc".to_owned(), 3), "abc");
        assert_eq!(cut("aäb".to_owned(), 2), "a");
        assert_eq!(cut("aäb".to_owned(), 3), "aä");
    }

    #[test]
    fn memory_is_counted_over_all_memories() {
        let mut memory = Memory::new(3 << 16, &MemoryPool::default());
        assert!(memory.memory_growing(0, 1 << 16, None).expect("allowed"));
        assert!(memory.memory_growing(0, 2 << 16, None).expect("allowed"));
        assert!(memory.memory_growing(1 << 16, 2 << 16, None).is_err());
        assert_eq!(memory.used(), 3 << 16);
    }
}
