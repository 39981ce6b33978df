//! A plain web server: one file, or a folder whose manifest names the files.

use std::ops::Range;

use reqwest::Response;
use url::Url;

use crate::store::below;
use crate::store::client::Client;
use crate::store::fault::Fault;
use crate::uri::{WebPlace, shown_url};

/// A folder on a web server. For a file it is the folder around it.
pub(crate) struct Web {
    client: Client,
    folder: Url,
    user: Option<(String, Option<String>)>,
}

impl Web {
    pub(crate) fn new(place: &WebPlace, client: &Client) -> Self {
        Self { client: client.clone(), folder: place.url.clone(), user: place.user.clone() }
    }

    pub(crate) fn shown(&self, path: &str) -> String {
        shown_url(&below(&self.folder, path)).trim_end_matches('/').to_owned()
    }

    pub(crate) async fn get(&self, path: &str, range: Option<Range<u64>>) -> Result<Response, Fault> {
        // reqwest leaves credentials out when a redirect leads to another host.
        let mut request = self.client.get(below(&self.folder, path));
        if let Some((name, password)) = &self.user {
            request = request.basic_auth(name, password.as_ref());
        }
        // Many servers state a checksum to who asks for one alone: RFC 3230, and RFC 9530 after it.
        let request = request.header("want-digest", "sha-256").header("want-repr-digest", "sha-256=10");
        self.client.send(ranged(request, range)).await
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
