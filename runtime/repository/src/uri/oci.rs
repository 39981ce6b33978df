//! Places in registries of container images.

use super::{Place, plain_path};

/// How such a place is written.
const EXPECTED: &str = "expected oci://HOST[:PORT]/REPOSITORY[:TAG|@sha256:DIGEST]";
/// The longest name of a repository, and of a tag, that registries take.
const MAX_REPOSITORY: usize = 255;
const MAX_TAG: usize = 128;
/// What a digest begins with.
const SHA256: &str = "sha256:";

/// An image or an artefact in a registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OciPlace {
    /// With the port, where one is named.
    pub(crate) host: String,
    pub(crate) repository: String,
    /// Where one is named; it is `latest` else.
    pub(crate) tag: Option<String>,
    /// `sha256:` and what it must be, in lower case. It counts before the tag.
    pub(crate) digest: Option<String>,
    /// A file or a folder in it, behind a tag or a digest; empty for all. Without either it would be of the repository's name.
    pub(crate) path: String,
}

impl OciPlace {
    /// What a path below its own is called in messages and in the cache.
    pub(crate) fn shown(&self, path: &str) -> String {
        let tag = self.tag.as_ref().map(|tag| format!(":{tag}")).unwrap_or_default();
        let digest = self.digest.as_ref().map(|digest| format!("@{digest}")).unwrap_or_default();
        let root = format!("oci://{}/{}{tag}{digest}", self.host, self.repository);
        let parts = [root.as_str(), &self.path, path];
        parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("/")
    }

    /// What a blob of its repository is called.
    pub(crate) fn shown_blob(&self, digest: &str) -> String {
        format!("oci://{}/{}@{digest}", self.host, self.repository)
    }

    /// Whether this is `root`, or in a repository of its name or below it where it names no tag.
    pub(crate) fn is_below(&self, root: &Self) -> bool {
        let is_inside = |path: &str, root: &str| {
            let rest = path.strip_prefix(root);
            root.is_empty() || rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        let whose = |place: &Self| (place.repository.clone(), place.tag.clone(), place.digest.clone());
        if root.tag.is_some() || root.digest.is_some() {
            return self.host == root.host && whose(self) == whose(root) && is_inside(&self.path, &root.path);
        }
        self.host == root.host && is_inside(&self.repository, &root.repository)
    }

    /// What its model is called: the last part of a path in it, else of its repository.
    pub(crate) fn named(&self) -> &str {
        if self.path.is_empty() { &self.repository } else { &self.path }
    }
}

/// Whether a digest is one of SHA-256, in lower case.
pub(crate) fn is_digest(text: &str) -> bool {
    let hex = |letter: u8| letter.is_ascii_digit() || (b'a'..=b'f').contains(&letter);
    text.strip_prefix(SHA256).is_some_and(|digits| digits.len() == 64 && digits.bytes().all(hex))
}

/// `HOST[:PORT]/REPOSITORY[:TAG][@DIGEST][/PATH]`, of which a path is told from the repository by a tag or a digest before it.
pub(super) fn oci(rest: &str) -> Result<Place, String> {
    let rest = rest.trim_end_matches('/');
    let Some((host, path)) = rest.split_once('/') else { return Err(format!("it names no repository; {EXPECTED}")) };
    check_host(host, path)?;
    let marked = path.find([':', '@']).unwrap_or(path.len());
    let (path, inside) = match path[marked..].find('/') {
        Some(slash) => path.split_at(marked + slash),
        None => (path, ""),
    };
    let inside = plain_path(inside)?;
    let (path, digest) = match path.split_once('@') {
        Some((path, digest)) => (path, Some(digest)),
        None => (path, None),
    };
    let digest = digest.map(str::to_ascii_lowercase);
    if let Some(digest) = digest.as_deref().filter(|digest| !is_digest(digest)) {
        return Err(format!("its digest is '{digest}'; expected @sha256: and 64 hexadecimal digits"));
    }
    let (repository, tag) = match path.rsplit_once(':') {
        Some((repository, tag)) => (repository, Some(tag)),
        None => (path, None),
    };
    if let Some(tag) = tag.filter(|tag| !is_tag(tag)) {
        return Err(format!("its tag is '{tag}'; expected at most {MAX_TAG} letters, digits, '_', '.' and '-'"));
    }
    if repository.len() > MAX_REPOSITORY || !repository.split('/').all(is_part) {
        return Err(format!(
            "its repository is '{repository}'; expected lower-case letters and digits, parted by '/', '.', '_' and '-'"
        ));
    }
    let (host, tag) = (host.to_ascii_lowercase(), tag.map(str::to_owned));
    // Docker's own have no owner in everyday use.
    let is_docker_s = matches!(host.as_str(), "docker.io" | "index.docker.io" | "registry-1.docker.io");
    let library = if is_docker_s && !repository.contains('/') { "library/" } else { "" };
    Ok(Place::Oci(OciPlace { host, repository: format!("{library}{repository}"), tag, digest, path: inside }))
}

/// A first part without a dot, a port or `localhost` is an abbreviation that only Docker's tools know.
fn check_host(host: &str, path: &str) -> Result<(), String> {
    if host.contains('@') {
        return Err(format!("a user and a password do not belong into it; log in with `docker login`; {EXPECTED}"));
    }
    if host.is_empty() {
        return Err(format!("it names no host; {EXPECTED}"));
    }
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '.' | '-' | ':' | '[' | ']' | '_');
    let is_address = url::Url::parse(&format!("http://{host}/")).is_ok_and(|url| url.host_str().is_some());
    if !host.chars().all(is_plain) || !is_address {
        return Err(format!("'{host}' is no host; {EXPECTED}"));
    }
    if host.contains(['.', ':']) || host.eq_ignore_ascii_case("localhost") {
        return Ok(());
    }
    Err(format!("its first part, '{host}', is no registry's host; {EXPECTED}, as in oci://docker.io/{host}/{path}"))
}

