//! Whether the files of a folder are those that were signed: no more, no fewer, no others.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Read, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use corymb_core::files;

use crate::error::RepositoryError;
use crate::onnx::external_data;
use crate::revision;
use crate::shape::{below, is_inside};
use crate::signature::statement::{Piece, Statement};
use crate::signature::{MAX_SIGNATURE, SIGNATURE, Trust, statement, unsigned};
use crate::store::{Algorithm, MAX_LISTED};

/// Bytes read at once.
const PIECE: usize = 256 << 10;
/// Folders in folders: deeper is no model.
const MAX_DEPTH: usize = 64;

/// What a folder holds of the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kept {
    All,
    /// What is fetched from a store: all but compiled plugins, which nobody's signature makes this server run.
    Fetched,
}

impl Kept {
    pub(crate) fn holds(self, name: &str) -> bool {
        self == Self::All || !name.ends_with(".cwasm")
    }

    /// What changes when the file does.
    fn state(self, path: &Path) -> io::Result<String> {
        match self {
            Self::All => revision::state(path),
            // Processes that share the cache make links of its files, and nobody may write to them.
            Self::Fetched => revision::word(path),
        }
    }
}

/// The files that were found to be as somebody who is trusted signed them.
#[derive(Clone, Debug, Default)]
pub struct Signed {
    files: BTreeMap<PathBuf, Checked>,
    /// Who signed, in words.
    by: BTreeSet<String>,
}

/// A file that was read.
#[derive(Clone, Debug)]
struct Checked {
    /// Its SHA-256, where that is known of the whole file.
    digest: Option<String>,
    /// What changes when it does, from before it was read.
    state: String,
    kept: Kept,
}

impl Signed {
    /// That nobody has changed the files since they were compared with the signature: asked after whatever reads them
    /// again, so that what it read is what was signed.
    ///
    /// # Errors
    /// The first file that was changed, replaced or removed.
    pub fn ensure_unchanged(&self) -> Result<(), RepositoryError> {
        for (path, checked) in &self.files {
            if checked.kept.state(path).ok().as_ref() != Some(&checked.state) {
                return Err(refused(path, "it was changed while the model was being loaded"));
            }
        }
        Ok(())
    }

    pub(crate) fn and(mut self, other: Self) -> Self {
        self.files.extend(other.files);
        self.by.extend(other.by);
        self
    }

    /// What was signed and by whom, in words.
    #[must_use]
    pub fn shown(&self) -> String {
        let by = self.by.iter().map(String::as_str).collect::<Vec<_>>().join(" and ");
        format!("{} files by {by}", self.files.len())
    }

    /// The files whose SHA-256 is known since they were read.
    pub(crate) fn digests(&self) -> impl Iterator<Item = (PathBuf, String)> {
        self.files.iter().filter_map(|(path, checked)| Some((path.clone(), checked.digest.clone()?)))
    }

    /// Whether a file that the model is made of was signed. Others may lie beside it, if the signer said so.
    pub(crate) fn check_used(&self, path: &Path) -> Result<(), RepositoryError> {
        if self.files.contains_key(path) {
            return Ok(());
        }
        Err(refused(path, "the model uses this file, but the signature does not cover it"))
    }

    /// As [`Signed::check_used`], of the files that an `.onnx` file refers to.
    pub(crate) fn check_external(&self, model: &Path) -> Result<(), RepositoryError> {
        let folder = model.parent().unwrap_or(Path::new(""));
        external(model)?.iter().try_for_each(|location| self.check_used(&folder.join(location)))
    }
}

/// The signature in a folder; none where there is no file of its name.
fn read(folder: &Path, trust: &Trust) -> Result<Option<(Statement, String)>, RepositoryError> {
    let path = folder.join(SIGNATURE);
    let unreadable = |reason| RepositoryError::Unreadable { path: path.clone(), reason };
    let file = match files::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unreadable(error)),
    };
    let mut text = Vec::new();
    file.take(MAX_SIGNATURE + 1).read_to_end(&mut text).map_err(unreadable)?;
    if text.len() as u64 > MAX_SIGNATURE {
        return Err(refused(&path, format!("longer than {MAX_SIGNATURE} bytes, which is no signature")));
    }
    statement(&text, trust).map(Some).map_err(|reason| refused(&path, reason))
}

/// Everything in a folder against the signature in it; none where it has no signature.
///
/// # Errors
/// The first file that is not as it was signed.
pub(crate) fn check_folder(folder: &Path, trust: &Trust, kept: Kept) -> Result<Option<Signed>, RepositoryError> {
    let Some((statement, by)) = read(folder, trust)? else { return Ok(None) };
    if statement.is_of_one_file() {
        return Err(refused(&folder.join(SIGNATURE), "the signature of a single file; expected one of the folder"));
    }
    let mut found = BTreeSet::new();
    walk(folder, "", &statement, &mut found, 0)?;
    // Names are compared first, since that takes no time.
    if let Some(extra) = found.iter().find(|name| !statement.lists(name)) {
        return Err(refused(&folder.join(extra), "this file is not in the signature"));
    }
    if let Some(absent) = statement.names().find(|name| kept.holds(name) && !found.contains(*name)) {
        return Err(refused(&folder.join(absent), "no such file, but it is in the signature"));
    }
    let mut files = BTreeMap::new();
    for (name, pieces) in statement.files().iter().filter(|(name, _)| found.contains(*name)) {
        let path = folder.join(name);
        let checked = compare(&path, pieces, kept)?;
        files.insert(path, checked);
    }
    Ok(Some(Signed { files, by: BTreeSet::from([by]) }))
}

