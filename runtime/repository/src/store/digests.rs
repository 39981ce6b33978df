//! The checksums that stores state of their objects, and how they are computed.

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use crc_fast::CrcAlgorithm;
use http::HeaderMap;
use md5::{Digest as _, Md5};
use serde::{Deserialize, Serialize};
use sha1::Sha1;
use sha2::{Sha256, Sha512};

/// What a checksum is computed by. The cheaper come first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Algorithm {
    Crc64Nvme,
    Crc32c,
    Crc32,
    Sha256,
    Sha512,
    Sha1,
    /// Git's object id of a file: the SHA-1 of `blob SIZE`, a zero byte and the content.
    GitBlob,
    Md5,
}

impl Algorithm {
    const ALL: [Self; 8] =
        [Self::Crc64Nvme, Self::Crc32c, Self::Crc32, Self::Sha256, Self::Sha512, Self::Sha1, Self::GitBlob, Self::Md5];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Crc32 => "crc32",
            Self::Crc32c => "crc32c",
            Self::Crc64Nvme => "crc64nvme",
            Self::GitBlob => "git",
            Self::Md5 => "md5",
            Self::Sha1 => "sha1",
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        }
    }

    /// The bytes of a checksum.
    fn length(self) -> usize {
        match self {
            Self::Crc32 | Self::Crc32c => 4,
            Self::Crc64Nvme => 8,
            Self::Md5 => 16,
            Self::Sha1 | Self::GitBlob => 20,
            Self::Sha256 => 32,
            Self::Sha512 => 64,
        }
    }

    /// Of a file's bytes in order. Only Git's depends on how many they are.
    pub(crate) fn hasher(self, size: u64) -> Hasher {
        let crc = |algorithm| Hasher::Crc(Box::new(crc_fast::Digest::new(algorithm)), self.length());
        match self {
            Self::Crc32 => crc(CrcAlgorithm::Crc32IsoHdlc),
            Self::Crc32c => crc(CrcAlgorithm::Crc32Iscsi),
            Self::Crc64Nvme => crc(CrcAlgorithm::Crc64Nvme),
            Self::Md5 => Hasher::Md5(Md5::new()),
            Self::Sha1 => Hasher::Sha1(Sha1::new()),
            Self::GitBlob => Hasher::Sha1(Sha1::new_with_prefix(format!("blob {size}\0"))),
            Self::Sha256 => Hasher::Sha256(Sha256::new()),
            Self::Sha512 => Hasher::Sha512(Sha512::new()),
        }
    }
}

/// A checksum in the making.
pub(crate) enum Hasher {
    Crc(Box<crc_fast::Digest>, usize),
    Md5(Md5),
    Sha1(Sha1),
    Sha256(Sha256),
    Sha512(Sha512),
    Parts(Box<Parts>),
}

impl Hasher {
    pub(crate) fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Crc(hasher, _) => hasher.update(bytes),
            Self::Md5(hasher) => hasher.update(bytes),
            Self::Sha1(hasher) => hasher.update(bytes),
            Self::Sha256(hasher) => hasher.update(bytes),
            Self::Sha512(hasher) => hasher.update(bytes),
            Self::Parts(parts) => parts.update(bytes),
        }
    }

    /// In lower-case hexadecimal; of parts with their number behind a `-`.
    pub(crate) fn finish(self) -> String {
        match self {
            Self::Parts(parts) => parts.finish(),
            whole => hex(&whole.bytes()),
        }
    }

    /// Of parts it is that of the last.
    fn bytes(self) -> Vec<u8> {
        match self {
            Self::Crc(hasher, length) => hasher.finalize().to_be_bytes()[8 - length..].to_vec(),
            Self::Md5(hasher) => hasher.finalize().to_vec(),
            Self::Sha1(hasher) => hasher.finalize().to_vec(),
            Self::Sha256(hasher) => hasher.finalize().to_vec(),
            Self::Sha512(hasher) => hasher.finalize().to_vec(),
            Self::Parts(parts) => parts.present.bytes(),
        }
    }
}

/// The checksum of the checksums of parts that an object was uploaded in.
pub(crate) struct Parts {
    algorithm: Algorithm,
    /// Bytes of each part but the last, which may have fewer.
    size: u64,
    /// Bytes that the present one still takes.
    left: u64,
    present: Hasher,
    all: Hasher,
    count: u64,
}

