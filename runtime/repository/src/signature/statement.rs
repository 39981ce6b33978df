//! What was signed: the files of a model, their digests, and what was left out.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;

use crate::shape::is_inside;
use crate::signature::bundle::one_line;
use crate::store::{Algorithm, MAX_LISTED};

const STATEMENT: &str = "https://in-toto.io/Statement/v1";
const PREDICATE: &str = "https://model_signing/signature/v1.0";
/// Of tools before version 1.0, whose envelopes were encoded wrongly as well.
const OLD_PREDICATE: &str = "https://model_signing/Digests/v0.1";
/// The name of a file that was signed alone.
const ALONE: &str = ".";
/// The longest name.
const MAX_NAME: usize = 4096;

#[derive(Deserialize)]
struct InToto {
    #[serde(rename = "_type")]
    kind: String,
    #[serde(rename = "predicateType")]
    predicate_type: String,
    subject: Vec<Subject>,
    predicate: serde_json::Value,
}

#[derive(Deserialize)]
struct Subject {
    digest: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Predicate {
    serialization: Serialization,
    resources: Vec<Resource>,
}

#[derive(Deserialize)]
struct Serialization {
    method: String,
    hash_type: String,
    #[serde(default)]
    allow_symlinks: bool,
    #[serde(default)]
    ignore_paths: Vec<String>,
}

#[derive(Deserialize)]
struct Resource {
    name: String,
    algorithm: String,
    digest: String,
}

/// A part of a file with its SHA-256 in lower-case hexadecimal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) start: u64,
    /// None for the end of the file, wherever that is.
    pub(super) end: Option<u64>,
    pub(super) sha256: String,
}

/// The files of a signed model.
#[derive(Debug)]
pub(crate) struct Statement {
    /// By path relative to the model's folder; in pieces from the first byte to the last.
    files: BTreeMap<String, Vec<Piece>>,
    /// Of a file that was signed alone, whatever it is called.
    alone: bool,
    ignored: Vec<String>,
    /// Whether the signer took links for what they lead to.
    pub(super) symlinks: bool,
}

impl Statement {
    pub(super) fn parse(payload: &[u8]) -> Result<Self, String> {
        let wrong = |error: serde_json::Error| format!("what was signed is no statement: {}", one_line(&error));
        let statement: InToto = serde_json::from_slice(payload).map_err(wrong)?;
        if statement.kind != STATEMENT {
            return Err(format!("what was signed is of type '{}'; expected {STATEMENT}", statement.kind));
        }
        match statement.predicate_type.as_str() {
            PREDICATE => {}
            OLD_PREDICATE => {
                return Err("signed by a tool before version 1.0 of Model Signing; sign it anew".to_owned());
            }
            other => return Err(format!("what was signed is a predicate '{other}'; expected {PREDICATE}")),
        }
        let predicate: Predicate = serde_json::from_value(statement.predicate).map_err(wrong)?;
        let how = predicate.serialization;
        if how.hash_type != "sha256" {
            return Err(format!("its digests are '{}'; only sha256 is understood", how.hash_type));
        }
        let sharded = match how.method.as_str() {
            "files" => false,
            "shards" => true,
            other => return Err(format!("its files were serialized as '{other}'; expected files or shards")),
        };
        if predicate.resources.is_empty() || predicate.resources.len() > MAX_LISTED {
            return Err(format!("it lists {} files; expected 1 to {MAX_LISTED}", predicate.resources.len()));
        }
        check_subject(&statement.subject, &predicate.resources)?;
        let alone = !sharded && matches!(predicate.resources.as_slice(), [only] if only.name == ALONE);
        let mut files: BTreeMap<String, Vec<Piece>> = BTreeMap::new();
        for resource in predicate.resources {
            let (name, piece) = resource.piece(sharded)?;
            if !alone && !is_plain(&name) {
                return Err(format!("it lists '{name}', which is no path in the model's folder"));
            }
            let pieces = files.entry(name.clone()).or_default();
            if !sharded && !pieces.is_empty() {
                return Err(format!("it lists '{name}' twice"));
            }
            pieces.push(piece);
        }
        if sharded {
            for (name, pieces) in &mut files {
                pieces.sort_by_key(|piece| piece.start);
                let ends = pieces.iter().map(|piece| piece.end.unwrap_or_default());
                let starts = std::iter::once(0).chain(ends);
                if !pieces.iter().zip(starts).all(|(piece, start)| piece.start == start && piece.end > Some(start)) {
                    return Err(format!("the pieces of '{name}' that it lists do not join"));
                }
            }
        }
        Ok(Self { files, alone, ignored: how.ignore_paths, symlinks: how.allow_symlinks })
    }