/// A model that is one file, and what that refers to, against the signature beside it; nothing else there is looked at.
///
/// # Errors
/// When there is none, or a file is not as it was signed.
pub(crate) fn check_file(file: &Path, trust: &Trust, kept: Kept) -> Result<Signed, RepositoryError> {
    let folder = file.parent().unwrap_or(Path::new(""));
    let Some((statement, by)) = read(folder, trust)? else { return Err(unsigned(&folder.join(SIGNATURE))) };
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let mut files = BTreeMap::new();
    let mut take = |path: PathBuf, pieces: Option<&[Piece]>| {
        let pieces = pieces.ok_or_else(|| refused(&path, "this file is not in the signature"))?;
        let checked = compare(&path, pieces, kept)?;
        files.insert(path, checked);
        Ok(())
    };
    take(file.to_owned(), statement.pieces(&name))?;
    for location in external(file)? {
        let pieces = Some(()).filter(|()| !statement.is_of_one_file()).and_then(|()| statement.pieces(&location));
        take(folder.join(&location), pieces)?;
    }
    Ok(Signed { files, by: BTreeSet::from([by]) })
}

/// The external data of a model, which must lie beside it.
fn external(model: &Path) -> Result<BTreeSet<String>, RepositoryError> {
    let locations = external_data(model).map_err(|error| {
        // A backend may understand what is not understood here, and then read files that were not signed.
        refused(model, format!("which files it refers to cannot be told: {error}"))
    })?;
    match locations.iter().find(|location| !is_inside(location)) {
        Some(outside) => Err(refused(model, format!("it refers to '{outside}', which is not in the model's folder"))),
        None => Ok(locations),
    }
}

/// The files of a folder that the signature does not leave out.
fn walk(
    folder: &Path,
    place: &str,
    statement: &Statement,
    found: &mut BTreeSet<String>,
    depth: usize,
) -> Result<(), RepositoryError> {
    let here = folder.join(place);
    if depth > MAX_DEPTH || found.len() > MAX_LISTED {
        return Err(refused(&here, format!("more than {MAX_LISTED} files, or folders deeper than {MAX_DEPTH}")));
    }
    let unreadable = |reason| RepositoryError::Unreadable { path: here.clone(), reason };
    for entry in fs::read_dir(&here).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        let path = entry.path();
        let own = entry.file_name();
        let own = own.to_str().ok_or_else(|| refused(&path, "its name is not UTF-8, so no signature could list it"))?;
        let name = below(place, own);
        if name == SIGNATURE || (!statement.lists(&name) && statement.ignores(&name)) {
            continue;
        }
        let mut kind = entry.file_type().map_err(unreadable)?;
        if kind.is_symlink() {
            if !statement.symlinks {
                return Err(refused(&path, "a symbolic link, which the signer did not allow"));
            }
            kind = fs::metadata(&path)
                .map_err(|reason| RepositoryError::Unreadable { path: path.clone(), reason })?
                .file_type();
            if kind.is_dir() {
                return Err(refused(&path, "a symbolic link to a folder, which a signature does not cover"));
            }
        }
        if kind.is_dir() {
            walk(folder, &name, statement, found, depth + 1)?;
        } else if kind.is_file() {
            found.insert(name);
        } else {
            return Err(refused(&path, "neither a file nor a folder"));
        }
    }
    Ok(())
}

/// Reads a file and compares it with what was signed; its SHA-256 is known where it was signed in one piece.
fn compare(path: &Path, pieces: &[Piece], kept: Kept) -> Result<Checked, RepositoryError> {
    let unreadable = |reason| RepositoryError::Unreadable { path: path.to_owned(), reason };
    let state = kept.state(path).map_err(unreadable)?;
    let mut file = files::open(path).map_err(unreadable)?;
    for piece in pieces {
        file.seek(SeekFrom::Start(piece.start)).map_err(unreadable)?;
        let length = piece.end.map_or(u64::MAX, |end| end - piece.start);
        let (found, read) = digest((&file).take(length)).map_err(unreadable)?;
        if found == piece.sha256 && piece.end.is_none_or(|_| read == length) {
            continue;
        }
        let part = piece.end.map(|end| format!(" from byte {} to {end}", piece.start)).unwrap_or_default();
        return Err(refused(path, format!("its sha256{part} is {found}, the signature says {}", piece.sha256)));
    }
    if let Some(end) = pieces.last().and_then(|piece| piece.end)
        && file.metadata().map_err(unreadable)?.len() != end
    {
        return Err(refused(path, format!("it is longer than the {end} bytes that were signed")));
    }
    let digest = pieces.first().filter(|piece| piece.end.is_none()).map(|piece| piece.sha256.clone());
    Ok(Checked { digest, state, kept })
}

fn digest(mut reader: impl Read) -> io::Result<(String, u64)> {
    let mut hasher = Algorithm::Sha256.hasher(0);
    let mut piece = vec![0; PIECE];
    let mut total = 0;
    loop {
        match reader.read(&mut piece)? {
            0 => return Ok((hasher.finish(), total)),
            read => {
                hasher.update(&piece[..read]);
                total += read as u64;
            }
        }
    }
}

fn refused(path: &Path, reason: impl Into<String>) -> RepositoryError {
    RepositoryError::Signature { path: path.to_owned(), reason: reason.into() }
}