impl Parts {
    fn new(algorithm: Algorithm, size: u64) -> Self {
        let [present, all] = [algorithm.hasher(size), algorithm.hasher(size)];
        Self { algorithm, size, left: size, present, all, count: 0 }
    }

    fn update(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.left == 0 {
                self.close();
            }
            let taken = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len());
            let (now, later) = bytes.split_at(taken);
            self.present.update(now);
            self.left -= taken as u64;
            bytes = later;
        }
    }

    /// Ends the present part.
    fn close(&mut self) {
        let done = std::mem::replace(&mut self.present, self.algorithm.hasher(self.size));
        self.all.update(&done.bytes());
        self.left = self.size;
        self.count += 1;
    }

    fn finish(mut self) -> String {
        self.close();
        format!("{}-{}", hex(&self.all.bytes()), self.count)
    }
}

/// A checksum that is stated or computed: of the whole content, or of its parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub(crate) struct Check {
    pub(crate) algorithm: Algorithm,
    /// Bytes of a part.
    pub(crate) part: Option<u64>,
}

impl Check {
    pub(crate) fn hasher(self, size: u64) -> Hasher {
        match self.part {
            Some(part) => Hasher::Parts(Box::new(Parts::new(self.algorithm, part.max(1)))),
            None => self.algorithm.hasher(size),
        }
    }
}

impl From<Algorithm> for Check {
    fn from(algorithm: Algorithm) -> Self {
        Self { algorithm, part: None }
    }
}

/// `md5`, or `md5 of parts` where it is of some.
impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.algorithm.name())?;
        if self.part.is_some() { f.write_str(" of parts") } else { Ok(()) }
    }
}

/// As records have it: `md5`, or `md5/8388608` of parts of so many bytes.
impl From<Check> for String {
    fn from(check: Check) -> Self {
        match check.part {
            Some(part) => format!("{}/{part}", check.algorithm.name()),
            None => check.algorithm.name().to_owned(),
        }
    }
}

impl TryFrom<String> for Check {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let (name, part) = text.split_once('/').map_or((text.as_str(), None), |(name, part)| (name, Some(part)));
        let algorithm = Algorithm::ALL.into_iter().find(|known| known.name() == name);
        let part = part.map(|part| part.parse().map_err(|_| format!("{part} are no bytes"))).transpose()?;
        Ok(Self { algorithm: algorithm.ok_or_else(|| format!("{name} is no checksum"))?, part })
    }
}

/// A checksum of the checksums of parts, as a store states it: which bytes the parts have it does not say there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Composite {
    pub(crate) algorithm: Algorithm,
    /// In lower-case hexadecimal, without the number of parts.
    pub(crate) value: String,
    pub(crate) count: u64,
}

impl Composite {
    /// With parts of `size` bytes.
    pub(crate) fn of_parts(&self, size: u64) -> (Check, String) {
        let check = Check { algorithm: self.algorithm, part: Some(size) };
        (check, format!("{}-{}", self.value, self.count))
    }
}

/// Checksums in lower-case hexadecimal.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Digests(pub(crate) BTreeMap<Check, String>);

/// S3's, by the ends of its headers' names.
const S3: [(&str, Algorithm); 5] = [
    ("x-amz-checksum-crc64nvme", Algorithm::Crc64Nvme),
    ("x-amz-checksum-crc32c", Algorithm::Crc32c),
    ("x-amz-checksum-crc32", Algorithm::Crc32),
    ("x-amz-checksum-sha256", Algorithm::Sha256),
    ("x-amz-checksum-sha1", Algorithm::Sha1),
];
/// Artifactory's, in hexadecimal.
const ARTIFACTORY: [(&str, Algorithm); 3] = [
    ("x-checksum-sha256", Algorithm::Sha256),
    ("x-checksum-sha1", Algorithm::Sha1),
    ("x-checksum-md5", Algorithm::Md5),
];

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

