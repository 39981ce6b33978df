//! Files that others name: what a name leads to may be a pipe that nobody writes to, a device that never ends, or a disk's worth of
//! zeros.

use std::fs::{File, metadata};
use std::io::{Error, ErrorKind, Read as _, Result};
use std::path::Path;

/// Opens a regular file for reading.
///
/// # Errors
/// When it cannot be opened, or is none.
pub fn open(path: &Path) -> Result<File> {
    // Before it is opened, which waits for who writes to a pipe.
    let metadata = metadata(path)?;
    if metadata.is_file() {
        return File::open(path);
    }
    let what = if metadata.is_dir() { "it is a folder" } else { "it is not a regular file" };
    Err(Error::new(ErrorKind::InvalidInput, what))
}

/// Reads a regular file of so many bytes at most.
///
/// # Errors
/// As [`open`], and when it is larger.
pub fn read(path: &Path, most: u64) -> Result<Vec<u8>> {
    let too_large =
        |bytes: u64| Error::new(ErrorKind::InvalidInput, format!("it has {bytes} bytes; at most {most} are read"));
    let file = open(path)?;
    let length = file.metadata()?.len();
    if length > most {
        return Err(too_large(length));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(length).unwrap_or_default());
    file.take(most.saturating_add(1)).read_to_end(&mut bytes)?;
    // It may have grown.
    if bytes.len() as u64 > most { Err(too_large(bytes.len() as u64)) } else { Ok(bytes) }
}

/// As [`read`], of a text.
///
/// # Errors
/// As [`read`], and when it is not UTF-8.
pub fn read_text(path: &Path, most: u64) -> Result<String> {
    String::from_utf8(read(path, most)?).map_err(|_| Error::new(ErrorKind::InvalidData, "it is not UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_files_of_a_size_are_read() {
        let refused = |path: &str, most| read(Path::new(path), most).expect_err("refused").to_string();
        assert_eq!(refused("/dev/zero", 9), "it is not a regular file");
        assert_eq!(refused("/", 9), "it is a folder");
        let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
        let text = read_text(&own, 1 << 20).expect("it is there");
        assert!(text.contains("corymb-core"));
        let length = text.len();
        assert_eq!(read(&own, length as u64).expect("it fits").len(), length);
        let expected = format!("it has {length} bytes; at most 9 are read");
        assert_eq!(refused(&own.to_string_lossy(), 9), expected);
    }
}
