//! What was unpacked, on its way into the cache: found in its folder, and made files of the cache.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use crate::archive::{Limits, Refusal};
use crate::cache::{BlobRecord, Cache, Hold, boot_id};
use crate::hashing::digests_of;
use crate::shape::below;
use crate::store::{Algorithm, Digests, Object};

/// Folders in folders: the limit of archives, and what links in them add.
const MAX_DEPTH: usize = 64;

/// A file of the disk, whatever its names.
type Inode = (u64, u64);

fn inode(meta: &Metadata) -> Inode {
    (meta.dev(), meta.ino())
}

/// All files below `folder`, with their sizes; links are followed, which do not lead out of it.
///
/// # Errors
/// When there is more than `limits` allow, each counted as often as links lead to it.
pub(crate) fn walk(folder: &Path, limits: &Limits) -> Result<BTreeMap<String, u64>, Refusal> {
    let mut walk = Walk { root: folder, limits, files: BTreeMap::new(), entries: 0, bytes: 0, open: Vec::new() };
    walk.folder("", &fs::metadata(folder)?)?;
    Ok(walk.files)
}

/// The way through the folders of what was unpacked.
struct Walk<'a> {
    root: &'a Path,
    limits: &'a Limits,
    files: BTreeMap<String, u64>,
    entries: u64,
    bytes: u64,
    /// The folders around the present one.
    open: Vec<Inode>,
}

impl Walk<'_> {
    fn folder(&mut self, place: &str, meta: &Metadata) -> Result<(), Refusal> {
        let refused = |reason: String| Err(Refusal::Archive { reason });
        if self.open.len() > MAX_DEPTH {
            return refused("has folders that are nested too deep".to_owned());
        }
        // A link to a folder around it would go on for ever.
        if self.open.contains(&inode(meta)) {
            return Ok(());
        }
        self.open.push(inode(meta));
        for entry in fs::read_dir(self.root.join(place))? {
            let path = below(place, &entry?.file_name().to_string_lossy());
            let Limits { entries, content, .. } = self.limits;
            self.entries += 1;
            if self.entries > *entries {
                return refused(format!("has more than {entries} files and folders, as often as links lead to each"));
            }
            // A link may lead nowhere.
            let Ok(meta) = fs::metadata(self.root.join(&path)) else { continue };
            if meta.is_dir() {
                self.folder(&path, &meta)?;
            } else if meta.is_file() {
                self.bytes = self.bytes.saturating_add(meta.len());
                if self.bytes > *content {
                    return refused(format!("has files of more than {content} bytes, as often as links lead to each"));
                }
                self.files.insert(path, meta.len());
            }
        }
        self.open.pop();
        Ok(())
    }
}

/// Makes files blobs of their own. A file of several names is read once and lies on the disk once.
pub(crate) struct Keeper<'a> {
    cache: &'a Cache,
    /// Of those that were read.
    digests: HashMap<Inode, Digests>,
}

impl<'a> Keeper<'a> {
    pub(crate) fn new(cache: &'a Cache) -> Self {
        Self { cache, digests: HashMap::new() }
    }

