//! Hugging Face's hub: the files of one commit, over its HTTP API.

use std::collections::BTreeMap;
use std::ops::Range;

use reqwest::{Response, StatusCode};
use serde::Deserialize;
use tokio::sync::OnceCell;
use url::Url;

use crate::store::answer::{Expected, check, refusal};
use crate::store::client::Client;
use crate::store::credentials::{Identity, hub_token};
use crate::store::digests::{Algorithm, Digests};
use crate::store::fault::Fault;
use crate::store::web::ranged;
use crate::store::{Listing, MAX_LISTED, Object, below};
use crate::uri::HubPlace;

const ENDPOINT: &str = "https://huggingface.co";
/// The largest page of a listing.
const MAX_PAGE: usize = 32 << 20;

/// A repository at one commit: what is listed and what is read are of the same.
pub(crate) struct Hub {
    client: Client,
    endpoint: Url,
    token: Option<String>,
    /// Whose token it is.
    identity: Identity,
    place: HubPlace,
    commit: OnceCell<String>,
}

#[derive(Deserialize)]
struct Info {
    sha: String,
}

#[derive(Deserialize)]
struct Entry {
    r#type: String,
    path: String,
    #[serde(default)]
    size: u64,
    /// Git's id of what lies in the repository: of the file, or of what stands for a large one.
    oid: String,
    lfs: Option<Large>,
}

#[derive(Deserialize)]
struct Large {
    /// The content's SHA-256.
    oid: String,
    size: u64,
}

impl Hub {
    pub(crate) fn new(
        place: &HubPlace,
        client: &Client,
        environment: &BTreeMap<String, String>,
    ) -> Result<Self, Fault> {
        let set = |name: &str| environment.get(name).filter(|value| !value.is_empty()).cloned();
        let endpoint = set("HF_ENDPOINT").unwrap_or_else(|| ENDPOINT.to_owned());
        let endpoint = Url::parse(&endpoint).map_err(|error| Fault::refused(format!("HF_ENDPOINT: {error}")))?;
        let (token, identity) = hub_token(environment);
        Ok(Self { client: client.clone(), endpoint, token, identity, place: place.clone(), commit: OnceCell::new() })
    }

    pub(crate) fn shown(&self, path: &str) -> String {
        self.place.shown(path)
    }

    pub(crate) async fn list(&self) -> Result<Listing, Fault> {
        let commit = self.commit().await?;
        let api = format!("api/models/{}/tree/{commit}/{}", self.place.name, self.place.path);
        let mut next = Some(below(&self.endpoint, &api));
        if let Some(url) = &mut next {
            url.set_query(Some("recursive=true"));
        }
        let mut found = Listing::new();
        while let Some(url) = next {
            let answer = self.send(self.authorized(url.clone())).await?;
            next = following(answer.headers(), &url);
            let page = check(answer, None, &Expected::default(), false).await?.read(MAX_PAGE).await?;
            let page: Vec<Entry> = serde_json::from_slice(&page)
                .map_err(|error| Fault::refused(format!("its list of files cannot be understood: {error}")))?;
            for entry in page.into_iter().filter(|entry| entry.r#type == "file") {
                let Some(path) = relative(&self.place.path, &entry.path) else { continue };
                let mut digests = Digests::default();
                let (size, tag) = match entry.lfs {
                    Some(large) => {
                        digests.0.insert(Algorithm::Sha256.into(), large.oid.to_ascii_lowercase());
                        (large.size, large.oid)
                    }
                    None => {
                        digests.git_blob(&entry.oid);
                        (entry.size, entry.oid)
                    }
                };
                found.insert(path, Object { size, tag: Some(tag), digests, composite: None });
            }
            if found.len() > MAX_LISTED {
                return Err(Fault::refused(format!("more than {MAX_LISTED} files")));
            }
        }
        Ok(found)
    }

    pub(crate) async fn get(&self, path: &str, range: Option<Range<u64>>) -> Result<Response, Fault> {
        let commit = self.commit().await?;
        let path = format!("{}/resolve/{commit}/{}/{path}", self.place.name, self.place.path);
        self.send(ranged(self.authorized(below(&self.endpoint, &path)), range)).await
    }

    async fn commit(&self) -> Result<&str, Fault> {
        let commit = self.commit.get_or_try_init(|| async {
            let mut api = below(&self.endpoint, &format!("api/models/{}/revision", self.place.name));
            if let Ok(mut parts) = api.path_segments_mut() {
                // One part, whatever is in it.
                parts.push(&self.place.revision);
            }
            let answer = self.send(self.authorized(api)).await?;
            let body = check(answer, None, &Expected::default(), false).await?.read(MAX_PAGE).await?;
            let info: Info = serde_json::from_slice(&body)
                .map_err(|error| Fault::refused(format!("what the hub says of it cannot be understood: {error}")))?;
            let plain = info.sha.bytes().all(|byte| byte.is_ascii_alphanumeric());
            if plain { Ok(info.sha) } else { Err(Fault::refused("the hub names no commit")) }
        });
        commit.await.map(String::as_str)
    }

    /// Sends, and says of a refusal who asked: the hub has it for what is private and for what is not there.
    async fn send(&self, request: reqwest::RequestBuilder) -> Result<Response, Fault> {
        let response = self.client.send(request).await?;
        match response.status() {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(self.identity.explain(refusal(response).await)),
            _ => Ok(response),
        }
    }

    fn authorized(&self, url: Url) -> reqwest::RequestBuilder {
        let request = self.client.get(url);
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }
}

/// The next page, by RFC 8288; on the same server, since the token goes along.
fn following(headers: &http::HeaderMap, from: &Url) -> Option<Url> {
    let text = headers.get(http::header::LINK)?.to_str().ok()?;
    let next = text.split(',').find(|link| link.contains("rel=\"next\""))?;
    let url = from.join(next.trim().strip_prefix('<')?.split('>').next()?).ok()?;
    (url.origin() == from.origin()).then_some(url)
}

/// What lies below `root`; a path that leads elsewhere is not believed.
fn relative(root: &str, path: &str) -> Option<String> {
    let rest = if root.is_empty() { path } else { path.strip_prefix(root)?.strip_prefix('/')? };
    let plain = rest.split('/').all(|part| !matches!(part, "" | "." | ".."));
    plain.then(|| rest.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stay_below_the_root() {
        assert_eq!(relative("", "a/b").as_deref(), Some("a/b"));
        assert_eq!(relative("onnx", "onnx/m.onnx").as_deref(), Some("m.onnx"));
        assert_eq!(relative("onnx", "onnx2/m.onnx"), None);
        assert_eq!(relative("", "../x"), None);
    }

    #[test]
    fn the_next_page_is_on_the_same_server() {
        let from = Url::parse("https://h/api?x").expect("valid");
        let headers = |link: &str| http::HeaderMap::from_iter([(http::header::LINK, link.parse().expect("valid"))]);
        let next = following(&headers("<https://h/api?cursor=2>; rel=\"next\""), &from);
        assert_eq!(next.expect("given").as_str(), "https://h/api?cursor=2");
        assert_eq!(following(&headers("<https://evil/api>; rel=\"next\""), &from), None);
    }
}