    /// Paths of the files that were signed, relative to the model's folder.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.files.keys().map(String::as_str).filter(|_| !self.alone)
    }

    pub(super) fn files(&self) -> &BTreeMap<String, Vec<Piece>> {
        &self.files
    }

    /// The pieces of a file; of one that was signed alone under any name.
    pub(super) fn pieces(&self, name: &str) -> Option<&[Piece]> {
        let name = if self.alone { ALONE } else { name };
        self.files.get(name).map(Vec::as_slice)
    }

    /// Whether it is of a file that was signed alone.
    pub(crate) fn is_of_one_file(&self) -> bool {
        self.alone
    }

    pub(crate) fn lists(&self, name: &str) -> bool {
        !self.alone && self.files.contains_key(name)
    }

    /// Whether the signer left it out, or a folder that it lies in.
    pub(crate) fn ignores(&self, name: &str) -> bool {
        self.ignored.iter().any(|ignored| !ignored.is_empty() && Path::new(name).starts_with(ignored))
    }
}

impl Resource {
    /// Of a shard the name is `PATH:START:END` and the algorithm `sha256-sharded-SIZE`.
    fn piece(self, sharded: bool) -> Result<(String, Piece), String> {
        let hexadecimal = self.digest.len() == 64 && self.digest.bytes().all(|byte| byte.is_ascii_hexdigit());
        let sha256 = self.digest.to_ascii_lowercase();
        let algorithm =
            if sharded { self.algorithm.starts_with("sha256-sharded-") } else { self.algorithm == "sha256" };
        if self.name.len() > MAX_NAME || !algorithm || !hexadecimal {
            let name: String = self.name.chars().take(100).collect();
            return Err(format!("it lists '{name}' without a sha256 that could be understood"));
        }
        if !sharded {
            return Ok((self.name, Piece { start: 0, end: None, sha256 }));
        }
        let parts = || {
            let (rest, end) = self.name.rsplit_once(':')?;
            let (path, start) = rest.rsplit_once(':')?;
            Some((path.to_owned(), Piece { start: start.parse().ok()?, end: Some(end.parse().ok()?), sha256 }))
        };
        parts().ok_or_else(|| format!("it lists '{}', which is no piece of a file", self.name))
    }
}

/// The subject is the digest of all digests, in the order of the list.
fn check_subject(subjects: &[Subject], resources: &[Resource]) -> Result<(), String> {
    let [subject] = subjects else { return Err(format!("it is of {} subjects; expected one", subjects.len())) };
    let mut hasher = Algorithm::Sha256.hasher(0);
    for resource in resources {
        hasher
            .update(&bytes(&resource.digest).ok_or_else(|| format!("the digest of '{}' is no digest", resource.name))?);
    }
    match subject.digest.get("sha256") == Some(&hasher.finish()) {
        true => Ok(()),
        false => Err("its list of files is not the one that its subject is the digest of".to_owned()),
    }
}

fn bytes(hexadecimal: &str) -> Option<Vec<u8>> {
    let digits = hexadecimal.bytes().map(|byte| char::from(byte).to_digit(16)).collect::<Option<Vec<_>>>()?;
    let (pairs, rest) = digits.as_chunks::<2>();
    rest.is_empty().then(|| pairs.iter().map(|[high, low]| (high << 4 | low) as u8).collect())
}

/// A path that leads nowhere else, written in the one way in which it is compared.
fn is_plain(name: &str) -> bool {
    is_inside(name)
        && !name.contains(['\\', '\0'])
        && name.split('/').all(|part| !part.is_empty() && part != "." && part != "..")
}
