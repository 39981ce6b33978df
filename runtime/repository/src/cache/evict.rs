//! Room in the cache: the least recently used goes first, and nothing that a living process uses.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use crate::cache::{Cache, Lease};

/// What nobody has downloaded on for so long is given up when room is needed.
const STALE: Duration = Duration::from_secs(24 * 60 * 60);

/// There is no room, and none can be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CacheFull {
    #[error("{wanted} more bytes do not fit: the cache may hold {limit}, and {held} are in use; raise --cache-size")]
    Limit { wanted: u64, limit: u64, held: u64 },
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// A file below `blobs/`.
struct Found {
    path: PathBuf,
    key: String,
    ending: String,
    size: u64,
    /// Which file of the disk it is: blobs of the same content may be one.
    inode: (u64, u64),
    links: u64,
    modified: SystemTime,
}

impl Cache {
    /// Makes room for `wanted` bytes more, where the cache has a bound.
    pub(crate) fn make_room(&self, wanted: u64) -> Result<(), CacheFull> {
        let Some(limit) = self.limit else { return Ok(()) };
        let _exclusive = self.lock(true)?;
        let held = Lease::all(&self.folder.join("using"))?;
        let fits = |used: u64| used.saturating_add(wanted) <= limit;
        let mut used = self.used()?;
        if fits(used) {
            return Ok(());
        }
        used -= self.drop_orphans(&held, STALE)?;
        for (tree, _, _) in self.trees()? {
            if fits(used) {
                return Ok(());
            }
            if !held.contains(&format!("tree {}", tree.key)) {
                self.drop_tree(&tree);
                used -= self.drop_orphans(&held, STALE)?;
            }
        }
        if fits(used) { Ok(()) } else { Err(CacheFull::Limit { wanted, limit, held: used }) }
    }

    /// Removes every tree of `uri`, or all of them; answers how many trees, and how many bytes that freed. Those that a
    /// living process uses stay.
    pub(crate) fn remove(&self, uri: Option<&str>) -> io::Result<(usize, u64, usize)> {
        let _exclusive = self.lock(true)?;
        let held = Lease::all(&self.folder.join("using"))?;
        let (mut removed, mut kept) = (0, 0);
        for (tree, record, _) in self.trees()? {
            if uri.is_some_and(|root| !record.is_below(root)) {
                continue;
            }
            if held.contains(&format!("tree {}", tree.key)) {
                kept += 1;
                continue;
            }
            self.drop_tree(&tree);
            removed += 1;
        }
        let freed = self.drop_orphans(&held, if uri.is_none() { Duration::ZERO } else { STALE })?;
        Ok((removed, freed, kept))
    }

    /// Bytes of all files, finished or not; a hard link is not counted twice.
    pub(crate) fn used(&self) -> io::Result<u64> {
        let files: BTreeMap<_, _> = self.blobs()?.iter().map(|found| (found.inode, found.size)).collect();
        Ok(files.values().sum())
    }

    /// Removes blobs that no tree links, and downloads that nobody continues; answers how many bytes that freed.
    fn drop_orphans(&self, held: &BTreeSet<String>, stale: Duration) -> io::Result<u64> {
        self.drop_ruins()?;
        let blobs = self.blobs()?;
        // Of each file the names that are no tree's, and those of them that stay.
        let mut names: BTreeMap<_, u64> = BTreeMap::new();
        for found in &blobs {
            *names.entry(found.inode).or_default() += 1;
        }
        let mut left = names.clone();
        let mut freed = 0;
        for found in blobs {
            let free = match found.ending.as_str() {
                "" => names.get(&found.inode) == Some(&found.links) && !held.contains(&format!("blob {}", found.key)),
                "part" => found.modified.elapsed().unwrap_or_default() >= stale && self.nobody_downloads(&found.key),
                "tmp" => found.modified.elapsed().unwrap_or_default() >= STALE,
                _ => false,
            };
            if free && fs::remove_file(&found.path).is_ok() {
                let left = left.entry(found.inode).or_default();
                *left = left.saturating_sub(1);
                if *left == 0 {
                    freed += found.size;
                }
                let _ =
                    fs::remove_file(self.blob_file(&found.key, if found.ending.is_empty() { "json" } else { "state" }));
            }
        }
        Ok(freed)
    }

    /// Trees that were being made when their process ended.
    fn drop_ruins(&self) -> io::Result<()> {
        for entry in fs::read_dir(self.folder.join("trees"))?.flatten() {
            let path = entry.path();
            let unfinished = path.extension().is_some_and(|ending| ending == "tmp");
            if unfinished && entry.metadata()?.modified()?.elapsed().unwrap_or_default() >= STALE {
                let _ = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
            }
        }
        Ok(())
    }

