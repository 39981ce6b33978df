//! Signatures of models in the format of OpenSSF Model Signing: who is believed, and that a model is what they signed.
//!
//! `model.sig` is a Sigstore bundle (<https://github.com/sigstore/protobuf-specs>) around a DSSE envelope
//! (<https://github.com/secure-systems-lab/dsse/blob/v1.0.0/protocol.md>) around an in-toto statement
//! (<https://github.com/in-toto/attestation/tree/main/spec/v1>), whose predicate lists the model's files with their
//! digests (<https://github.com/sigstore/model-transparency>, version 1.0 of the predicate).

mod bundle;
mod certificate;
mod files;
mod policy;
mod statement;
mod trust;

use std::path::Path;

pub use files::Signed;
pub(crate) use files::{Kept, check_file, check_folder};
pub use policy::SignaturePolicy;
pub(crate) use statement::Statement;
pub use trust::Trust;

use crate::error::RepositoryError;

/// The name of the signature in a model's folder, as the signing tool's default has it.
pub(crate) const SIGNATURE: &str = "model.sig";
/// The largest signature that is read: some 40,000 files.
pub(crate) const MAX_SIGNATURE: u64 = 8 << 20;

/// What a signature says, when somebody who is believed made it; and who that is.
///
/// # Errors
/// In one line, why it is not believed.
pub(crate) fn statement(text: &[u8], trust: &Trust) -> Result<(Statement, String), String> {
    let envelope = bundle::Envelope::parse(text)?;
    // Nothing of what was signed is looked at before it is known who signed it.
    let by = trust.check(&envelope)?;
    Ok((Statement::parse(envelope.payload())?, by))
}

/// What a policy wants is not there.
pub(crate) fn unsigned(signature: &Path) -> RepositoryError {
    let reason = "no such file, but a signature of this model is demanded".to_owned();
    RepositoryError::Signature { path: signature.to_owned(), reason }
}

#[cfg(test)]
mod tests;
