//! The file form of a compiled component: a header that is verified before any of it is believed, then machine code.
//!
//! The digests show that nothing was damaged and that the code belongs to this component and this engine. They do not
//! show who wrote the file: that is for the folder's owner and mode to say, see [`crate::cache`].

use sha2::{Digest as _, Sha256};
use wasmtime::Engine;
use wasmtime::component::Component;

const MAGIC: [u8; 8] = *b"corymbwa";
const FORMAT: u32 = 1;
const DIGEST: usize = 32;
const HEADER: usize = MAGIC.len() + size_of::<u32>() + 3 * DIGEST;

/// SHA-256.
pub(crate) type Sha = [u8; DIGEST];

pub(crate) fn sha256(bytes: &[u8]) -> Sha {
    Sha256::digest(bytes).into()
}

/// Lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Why a file is not the compiled form that is looked for.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Mismatch {
    #[error("it is not a compiled plugin")]
    Magic,
    #[error("it has format {0}; {FORMAT} is expected")]
    Format(u32),
    #[error("it was compiled from another component")]
    Component,
    #[error("it was compiled by another version, or for other settings or another processor")]
    Engine,
    #[error("its content does not match its checksum")]
    Damaged,
}

/// Header and code in one.
pub(crate) fn encode(component: &Sha, compatibility: &Sha, code: &[u8]) -> Vec<u8> {
    let mut file = Vec::with_capacity(HEADER + code.len());
    file.extend_from_slice(&MAGIC);
    file.extend_from_slice(&FORMAT.to_le_bytes());
    file.extend_from_slice(component);
    file.extend_from_slice(compatibility);
    file.extend_from_slice(&sha256(code));
    file.extend_from_slice(code);
    file
}

/// The code of a file whose every claim holds: made from `component`, for one of the engines in `compatible`.
pub(crate) fn verify<'a>(file: &'a [u8], component: &Sha, compatible: &[Sha]) -> Result<&'a [u8], Mismatch> {
    let rest = file.strip_prefix(&MAGIC).ok_or(Mismatch::Magic)?;
    let (format, rest) = rest.split_first_chunk::<4>().ok_or(Mismatch::Damaged)?;
    let format = u32::from_le_bytes(*format);
    if format != FORMAT {
        return Err(Mismatch::Format(format));
    }
    let (of, rest) = rest.split_first_chunk::<DIGEST>().ok_or(Mismatch::Damaged)?;
    let (engine, rest) = rest.split_first_chunk::<DIGEST>().ok_or(Mismatch::Damaged)?;
    let (digest, code) = rest.split_first_chunk::<DIGEST>().ok_or(Mismatch::Damaged)?;
    if of != component {
        return Err(Mismatch::Component);
    }
    if !compatible.contains(engine) {
        return Err(Mismatch::Engine);
    }
    if sha256(code) != *digest {
        return Err(Mismatch::Damaged);
    }
    Ok(code)
}

/// Makes code runnable that [`verify`] has let through.
///
/// The caller vouches for where the file came from: only root, or this user in a folder that nobody else can write.
#[allow(unsafe_code, reason = "wasmtime cannot check machine code, so it asks for a promise about its origin")]
pub(crate) fn load(engine: &Engine, code: &[u8]) -> wasmtime::Result<Component> {
    // SAFETY: the bytes are exactly what an engine of the same version and settings serialized (compatibility hash and
    // checksum in the header), read from a file that only root or this user can write.
    unsafe { Component::deserialize(engine, code) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_claim_of_the_header_is_checked() {
        let (component, engine) = (sha256(b"component"), sha256(b"engine"));
        let file = encode(&component, &engine, b"code");
        assert_eq!(verify(&file, &component, &[engine]), Ok(&b"code"[..]));
        assert_eq!(verify(&file, &sha256(b"other"), &[engine]), Err(Mismatch::Component));
        assert_eq!(verify(&file, &component, &[sha256(b"other")]), Err(Mismatch::Engine));
        assert_eq!(verify(&file[1..], &component, &[engine]), Err(Mismatch::Magic));
        for len in MAGIC.len()..file.len() {
            assert_eq!(verify(&file[..len], &component, &[engine]), Err(Mismatch::Damaged));
        }
        for index in 0..file.len() {
            let mut tampered = file.clone();
            tampered[index] ^= 1;
            assert!(verify(&tampered, &component, &[engine]).is_err(), "byte {index}");
        }
    }
}
