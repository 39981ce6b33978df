//! What a model's URI names, taken apart; how it is shown without its secrets.

mod hub;
mod oci;

use std::path::PathBuf;

use url::Url;

pub(crate) use self::hub::{HubPlace, hub_address};
pub(crate) use self::oci::{OciPlace, is_digest};

use self::hub::hub;
use self::oci::oci;
use crate::error::RepositoryError;
use crate::onnx::is_file;

/// What may stand before `://`.
const SCHEMES: &str = "a path, file://, s3://, gs://, az://, hf://, oci://, http:// or https://";
/// The hosts of Azure's blob accounts.
pub(crate) const AZURE_HOST: &str = ".blob.core.windows.net";
/// How a checksum is written behind a URI.
const SHA256: &str = "#sha256=";

/// A URI, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ModelUri {
    pub(crate) place: Place,
    /// Of the `.onnx` file that the URI names, in lower-case hexadecimal.
    pub(crate) sha256: Option<String>,
}

/// Where the files are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Local(PathBuf),
    Bucket(BucketPlace),
    Web(WebPlace),
    Hub(HubPlace),
    Oci(OciPlace),
}

/// Which kind of object store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Provider {
    S3,
    Gcs,
    Azure,
}

impl Provider {
    pub(crate) fn scheme(self) -> &'static str {
        match self {
            Self::S3 => "s3",
            Self::Gcs => "gs",
            Self::Azure => "az",
        }
    }
}

/// A path in a bucket, which may be an object or a prefix.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct BucketPlace {
    pub(crate) provider: Provider,
    pub(crate) bucket: String,
    /// Azure's, where the URI names it.
    pub(crate) account: Option<String>,
    /// Azure's shared access signature, where the URI carries one.
    pub(crate) signature: Option<String>,
    /// Without slashes at either end; empty for the whole bucket.
    pub(crate) path: String,
}

impl BucketPlace {
    /// The key of an object below it.
    pub(crate) fn key(&self, path: &str) -> String {
        let parts = [self.path.as_str(), path];
        parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("/")
    }

    /// What a path below it is called in messages and in the cache.
    pub(crate) fn shown(&self, path: &str) -> String {
        let (scheme, bucket, key) = (self.provider.scheme(), &self.bucket, self.key(path));
        let whole = match &self.account {
            Some(account) => format!("https://{account}{AZURE_HOST}/{bucket}/{key}"),
            None => format!("{scheme}://{bucket}/{key}"),
        };
        whole.trim_end_matches('/').to_owned()
    }
}

impl std::fmt::Debug for BucketPlace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}://{}/{}", self.provider.scheme(), self.bucket, self.path)
    }
}

/// A file, or a folder whose `model.toml` names the files.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct WebPlace {
    /// Without user, password and fragment; the query may be a signature.
    pub(crate) url: Url,
    pub(crate) user: Option<(String, Option<String>)>,
}

impl std::fmt::Debug for WebPlace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&shown_url(&self.url))
    }
}

impl WebPlace {
    /// Makes the folder of the `.onnx` file or the archive that it names of it, and answers the file's name.
    pub(crate) fn split_file(&mut self) -> Option<String> {
        let last = self.url.path_segments()?.next_back()?;
        let file = percent_decoded(last);
        if !is_file(&file) {
            return None;
        }
        // A URL with a host has segments.
        self.url.path_segments_mut().ok()?.pop();
        Some(file)
    }
}

impl ModelUri {
    /// Takes `uri` apart.
    pub(crate) fn parse(uri: &str) -> Result<Self, RepositoryError> {
        let (rest, sha256) = match uri.rfind(SHA256) {
            Some(at) => (&uri[..at], Some(digest(uri, &uri[at + SHA256.len()..])?)),
            None => (uri, None),
        };
        let place = place(rest).map_err(|reason| RepositoryError::Uri { uri: redact(uri), reason })?;
        let file = match &place {
            Place::Local(path) => path.to_string_lossy().into_owned(),
            Place::Bucket(place) => place.path.clone(),
            Place::Web(place) => place.url.path().to_owned(),
            Place::Hub(place) => place.path.clone(),
            Place::Oci(_) => String::new(),
        };
        let may_be_one = is_file(&file) || matches!(&place, Place::Web(_));
        if let (Some(sha256), Place::Oci(_)) = (&sha256, &place) {
            let reason =
                format!("#sha256= is of a file; write @sha256:{sha256} for the image or the artefact of that digest");
            return Err(RepositoryError::Uri { uri: redact(uri), reason });
        }
        if sha256.is_some() && !may_be_one {
            let reason =
                "#sha256= belongs behind the name of an .onnx file or an archive; a folder states it in model.toml"
                    .to_owned();
            return Err(RepositoryError::Uri { uri: redact(uri), reason });
        }
        Ok(Self { place, sha256 })
    }

