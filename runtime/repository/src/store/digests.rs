//! The checksums that stores state of their objects, and how they are computed.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::HeaderMap;
use md5::{Digest as _, Md5};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

/// What a checksum is computed by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Algorithm {
    Crc32c,
    Md5,
    Sha256,
}

impl Algorithm {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Crc32c => "crc32c",
            Self::Md5 => "md5",
            Self::Sha256 => "sha256",
        }
    }

    /// Of a file's bytes in order.
    pub(crate) fn hasher(self) -> Hasher {
        match self {
            Self::Crc32c => Hasher::Crc32c(Box::new(crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32Iscsi))),
            Self::Md5 => Hasher::Md5(Md5::new()),
            Self::Sha256 => Hasher::Sha256(Sha256::new()),
        }
    }
}

/// A checksum in the making.
pub(crate) enum Hasher {
    Crc32c(Box<crc_fast::Digest>),
    Md5(Md5),
    Sha256(Sha256),
}

impl Hasher {
    pub(crate) fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Crc32c(hasher) => hasher.update(bytes),
            Self::Md5(hasher) => hasher.update(bytes),
            Self::Sha256(hasher) => hasher.update(bytes),
        }
    }

    /// In lower-case hexadecimal.
    pub(crate) fn finish(self) -> String {
        match self {
            Self::Crc32c(hasher) => format!("{:08x}", hasher.finalize()),
            Self::Md5(hasher) => hex(&hasher.finalize()),
            Self::Sha256(hasher) => hex(&hasher.finalize()),
        }
    }
}

/// Checksums by algorithm, in lower-case hexadecimal.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Digests(pub(crate) BTreeMap<Algorithm, String>);

impl Digests {
    /// What the headers of an answer say of the whole object.
    ///
    /// S3's `x-amz-checksum-*` of an object in several parts has a `-` and is of no use here; its ETag is the MD5 of an
    /// object that came in one part and is not encrypted with a key of one's own. Google's are in `x-goog-hash`.
    /// Azure's `Content-MD5` is that of the range where a range was asked for, so its own header counts.
    pub(crate) fn of_headers(headers: &HeaderMap, size: u64, is_s3: bool) -> Self {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let mut digests = Self::default();
        for value in headers.get_all("x-goog-hash").iter().filter_map(|value| value.to_str().ok()) {
            for (name, value) in value.split(',').filter_map(|item| item.trim().split_once('=')) {
                match name {
                    "crc32c" => digests.insert(Algorithm::Crc32c, value),
                    "md5" => digests.insert(Algorithm::Md5, value),
                    _ => {}
                }
            }
        }
        if let Some(value) = text("x-amz-checksum-crc32c") {
            digests.insert(Algorithm::Crc32c, value);
        }
        if let Some(value) = text("x-amz-checksum-sha256") {
            digests.insert(Algorithm::Sha256, value);
        }
        if let Some(value) = text("x-ms-blob-content-md5") {
            digests.insert(Algorithm::Md5, value);
        }
        let own_key = text("x-amz-server-side-encryption").is_some_and(|kind| kind != "AES256")
            || headers.contains_key("x-amz-server-side-encryption-customer-algorithm");
        if let Some(etag) = text("etag").filter(|_| is_s3 && !own_key && size > 0) {
            digests.md5_of_etag(etag);
        }
        digests
    }

    /// An ETag that has the form of an MD5.
    pub(crate) fn md5_of_etag(&mut self, etag: &str) {
        let etag = etag.trim_matches('"');
        if etag.len() == 32 && etag.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            self.0.insert(Algorithm::Md5, etag.to_ascii_lowercase());
        }
    }

    /// One given in base64; of another length than the algorithm's it is not of the whole object.
    fn insert(&mut self, algorithm: Algorithm, base64: &str) {
        let length = match algorithm {
            Algorithm::Crc32c => 4,
            Algorithm::Md5 => 16,
            Algorithm::Sha256 => 32,
        };
        if let Ok(bytes) = BASE64_STANDARD.decode(base64)
            && bytes.len() == length
        {
            self.0.insert(algorithm, hex(&bytes));
        }
    }

    /// The first that differs, where both know it: `(algorithm, of self, of other)`.
    pub(crate) fn conflict<'a>(&'a self, other: &'a Self) -> Option<(Algorithm, &'a str, &'a str)> {
        self.0.iter().find_map(|(algorithm, own)| {
            let theirs = other.0.get(algorithm)?;
            (!own.eq_ignore_ascii_case(theirs)).then_some((*algorithm, own.as_str(), theirs.as_str()))
        })
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(is_s3: bool, all: &[(&'static str, &str)]) -> BTreeMap<Algorithm, String> {
        let headers =
            all.iter().map(|(name, value)| (http::HeaderName::from_static(name), value.parse().expect("valid")));
        Digests::of_headers(&headers.collect(), 3, is_s3).0
    }

    #[test]
    fn hashers_agree_with_published_values() {
        // RFC 3720 B.4, RFC 1321 A.5, FIPS 180-2 B.1.
        for (algorithm, content, expected) in [
            (Algorithm::Crc32c, &[0; 32][..], "8a9136aa"),
            (Algorithm::Md5, b"abc", "900150983cd24fb0d6963f7d28e17f72"),
            (Algorithm::Sha256, b"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
        ] {
            let mut hasher = algorithm.hasher();
            let (front, back) = content.split_at(content.len() / 2);
            hasher.update(front);
            hasher.update(back);
            assert_eq!(hasher.finish(), expected);
        }
    }

    #[test]
    fn each_provider_s_checksums_are_read() {
        let md5 = "900150983cd24fb0d6963f7d28e17f72";
        let google = of(false, &[("x-goog-hash", "crc32c=AAAAAA==,md5=kAFQmDzST7DWlj99KOF/cg=="), ("etag", md5)]);
        assert_eq!(google, BTreeMap::from([(Algorithm::Crc32c, "00000000".into()), (Algorithm::Md5, md5.into())]));
        assert_eq!(of(false, &[("x-ms-blob-content-md5", "kAFQmDzST7DWlj99KOF/cg==")])[&Algorithm::Md5], md5);
        let s3 = |more: &[(&'static str, &str)]| {
            let etag = format!("\"{md5}\"");
            of(true, &[&[("etag", etag.as_str())], more].concat())
        };
        assert_eq!(s3(&[])[&Algorithm::Md5], md5);
        assert!(s3(&[("x-amz-server-side-encryption", "aws:kms")]).is_empty());
        assert!(of(true, &[("etag", "\"900150983cd24fb0d6963f7d28e17f72-2\"")]).is_empty());
        // Of a composite object.
        assert!(of(false, &[("x-amz-checksum-sha256", "AAAA-3")]).is_empty());
        // nginx has ETags too.
        assert!(of(false, &[("etag", "\"65f-1a\"")]).is_empty());
    }
}
