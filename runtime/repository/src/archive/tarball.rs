//! Tapes, block by block: POSIX.1-2017 pax, "ustar Interchange Format" and "pax Header", and GNU's long names.
//!
//! The `tar` crate reads the fields of a header. What belongs together is put together here, because the crate reads
//! long names and pax headers into memory whatever their size.

use std::io::{self, Read};

use tar::{EntryType, Header};

use crate::archive::Refusal;
use crate::archive::folder::Folder;
use crate::archive::name;

/// Bytes of a block: what everything on a tape is a multiple of.
const BLOCK: u64 = 512;
/// Bytes of a pax header, in which extended attributes may be, too.
const MOST_RECORDS: u64 = 1 << 20;
/// What of an archive comes after its last entry, for refusals.
const AFTER: &[u8] = b"(after the last entry)";

/// What headers say of the entry after them.
#[derive(Debug, Default)]
struct Ahead {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    is_sparse: bool,
    /// GNU's; pax takes precedence.
    long_path: Option<Vec<u8>>,
    long_link: Option<Vec<u8>>,
}

/// Unpacks what `from` holds, and reads it to its end, where its checksum is.
pub(super) fn unpack<R: Read>(mut from: R, folder: &mut Folder<'_>) -> Result<(), Refusal> {
    let mut ahead = None::<Ahead>;
    let mut last = None;
    while let Some(header) = next_header(&mut from, last.as_deref())? {
        folder.budget.spend(&header.path_bytes(), BLOCK)?;
        let size =
            header.entry_size().map_err(|_| Refusal::entry(&header.path_bytes(), "has a size that is no number"))?;
        match header.entry_type() {
            kind @ (EntryType::XHeader | EntryType::XGlobalHeader) => {
                let (records, name) = (read_small(&mut from, folder, &header, size)?, header.path_bytes());
                // Files of their own in effect: an archive of nothing else would never end.
                folder.budget.one_more(&name)?;
                // Theirs is for all that follows: a comment or a time, of which none is needed here.
                let mut global = Ahead::default();
                let is_global = kind == EntryType::XGlobalHeader;
                let of = if is_global { &mut global } else { ahead.get_or_insert_default() };
                of.read_records(&records).ok_or_else(|| Refusal::entry(&name, "is a pax header that is damaged"))?;
                if is_global && global.names_something() {
                    return Err(Refusal::entry(&name, "is a global pax header that names a file"));
                }
            }
            kind @ (EntryType::GNULongName | EntryType::GNULongLink) => {
                let text = read_small(&mut from, folder, &header, size)?;
                folder.budget.one_more(&text)?;
                let end = text.iter().rposition(|byte| *byte != 0).map_or(0, |at| at + 1);
                let ahead = ahead.get_or_insert_default();
                let of = if kind == EntryType::GNULongName { &mut ahead.long_path } else { &mut ahead.long_link };
                *of = Some(text[..end].to_owned());
            }
            kind => {
                let ahead = ahead.take().unwrap_or_default();
                let path = ahead.path.or(ahead.long_path).unwrap_or_else(|| header.path_bytes().into_owned());
                let size = ahead.size.unwrap_or(size);
                if ahead.is_sparse || kind == EntryType::GNUSparse {
                    return Err(Refusal::entry(
                        &path,
                        "is a sparse file, packed without its holes; expected a whole one",
                    ));
                }
                let link = ahead.link.or(ahead.long_link);
                let link = link.or_else(|| header.link_name_bytes().map(Into::into)).unwrap_or_default();
                entry(&mut from, folder, &path, kind, &link, size)?;
                last = Some(path);
            }
        }
    }
    if ahead.is_some() {
        return Err(Refusal::archive("ends after a header that names an entry; the entry is missing"));
    }
    drain(from, folder)
}

/// Makes what one entry is.
fn entry(
    from: &mut dyn Read,
    folder: &mut Folder<'_>,
    path: &[u8],
    kind: EntryType,
    link: &[u8],
    size: u64,
) -> Result<(), Refusal> {
    let Some(name) = folder.admit(path)? else {
        folder.pour(path, from, size, None)?;
        return pad(from, folder, path, size);
    };
    // Versions before POSIX tell folders by the slash alone.
    let is_old_folder = kind == EntryType::Regular && name.has_slash;
    if (kind == EntryType::Directory || is_old_folder || matches!(kind, EntryType::Link | EntryType::Symlink))
        && size > 0
    {
        // Readers disagree on where the next entry is.
        return Err(Refusal::entry(path, "is no file, but has content"));
    }
    match kind {
        EntryType::Directory => folder.folder(&name),
        _ if is_old_folder => folder.folder(&name),
        EntryType::Regular | EntryType::Continuous => {
            folder.file(&name, from, size)?;
            pad(from, folder, path, size)
        }
        EntryType::Link => folder.hard_link(&name, link),
        EntryType::Symlink => folder.symbolic_link(&name, link),
        EntryType::Char | EntryType::Block | EntryType::Fifo if folder.layer.is_some() => {
            folder.unpacked.skipped += 1;
            Ok(())
        }
        EntryType::Char => Err(Refusal::entry(path, "is a character device")),
        EntryType::Block => Err(Refusal::entry(path, "is a block device")),
        EntryType::Fifo => Err(Refusal::entry(path, "is a named pipe")),
        other => {
            let letter = other.as_byte().escape_ascii();
            Err(Refusal::entry(path, format!("is of the unknown type '{letter}'")))
        }
    }
}

