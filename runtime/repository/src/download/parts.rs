//! What of a file has arrived: a record beside it that survives its process.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use crate::cache::boot_id;

/// Bytes of one ranged request. Long enough that its round trip does not count, short enough that what is in flight
/// when a process dies is little.
const PART: u64 = 8 << 20;
/// The most parts; beyond, parts grow.
const MAX_PARTS: u64 = 4096;
/// Of the record's head: magic, system, size.
const HEAD: usize = 64;
const MAGIC: &[u8; 8] = b"corymb\x00\x01";

/// The parts of a file, and how much of each has been written.
///
/// A part is written from its front, and its count after the bytes themselves, so a process that dies in between loses
/// one piece at most. After a restart of the machine nothing is believed, since the disk may have the one and not the
/// other.
#[derive(Debug)]
pub(crate) struct Parts {
    record: File,
    size: u64,
    part: u64,
    done: Mutex<Progress>,
}

#[derive(Debug)]
struct Progress {
    written: Vec<u64>,
    /// All parts before this one are whole.
    first_open: usize,
}

/// A stretch of the file that is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Gap {
    pub(crate) part: usize,
    pub(crate) start: u64,
    pub(crate) end: u64,
}

impl Parts {
    /// The parts of a file of `size` bytes, with what `record` (locked by the caller) says of them.
    pub(crate) fn open(record: File, size: u64, data: &Path) -> io::Result<Self> {
        let part = PART.max(size.div_ceil(MAX_PARTS));
        let count = usize::try_from(size.div_ceil(part)).unwrap_or(usize::MAX);
        let head = head(size);
        let mut bytes = vec![0; HEAD + count * 8];
        let known = data.metadata().is_ok_and(|meta| meta.len() == size)
            && record.metadata()?.len() == bytes.len() as u64
            && record.read_exact_at(&mut bytes, 0).is_ok()
            && bytes[..HEAD] == head;
        let mut written = vec![0; count];
        if known {
            for (index, count) in bytes[HEAD..].chunks_exact(8).enumerate() {
                let count = u64::from_le_bytes(count.try_into().unwrap_or_default());
                written[index] = count.min(part_length(size, part, index));
            }
        } else {
            bytes.fill(0);
            bytes[..HEAD].copy_from_slice(&head);
            record.set_len(0)?;
            record.write_all_at(&bytes, 0)?;
        }
        let parts = Self { record, size, part, done: Mutex::new(Progress { written, first_open: 0 }) };
        parts.prefix();
        Ok(parts)
    }

    /// Bytes that are there.
    pub(crate) fn present(&self) -> u64 {
        self.lock().written.iter().sum()
    }

    /// What is missing, in order: one gap a part at most.
    pub(crate) fn gaps(&self) -> Vec<Gap> {
        let written = &self.lock().written;
        (0..written.len()).filter_map(|part| self.gap_of(part, written[part])).collect()
    }

    /// What is missing of one part.
    pub(crate) fn gap(&self, part: usize) -> Option<Gap> {
        let written = self.lock().written.get(part).copied()?;
        self.gap_of(part, written)
    }

    fn gap_of(&self, part: usize, written: u64) -> Option<Gap> {
        let begin = part as u64 * self.part;
        let end = begin + part_length(self.size, self.part, part);
        (begin + written < end).then_some(Gap { part, start: begin + written, end })
    }

    /// `bytes` more of `part` are in the file.
    pub(crate) fn advance(&self, part: usize, bytes: u64) -> io::Result<()> {
        let mut done = self.lock();
        done.written[part] += bytes;
        let count = done.written[part].to_le_bytes();
        self.record.write_all_at(&count, (HEAD + part * 8) as u64)
    }

    /// How far the file is whole from its front.
    pub(crate) fn prefix(&self) -> u64 {
        let mut done = self.lock();
        while done.first_open < done.written.len()
            && done.written[done.first_open] == part_length(self.size, self.part, done.first_open)
        {
            done.first_open += 1;
        }
        let open = done.written.get(done.first_open).copied().unwrap_or_default();
        (done.first_open as u64 * self.part + open).min(self.size)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Progress> {
        self.done.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn part_length(size: u64, part: u64, index: usize) -> u64 {
    size.saturating_sub(index as u64 * part).min(part)
}

fn head(size: u64) -> [u8; HEAD] {
    let mut head = [0; HEAD];
    head[..8].copy_from_slice(MAGIC);
    head[8..16].copy_from_slice(&size.to_le_bytes());
    let boot = boot_id();
    let boot = &boot.as_bytes()[..boot.len().min(HEAD - 16)];
    head[16..16 + boot.len()].copy_from_slice(boot);
    head
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(folder: &Path, size: u64) -> Parts {
        let data = folder.join("data");
        File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&data)
            .expect("made")
            .set_len(size)
            .expect("sized");
        let record = File::options().create(true).truncate(false).read(true).write(true).open(folder.join("state"));
        Parts::open(record.expect("made"), size, &data).expect("opened")
    }

    #[test]
    fn what_was_written_is_known_to_the_next_process() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let size = 2 * PART + 10;
        let parts = open(folder.path(), size);
        assert_eq!(parts.gaps().len(), 3);
        parts.advance(1, 100).expect("written");
        parts.advance(2, 10).expect("written");
        assert_eq!(parts.prefix(), 0);
        drop(parts);
        let parts = open(folder.path(), size);
        assert_eq!(parts.present(), 110);
        assert_eq!(parts.gap(1), Some(Gap { part: 1, start: PART + 100, end: 2 * PART }));
        assert_eq!(parts.gap(2), None);
        parts.advance(0, PART).expect("written");
        assert_eq!(parts.prefix(), PART + 100);
        parts.advance(1, PART - 100).expect("written");
        assert_eq!((parts.prefix(), parts.gaps()), (size, Vec::new()));
        // A record of another size is of another file.
        assert_eq!(open(folder.path(), size + 1).present(), 0);
    }

    #[test]
    fn a_huge_file_has_few_parts() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let parts = open(folder.path(), 1 << 40);
        assert!(parts.gaps().len() as u64 <= MAX_PARTS);
        assert_eq!(open(&folder.path().join("."), 0).gaps(), []);
    }
}
