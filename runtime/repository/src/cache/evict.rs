//! Room in the cache: the least recently used goes first, and nothing that a living process uses.

use std::collections::BTreeSet;
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
        Ok(self.blobs()?.iter().map(|found| found.size).sum())
    }

    /// Removes blobs that no tree links, and downloads that nobody continues.
    fn drop_orphans(&self, held: &BTreeSet<String>, stale: Duration) -> io::Result<u64> {
        self.drop_ruins()?;
        let mut freed = 0;
        for found in self.blobs()? {
            let free = match found.ending.as_str() {
                "" => found.links == 1 && !held.contains(&format!("blob {}", found.key)),
                "part" => found.modified.elapsed().unwrap_or_default() >= stale && self.nobody_downloads(&found.key),
                "tmp" => found.modified.elapsed().unwrap_or_default() >= STALE,
                _ => false,
            };
            if free && fs::remove_file(&found.path).is_ok() {
                freed += found.size;
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
                links: meta.nlink(),
                modified,
            });
        }
        Ok(all)
    }
}
