//! Places of Hugging Face's hub, in every spelling that people use.

use std::collections::BTreeMap;

use url::Url;

use super::{Place, percent_decoded, plain_path};

/// A repository of Hugging Face's hub.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HubPlace {
    /// `OWNER/NAME`
    pub(crate) name: String,
    /// A branch, tag or commit: behind `@`, else `main`.
    pub(crate) revision: String,
    /// A file or a folder in it; empty for all.
    pub(crate) path: String,
}

impl HubPlace {
    /// What a path below it is called in messages and in the cache.
    pub(crate) fn shown(&self, path: &str) -> String {
        let revision = if self.revision == "main" { String::new() } else { format!("@{}", self.revision) };
        let root = format!("{}{revision}", self.name);
        let parts = [root.as_str(), &self.path, path].map(|part| part.trim_matches('/'));
        format!("hf://{}", parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("/"))
    }
}

/// `OWNER/NAME[@REVISION][/PATH]`; also as huggingface_hub's file system writes it, with `models/` in front, and KServe, with `:`
/// before the revision. A pull request's `refs/pr/1` is a revision, and so is whatever has its slashes encoded.
pub(super) fn hub(rest: &str) -> Result<Place, String> {
    let expected = "expected hf://OWNER/NAME[@REVISION][/PATH]";
    let rest = match rest.strip_prefix("models/") {
        // There may be an owner of that name.
        Some(inner) if inner.trim_end_matches('/').contains('/') => inner,
        _ => rest,
    };
    if let Some(kind) = ["datasets/", "spaces/"].into_iter().find(|kind| rest.starts_with(kind)) {
        return Err(format!(
            "it names one of the hub's {}, which are no models; {expected}",
            kind.trim_end_matches('/')
        ));
    }
    let mut parts = rest.splitn(3, '/');
    let (Some(owner), Some(name)) = (parts.next(), parts.next()) else { return Err(expected.to_owned()) };
    let (name, revision) = name.split_once(['@', ':']).unwrap_or((name, "main"));
    let (mut revision, mut path) = (percent_decoded(revision), parts.next().unwrap_or_default());
    if revision == "refs" {
        let mut rest = path.splitn(3, '/');
        if let (Some(kind), Some(which)) = (rest.next(), rest.next()) {
            revision = format!("refs/{kind}/{which}");
            path = rest.next().unwrap_or_default();
        }
    }
    let is_odd = |part: &str| part.is_empty() || matches!(part, "." | "..");
    if [owner, name].into_iter().any(is_odd) || revision.split('/').any(is_odd) {
        return Err(expected.to_owned());
    }
    let path = plain_path(path)?;
    Ok(Place::Hub(HubPlace { name: format!("{owner}/{name}"), revision, path }))
}

/// The place of the hub that a web address is that of: `/OWNER/NAME`, `/OWNER/NAME/resolve/REVISION/PATH`, and with `blob`, `raw` or
/// `tree` in its stead. The hub says more of a file than a web server does.
pub(crate) fn hub_address(place: &Place, environment: &BTreeMap<String, String>) -> Option<Place> {
    const HOSTS: [&str; 3] = ["huggingface.co", "www.huggingface.co", "hf.co"];
    let Place::Web(web) = place else { return None };
    let endpoint = environment.get("HF_ENDPOINT").and_then(|endpoint| Url::parse(endpoint).ok());
    let (own, path) = (web.url.host_str()?, percent_decoded(web.url.path()));
    let below = |root: &Url| {
        let path = path.strip_prefix(root.path().trim_end_matches('/'))?;
        (root.origin() == web.url.origin()).then(|| path.to_owned())
    };
    let path = match endpoint.as_ref().and_then(below) {
        Some(path) => path,
        None if HOSTS.contains(&own) && endpoint.is_none() => path,
        None => return None,
    };
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    let text = match parts.as_slice() {
        [owner, name] => format!("{owner}/{name}"),
        [owner, name, "resolve" | "blob" | "raw" | "tree", revision, rest @ ..] => {
            format!("{owner}/{name}@{revision}/{}", rest.join("/"))
        }
        _ => return None,
    };
    hub(text.trim_end_matches('/')).ok()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{Place, hub_address};
    use crate::uri::ModelUri;

    #[test]
    fn every_spelling_is_understood() {
        for (uri, name, revision, path) in [
            ("hf://o/n:v1", "o/n", "v1", ""),
            ("hf://models/o/n/onnx", "o/n", "main", "onnx"),
            ("hf://models/n", "models/n", "main", ""),
            ("hf://o/n@refs/pr/1/onnx/model.onnx", "o/n", "refs/pr/1", "onnx/model.onnx"),
            ("hf://o/n@feature%2Fx/m.onnx", "o/n", "feature/x", "m.onnx"),
        ] {
            let Place::Hub(hub) = ModelUri::parse(uri).expect(uri).place else { panic!("{uri}") };
            assert_eq!((hub.name.as_str(), hub.revision.as_str(), hub.path.as_str()), (name, revision, path), "{uri}");
        }
    }

    #[test]
    fn addresses_of_the_hub_are_places_of_it() {
        let none = BTreeMap::new();
        let mirror = BTreeMap::from([("HF_ENDPOINT".to_owned(), "http://mirror:8080/hub".to_owned())]);
        let shown = |uri: &str, environment| {
            let place = ModelUri::parse(uri).expect(uri).place;
            hub_address(&place, environment).map(|place| match place {
                Place::Hub(hub) => format!("{} {} {}", hub.name, hub.revision, hub.path),
                other => panic!("{other:?}"),
            })
        };
        let of = |uri: &str| shown(uri, &none).unwrap_or_default();
        assert_eq!(
            of("https://huggingface.co/o/n/resolve/main/onnx/model.onnx?download=true"),
            "o/n main onnx/model.onnx"
        );
        assert_eq!(of("https://hf.co/o/n/blob/v1/m.onnx"), "o/n v1 m.onnx");
        assert_eq!(of("https://huggingface.co/o/n/tree/refs%2Fpr%2F1"), "o/n refs/pr/1 ");
        assert_eq!(of("https://huggingface.co/o/n"), "o/n main ");
        assert_eq!(of("https://example.com/o/n/resolve/main/m.onnx"), "");
        assert_eq!(of("https://huggingface.co/docs"), "");
        let own = shown("http://mirror:8080/hub/o/n/resolve/main/m.onnx", &mirror);
        assert_eq!(own.as_deref(), Some("o/n main m.onnx"));
        assert_eq!(shown("http://mirror:8080/o/n", &mirror), None);
        assert_eq!(shown("https://huggingface.co/o/n", &mirror), None);
    }
}