/// The next header; none at the end mark. `last` is the entry before it.
fn next_header(from: &mut dyn Read, last: Option<&[u8]>) -> Result<Option<Header>, Refusal> {
    let mut header = Header::new_old();
    let place = || match last {
        Some(last) => format!("the header after '{}'", name::shown(last)),
        None => "its first header".to_owned(),
    };
    match read_block(from, header.as_mut_bytes()) {
        Ok(true) => {}
        // It may be cut just there, and what is missing may be the half of a model.
        Ok(false) if last.is_none() => return Err(Refusal::archive("is empty; not even an end mark is in it")),
        Ok(false) => return Err(Refusal::cut_short(&format!("{}: there is neither one nor an end mark", place()))),
        Err(error) => return Err(Refusal::unreadable(&place(), error)),
    }
    if header.as_bytes().iter().all(|byte| *byte == 0) {
        return Ok(None);
    }
    // The checksum itself counts as blanks.
    let bytes = header.as_bytes().iter().enumerate();
    let sum = bytes.map(|(at, byte)| if (148..156).contains(&at) { 32 } else { u32::from(*byte) }).sum::<u32>();
    match header.cksum() {
        Ok(stated) if stated == sum => Ok(Some(header)),
        _ if last.is_none() => Err(Refusal::archive("is no tar archive: the checksum of its first header is wrong")),
        _ => Err(Refusal::archive(format!("is damaged at {}: its checksum is wrong", place()))),
    }
}

/// False if nothing is left.
fn read_block(from: &mut dyn Read, block: &mut [u8]) -> io::Result<bool> {
    let mut filled = 0;
    while filled < block.len() {
        match from.read(&mut block[filled..]) {
            Ok(0) if filled == 0 => return Ok(false),
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(length) => filled += length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}

/// The content of a header that is for the entry after it.
fn read_small(from: &mut dyn Read, folder: &mut Folder<'_>, header: &Header, size: u64) -> Result<Vec<u8>, Refusal> {
    let name = header.path_bytes();
    let most = match header.entry_type() {
        EntryType::XHeader | EntryType::XGlobalHeader => MOST_RECORDS,
        // And the byte that ends it.
        _ => folder.budget.limits.path as u64 + 1,
    };
    if size > most {
        return Err(Refusal::entry(&name, format!("is a header of more than {most} bytes")));
    }
    folder.budget.spend(&name, size)?;
    let mut content = Vec::new();
    let part = format!("'{}'", name::shown(&name));
    (&mut *from).take(size).read_to_end(&mut content).map_err(|error| Refusal::unreadable(&part, error))?;
    if (content.len() as u64) < size {
        return Err(Refusal::cut_short(&part));
    }
    pad(from, folder, &name, size)?;
    Ok(content)
}

/// Reads what fills the last block of a content of `size` bytes.
fn pad(from: &mut dyn Read, folder: &mut Folder<'_>, entry: &[u8], size: u64) -> Result<(), Refusal> {
    folder.pour(entry, from, (BLOCK - size % BLOCK) % BLOCK, None)
}

/// Reads to the end, so that a decoder checks its checksum.
fn drain(mut from: impl Read, folder: &mut Folder<'_>) -> Result<(), Refusal> {
    let mut block = [0; BLOCK as usize];
    loop {
        match from.read(&mut block) {
            Ok(0) => return Ok(()),
            Ok(length) => folder.budget.spend(AFTER, length as u64)?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Refusal::unreadable("what comes after the last entry", error)),
        }
    }
}

impl Ahead {
    /// Takes over records of the form `30 path=a/b\n`: a length in decimal, of the whole, which counts itself.
    /// None if they are anything else.
    fn read_records(&mut self, mut records: &[u8]) -> Option<()> {
        while !records.is_empty() {
            let blank = records.iter().take(8).position(|byte| *byte == b' ')?;
            let length: usize = std::str::from_utf8(&records[..blank]).ok()?.parse().ok()?;
            let record = records.get(blank + 1..length)?.strip_suffix(b"\n")?;
            records = &records[length..];
            let equals = record.iter().position(|byte| *byte == b'=')?;
            let (key, value) = (&record[..equals], &record[equals + 1..]);
            // An empty value takes back an earlier one.
            let value = || (!value.is_empty()).then(|| value.to_owned());
            match key {
                b"path" => self.path = value(),
                b"linkpath" => self.link = value(),
                b"size" => {
                    let number = |digits: Vec<u8>| std::str::from_utf8(&digits).ok()?.parse().ok();
                    self.size = value().map(|digits| number(digits).ok_or(())).transpose().ok()?;
                }
                _ => self.is_sparse |= key.starts_with(b"GNU.sparse."),
            }
        }
        Some(())
    }

    /// Whether it says what only one entry can be.
    fn names_something(&self) -> bool {
        self.path.is_some() || self.link.is_some() || self.size.is_some() || self.is_sparse
    }
}
