//! `distribution`, the registry that others are made of, where `CORYMB_TEST_REGISTRY` or the path has its program:
//! `go install github.com/distribution/distribution/v3/cmd/registry@v3.1.2`.

use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use http::Method;
use http::header::{CONTENT_TYPE, LOCATION};
use reqwest::RequestBuilder;
use serde_json::{Value, json};

use super::fake::Content;
use super::{Environment, GZIP, MANIFEST, Opener, PLAIN, annotated, artefact, environment, failed, gzip, onnx, tape};
use crate::store::client::Client;

/// `hunter2` as `htpasswd -B` writes it.
const HTPASSWD: &str = "me:$2b$05$abcdefghijklmnopqrstuuoXuKqgZXLiJqzfmMXDDhSFPIvxV7t8.\n";

/// A registry that ends with its test.
struct Registry {
    child: Child,
    host: String,
    place: tempfile::TempDir,
    /// Whether it asks who it is that comes.
    is_guarded: bool,
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Registry {
    /// None, with a reason, where there is no program.
    fn start(is_guarded: bool) -> Option<Self> {
        let program = std::env::var("CORYMB_TEST_REGISTRY").unwrap_or_else(|_| "registry".to_owned());
        let started = Command::new(&program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
        if started.is_err() {
            let reason = "registry is not installed, and CORYMB_TEST_REGISTRY names none";
            assert!(std::env::var("CI").as_deref() != Ok("true"), "missing under CI: {reason}");
            eprintln!("skipped: {reason}");
            return None;
        }
        let place = tempfile::tempdir().expect("a temporary folder");
        let listener = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        let host = listener.expect("a port").to_string();
        let (data, users) = (place.path().join("data"), place.path().join("users"));
        std::fs::write(&users, HTPASSWD).expect("written");
        let auth = format!("auth:\n  htpasswd:\n    realm: corymb\n    path: {}\n", users.display());
        let config = format!(
            "version: 0.1\nlog:\n  level: error\nstorage:\n  filesystem:\n    rootdirectory: {}\nhttp:\n  addr: {host}\n{}",
            data.display(),
            if is_guarded { auth.as_str() } else { "" },
        );
        let file = place.path().join("config.yml");
        std::fs::write(&file, config).expect("written");
        let mut command = Command::new(program);
        command.arg("serve").arg(&file).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().expect("the registry starts");
        let begun = Instant::now();
        while TcpStream::connect(&host).is_err() {
            assert!(begun.elapsed() < Duration::from_secs(20), "nothing listens on {host}");
            std::thread::sleep(Duration::from_millis(20));
        }
        Some(Self { child, host, place, is_guarded })
    }

    fn request(&self, client: &Client, method: Method, url: &str) -> RequestBuilder {
        let base = url::Url::parse(&format!("http://{}/", self.host)).expect("a URL");
        let request = client.request(method, base.join(url).expect("a URL"));
        if self.is_guarded { request.basic_auth("me", Some("hunter2")) } else { request }
    }

    /// Pushes as the distribution's specification has it: blobs, then manifests.
    async fn push(&self, repository: &str, content: &Content) {
        let client = Client::new(&Environment::new()).expect("a client");
        for (digest, blob) in &content.blobs {
            let begin = self.request(&client, Method::POST, &format!("v2/{repository}/blobs/uploads/"));
            let begun = client.send(begin.body("")).await.expect("answered");
            let place = begun.headers().get(LOCATION).and_then(|place| place.to_str().ok()).expect("a place");
            let upload = self.request(&client, Method::PUT, place).query(digest);
            let pushed = client.send(upload.body(blob.clone())).await.expect("answered");
            assert_eq!(pushed.status(), 201);
        }
        for (name, manifest) in content.manifests.iter().filter(|(name, _)| !name.starts_with("sha256:")) {
            let put = self.request(&client, Method::PUT, &format!("v2/{repository}/manifests/{name}"));
            let document: Value = serde_json::from_slice(manifest).expect("valid");
            let kind = document["mediaType"].as_str().expect("a type").to_owned();
            let put = put.header(CONTENT_TYPE, kind).body(manifest.clone());
            let pushed = client.send(put).await.expect("answered");
            assert_eq!(pushed.status(), 201, "{name}");
        }
    }
}

/// The digest behind the place of an upload, which has a query already.
trait Query {
    fn query(self, digest: &str) -> Self;
}

impl Query for RequestBuilder {
    fn query(self, digest: &str) -> Self {
        let (client, request) = self.build_split();
        let mut request = request.expect("valid");
        request.url_mut().query_pairs_mut().append_pair("digest", digest);
        Self::from_parts(client, request)
    }
}

#[tokio::test]
async fn an_artefact_is_opened_by_its_tag_and_its_digest() {
    let Some(registry) = Registry::start(false) else { return };
    let mut content = Content::default();
    let first = artefact(&mut content, "latest");
    artefact(&mut content, "v1");
    registry.push("team/net", &content).await;
    let uri = format!("oci://{}/team/net", registry.host);
    let opener = Opener::new(&Environment::new());
    let expected = format!("labels.txt:4 model.toml:{} net.onnx:{}", MANIFEST.len(), onnx().len());
    for uri in [uri.clone(), format!("{uri}:v1"), format!("{uri}@{first}"), format!("{uri}:v1@{first}")] {
        assert_eq!(opener.files(&uri).await, expected, "{uri}");
    }
    assert_eq!(opener.repository.revision(&uri).await.expect("asked"), first);

    let other = content.file("labels.txt", b"three\nmore\nlabels\n");
    let layers = [content.file("model.toml", MANIFEST.as_bytes()), content.file("net.onnx", &onnx()), other];
    let second = content.manifest("latest", &layers);
    registry.push("team/net", &content).await;
    assert_eq!(opener.repository.revision(&uri).await.expect("asked"), second);
    assert_eq!(opener.files(&uri).await, expected.replace(":4 ", ":18 "));
    assert_eq!(opener.files(&format!("{uri}@{first}")).await, expected);

    let said = failed(&Environment::new(), &format!("{uri}:v9")).await;
    assert_eq!(said, format!("{uri}:v9: the server answered 404 Not Found (MANIFEST_UNKNOWN: manifest unknown)"));
    let nowhere = format!("{uri}@sha256:{}", "0".repeat(64));
    let said = failed(&Environment::new(), &nowhere).await;
    assert!(said.starts_with(&format!("{nowhere}: the server answered 404 Not Found (MANIFEST_UNKNOWN: ")), "{said}");
    let strange = format!("oci://{}/nobody/net", registry.host);
    let said = failed(&Environment::new(), &strange).await;
    assert!(said.starts_with(&format!("{strange}: the server answered 404 Not Found (")), "{said}");
}

#[tokio::test]
async fn a_modelcar_is_unpacked_and_a_damaged_registry_is_caught() {
    let Some(registry) = Registry::start(false) else { return };
    let mut content = Content::default();
    let onnx = onnx();
    let lower = tape(&[("models/", b""), ("models/1/net.onnx", &onnx), ("models/1/old", b"old"), ("bin/sh", b"code")]);
    let upper = tape(&[("models/1/.wh.old", b""), ("models/1/model.toml", b"")]);
    let layers = [annotated(&mut content, GZIP, &gzip(&lower)), annotated(&mut content, PLAIN, &upper)];
    let config =
        json!({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": []}}).to_string();
    let config = content.blob("application/vnd.oci.image.config.v1+json", config.as_bytes(), &Value::Null);
    let kind = "application/vnd.oci.image.manifest.v1+json";
    let image = json!({"schemaVersion": 2, "mediaType": kind, "config": config, "layers": layers});
    let digest = content.tag("one", &image);
    registry.push("car", &content).await;
    let size = image.to_string().len();
    let platform = json!({"os": "linux", "architecture": "amd64"});
    let entry = json!({"mediaType": kind, "digest": digest, "size": size, "platform": platform});
    let kind = "application/vnd.oci.image.index.v1+json";
    let mut index = Content::default();
    index.tag("many", &json!({"schemaVersion": 2, "mediaType": kind, "manifests": [entry]}));
    registry.push("car", &index).await;
    let uri = format!("oci://{}/car", registry.host);
    let opener = Opener::new(&Environment::new());
    let expected = format!("1/model.toml:0 1/net.onnx:{}", onnx.len());
    for uri in [format!("{uri}:one"), format!("{uri}:many"), format!("{uri}@{digest}")] {
        assert_eq!(opener.files(&uri).await, expected, "{uri}");
    }

    // One byte flips on the registry's disk.
    let hex = &layers[1]["digest"].as_str().expect("a digest")[7..];
    let blobs = registry.place.path().join("data/docker/registry/v2/blobs/sha256");
    let blob = blobs.join(&hex[..2]).join(hex).join("data");
    let mut bytes = std::fs::read(&blob).expect("its place");
    bytes[0] ^= 1;
    std::fs::write(&blob, bytes).expect("written");
    let said = failed(&Environment::new(), &format!("{uri}:one")).await;
    assert!(said.starts_with(&format!("{uri}@sha256:{hex}: its sha256 is ")), "{said}");
    assert!(said.ends_with(&format!("; the store says {hex}")), "{said}");
}

#[tokio::test]
async fn a_registry_with_passwords_is_asked_with_those_of_docker() {
    let Some(registry) = Registry::start(true) else { return };
    let mut content = Content::default();
    artefact(&mut content, "latest");
    registry.push("net", &content).await;
    let uri = format!("oci://{}/net", registry.host);
    let login = |auth: &str| {
        let home = tempfile::tempdir().expect("a temporary folder");
        let text = json!({"auths": {&registry.host: {"auth": auth}}}).to_string();
        std::fs::write(home.path().join("config.json"), text).expect("written");
        let environment = environment(&[("DOCKER_CONFIG", &home.path().to_string_lossy())]);
        (home, environment)
    };
    let (_right, environment) = login("bWU6aHVudGVyMg==");
    Opener::new(&environment).open(&uri).await.expect("logged in");
    let (home, environment) = login("bWU6aHVudGVyMw==");
    let refused = "the server answered 401 Unauthorized";
    let file = home.path().join("config.json");
    let expected = format!(
        "{uri}: {refused}; asked with the credentials for '{}' in {}",
        registry.host,
        Path::new(&file).display()
    );
    assert_eq!(failed(&environment, &uri).await, expected);
    let nobody = Environment::from([("HOME".to_owned(), "/nowhere".to_owned())]);
    let said = failed(&nobody, &uri).await;
    let looked = "/nowhere/.docker/config.json, /nowhere/.config/containers/auth.json";
    assert!(
        said.starts_with(&format!("{uri}: {refused}; no credentials were found (looked at {looked}): run")),
        "{said}"
    );
}
