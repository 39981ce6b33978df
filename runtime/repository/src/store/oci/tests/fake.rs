//! A registry on this machine, as hostile as a test wants it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

use crate::store::oci::sha256;

/// What came.
#[derive(Clone, Debug, Default)]
pub(super) struct Request {
    /// As `GET /path?query`.
    pub(super) line: String,
    /// By their names in lower case.
    pub(super) headers: BTreeMap<String, String>,
    pub(super) body: String,
}

/// What is answered.
#[derive(Clone, Debug, Default)]
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) body: Vec<u8>,
    /// Says nothing of how long it is.
    pub(super) is_endless: bool,
}

impl Reply {
    pub(super) fn of(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self { status, body: body.into(), ..Self::default() }
    }
}

/// What a registry has.
#[derive(Clone, Debug, Default)]
pub(super) struct Content {
    /// By digest and by tag.
    pub(super) manifests: BTreeMap<String, Vec<u8>>,
    pub(super) blobs: BTreeMap<String, Vec<u8>>,
}

impl Content {
    /// Takes a blob, and answers its descriptor.
    pub(super) fn blob(&mut self, kind: &str, content: &[u8], annotations: &Value) -> Value {
        let digest = sha256(content);
        self.blobs.insert(digest.clone(), content.to_owned());
        json!({"mediaType": kind, "digest": digest, "size": content.len(), "annotations": annotations})
    }

    pub(super) fn file(&mut self, title: &str, content: &[u8]) -> Value {
        self.blob("application/octet-stream", content, &json!({"org.opencontainers.image.title": title}))
    }

    /// Takes a document under a tag, and answers its digest.
    pub(super) fn tag(&mut self, tag: &str, document: &Value) -> String {
        let text = document.to_string().into_bytes();
        let digest = sha256(&text);
        for name in [tag.to_owned(), digest.clone()] {
            self.manifests.insert(name, text.clone());
        }
        digest
    }

    /// The same, of a manifest of these layers.
    pub(super) fn manifest(&mut self, tag: &str, layers: &[Value]) -> String {
        let kind = "application/vnd.oci.image.manifest.v1+json";
        let config = self.blob("application/vnd.oci.empty.v1+json", b"{}", &Value::Null);
        self.tag(tag, &json!({"schemaVersion": 2, "mediaType": kind, "config": config, "layers": layers}))
    }

    /// What a registry answers that asks nobody who they are.
    pub(super) fn answer(&self, request: &Request) -> Reply {
        let (method, path) = request.line.split_once(' ').unwrap_or_default();
        let path = path.split('?').next().unwrap_or_default();
        let name = path.rsplit('/').next().unwrap_or_default();
        let found = if path.contains("/manifests/") { self.manifests.get(name) } else { self.blobs.get(name) };
        let Some(content) = found else {
            let body = json!({"errors": [{"code": "MANIFEST_UNKNOWN", "message": "manifest unknown"}]}).to_string();
            return Reply::of(404, if method == "HEAD" { String::new() } else { body });
        };
        let mut reply = Reply::of(200, content.clone());
        if path.contains("/manifests/") {
            reply.headers.push(("docker-content-digest", sha256(content)));
        } else if let Some((first, last)) = range(request) {
            let last = last.min(content.len() - 1);
            reply = Reply::of(206, &content[first..=last]);
            reply.headers.push(("content-range", format!("bytes {first}-{last}/{}", content.len())));
        }
        reply
    }
}

fn range(request: &Request) -> Option<(usize, usize)> {
    let (first, last) = request.headers.get("range")?.strip_prefix("bytes=")?.split_once('-')?;
    Some((first.parse().ok()?, last.parse().ok()?))
}

/// Answers for as long as the runtime of its test runs.
pub(super) struct Server {
    /// With its port, without a scheme.
    pub(super) host: String,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Server {
    pub(super) async fn start(reply: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let host = listener.local_addr().expect("an address").to_string();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (kept, reply) = (Arc::clone(&requests), Arc::new(reply));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (kept, reply) = (Arc::clone(&kept), Arc::clone(&reply));
                tokio::spawn(async move {
                    let mut stream = BufReader::new(stream);
                    let request = read(&mut stream).await;
                    let answer = reply(&request);
                    let is_head = request.line.starts_with("HEAD ");
                    kept.lock().expect("no panic").push(request);
                    write(stream, answer, is_head).await;
                });
            }
        });
        Self { host, requests }
    }

    /// A registry of what `content` is at each time.
    pub(super) async fn of(content: &Arc<Mutex<Content>>) -> Self {
        let content = Arc::clone(content);
        Self::start(move |request| content.lock().expect("no panic").answer(request)).await
    }

    /// What came since this was asked last.
    pub(super) fn requests(&self) -> Vec<Request> {
        std::mem::take(&mut *self.requests.lock().expect("no panic"))
    }

    /// The lines of it, digests cut short.
    pub(super) fn lines(&self) -> Vec<String> {
        let short = |line: String| match line.split_once("sha256:") {
            Some((front, digest)) => format!("{front}sha256:{}", &digest[..6]),
            None => line,
        };
        self.requests().into_iter().map(|request| short(request.line)).collect()
    }
}

async fn read(stream: &mut BufReader<TcpStream>) -> Request {
    let mut request = Request::default();
    let mut line = String::new();
    while stream.read_line(&mut line).await.is_ok_and(|read| read > 2) {
        match line.trim().split_once(": ") {
            Some((name, value)) => {
                request.headers.insert(name.to_ascii_lowercase(), value.to_owned());
            }
            None => line.trim().trim_end_matches(" HTTP/1.1").clone_into(&mut request.line),
        }
        line.clear();
    }
    let length = request.headers.get("content-length").and_then(|length| length.parse().ok());
    let mut body = vec![0; length.unwrap_or_default()];
    let _ = stream.read_exact(&mut body).await;
    request.body = String::from_utf8_lossy(&body).into_owned();
    request
}

async fn write(mut stream: BufReader<TcpStream>, reply: Reply, is_head: bool) {
    let mut head = format!("HTTP/1.1 {} X\r\nconnection: close\r\n", reply.status);
    for (name, value) in &reply.headers {
        let _ = write!(head, "{name}: {value}\r\n");
    }
    if !reply.is_endless {
        let _ = write!(head, "content-length: {}\r\n", reply.body.len());
    }
    let _ = stream.write_all(format!("{head}\r\n").as_bytes()).await;
    if !is_head {
        let _ = stream.write_all(&reply.body).await;
    }
    let _ = stream.shutdown().await;
}