    /// What a model of this URI is called where nothing else names it.
    pub(crate) fn default_name(&self) -> Option<String> {
        let path = match &self.place {
            Place::Local(_) => return None,
            Place::Bucket(place) if place.path.is_empty() => place.bucket.clone(),
            Place::Bucket(place) => place.path.clone(),
            Place::Web(place) => place.url.path().trim_end_matches('/').to_owned(),
            Place::Hub(place) if place.path.is_empty() => place.name.clone(),
            Place::Hub(place) => place.path.clone(),
            Place::Oci(place) => place.named().to_owned(),
        };
        let last = path.rsplit('/').next().unwrap_or_default();
        let endings = [".onnx", ".tar.gz", ".tgz", ".tar", ".zip"];
        let last = endings.into_iter().find_map(|ending| last.strip_suffix(ending)).unwrap_or(last);
        (!last.is_empty()).then(|| last.to_owned())
    }
}

impl Place {
    /// Whether this is `root` or lies below it, by their names alone.
    pub(crate) fn is_below(&self, root: &Self) -> bool {
        let below = |path: &str, root: &str| {
            let rest = path.strip_prefix(root.trim_end_matches('/'));
            root.is_empty() || rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        match (self, root) {
            (Self::Local(path), Self::Local(root)) => path.starts_with(root),
            (Self::Bucket(place), Self::Bucket(root)) => {
                let whose = |place: &BucketPlace| (place.provider, place.bucket.clone(), place.account.clone());
                whose(place) == whose(root) && below(&place.path, &root.path)
            }
            (Self::Web(place), Self::Web(root)) => {
                // A server may take an encoded slash or dot for a real one.
                let path = place.url.path().to_ascii_lowercase();
                let plain = !["%2f", "%5c", "%2e"].iter().any(|code| path.contains(code));
                plain && place.url.origin() == root.url.origin() && below(place.url.path(), root.url.path())
            }
            (Self::Hub(place), Self::Hub(root)) => {
                place.name == root.name && place.revision == root.revision && below(&place.path, &root.path)
            }
            (Self::Oci(place), Self::Oci(root)) => place.is_below(root),
            _ => false,
        }
    }
}

fn digest(uri: &str, text: &str) -> Result<String, RepositoryError> {
    if text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Ok(text.to_ascii_lowercase());
    }
    let reason = format!("the sha256 behind it is '{text}'; expected 64 hexadecimal digits");
    Err(RepositoryError::Uri { uri: redact(uri), reason })
}

fn place(uri: &str) -> Result<Place, String> {
    let Some((scheme, rest)) = uri.split_once("://") else { return Ok(Place::Local(uri.into())) };
    let bucket = |provider| {
        let (bucket, path) = rest.split_once('/').unwrap_or((rest, ""));
        if bucket.is_empty() {
            return Err(format!("it names no bucket; expected {scheme}://BUCKET/PATH"));
        }
        let (bucket, path) = (bucket.to_owned(), plain_path(path)?);
        Ok(Place::Bucket(BucketPlace { provider, bucket, account: None, signature: None, path }))
    };
    match scheme.to_ascii_lowercase().as_str() {
        "file" => Ok(Place::Local(
            rest.strip_prefix("localhost/").map_or_else(|| rest.into(), |path| format!("/{path}").into()),
        )),
        "s3" => bucket(Provider::S3),
        "gs" => bucket(Provider::Gcs),
        "az" => bucket(Provider::Azure),
        "hf" => hub(rest),
        "oci" => oci(rest),
        "http" | "https" => web(uri),
        other => Err(format!("the scheme '{other}' is not known; expected {SCHEMES}")),
    }
}