    fn nobody_downloads(&self, key: &str) -> bool {
        let state = File::options().read(true).write(true).open(self.blob_file(key, "state"));
        state.map_or(true, |state| state.try_lock().is_ok())
    }

    fn blobs(&self) -> io::Result<Vec<Found>> {
        let mut all = Vec::new();
        for entry in fs::read_dir(self.folder.join("blobs"))? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let (key, ending) = name.split_once('.').unwrap_or((&name, ""));
            // It may have been finished, and so renamed, since the folder was read.
            let Ok(meta) = entry.metadata() else { continue };
            let size = if ending == "part" { meta.blocks() * 512 } else { meta.len() };
            let modified = meta.modified()?;
            all.push(Found {
                path: entry.path(),
                key: key.to_owned(),
                ending: ending.to_owned(),
                size,
                inode: (meta.dev(), meta.ino()),
                links: meta.nlink(),
                modified,
            });
        }
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::thread;

    use super::*;
    use crate::cache::{BlobRecord, boot_id};
    use crate::hashing::digests_of;
    use crate::store::{Algorithm, Digests};

    const SIZE: u64 = 10_000;
    const ROUNDS: usize = 400;

    fn put(cache: &Cache, key: &str) {
        let part = tempfile::NamedTempFile::new_in(cache.folder()).expect("a file");
        part.as_file().set_len(SIZE).expect("sized");
        let record = BlobRecord {
            uri: "s3://b/m".to_owned(),
            tag: None,
            size: SIZE,
            digests: Digests::default(),
            boot: boot_id(),
            synced: false,
            modified: None,
        };
        cache.keep(key, &part.into_temp_path().keep().expect("kept"), record).expect("kept");
    }

    #[test]
    fn what_is_found_while_it_is_held_stays_whoever_makes_room() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let open = || Cache::open(folder.path(), Some(4 * SIZE)).expect("a cache");
        let (first, second, third) = (open(), open(), open());
        thread::scope(|scope| {
            let users: Vec<_> = [&first, &second]
                .into_iter()
                .enumerate()
                .map(|(user, cache)| {
                    scope.spawn(move || {
                        for round in 0..ROUNDS {
                            let key = format!("{user}-{}", round % 4);
                            let hold = cache.hold_blob(&key).expect("held");
                            if cache.find(&key).is_none() {
                                put(cache, &key);
                            }
                            thread::yield_now();
                            assert!(cache.find(&key).is_some(), "{key} has gone, and was held");
                            drop(hold);
                        }
                    })
                })
                .collect();
            // Two blobs at most are held at a time.
            while !users.iter().all(thread::ScopedJoinHandle::is_finished) {
                third.make_room(SIZE).expect("room");
                thread::sleep(Duration::from_millis(1));
            }
        });
    }

    #[test]
    fn what_is_on_the_disk_is_said_to_be() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let cache = Cache::open(folder.path(), None).expect("a cache");
        for key in ["a", "b"] {
            put(&cache, key);
            assert!(cache.find(key).is_some_and(|record| !record.synced), "that takes its time");
        }
        let until = std::time::Instant::now() + Duration::from_secs(60);
        while !["a", "b"].iter().all(|key| cache.find(key).is_some_and(|record| record.synced)) {
            assert!(std::time::Instant::now() < until, "nobody writes them out");
            thread::sleep(Duration::from_millis(50));
        }
    }

    #[test]
    fn what_may_not_have_reached_the_disk_is_read_again_after_a_restart() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let cache = Cache::open(folder.path(), None).expect("a cache");
        put(&cache, "a");
        let known = cache.find("a").expect("there");
        let path = cache.blob_file("a", "json");
        let keep = |digests: Digests| {
            let record = BlobRecord { boot: "another".to_owned(), synced: false, digests, ..known.clone() };
            crate::cache::write_json(&path, &record).expect("written");
        };
        keep(Digests::default());
        assert!(cache.find("a").is_none(), "nothing says what it must be");
        let file = File::open(cache.blob("a")).expect("there");
        let digests = digests_of(&file, &[Algorithm::Sha256.into()]).expect("read");
        keep(digests.clone());
        assert!(cache.find("a").is_some_and(|record| record.synced), "it is what it was");
        fs::set_permissions(cache.blob("a"), fs::Permissions::from_mode(0o644)).expect("ours");
        fs::write(cache.blob("a"), vec![1; SIZE as usize]).expect("written");
        keep(digests);
        assert!(cache.find("a").is_none(), "it is another");
    }
}
