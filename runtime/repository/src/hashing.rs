//! Checksums while a file arrives: a thread each that follows the front of what is there.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use crate::store::{Check, Digests};

/// Bytes read at once.
const PIECE: usize = 256 << 10;

/// Ends with the digest; none when its file was given up.
type Follower = JoinHandle<io::Result<Option<String>>>;

/// One thread for each checksum, so that the slowest alone counts. They read what has just been written, which is in
/// memory.
#[derive(Debug)]
pub(crate) struct Hashing {
    threads: Vec<(Check, SyncSender<u64>, Follower)>,
}

impl Hashing {
    pub(crate) fn start(file: &File, size: u64, checks: &[Check]) -> io::Result<Self> {
        let mut threads = Vec::new();
        for check in checks.iter().copied() {
            // One message may wait: the next tells all that the one before did.
            let (sender, receiver) = sync_channel(1);
            let file = file.try_clone()?;
            let thread = std::thread::Builder::new().name(check.algorithm.name().to_owned());
            threads.push((check, sender, thread.spawn(move || follow(&file, size, check, &receiver))?));
        }
        Ok(Self { threads })
    }

    /// The file is whole up to there.
    pub(crate) fn reached(&self, prefix: u64) {
        for (_, sender, _) in &self.threads {
            let _ = sender.try_send(prefix);
        }
    }

    /// The checksums, once the file is whole.
    pub(crate) fn finish(self, size: u64) -> io::Result<Digests> {
        let mut digests = Digests::default();
        for (check, sender, thread) in self.threads {
            let _ = sender.send(size);
            drop(sender);
            let hash = thread.join().map_err(|_| io::Error::other("the checksum's thread ended"))??;
            digests.0.insert(check, hash.ok_or_else(|| io::Error::other("the checksum was not finished"))?);
        }
        Ok(digests)
    }
}

/// None when the sender has gone before the end.
fn follow(file: &File, size: u64, check: Check, reached: &Receiver<u64>) -> io::Result<Option<String>> {
    let mut hasher = check.hasher(size);
    let mut piece = vec![0; PIECE];
    let (mut at, mut prefix) = (0, 0);
    while at < size {
        if at == prefix {
            match reached.recv() {
                Ok(further) => prefix = further.max(prefix),
                Err(_) => return Ok(None),
            }
            continue;
        }
        let length = usize::try_from(prefix - at).unwrap_or(PIECE).min(PIECE);
        file.read_exact_at(&mut piece[..length], at)?;
        hasher.update(&piece[..length]);
        at += length as u64;
    }
    Ok(Some(hasher.finish()))
}

/// The checksums of a file that is there.
pub(crate) fn digests_of(file: &File, checks: &[Check]) -> io::Result<Digests> {
    let size = file.metadata()?.len();
    let hashing = Hashing::start(file, size, checks)?;
    hashing.finish(size)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Algorithm;
    use std::io::Write as _;

    #[test]
    fn a_growing_file_is_followed_to_its_end() {
        let mut file = tempfile::tempfile().expect("a file");
        let hashing = Hashing::start(&file, 3, &[Algorithm::Md5.into(), Algorithm::Crc32c.into()]).expect("started");
        file.write_all(b"a").expect("written");
        hashing.reached(1);
        file.write_all(b"bc").expect("written");
        let digests = hashing.finish(3).expect("finished");
        assert_eq!(digests.0[&Algorithm::Md5.into()], "900150983cd24fb0d6963f7d28e17f72");
        assert_eq!(digests, digests_of(&file, &[Algorithm::Md5.into(), Algorithm::Crc32c.into()]).expect("read"));
    }

    #[test]
    fn threads_end_when_the_download_is_given_up() {
        let file = tempfile::tempfile().expect("a file");
        let hashing = Hashing::start(&file, 3, &[Algorithm::Sha256.into()]).expect("started");
        let (_, sender, thread) = hashing.threads.into_iter().next().expect("one");
        drop(sender);
        assert_eq!(thread.join().expect("ended").expect("read"), None);
    }
}