/// A path of normal parts, without slashes at the ends.
fn plain_path(path: &str) -> Result<String, String> {
    let path = path.trim_matches('/');
    if path.split('/').any(|part| matches!(part, "." | "..")) || path.contains("//") {
        return Err("its path has parts that are empty, '.' or '..'".to_owned());
    }
    Ok(path.to_owned())
}

fn web(uri: &str) -> Result<Place, String> {
    let mut url = Url::parse(uri).map_err(|error| error.to_string())?;
    let Some(host) = url.host_str().map(str::to_owned) else { return Err("it names no host".to_owned()) };
    let decoded = |text: &str| percent_decoded(text);
    let user = (!url.username().is_empty()).then(|| (decoded(url.username()), url.password().map(decoded)));
    // Neither can fail for a URL with a host.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.set_fragment(None);
    if let Some(account) = host.strip_suffix(AZURE_HOST) {
        let (container, path) =
            url.path().trim_start_matches('/').split_once('/').unwrap_or((url.path().trim_matches('/'), ""));
        if container.is_empty() {
            return Err(
                "it names no container; expected https://ACCOUNT.blob.core.windows.net/CONTAINER/PATH".to_owned()
            );
        }
        return Ok(Place::Bucket(BucketPlace {
            provider: Provider::Azure,
            bucket: container.to_owned(),
            account: Some(account.to_owned()),
            signature: url.query().map(str::to_owned),
            path: plain_path(&percent_decoded(path))?,
        }));
    }
    Ok(Place::Web(WebPlace { url, user }))
}