impl Digests {
    /// What the headers of an answer say of the whole object.
    ///
    /// S3 states a checksum where it is asked to; its ETag is the MD5 of an object that came in one part and is not
    /// encrypted with a key of one's own. Google's are in `x-goog-hash`. Azure's `Content-MD5` is that of the range where a
    /// range was asked for, so its own header counts. `Digest` (RFC 3230) and `Repr-Digest` (RFC 9530) are of the whole,
    /// whatever part is sent. An MD5 counts where there is nothing else: it is the slowest.
    pub(crate) fn of_headers(headers: &HeaderMap, size: u64, is_s3: bool) -> Self {
        let mut digests = Self::default();
        for value in headers.get_all("x-goog-hash").iter().filter_map(|value| value.to_str().ok()) {
            digests.named(value, |value| value);
        }
        for value in headers.get_all("digest").iter().filter_map(|value| value.to_str().ok()) {
            digests.named(value, |value| value);
        }
        for value in headers.get_all("repr-digest").iter().filter_map(|value| value.to_str().ok()) {
            // A byte sequence of RFC 8941 stands between colons.
            digests.named(value, |value| value.trim_matches(':'));
        }
        for (name, algorithm) in S3 {
            if let Some(value) = text(headers, name) {
                digests.insert(algorithm, value);
            }
        }
        for (name, algorithm) in ARTIFACTORY {
            let value = text(headers, name).filter(|value| is_hex(value, algorithm.length()));
            digests.0.extend(value.map(|value| (algorithm.into(), value.to_ascii_lowercase())));
        }
        if let Some(value) = text(headers, "x-ms-blob-content-md5") {
            digests.insert(Algorithm::Md5, value);
        }
        if let Some(etag) = text(headers, "etag").filter(|_| is_s3 && !has_own_key(headers) && size > 0) {
            digests.md5_of_etag(etag);
        }
        if digests.0.len() > 1 {
            digests.0.remove(&Algorithm::Md5.into());
        }
        digests
    }

    /// `NAME=BASE64` each, parted by commas.
    fn named(&mut self, value: &str, plain: impl Fn(&str) -> &str) {
        for (name, value) in value.split(',').filter_map(|item| item.trim().split_once('=')) {
            let algorithm = match name.trim().to_ascii_lowercase().as_str() {
                "crc32c" => Algorithm::Crc32c,
                "md5" => Algorithm::Md5,
                "sha" => Algorithm::Sha1,
                "sha-256" => Algorithm::Sha256,
                "sha-512" => Algorithm::Sha512,
                _ => continue,
            };
            self.insert(algorithm, plain(value.trim()));
        }
    }

    /// An ETag that has the form of an MD5.
    pub(crate) fn md5_of_etag(&mut self, etag: &str) {
        let etag = etag.trim_matches('"');
        if is_hex(etag, Algorithm::Md5.length()) {
            self.0.insert(Algorithm::Md5.into(), etag.to_ascii_lowercase());
        }
    }

    /// Git's id of a file, in a repository whose ids are SHA-1.
    pub(crate) fn git_blob(&mut self, id: &str) {
        if is_hex(id, Algorithm::GitBlob.length()) {
            self.0.insert(Algorithm::GitBlob.into(), id.to_ascii_lowercase());
        }
    }

    /// One given in base64; of another length than the algorithm's it is not of the whole object.
    fn insert(&mut self, algorithm: Algorithm, base64: &str) {
        if let Ok(bytes) = BASE64_STANDARD.decode(base64)
            && bytes.len() == algorithm.length()
        {
            self.0.insert(algorithm.into(), hex(&bytes));
        }
    }

    /// The first that differs, where both know it: `(check, of self, of other)`.
    pub(crate) fn conflict<'a>(&'a self, other: &'a Self) -> Option<(Check, &'a str, &'a str)> {
        self.0.iter().find_map(|(check, own)| {
            let theirs = other.0.get(check)?;
            (!own.eq_ignore_ascii_case(theirs)).then_some((*check, own.as_str(), theirs.as_str()))
        })
    }
}

/// Whether S3 has encrypted an object with another key than its own: then its ETag is no MD5.
fn has_own_key(headers: &HeaderMap) -> bool {
    text(headers, "x-amz-server-side-encryption").is_some_and(|kind| kind != "AES256")
        || headers.contains_key("x-amz-server-side-encryption-customer-algorithm")
}

