//! A server on this machine for tests of downloads: it knows ranges and tags.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncWriteExt as _, BufReader};
use tokio::net::TcpListener;

use crate::store::client::Environment;
pub(crate) use crate::store::credentials::server::Request;
use crate::store::credentials::server::{environment, read};

/// What is answered.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    pub(crate) fn of(status: u16) -> Self {
        Self { status, ..Self::default() }
    }

    /// What is asked of a bucket of S3, which is named first in each path.
    pub(crate) fn bucket(request: &Request, files: &[(&str, &[u8])]) -> Self {
        let path = request.line.split([' ', '?']).nth(1).unwrap_or_default().trim_start_matches('/');
        let (_, key) = path.split_once('/').unwrap_or_default();
        if let Some((_, content)) = files.iter().find(|(name, _)| *name == key) {
            return Self::file(request, content, "v1");
        }
        if !request.line.contains("list-type=2") {
            return Self::of(404);
        }
        let shown = files.iter().map(|(name, content)| {
            let size = content.len();
            format!(
                "<Contents><Key>{name}</Key><Size>{size}</Size><ETag>v1</ETag>\
                 <LastModified>2020-01-01T00:00:00.000Z</LastModified></Contents>"
            )
        });
        let list = format!("<ListBucketResult>{}</ListBucketResult>", shown.collect::<String>());
        Self { body: list.into_bytes(), ..Self::of(200) }
    }

    /// What of a file is asked for.
    pub(crate) fn file(request: &Request, content: &[u8], tag: &str) -> Self {
        let mut headers = vec![("etag", format!("\"{tag}\""))];
        let range = request.header("range").strip_prefix("bytes=").and_then(|range| range.split_once('-'));
        let Some((first, last)) = range else { return Self { status: 200, headers, body: content.to_owned() } };
        let (first, last): (usize, usize) = (first.parse().expect("a number"), last.parse().expect("a number"));
        let last = last.min(content.len() - 1);
        headers.push(("content-range", format!("bytes {first}-{last}/{}", content.len())));
        Self { status: 206, headers, body: content[first..=last].to_owned() }
    }
}

/// Answers for as long as the runtime of its test runs.
pub(crate) struct Server {
    pub(crate) url: String,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Server {
    pub(crate) async fn start(reply: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (kept, reply) = (Arc::clone(&requests), Arc::new(reply));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (kept, reply) = (Arc::clone(&kept), Arc::clone(&reply));
                tokio::spawn(async move {
                    let mut stream = BufReader::new(stream);
                    let request = read(&mut stream).await;
                    let Reply { status, headers, body } = reply(&request);
                    let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
                    let length = body.len();
                    let head = format!(
                        "HTTP/1.1 {status} X\r\n{headers}content-length: {length}\r\nconnection: close\r\n\r\n"
                    );
                    let body = if request.line.starts_with("HEAD ") { Vec::new() } else { body };
                    kept.lock().expect("no panic").push(request);
                    let _ = stream.write_all(&[head.into_bytes(), body].concat()).await;
                });
            }
        });
        Self { url, requests }
    }

    /// Variables with which it is S3's.
    pub(crate) fn of_s3(&self) -> Environment {
        environment(&[
            ("AWS_ENDPOINT_URL_S3", &self.url),
            ("AWS_REGION", "eu-west-1"),
            ("AWS_ACCESS_KEY_ID", "A"),
            ("AWS_SECRET_ACCESS_KEY", "hunter2"),
        ])
    }

    /// What came since it was asked before, as `GET /path?query RANGE`.
    pub(crate) fn requests(&self) -> Vec<String> {
        let requests = std::mem::take(&mut *self.requests.lock().expect("no panic"));
        requests.iter().map(|request| format!("{} {}", request.line, request.header("range"))).collect()
    }
}