    /// Makes the file at `from`, or what a link there leads to, the blob of `object`. Blobs are never written to, so they may
    /// be one file.
    pub(crate) fn keep(&mut self, uri: &str, object: &Object, from: &Path) -> io::Result<Hold> {
        let key = Cache::blob_key(uri, object);
        let hold = self.cache.hold_blob(&key)?;
        // A hard link to a link would be a link.
        let from = fs::canonicalize(from)?;
        let part = self.cache.link(&from)?;
        let file = File::open(&part)?;
        let inode = inode(&file.metadata()?);
        let digests = match self.digests.get(&inode) {
            Some(known) => known.clone(),
            None => {
                let found = digests_of(&file, &[Algorithm::Crc32c.into()])?;
                self.digests.entry(inode).or_insert(found).clone()
            }
        };
        let record = BlobRecord {
            uri: uri.to_owned(),
            tag: object.tag.clone(),
            size: object.size,
            digests,
            boot: boot_id(),
            synced: false,
            modified: None,
        };
        self.cache.keep(&key, &part, record)?;
        Ok(hold)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::store::object;

    fn names(folder: &Path, limits: &Limits) -> Result<Vec<String>, String> {
        walk(folder, limits).map(|files| files.into_keys().collect()).map_err(|refusal| refusal.to_string())
    }

    #[test]
    fn links_to_folders_around_them_are_passed_over() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let at = |name: &str| folder.path().join(name);
        fs::create_dir_all(at("a/b")).expect("made");
        fs::write(at("a/f"), "f").expect("written");
        for (link, target) in
            [("current", "."), ("a/x", "."), ("a/y", "."), ("a/b/up", "../.."), ("c", "a/b"), ("d", "gone")]
        {
            symlink(target, at(link)).expect("linked");
        }
        assert_eq!(names(folder.path(), &Limits::default()), Ok(vec!["a/f".to_owned()]));
        symlink("a", at("latest")).expect("linked");
        assert_eq!(names(folder.path(), &Limits::default()), Ok(vec!["a/f".to_owned(), "latest/f".to_owned()]));
    }

    #[test]
    fn links_in_links_come_to_an_end() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let at = |name: String| folder.path().join(name);
        fs::create_dir(at("0".to_owned())).expect("made");
        fs::write(at("0/f".to_owned()), "f").expect("written");
        // Each level doubles what is below it.
        for level in 1..30 {
            fs::create_dir(at(format!("{level}"))).expect("made");
            for name in ["x", "y"] {
                symlink(format!("../{}", level - 1), at(format!("{level}/{name}"))).expect("linked");
            }
        }
        let limits = Limits { entries: 1_000, ..Limits::default() };
        let said = names(folder.path(), &limits).expect_err("too many");
        assert_eq!(said, "the archive has more than 1000 files and folders, as often as links lead to each");
    }

    #[test]
    fn links_count_as_what_they_lead_to_and_lie_on_the_disk_once() {
        const SIZE: u64 = 1 << 20;
        let folder = tempfile::tempdir().expect("a temporary folder");
        let cache = Cache::open(&folder.path().join("cache"), Some(2 * SIZE)).expect("a cache");
        let into = cache.temporary_folder().expect("a folder");
        let at = |name: &str| into.path().join(name);
        fs::write(at("weights"), vec![7; 1 << 20]).expect("written");
        for number in 0..10 {
            symlink("weights", at(&format!("link{number}"))).expect("linked");
        }
        let limits = Limits { content: 11 * SIZE - 1, ..Limits::default() };
        let said = names(into.path(), &limits).expect_err("too much");
        assert_eq!(said, "the archive has files of more than 11534335 bytes, as often as links lead to each");
        let files = walk(into.path(), &Limits { content: 11 * SIZE, ..limits }).expect("few");
        assert_eq!(files.values().sum::<u64>(), 11 * SIZE);
        let mut keeper = Keeper::new(&cache);
        let keep = |(path, size): (&String, &u64)| keeper.keep(path, &object(None, *size), &at(path)).expect("kept");
        let holds: Vec<Hold> = files.iter().map(keep).collect();
        // Records take some room, too.
        let used = || cache.used().expect("read") / SIZE;
        assert_eq!(used(), 1);
        drop(into);
        for (path, size) in &files {
            let key = Cache::blob_key(path, &object(None, *size));
            assert!(cache.find(&key).is_some() && cache.blob(&key).is_file(), "{path}");
        }
        // What is used stays, and goes with the last of its names.
        assert!(cache.make_room(SIZE).is_err());
        assert_eq!(used(), 1);
        drop(holds);
        cache.make_room(SIZE).expect("room");
        assert_eq!(used(), 0);
    }
}