/// What S3 states of an object that was uploaded in parts: a checksum of theirs, else its ETag, which is the MD5 of theirs.
pub(crate) fn composite(headers: &HeaderMap) -> Option<Composite> {
    let stated = S3.into_iter().find_map(|(name, algorithm)| {
        let (value, count) = text(headers, name)?.rsplit_once('-')?;
        let value = BASE64_STANDARD.decode(value).ok().filter(|value| value.len() == algorithm.length())?;
        Some(Composite { algorithm, value: hex(&value), count: count.parse().ok()? })
    });
    stated.or_else(|| {
        let (value, count) = text(headers, "etag")?.trim_matches('"').rsplit_once('-')?;
        let is_md5 = is_hex(value, Algorithm::Md5.length()) && !has_own_key(headers);
        let count = count.parse().ok().filter(|_| is_md5)?;
        Some(Composite { algorithm: Algorithm::Md5, value: value.to_ascii_lowercase(), count })
    })
}

fn is_hex(text: &str, bytes: usize) -> bool {
    text.len() == 2 * bytes && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(is_s3: bool, all: &[(&'static str, &str)]) -> BTreeMap<Check, String> {
        Digests::of_headers(&headers(all), 3, is_s3).0
    }

    fn headers(all: &[(&'static str, &str)]) -> HeaderMap {
        all.iter().map(|(name, value)| (http::HeaderName::from_static(name), value.parse().expect("valid"))).collect()
    }

    fn one(algorithm: Algorithm, value: &str) -> BTreeMap<Check, String> {
        BTreeMap::from([(algorithm.into(), value.to_owned())])
    }

    #[test]
    fn hashers_agree_with_published_values() {
        // RFC 3720 B.4, RFC 1321 A.5, FIPS 180-2 B.1, FIPS 180-1 A, the check values of the catalogue of CRCs, and what
        // `git hash-object` says of a file.
        for (algorithm, content, expected) in [
            (Algorithm::Crc32c, &[0; 32][..], "8a9136aa"),
            (Algorithm::Crc32, b"123456789", "cbf43926"),
            (Algorithm::Crc64Nvme, b"123456789", "ae8b14860a799888"),
            (Algorithm::Md5, b"abc", "900150983cd24fb0d6963f7d28e17f72"),
            (Algorithm::Sha1, b"abc", "a9993e364706816aba3e25717850c26c9cd0d89d"),
            (Algorithm::GitBlob, b"what is up, doc?", "bd9dbf5aae1a3862dd1526723246b20206e5fc37"),
            (Algorithm::Sha256, b"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
        ] {
            let mut hasher = algorithm.hasher(content.len() as u64);
            let (front, back) = content.split_at(content.len() / 2);
            hasher.update(front);
            hasher.update(back);
            assert_eq!(hasher.finish(), expected, "{}", algorithm.name());
        }
    }

    #[test]
    fn parts_are_hashed_and_their_checksums_are() {
        let content: Vec<u8> = (0..=255).collect();
        for algorithm in [Algorithm::Md5, Algorithm::Crc32, Algorithm::Sha256] {
            let of = |bytes: &[u8]| {
                let mut hasher = algorithm.hasher(0);
                hasher.update(bytes);
                hasher.bytes()
            };
            for (size, parts) in [(100, 3), (128, 2), (256, 1), (1000, 1)] {
                let digests: Vec<u8> = content.chunks(size).flat_map(of).collect();
                let expected = format!("{}-{parts}", hex(&of(&digests)));
                for piece in [1, 7, 100, 256] {
                    let mut hasher = Check { algorithm, part: Some(size as u64) }.hasher(256);
                    content.chunks(piece).for_each(|piece| hasher.update(piece));
                    assert_eq!(hasher.finish(), expected, "{size} {piece}");
                }
            }
        }
    }

    #[test]
    fn each_provider_s_checksums_are_read() {
        let md5 = "900150983cd24fb0d6963f7d28e17f72";
        let google = of(false, &[("x-goog-hash", "crc32c=AAAAAA==,md5=kAFQmDzST7DWlj99KOF/cg=="), ("etag", md5)]);
        assert_eq!(google, one(Algorithm::Crc32c, "00000000"));
        assert_eq!(of(false, &[("x-goog-hash", "md5=kAFQmDzST7DWlj99KOF/cg==")]), one(Algorithm::Md5, md5));
        assert_eq!(of(false, &[("x-ms-blob-content-md5", "kAFQmDzST7DWlj99KOF/cg==")]), one(Algorithm::Md5, md5));
        let sha256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        let base64 = "ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=";
        let digest = format!("SHA-256={base64},id-x=1");
        assert_eq!(of(false, &[("digest", &digest)]), one(Algorithm::Sha256, sha256));
        let digest = format!("sha-512=:AAAA:, sha-256=:{base64}:");
        assert_eq!(of(false, &[("repr-digest", &digest)]), one(Algorithm::Sha256, sha256));
        let sha512 = "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f";
        let digest =
            "sha-512=:3a81oZNherrMQXNJriBBMRLm+k6JqX6iCp7u5ktV05ohkpkqJ0/BqDa6PCOj/uu9RU1EI2Q86A4qmslPpUyknw==:";
        assert_eq!(of(false, &[("repr-digest", digest)]), one(Algorithm::Sha512, sha512));
        let artifactory = [("x-checksum-sha256", sha256), ("x-checksum-md5", md5), ("x-checksum-sha1", "0")];
        assert_eq!(of(false, &artifactory), one(Algorithm::Sha256, sha256));
        let s3 = |more: &[(&'static str, &str)]| {
            let etag = format!("\"{md5}\"");
            of(true, &[&[("etag", etag.as_str())], more].concat())
        };
        assert_eq!(s3(&[]), one(Algorithm::Md5, md5));
        assert_eq!(s3(&[("x-amz-checksum-crc32", "AAAAAA==")]), one(Algorithm::Crc32, "00000000"));
        let wide = "0000000000000000";
        assert_eq!(s3(&[("x-amz-checksum-crc64nvme", "AAAAAAAAAAA=")]), one(Algorithm::Crc64Nvme, wide));
        assert!(s3(&[("x-amz-server-side-encryption", "aws:kms")]).is_empty());
        assert!(of(true, &[("etag", "\"900150983cd24fb0d6963f7d28e17f72-2\"")]).is_empty());
        // Of a composite object.
        assert!(of(false, &[("x-amz-checksum-sha256", "AAAA-3")]).is_empty());
        // nginx has ETags too.
        assert!(of(false, &[("etag", "\"65f-1a\"")]).is_empty());
    }

    #[test]
    fn what_is_stated_of_parts_is_read() {
        let etag = ("etag", "\"900150983cd24fb0d6963f7d28e17f72-2\"");
        let of = |all: &[(&'static str, &str)]| composite(&headers(all));
        let crc = Composite { algorithm: Algorithm::Crc32, value: "00000000".to_owned(), count: 2 };
        assert_eq!(of(&[etag, ("x-amz-checksum-crc32", "AAAAAA==-2")]), Some(crc));
        let md5 = of(&[etag]).expect("an MD5");
        assert_eq!((md5.algorithm, md5.count), (Algorithm::Md5, 2));
        assert_eq!(md5.of_parts(5).1, "900150983cd24fb0d6963f7d28e17f72-2");
        assert_eq!(of(&[etag, ("x-amz-server-side-encryption", "aws:kms")]), None);
        for other in ["\"65f-1a\"", "\"abc\"", "900150983cd24fb0d6963f7d28e17f72", "-"] {
            assert_eq!(of(&[("etag", other)]), None, "{other}");
        }
    }

    #[test]
    fn records_keep_what_was_computed() {
        let digests = Digests(BTreeMap::from([
            (Algorithm::Sha256.into(), "a".to_owned()),
            (Check { algorithm: Algorithm::Md5, part: Some(8) }, "b-2".to_owned()),
        ]));
        let text = serde_json::to_string(&digests).expect("written");
        assert_eq!(text, r#"{"sha256":"a","md5/8":"b-2"}"#);
        assert_eq!(serde_json::from_str::<Digests>(&text).expect("read"), digests);
        assert!(serde_json::from_str::<Digests>(r#"{"md9":"a"}"#).is_err());
    }
}