pub(crate) fn percent_decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = (bytes[at] == b'%').then(|| text.get(at + 1..at + 3)).flatten();
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                decoded.push(byte);
                at += 3;
            }
            None => {
                decoded.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

/// A URL for messages: no user, no password, and no query, which may be a signature.
pub(crate) fn shown_url(url: &Url) -> String {
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    format!("{}://{}{port}{}", url.scheme(), url.host_str().unwrap_or_default(), url.path())
}

/// A place for messages, before there is a source that knows better.
pub(crate) fn shown_place(place: &Place) -> String {
    match place {
        Place::Local(path) => path.display().to_string(),
        Place::Bucket(place) => format!("{}://{}/{}", place.provider.scheme(), place.bucket, place.path),
        Place::Web(place) => shown_url(&place.url),
        Place::Hub(place) => format!("hf://{}/{}", place.name, place.path),
        Place::Oci(place) => place.shown(""),
    }
}

/// A URI as given, for messages: what stands before an `@` of its host or behind a `?` is left out.
#[must_use]
pub fn redact(uri: &str) -> String {
    let Some((scheme, rest)) = uri.split_once("://") else { return uri.to_owned() };
    let rest = rest.split(['?', '#']).next().unwrap_or_default();
    let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
    format!("{scheme}://{host}{path}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bucket(uri: &str) -> BucketPlace {
        match ModelUri::parse(uri).expect(uri).place {
            Place::Bucket(place) => place,
            other => panic!("{uri}: {other:?}"),
        }
    }

    #[test]
    fn schemes_name_their_places() {
        assert_eq!(ModelUri::parse("/mnt/models").expect("valid").place, Place::Local("/mnt/models".into()));
        assert_eq!(ModelUri::parse("file:///a/b").expect("valid").place, Place::Local("/a/b".into()));
        assert_eq!(ModelUri::parse("file://localhost/a").expect("valid").place, Place::Local("/a".into()));
        for (scheme, provider) in [("s3", Provider::S3), ("gs", Provider::Gcs), ("az", Provider::Azure)] {
            let place = bucket(&format!("{scheme}://models/a/b/"));
            assert_eq!((place.provider, place.bucket.as_str(), place.path.as_str()), (provider, "models", "a/b"));
        }
        let place = bucket("https://acc.blob.core.windows.net/models/a%20b/c.onnx?sv=1&sig=x");
        assert_eq!((place.account.as_deref(), place.bucket.as_str()), (Some("acc"), "models"));
        assert_eq!((place.path.as_str(), place.signature.as_deref()), ("a b/c.onnx", Some("sv=1&sig=x")));
        let Place::Hub(hub) = ModelUri::parse("hf://o/n@v1/onnx/model.onnx").expect("valid").place else {
            panic!("hub")
        };
        assert_eq!((hub.name.as_str(), hub.revision.as_str(), hub.path.as_str()), ("o/n", "v1", "onnx/model.onnx"));
        let Place::Web(web) = ModelUri::parse("https://u%40x:p@h:1/f?s=1").expect("valid").place else { panic!("web") };
        assert_eq!(web.url.as_str(), "https://h:1/f?s=1");
        assert_eq!(web.user, Some(("u@x".to_owned(), Some("p".to_owned()))));
    }

    #[test]
    fn names_come_from_the_last_part() {
        for (uri, name) in [
            ("s3://b/models/flowers", "flowers"),
            ("gs://b/m.onnx", "m"),
            ("gs://only", "only"),
            ("https://h/a/net.onnx?x=1", "net"),
            ("hf://o/resnet", "resnet"),
            ("https://h/a/net.tar.gz", "net"),
            ("s3://b/net.zip", "net"),
        ] {
            assert_eq!(ModelUri::parse(uri).expect(uri).default_name().as_deref(), Some(name));
        }
    }

    #[test]
    fn a_checksum_stands_behind_a_file() {
        let hex = "A".repeat(64);
        let parsed = ModelUri::parse(&format!("s3://b/m.onnx#sha256={hex}")).expect("valid");
        assert_eq!(parsed.sha256, Some("a".repeat(64)));
        let message = |uri: &str| ModelUri::parse(uri).expect_err(uri).to_string();
        assert!(message("s3://b/m.onnx#sha256=12").contains("is '12'; expected 64"));
        assert!(message(&format!("s3://b/m#sha256={hex}")).contains("belongs behind the name of an .onnx file"));
    }

    #[test]
    fn below_is_told_by_whole_parts() {
        let below = |uri: &str, root: &str| {
            let place = |uri: &str| ModelUri::parse(uri).expect(uri).place;
            place(uri).is_below(&place(root))
        };
        for (uri, root) in [
            ("s3://b/models/a", "s3://b/models/"),
            ("s3://b/models", "s3://b/models"),
            ("gs://b/x", "gs://b"),
            ("https://me:x@h/models/a.onnx?sig=1", "https://h/models"),
            ("https://h/a", "https://h/"),
            ("hf://o/n/a", "hf://o/n"),
            ("https://acc.blob.core.windows.net/c/m/a", "https://acc.blob.core.windows.net/c/m?sv=1"),
        ] {
            assert!(below(uri, root), "{uri} is below {root}");
        }
        for (uri, root) in [
            ("s3://b/models2", "s3://b/models"),
            ("s3://c/models/a", "s3://b/models"),
            ("gs://b/models/a", "s3://b/models"),
            ("http://h/models/a", "https://h/models"),
            ("https://h:8/models/a", "https://h/models"),
            ("https://h/models/../secret", "https://h/models"),
            ("https://h/models/%2e%2e/secret", "https://h/models"),
            ("https://h/models/..%2fsecret", "https://h/models"),
            ("https://other.blob.core.windows.net/c/m", "https://acc.blob.core.windows.net/c"),
            ("hf://o/n@v2/a", "hf://o/n"),
            ("/models/a", "s3://b/models"),
        ] {
            assert!(!below(uri, root), "{uri} is not below {root}");
        }
    }

    #[test]
    fn mistakes_are_named_and_secrets_are_not() {
        let message = |uri: &str| ModelUri::parse(uri).expect_err(uri).to_string();
        assert!(message("ftp://h/x").contains("the scheme 'ftp' is not known"));
        assert!(message("s3:///x").contains("names no bucket"));
        assert!(message("gs://b/a/../c").contains("'.' or '..'"));
        assert!(message("hf://owner").contains("hf://OWNER/NAME"));
        let shown = message("https://user:hunter2@h/x.bin?sig=abc#sha256=1");
        assert!(!shown.contains("hunter2") && !shown.contains("abc"), "{shown}");
        assert_eq!(redact("https://u:p@h:8/p?q#f"), "https://h:8/p");
        let place = ModelUri::parse("https://user:hunter2@h/x?sig=abc").expect("valid");
        assert_eq!(format!("{place:?}"), "ModelUri { place: Web(https://h/x), sha256: None }");
        let place = ModelUri::parse("https://acc.blob.core.windows.net/c/x?sig=abc").expect("valid");
        assert_eq!(format!("{place:?}"), "ModelUri { place: Bucket(az://c/x), sha256: None }");
    }
}
