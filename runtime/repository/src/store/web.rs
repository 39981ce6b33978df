//! A plain web server: one file, or a folder whose manifest names the files.

use std::ops::Range;

use reqwest::{Response, StatusCode};
use url::Url;

use crate::onnx::is_file;
use crate::store::answer::{Expected, check, refusal};
use crate::store::below;
use crate::store::client::Client;
use crate::store::credentials::Identity;
use crate::store::fault::Fault;
use crate::uri::{WebPlace, percent_decoded, shown_url};

/// A folder on a web server. For a file it is the folder around it.
pub(crate) struct Web {
    client: Client,
    folder: Url,
    user: Option<(String, Option<String>)>,
    /// What the address itself is called, where it is that of a file whose name does not say so.
    called: Option<String>,
}

/// Bytes of a file that tell what it is: a tape's mark stands at 257.
const HEAD: u64 = 512;

impl Web {
    pub(crate) fn new(place: &WebPlace, client: &Client) -> Self {
        Self { client: client.clone(), folder: place.url.clone(), user: place.user.clone(), called: None }
    }

    /// The same, of an address that is that of a file of this name.
    pub(crate) fn called(self, name: String) -> Self {
        Self { called: Some(name), ..self }
    }

    pub(crate) fn shown(&self, path: &str) -> String {
        shown_url(&self.url(path)).trim_end_matches('/').to_owned()
    }

    fn url(&self, path: &str) -> Url {
        if self.called.as_deref() == Some(path) { self.folder.clone() } else { below(&self.folder, path) }
    }

    /// The name of the file that the address itself is that of, from what the server says or from its first bytes; none where
    /// it is no model and no archive.
    pub(crate) async fn own_name(&self) -> Result<Option<String>, Fault> {
        let answer = self.get("", Some(0..HEAD)).await?;
        let said = answer.headers().get(http::header::CONTENT_DISPOSITION).and_then(|value| value.to_str().ok());
        let said = said.and_then(disposition);
        let mut answer = check(answer, Some(0..HEAD), &Expected::default(), false).await?;
        if let Some(name) = said.filter(|name| is_file(name)) {
            return Ok(Some(name));
        }
        let mut head = Vec::new();
        while head.len() < HEAD as usize {
            match answer.piece().await? {
                Some(piece) => head.extend_from_slice(&piece),
                None => break,
            }
        }
        let stem = self.folder.path_segments().and_then(|mut parts| parts.next_back()).unwrap_or_default();
        let plain = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_' | '.');
        let stem: String = stem.chars().filter(|letter| plain(*letter)).collect();
        let stem = if stem.is_empty() { "model" } else { &stem };
        Ok(ending(&head).map(|ending| format!("{stem}{ending}")))
    }

    pub(crate) async fn get(&self, path: &str, range: Option<Range<u64>>) -> Result<Response, Fault> {
        // reqwest leaves credentials out when a redirect leads to another host.
        let mut request = self.client.get(self.url(path));
        if let Some((name, password)) = &self.user {
            request = request.basic_auth(name, password.as_ref());
        }
        // Many servers state a checksum to who asks for one alone: RFC 3230, and RFC 9530 after it.
        let request = request.header("want-digest", "sha-256").header("want-repr-digest", "sha-256=10, sha-512=5");
        let response = self.client.send(ranged(request, range)).await?;
        match response.status() {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(self.identity().explain(refusal(response).await)),
            _ => Ok(response),
        }
    }

    /// Who asks, without their name, which may be a token.
    fn identity(&self) -> Identity {
        match (&self.user, self.folder.query()) {
            (Some(_), _) => Identity::Found("asked with the user and the password in the URL".to_owned()),
            (None, Some(_)) => Identity::Found("asked with what stands behind the ? of the URL".to_owned()),
            (None, None) => Identity::of_nobody_in_a_url(),
        }
    }
}

/// The file's name in a `Content-Disposition`, by RFC 6266.
fn disposition(text: &str) -> Option<String> {
    let parameter = |name: &str| {
        let found = text.split(';').find_map(|item| item.trim().strip_prefix(name)?.strip_prefix('='))?;
        Some(found.trim().trim_matches('"').to_owned())
    };
    let name = parameter("filename*").and_then(|value| Some(percent_decoded(value.rsplit_once('\'')?.1)));
    let name = name.or_else(|| parameter("filename"))?;
    // A path of whoever sent it is none here.
    name.rsplit(['/', '\\']).next().filter(|name| !name.is_empty()).map(str::to_owned)
}

/// What a file's name would end with, by its first bytes. An ONNX file begins with the version of its format.
fn ending(head: &[u8]) -> Option<&'static str> {
    match head {
        [0x1f, 0x8b, ..] => Some(".tar.gz"),
        [b'P', b'K', 3 | 5, ..] => Some(".zip"),
        [0x08, 1..=127, 0x12 | 0x1a | 0x22 | 0x28 | 0x32 | 0x3a | 0x42, ..] => Some(".onnx"),
        _ => (head.get(257..262) == Some(b"ustar")).then_some(".tar"),
    }
}

/// Asks for a part only. A compressed answer would have other offsets, so none is accepted.
pub(crate) fn ranged(request: reqwest::RequestBuilder, range: Option<Range<u64>>) -> reqwest::RequestBuilder {
    let request = request.header(http::header::ACCEPT_ENCODING, "identity");
    match range {
        Some(range) => {
            let last = range.end.saturating_sub(1);
            request.header(http::header::RANGE, format!("bytes={}-{last}", range.start))
        }
        None => request,
    }
}

#[cfg(test)]
mod tests {
    use super::{disposition, ending};

    #[test]
    fn a_file_s_name_is_read_or_told_from_its_bytes() {
        for (text, name) in [
            ("attachment; filename=\"net.onnx\"", "net.onnx"),
            ("inline; filename=net.onnx; size=3", "net.onnx"),
            ("attachment; filename=\"x\"; filename*=UTF-8''a%20b.zip", "a b.zip"),
            ("attachment; filename=\"C:\\\\models\\\\net.onnx\"", "net.onnx"),
            ("attachment; filename=\"../../net.onnx\"", "net.onnx"),
        ] {
            assert_eq!(disposition(text).as_deref(), Some(name), "{text}");
        }
        assert_eq!(disposition("inline"), None);
        assert_eq!(ending(&[0x08, 0x07, 0x12, 0x05, b't']), Some(".onnx"));
        assert_eq!(ending(b"PK\x03\x04"), Some(".zip"));
        assert_eq!(ending(&[0x1f, 0x8b, 8]), Some(".tar.gz"));
        let mut tape = vec![0; 512];
        tape[257..262].copy_from_slice(b"ustar");
        assert_eq!(ending(&tape), Some(".tar"));
        for other in [&b"<!DOCTYPE html>"[..], b"", b"{\"error\": 1}", &[0; 512]] {
            assert_eq!(ending(other), None);
        }
    }
}
