//! Zip archives, by their central directory: PKWARE's APPNOTE.TXT 6.3.10.
//!
//! The directory is read entry by entry: the other reader of the `zip` crate keeps all of it, and of two entries with
//! one name the last.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt as _;

use zip::CompressionMethod;
use zip::ZipReadOptions;
use zip::read::{ArchiveOffset, Config, ZipFile, ZipFileEntry};
use zip::result::ZipError;
use zip::unstable::read::ZipIterable;

use crate::archive::Refusal;
use crate::archive::folder::Folder;
use crate::archive::name;

/// The kind of file in a mode, as `S_IFMT` in sys/stat.h.
const KIND: u32 = 0o170_000;

/// Bytes of the record that ends the directory of zip64, with whatever else its maker puts there.
const MOST_END: u64 = 64 << 10;

pub(super) fn unpack(archive: &File, folder: &mut Folder<'_>) -> Result<(), Refusal> {
    let directory = |error| fault("its central directory", error);
    // Nothing comes before the archive: what is cut short behind an archive inside it would be taken for that one.
    let config = Config { archive_offset: ArchiveOffset::Known(0) };
    let mut entries = ZipIterable::try_new(Directory(archive), config).map_err(|error| match error {
        ZipError::InvalidArchive(reason) if reason == "Could not find EOCD" => {
            let mut start = [0; 4];
            let is_zip = archive.read_exact_at(&mut start, 0).is_ok() && start == *b"PK\x03\x04";
            if is_zip { Refusal::cut_short("its entries") } else { Refusal::archive("is no zip archive") }
        }
        other => directory(other),
    })?;
    let most = folder.budget.limits.entries;
    if entries.len() as u64 > most {
        return Err(Refusal::archive(format!("has {} entries; {most} are allowed", entries.len())));
    }
    for entry in entries.files().map_err(directory)? {
        self::entry(archive, folder, entry.map_err(directory)?)?;
    }
    Ok(())
}

/// The archive as its directory is read from it.
struct Directory<'a>(&'a File);

impl Read for Directory<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.0.read(buffer)?;
        // APPNOTE 4.3.14. The crate makes room for as much as this record says that it has, before it reads it: as much
        // as the archive itself, if its maker likes.
        if let Some((magic, rest)) = buffer[..length].split_first_chunk()
            && *magic == *b"PK\x06\x06"
            && length == 56
        {
            let size = rest.first_chunk().map_or(0, |size| u64::from_le_bytes(*size));
            if size > MOST_END {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "the record at its end is too long"));
            }
        }
        Ok(length)
    }
}

impl Seek for Directory<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.0.seek(to)
    }
}

fn entry(archive: &File, folder: &mut Folder<'_>, entry: ZipFileEntry<'_>) -> Result<(), Refusal> {
    let Some(name) = folder.admit(entry.name_raw())? else { return Ok(()) };
    let refused = |reason: String| Refusal::entry(&name.raw, reason);
    if entry.encrypted() {
        return Err(refused("is encrypted".to_owned()));
    }
    let (size, method) = (entry.size(), entry.compression());
    if !matches!(method, CompressionMethod::Stored | CompressionMethod::Deflated) {
        return Err(refused(format!("is compressed by {}; expected stored or deflate", method_name(method))));
    }
    // Zero where it was not made on Unix.
    let kind = entry.unix_mode().unwrap_or_default() & KIND;
    let is_folder = name.has_slash || kind == 0o040_000;
    if is_folder {
        if size > 0 {
            return Err(refused("is no file, but has content".to_owned()));
        }
        return folder.folder(&name);
    }
    let mut reader = archive;
    let part = format!("'{}'", name::shown(&name.raw));
    let open = || {
        let file = entry.with_reader(&mut reader, ZipReadOptions::new());
        file.map_err(|error| fault(&part, error))
    };
    match kind {
        0 | 0o100_000 => {
            let mut file = open()?;
            folder.file(&name, &mut file, size)?;
            end(&part, file)
        }
        0o120_000 => {
            let target = link_target(&name.raw, &part, open()?, size, folder)?;
            folder.symbolic_link(&name, &target)
        }
        0o020_000 => Err(refused("is a character device".to_owned())),
        0o060_000 => Err(refused("is a block device".to_owned())),
        0o010_000 => Err(refused("is a named pipe".to_owned())),
        0o140_000 => Err(refused("is a socket".to_owned())),
        other => Err(refused(format!("is of the unknown type {other:o}"))),
    }
}

/// Where a link leads: it is the content.
fn link_target<R: Read>(
    name: &[u8],
    part: &str,
    mut file: ZipFile<'_, R>,
    size: u64,
    folder: &Folder<'_>,
) -> Result<Vec<u8>, Refusal> {
    let most = folder.budget.limits.path as u64;
    if size > most {
        return Err(Refusal::entry(name, format!("is a link to a path of more than {most} bytes")));
    }
    let mut target = Vec::new();
    (&mut file).take(size).read_to_end(&mut target).map_err(|error| fault(part, error.into()))?;
    end(part, file)?;
    Ok(target)
}

/// Reads on to the end of what should be at it, where the checksum is compared.
fn end<R: Read>(part: &str, mut file: ZipFile<'_, R>) -> Result<(), Refusal> {
    match file.read(&mut [0]) {
        Ok(0) => Ok(()),
        Ok(_) => Err(Refusal::archive(format!("is damaged at {part}: it is longer than stated"))),
        Err(error) => Err(fault(part, error.into())),
    }
}

/// What the crate says of a part of the archive.
fn fault(part: &str, error: ZipError) -> Refusal {
    match error {
        ZipError::Io(error) => Refusal::unreadable(part, error),
        ZipError::InvalidArchive(reason) if reason.starts_with("Unexpected end of") => Refusal::cut_short(part),
        other => Refusal::archive(format!("is damaged at {part}: {}", name::shown(other.to_string().as_bytes()))),
    }
}

/// APPNOTE 4.4.5.
#[expect(deprecated, reason = "the crate has no other way to the number of a method that it does not know")]
fn method_name(method: CompressionMethod) -> String {
    let number = method.to_u16();
    let name = match number {
        1 => "Shrink",
        6 => "Implode",
        9 => "Deflate64",
        12 => "BZIP2",
        14 => "LZMA",
        93 => "Zstandard",
        95 => "XZ",
        98 => "PPMd",
        _ => return format!("method {number}"),
    };
    name.to_owned()
}
