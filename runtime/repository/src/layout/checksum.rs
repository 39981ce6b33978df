//! Checksums of files that are there.

use std::io;
use std::path::Path;

use corymb_core::files;

use crate::store::Algorithm;

/// The checksum of a file, read in pieces: a model may be larger than memory should be.
pub(super) fn digest(path: &Path, algorithm: Algorithm) -> io::Result<String> {
    let mut reader = files::open(path)?;
    let mut hasher = algorithm.hasher(reader.metadata()?.len());
    let mut piece = vec![0; 256 << 10];
    loop {
        match io::Read::read(&mut reader, &mut piece)? {
            0 => return Ok(hasher.finish()),
            read => hasher.update(&piece[..read]),
        }
    }
}
