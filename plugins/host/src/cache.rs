//! Where compiled components lie, and which of those files may be believed: machine code runs with the server's own rights.

use std::fs::{self, DirBuilder, File, Metadata};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

/// The largest compiled form that is read.
const MAX_FILE: u64 = 1 << 30;

/// Group and others may write.
const WRITABLE_BY_OTHERS: u32 = 0o022;

/// Group and others may do anything.
const OPEN_TO_OTHERS: u32 = 0o077;

/// A folder for compiled components that belongs to this user alone.
#[derive(Debug)]
pub(crate) struct Cache {
    folder: PathBuf,
}

impl Cache {
    /// Opens the folder, making it where it is missing.
    ///
    /// # Errors
    /// When it cannot be made, or when anybody but this user could have put files there.
    pub(crate) fn open(folder: &Path) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        // Of the name itself, not of what a link points to: somebody else may own the link.
        let metadata = fs::symlink_metadata(folder)?;
        if !metadata.is_dir() {
            return Err(io::Error::other("it is not a folder"));
        }
        let (owner, user) = (metadata.uid(), rustix::process::geteuid().as_raw());
        if owner != user {
            return Err(io::Error::other(format!("it belongs to user {owner}, not to user {user}")));
        }
        let mode = metadata.mode() & 0o777;
        if mode & OPEN_TO_OTHERS != 0 {
            return Err(io::Error::other(format!("its mode is {mode:03o}; 700 is expected")));
        }
        Ok(Self { folder: folder.to_owned() })
    }

    /// The file of that name, if there is one that only this user could have written.
    pub(crate) fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        let user = rustix::process::geteuid().as_raw();
        let trusted = |file: &Metadata| {
            if file.uid() != user || file.mode() & OPEN_TO_OTHERS != 0 {
                return Err(io::Error::other(format!("it is not a file of user {user} with mode 600")));
            }
            Ok(())
        };
        read(&self.folder.join(name), trusted)
    }

    /// Stores a file under a name; readers see all of it or none.
    pub(crate) fn write(&self, name: &str, content: &[u8]) -> io::Result<()> {
        // Mode 600, as temporary files have.
        let mut file = tempfile::NamedTempFile::new_in(&self.folder)?;
        file.write_all(content)?;
        file.persist(self.folder.join(name)).map_err(|error| error.error)?;
        Ok(())
    }
}

/// The compiled form that lies beside a component, if only root could have put it there.
///
/// # Errors
/// When it is there but cannot be read, or when others could have written it.
pub(crate) fn read_shipped(beside: &Path) -> io::Result<Option<Vec<u8>>> {
    let of_root = |metadata: &Metadata, what: &str| {
        if metadata.uid() != 0 || metadata.mode() & WRITABLE_BY_OTHERS != 0 {
            let (owner, mode) = (metadata.uid(), metadata.mode() & 0o777);
            return Err(io::Error::other(format!(
                "its {what} is not root's alone to write (user {owner}, mode {mode:03o})"
            )));
        }
        Ok(())
    };
    let folder = beside.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    read(beside, |file| {
        of_root(file, "content")?;
        of_root(&fs::metadata(folder)?, "folder")
    })
}

/// Reads a plain file (no link) whose metadata `trusted` lets through; what is checked is what is read.
fn read(path: &Path, trusted: impl FnOnce(&Metadata) -> io::Result<()>) -> io::Result<Option<Vec<u8>>> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let mut file = match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(descriptor) => File::from(descriptor),
        Err(rustix::io::Errno::NOENT) => return Ok(None),
        Err(rustix::io::Errno::LOOP) => return Err(io::Error::other("it is a link")),
        Err(error) => return Err(error.into()),
    };
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::other("it is not a plain file"));
    }
    trusted(&metadata)?;
    if metadata.len() > MAX_FILE {
        return Err(io::Error::other(format!("it has {} bytes; at most {MAX_FILE} are read", metadata.len())));
    }
    let mut content = Vec::with_capacity(usize::try_from(metadata.len()).unwrap_or_default());
    file.read_to_end(&mut content)?;
    Ok(Some(content))
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn chmod(path: &Path, mode: u32) {
        fs::set_permissions(path, Permissions::from_mode(mode)).expect("mode set");
    }

    #[test]
    fn what_is_written_is_read_and_private() {
        let root = tempfile::tempdir().expect("folder");
        let folder = root.path().join("a/plugins");
        let cache = Cache::open(&folder).expect("made");
        assert_eq!(fs::metadata(&folder).expect("there").mode() & 0o777, 0o700);
        assert_eq!(cache.read("x").expect("nothing wrong"), None);
        cache.write("x", b"code").expect("written");
        assert_eq!(fs::metadata(folder.join("x")).expect("there").mode() & 0o777, 0o600);
        assert_eq!(cache.read("x").expect("trusted"), Some(b"code".to_vec()));
    }

    #[test]
    fn folders_and_files_open_to_others_are_refused() {
        let root = tempfile::tempdir().expect("folder");
        let folder = root.path().join("plugins");
        let cache = Cache::open(&folder).expect("made");
        cache.write("x", b"code").expect("written");
        chmod(&folder.join("x"), 0o666);
        assert!(cache.read("x").is_err());
        std::os::unix::fs::symlink(folder.join("x"), folder.join("y")).expect("linked");
        assert_eq!(cache.read("y").expect_err("refused").to_string(), "it is a link");
        chmod(&folder, 0o750);
        assert_eq!(Cache::open(&folder).expect_err("refused").to_string(), "its mode is 750; 700 is expected");
        chmod(&folder, 0o700);
        std::os::unix::fs::symlink(&folder, root.path().join("link")).expect("linked");
        assert!(Cache::open(&root.path().join("link")).is_err());
    }

    #[test]
    fn a_shipped_form_is_believed_only_when_it_is_roots() {
        let root = tempfile::tempdir().expect("folder");
        let beside = root.path().join("flowers.cwasm");
        assert_eq!(read_shipped(&beside).expect("nothing wrong"), None);
        fs::write(&beside, b"code").expect("written");
        chmod(&beside, 0o644);
        let believed = read_shipped(&beside);
        if rustix::process::geteuid().is_root() {
            assert_eq!(believed.expect("root's"), Some(b"code".to_vec()));
        } else {
            assert!(believed.is_err());
        }
        chmod(&beside, 0o664);
        assert!(read_shipped(&beside).is_err());
        chmod(&beside, 0o644);
        chmod(root.path(), 0o777);
        assert!(read_shipped(&beside).is_err());
    }
}
