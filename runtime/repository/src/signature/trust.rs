//! Whom to believe: public keys, and the root certificates of signers.

use std::path::Path;

use corymb_core::files;
use rustls_pki_types::pem::{PemObject as _, SectionKind};
use rustls_pki_types::{CertificateDer, SignatureVerificationAlgorithm, SubjectPublicKeyInfoDer, UnixTime};
use webpki::ring::{ECDSA_P256_SHA256, ECDSA_P384_SHA384};
use webpki::{ALL_VERIFICATION_ALGS, EndEntityCert, Error, KeyUsage, RawPublicKeyEntity, anchor_from_trusted_cert};

use crate::error::RepositoryError;
use crate::signature::bundle::{Envelope, Signer};
use crate::signature::certificate::usage;
use crate::store::Algorithm;

/// The largest file of keys that is read.
const MAX_KEYS: u64 = 1 << 20;
/// id-kp-codeSigning, 1.3.6.1.5.5.7.3.3, without tag and length.
const CODE_SIGNING: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x03];

/// Curves, each with the hash that Sigstore's specification pairs it with.
const ALGORITHMS: [&dyn SignatureVerificationAlgorithm; 2] = [ECDSA_P256_SHA256, ECDSA_P384_SHA384];
/// How a `SubjectPublicKeyInfo` of each begins (RFC 5480): algorithm, curve, and a point that is not compressed.
const P256: &[u8] = &[
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce,
    0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00, 0x04,
];
const P384: &[u8] = &[
    0x30, 0x76, 0x30, 0x10, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x05, 0x2b, 0x81, 0x04, 0x00,
    0x22, 0x03, 0x62, 0x00, 0x04,
];

/// Public keys and root certificates: a model is believed when any of them stands behind its signature.
#[derive(Clone, Debug, Default)]
pub struct Trust {
    keys: Vec<SubjectPublicKeyInfoDer<'static>>,
    roots: Vec<CertificateDer<'static>>,
}

impl Trust {
    /// Of a PEM file: one or more public keys (ECDSA P-256 or P-384) and certificates.
    ///
    /// # Errors
    /// When it cannot be read, or holds none or something else.
    pub fn read(path: &Path) -> Result<Self, RepositoryError> {
        let text = files::read(path, MAX_KEYS);
        let text = text.map_err(|reason| RepositoryError::Unreadable { path: path.to_owned(), reason })?;
        Self::parse(&text).map_err(|reason| RepositoryError::Signature { path: path.to_owned(), reason })
    }

    pub(super) fn parse(text: &[u8]) -> Result<Self, String> {
        let mut trust = Self::default();
        for section in <(SectionKind, Vec<u8>)>::pem_slice_iter(text) {
            let (kind, content) = section.map_err(|error| format!("not PEM: {error:?}"))?;
            match kind {
                SectionKind::PublicKey if [P256, P384].iter().any(|curve| content.starts_with(curve)) => {
                    trust.keys.push(content.into());
                }
                SectionKind::PublicKey => {
                    return Err("a public key of another kind than ECDSA P-256 and P-384, which alone are understood"
                        .to_owned());
                }
                SectionKind::Certificate => {
                    let certificate = CertificateDer::from(content);
                    anchor_from_trusted_cert(&certificate)
                        .map_err(|error| format!("a certificate that cannot be a root: {error}"))?;
                    trust.roots.push(certificate);
                }
                SectionKind::PrivateKey | SectionKind::RsaPrivateKey | SectionKind::EcPrivateKey => {
                    return Err("a private key, which belongs to the signer alone; give the public key".to_owned());
                }
                _ => return Err(format!("{kind:?}; expected public keys and certificates")),
            }
        }
        match trust.keys.is_empty() && trust.roots.is_empty() {
            true => Err("neither a public key nor a certificate in PEM".to_owned()),
            false => Ok(trust),
        }
    }