fn is_tag(tag: &str) -> bool {
    let is_letter = |letter: u8| letter.is_ascii_alphanumeric() || letter == b'_';
    let rest = |letter: u8| is_letter(letter) || matches!(letter, b'.' | b'-');
    tag.len() <= MAX_TAG && tag.bytes().next().is_some_and(is_letter) && tag.bytes().all(rest)
}

fn is_part(part: &str) -> bool {
    let is_letter = |letter: u8| letter.is_ascii_lowercase() || letter.is_ascii_digit();
    let ends = [part.bytes().next(), part.bytes().next_back()];
    ends.into_iter().all(|end| end.is_some_and(is_letter))
        && part.bytes().all(|letter| is_letter(letter) || matches!(letter, b'.' | b'_' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::{OciPlace, Place};
    use crate::uri::ModelUri;

    fn place(uri: &str) -> OciPlace {
        match ModelUri::parse(uri).expect(uri).place {
            Place::Oci(place) => place,
            other => panic!("{uri}: {other:?}"),
        }
    }

    #[test]
    fn every_part_is_found() {
        let hex = "ab".repeat(32);
        for (uri, host, repository, tag, digest) in [
            ("oci://quay.io/team/net:v1".to_owned(), "quay.io", "team/net", Some("v1"), None),
            ("oci://localhost/net".to_owned(), "localhost", "net", None, None),
            ("oci://registry:5000/a/b/c:latest".to_owned(), "registry:5000", "a/b/c", Some("latest"), None),
            (format!("oci://[::1]:5000/net@sha256:{hex}"), "[::1]:5000", "net", None, Some(&hex)),
            (format!("oci://ghcr.io/o/n:v1@SHA256:{}", hex.to_uppercase()), "ghcr.io", "o/n", Some("v1"), Some(&hex)),
            ("oci://docker.io/net:1.0".to_owned(), "docker.io", "library/net", Some("1.0"), None),
            ("oci://docker.io/o/net".to_owned(), "docker.io", "o/net", None, None),
        ] {
            let found = place(&uri);
            assert_eq!((found.host.as_str(), found.repository.as_str()), (host, repository), "{uri}");
            assert_eq!(found.tag.as_deref(), tag, "{uri}");
            assert_eq!(found.digest, digest.map(|hex| format!("sha256:{hex}")), "{uri}");
        }
        let uri = format!("oci://h.io/o/n:v1@sha256:{hex}");
        assert_eq!(place(&uri).shown(""), uri);
        assert_eq!(place("oci://h.io/o/n").shown("a/b"), "oci://h.io/o/n/a/b");
        for (uri, path, name) in [
            (format!("{uri}/a/b"), "a/b", "b"),
            ("oci://h.io:1/o/n:v1/net.onnx".to_owned(), "net.onnx", "net"),
            ("oci://h.io:1/o/n:v1/".to_owned(), "", "n"),
        ] {
            assert_eq!(place(&uri).path, path);
            assert_eq!(place(&uri).shown(""), uri.trim_end_matches('/'));
            assert_eq!(ModelUri::parse(&uri).expect("valid").default_name().as_deref(), Some(name));
        }
        assert_eq!(ModelUri::parse(&uri).expect("valid").default_name().as_deref(), Some("n"));
    }

    #[test]
    fn mistakes_are_named() {
        let message = |uri: &str| ModelUri::parse(uri).expect_err(uri).to_string();
        let expected = "expected oci://HOST[:PORT]/REPOSITORY[:TAG|@sha256:DIGEST]";
        assert_eq!(
            message("oci://library/busybox"),
            format!(
                "'oci://library/busybox': its first part, 'library', is no registry's host; {expected}, as in oci://docker.io/library/busybox"
            )
        );
        for (uri, said) in [
            ("oci://quay.io", "it names no repository"),
            ("oci:///net", "it names no host"),
            ("oci://quay.io/Net", "its repository is 'Net'"),
            ("oci://quay.io/a//b", "its repository is 'a//b'"),
            ("oci://quay.io/../b", "its repository is '../b'"),
            ("oci://quay.io/net:", "its tag is ''"),
            ("oci://quay.io/net:a:b", "its repository is 'net:a'"),
            ("oci://quay.io/net:a/../b", "'.' or '..'"),
            ("oci://quay.io/net@md5:00", "its digest is 'md5:00'; expected @sha256:"),
            ("oci://qu%41y.io/net", "is no host"),
        ] {
            assert!(message(uri).contains(said), "{uri}: {}", message(uri));
        }
        let secret = message("oci://me:hunter2@quay.io/net");
        assert!(secret.contains("log in with `docker login`") && !secret.contains("hunter2"), "{secret}");
        let sum = message(&format!("oci://quay.io/net:v1#sha256={}", "a".repeat(64)));
        assert!(sum.contains(&format!("write @sha256:{} ", "a".repeat(64))), "{sum}");
    }

    #[test]
    fn repositories_lie_below_others() {
        let below = |uri: &str, root: &str| place(uri).is_below(&place(root));
        for uri in ["oci://h.io/team", "oci://h.io/team:v2", "oci://h.io/team/net:v1"] {
            assert!(below(uri, "oci://h.io/team"), "{uri}");
        }
        assert!(below("oci://h.io/team:v1", "oci://h.io/team:v1"));
        assert!(
            below("oci://h.io/team:v1/a", "oci://h.io/team:v1") && below("oci://h.io/team:v1/a", "oci://h.io/team")
        );
        for (uri, root) in [
            ("oci://h.io/teams/net", "oci://h.io/team"),
            ("oci://h.io:80/team/net", "oci://h.io/team"),
            ("oci://h.io/team:v2", "oci://h.io/team:v1"),
            ("oci://h.io/team/net", "oci://h.io/team:v1"),
            ("oci://h.io/team:v1/ab", "oci://h.io/team:v1/a"),
        ] {
            assert!(!below(uri, root), "{uri} {root}");
        }
    }
}
