//! The envelope in a Sigstore bundle, and what the bundle says of the signer.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls_pki_types::CertificateDer;
use serde::Deserialize;
use serde::de::IgnoredAny;

/// Of the bundle that the signing tool writes; those before it had other fields.
const MEDIA_TYPE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";
const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";
/// Certificates from the signer's to the root's: more is no chain.
const MAX_CHAIN: usize = 16;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Bundle {
    media_type: String,
    verification_material: Material,
    dsse_envelope: Option<Dsse>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Material {
    public_key: Option<IgnoredAny>,
    x509_certificate_chain: Option<Chain>,
    /// Of a signer without a key of their own, made for this signature.
    certificate: Option<IgnoredAny>,
    tlog_entries: Option<Vec<IgnoredAny>>,
}

#[derive(Deserialize)]
struct Chain {
    certificates: Vec<Certificate>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Certificate {
    raw_bytes: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Dsse {
    payload: String,
    payload_type: String,
    signatures: Vec<Signature>,
}

#[derive(Deserialize)]
struct Signature {
    sig: String,
}

/// Who is said to have signed.
#[derive(Debug)]
pub(super) enum Signer {
    /// The bundle holds at most a hint of which.
    Key,
    /// Theirs first, each signed by the next.
    Certificates(Vec<CertificateDer<'static>>),
}

/// A payload and its signature: nothing of it is known to be true.
#[derive(Debug)]
pub(super) struct Envelope {
    pub(super) signer: Signer,
    pub(super) signature: Vec<u8>,
    payload: Vec<u8>,
}

impl Envelope {
    pub(super) fn parse(text: &[u8]) -> Result<Self, String> {
        let bundle: Bundle =
            serde_json::from_slice(text).map_err(|error| format!("not a Sigstore bundle: {}", one_line(&error)))?;
        let material = bundle.verification_material;
        if material.certificate.is_some() || material.tlog_entries.is_some_and(|entries| !entries.is_empty()) {
            return Err("a keyless signature, which is verified with Sigstore's own services and an identity; \
                        sign with a key or a certificate instead, and give the public key or the root certificate"
                .to_owned());
        }
        if bundle.media_type != MEDIA_TYPE {
            return Err(format!("a bundle of type '{}'; expected {MEDIA_TYPE}", bundle.media_type));
        }
        let signer = match (material.public_key, material.x509_certificate_chain) {
            (Some(_), None) => Signer::Key,
            (None, Some(chain)) => Signer::Certificates(certificates(chain)?),
            _ => return Err("the bundle must name either a public key or a chain of certificates".to_owned()),
        };
        let dsse = bundle.dsse_envelope.ok_or("the bundle has no DSSE envelope")?;
        if dsse.payload_type != PAYLOAD_TYPE {
            return Err(format!("what was signed is of type '{}'; expected {PAYLOAD_TYPE}", dsse.payload_type));
        }
        // A Sigstore bundle has exactly one; several would raise the question which of them counts.
        let [signature] = dsse.signatures.as_slice() else {
            return Err(format!("the envelope has {} signatures; expected one", dsse.signatures.len()));
        };
        Ok(Self { signer, signature: decoded("sig", &signature.sig)?, payload: decoded("payload", &dsse.payload)? })
    }

    /// The in-toto statement.
    pub(super) fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// What is signed: DSSE's "pre-authentication encoding" of type and payload.
    pub(super) fn encoded(&self) -> Vec<u8> {
        let head = format!("DSSEv1 {} {PAYLOAD_TYPE} {} ", PAYLOAD_TYPE.len(), self.payload.len());
        [head.as_bytes(), &self.payload].concat()
    }
}

fn certificates(chain: Chain) -> Result<Vec<CertificateDer<'static>>, String> {
    let count = chain.certificates.len();
    if count == 0 || count > MAX_CHAIN {
        return Err(format!("a chain of {count} certificates; expected 1 to {MAX_CHAIN}"));
    }
    let decode = |certificate: Certificate| Ok(decoded("rawBytes", &certificate.raw_bytes)?.into());
    chain.certificates.into_iter().map(decode).collect()
}

fn decoded(field: &str, text: &str) -> Result<Vec<u8>, String> {
    STANDARD.decode(text).map_err(|_| format!("`{field}` is not base64"))
}

/// An error of JSON, which may quote what it did not expect.
pub(super) fn one_line(error: &serde_json::Error) -> String {
    error.to_string().replace(['\n', '\r'], " ").chars().take(200).collect()
}
