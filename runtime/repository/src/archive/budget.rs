//! What an archive may still cost.

use crate::archive::{Limits, Refusal};

/// Counts bytes and entries, and refuses the first that is too many.
#[derive(Debug)]
pub(super) struct Budget<'a> {
    pub(super) limits: &'a Limits,
    /// Bytes that may come out of an archive of this size.
    ceiling: u64,
    bytes: u64,
    entries: u64,
}

impl<'a> Budget<'a> {
    /// `size` is the archive's own, in bytes.
    pub(super) fn new(limits: &'a Limits, size: u64) -> Self {
        let by_ratio = size.saturating_mul(limits.ratio).saturating_add(limits.free);
        Self { limits, ceiling: by_ratio.min(limits.content), bytes: 0, entries: 0 }
    }

    /// Refuses `entry` if so many further bytes would be too many.
    pub(super) fn allows(&self, entry: &[u8], bytes: u64) -> Result<(), Refusal> {
        let total = self.bytes.saturating_add(bytes);
        let Limits { content, ratio, .. } = self.limits;
        if total > *content {
            return Err(Refusal::entry(entry, format!("makes its content more than {content} bytes")));
        }
        if total > self.ceiling {
            return Err(Refusal::entry(entry, format!("makes its content more than {ratio} times its own size")));
        }
        Ok(())
    }

    /// Counts bytes that came out for `entry`, before anything is done with them.
    pub(super) fn spend(&mut self, entry: &[u8], bytes: u64) -> Result<(), Refusal> {
        self.allows(entry, bytes)?;
        self.bytes += bytes;
        Ok(())
    }

    /// Counts an entry, or a folder that comes with it.
    pub(super) fn one_more(&mut self, entry: &[u8]) -> Result<(), Refusal> {
        self.entries += 1;
        if self.entries > self.limits.entries {
            let reason = format!("comes after the {} entries and folders that are allowed", self.limits.entries);
            return Err(Refusal::entry(entry, reason));
        }
        Ok(())
    }
}