    /// These and those of `other`.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.keys.extend(other.keys);
        self.roots.extend(other.roots);
        self
    }

    /// Who signed, if it is somebody who is believed.
    pub(super) fn check(&self, envelope: &Envelope) -> Result<String, String> {
        match &envelope.signer {
            Signer::Key if self.keys.is_empty() => {
                Err("signed with a key, but only certificates are trusted; give the signer's public key".to_owned())
            }
            Signer::Key => self.check_key(envelope),
            Signer::Certificates(_) if self.roots.is_empty() => {
                Err("signed by a certificate, but only keys are trusted; give the root certificate".to_owned())
            }
            Signer::Certificates(chain) => self.check_certificates(envelope, chain, UnixTime::now()),
        }
    }

    fn check_key(&self, envelope: &Envelope) -> Result<String, String> {
        let signed = envelope.encoded();
        for key in &self.keys {
            let public = RawPublicKeyEntity::try_from(key).map_err(|error| format!("the trusted key: {error}"))?;
            let verifies = |algorithm| public.verify_signature(algorithm, &signed, &envelope.signature).is_ok();
            if ALGORITHMS.into_iter().any(verifies) {
                return Ok(format!("the key sha256:{}", sha256(key)));
            }
        }
        Err("not signed by a trusted key, or changed since".to_owned())
    }

    fn check_certificates(
        &self,
        envelope: &Envelope,
        chain: &[CertificateDer<'static>],
        now: UnixTime,
    ) -> Result<String, String> {
        let Some((own, others)) = chain.split_first() else { return Err("no certificate".to_owned()) };
        let certificate = EndEntityCert::try_from(own).map_err(|error| in_words(&error))?;
        // Something must say that the key may sign at all; where purposes are named, this must be among them.
        let usage = usage(own)?;
        if !usage.digital_signature.unwrap_or(usage.has_purposes) {
            return Err("the signer's certificate does not allow signing: it has neither digitalSignature nor \
                        codeSigning"
                .to_owned());
        }
        let purpose = KeyUsage::required_if_present(CODE_SIGNING);
        let roots = self.roots.iter().map(anchor_from_trusted_cert).collect::<Result<Vec<_>, _>>();
        let roots = roots.map_err(|error| in_words(&error))?;
        // The signature does not say when it was made, in a way that could be believed: now is what counts.
        certificate
            .verify_for_usage(ALL_VERIFICATION_ALGS, &roots, others, now, purpose, None, None)
            .map_err(|error| in_words(&error))?;
        let signed = envelope.encoded();
        let verifies = |algorithm| certificate.verify_signature(algorithm, &signed, &envelope.signature).is_ok();
        match ALGORITHMS.into_iter().any(verifies) {
            true => Ok(format!("the certificate sha256:{}", sha256(own))),
            false => Err("not signed with the key of its certificate, or changed since".to_owned()),
        }
    }
}

/// What is wrong with a chain of certificates.
fn in_words(error: &Error) -> String {
    let date = |time: &UnixTime| {
        let since = std::time::Duration::from_secs(time.as_secs());
        humantime::format_rfc3339_seconds(std::time::UNIX_EPOCH + since)
    };
    match error {
        Error::CertExpired { not_after, .. } => {
            format!("a certificate of the signer's chain expired on {}", date(not_after))
        }
        Error::CertNotValidYet { not_before, .. } => {
            format!("a certificate of the signer's chain is not valid before {}", date(not_before))
        }
        Error::UnknownIssuer => "the signer's certificate does not descend from a trusted root".to_owned(),
        Error::RequiredEkuNotFoundContext(_) => {
            "the signer's certificate is for other purposes than codeSigning".to_owned()
        }
        Error::CaUsedAsEndEntity => "the signer's certificate is that of an authority".to_owned(),
        other => format!("the signer's certificate: {other:?}").chars().take(300).collect(),
    }
}

fn sha256(bytes: &[u8]) -> String {
    let mut hasher = Algorithm::Sha256.hasher(0);
    hasher.update(bytes);
    hasher.finish()
}
