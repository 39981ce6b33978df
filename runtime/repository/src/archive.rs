//! Archives of models, `.tar.gz`, `.tgz`, `.tar` and `.zip`, unpacked as if their makers meant harm.
//!
//! Nothing is made outside the folder, nothing is written through a link, and nothing costs more than [`Limits`] allow.
//! What a name may be stands in `name`, what may be made and how in `folder`; the formats only say what they hold.

mod budget;
mod folder;
mod gzip;
mod layer;
mod name;
mod tarball;
#[cfg(test)]
mod tests;
mod zipped;
mod zstd;

use std::fs::{self, File};
use std::io::{self, BufReader, Seek as _};
use std::path::Path;

use crate::archive::budget::Budget;
use crate::archive::folder::Folder;
use crate::archive::gzip::Members;
use crate::archive::zstd::Frames;

pub(crate) use crate::archive::layer::{Layer, Packing};

/// Bytes read and written at once.
const PIECE: usize = 256 << 10;

/// What kind of archive a name says it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Tapes as V7, POSIX (ustar and pax) and GNU write them.
    Tar,
    /// The same behind gzip, RFC 1952.
    TarGz,
    /// PKWARE's APPNOTE 6.3, of which stored and deflated entries and zip64.
    Zip,
}

impl Kind {
    /// By the name's ending, in capitals or not. None where it is no archive's.
    pub(crate) fn of(name: &str) -> Option<Self> {
        const ENDINGS: [(&str, Kind); 4] =
            [(".tar.gz", Kind::TarGz), (".tgz", Kind::TarGz), (".tar", Kind::Tar), (".zip", Kind::Zip)];
        let name = name.to_ascii_lowercase();
        ENDINGS.into_iter().find(|(ending, _)| name.ends_with(ending)).map(|(_, kind)| kind)
    }
}

/// How much an archive may ask for. Each is held where it is spent, whatever the archive says of itself.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Bytes that come out of it, all together.
    pub(crate) content: u64,
    /// Entries, and folders that only the paths of entries name.
    pub(crate) entries: u64,
    /// Bytes that come out for each byte of the archive, beyond `free`.
    pub(crate) ratio: u64,
    /// Bytes that come out before the ratio counts.
    pub(crate) free: u64,
    /// Bytes of a path.
    pub(crate) path: usize,
    /// Bytes of a part of a path.
    pub(crate) part: usize,
    /// Parts of a path.
    pub(crate) depth: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { content: 1 << 40, entries: 100_000, ratio: 100, free: 64 << 20, path: 4096, part: 255, depth: 32 }
    }
}

/// What came of an archive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Unpacked {
    /// Files and links that were made.
    pub(crate) files: u64,
    /// Bytes that were written to files.
    pub(crate) bytes: u64,
    /// Entries that were left out: what macOS and old tape readers add on their own account.
    pub(crate) skipped: u64,
}

/// Why an archive is not unpacked, in one line. `the archive` in front of it, or the entry, is all it names.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    /// An entry that is not wanted.
    #[error("'{name}' in the archive {reason}")]
    Entry {
        /// Its name, printable and not too long.
        name: String,
        /// A verb and what follows it.
        reason: String,
    },
    /// The archive is not whole, or not one at all.
    #[error("the archive {reason}")]
    Archive {
        /// A verb and what follows it.
        reason: String,
    },
    /// This machine failed, not the archive: its disk is full, for one.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl Refusal {
    fn entry(name: &[u8], reason: impl Into<String>) -> Self {
        Self::Entry { name: name::shown(name), reason: reason.into() }
    }

    fn archive(reason: impl Into<String>) -> Self {
        Self::Archive { reason: reason.into() }
    }

    /// The archive ends in `part`, which is not the last of it.
    fn cut_short(part: &str) -> Self {
        Self::archive(format!("ends in the middle of {part}; it is cut short"))
    }

    /// What a decoder or the disk under it says of `part`.
    fn unreadable(part: &str, error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => Self::cut_short(part),
            // What decoders say; the system says neither of a file that was opened for reading.
            io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput => {
                let error = error.to_string();
                Self::archive(format!("is damaged at {part}: {}", name::shown(error.as_bytes())))
            }
            _ => Self::Io(error),
        }
    }
}

/// Unpacks `archive`, from its beginning, into the empty folder `into`. Files get the mode 0644 and folders 0755,
/// whatever the archive and the process say; owners and times are those of any new file.
///
/// Where it fails, `into` is empty again. A folder that is not empty at first is an error and left alone.
pub(crate) fn unpack(archive: &File, kind: Kind, into: &Path, limits: &Limits) -> Result<Unpacked, Refusal> {
    if fs::read_dir(into)?.next().is_some() {
        return Err(io::Error::from(io::ErrorKind::DirectoryNotEmpty).into());
    }
    let emptied = Emptied(Some(into));
    let size = archive.metadata()?.len();
    let mut folder = Folder::open(into, Budget::new(limits, size))?;
    let mut from = archive;
    from.rewind()?;
    match kind {
        Kind::Tar => tarball::unpack(BufReader::with_capacity(PIECE, from), &mut folder)?,
        Kind::TarGz => tarball::unpack(Members::new(BufReader::with_capacity(PIECE, from)), &mut folder)?,
        Kind::Zip => zipped::unpack(archive, &mut folder)?,
    }
    let unpacked = folder.finish()?;
    emptied.keep();
    Ok(unpacked)
}

/// Unpacks of a layer of an image what lies below the folder `below` of it, into the empty folder `into`, as [`unpack`] does
/// an archive. Links and marks are answered, not made; devices and pipes are left out.
pub(crate) fn unpack_layer(
    archive: &File,
    packing: Packing,
    below: &str,
    into: &Path,
    limits: &Limits,
) -> Result<(Layer, Unpacked), Refusal> {
    let size = archive.metadata()?.len();
    let mut folder = Folder::open(into, Budget::new(limits, size))?;
    folder.layer = Some(Layer::new(below));
    let mut from = archive;
    from.rewind()?;
    let from = BufReader::with_capacity(PIECE, from);
    match packing {
        Packing::Plain => tarball::unpack(from, &mut folder)?,
        Packing::Gzip => tarball::unpack(Members::new(from), &mut folder)?,
        Packing::Zstd => tarball::unpack(Frames::new(from), &mut folder)?,
    }
    let unpacked = folder.unpacked;
    Ok((folder.layer.unwrap_or_default(), unpacked))
}

/// Empties its folder when it goes, also by a panic, unless told to keep what is there.
struct Emptied<'a>(Option<&'a Path>);

impl Emptied<'_> {
    fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for Emptied<'_> {
    fn drop(&mut self) {
        let Some(entries) = self.0.and_then(|folder| fs::read_dir(folder).ok()) else { return };
        for entry in entries.flatten() {
            // Neither follows a link.
            let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
            let _ = if is_folder { fs::remove_dir_all(entry.path()) } else { fs::remove_file(entry.path()) };
        }
    }
}
