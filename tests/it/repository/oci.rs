//! Models from a registry of container images, `distribution` itself: artefacts, images, and passwords.
//!
//! `go install github.com/distribution/distribution/v3/cmd/registry@v3.1.2` builds it.

use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{blobs, cache, failed, identity, predict, pull, pulled, said, sha256};
use crate::harness::{Answer, LIMIT, Server, folder, send, skip};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
const PLAIN: &str = "application/vnd.oci.image.layer.v1.tar";
/// `me` with the password `hunter2`, as `htpasswd -B` writes it, and as a client sends it.
const HTPASSWD: &str = "me:$2b$05$abcdefghijklmnopqrstuuoXuKqgZXLiJqzfmMXDDhSFPIvxV7t8.\n";
const BASIC: &str = "bWU6aHVudGVyMg==";

/// A registry that ends with its test.
struct Registry {
    child: Child,
    host: String,
    /// What is pushed with.
    authorization: Option<String>,
    _place: tempfile::TempDir,
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The program that CORYMB_TEST_REGISTRY names, else one of the path.
fn program() -> Option<PathBuf> {
    let path = std::env::var("CORYMB_TEST_REGISTRY").unwrap_or_else(|_| "registry".to_owned());
    let started = Command::new(&path).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    if started.is_ok() {
        return Some(path.into());
    }
    skip("registry is not installed, and CORYMB_TEST_REGISTRY names none");
    None
}

impl Registry {
    fn start(program: &Path, is_guarded: bool) -> Self {
        let place = folder(&[("users", HTPASSWD.as_bytes())]);
        let port = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port").port();
        let host = format!("127.0.0.1:{port}");
        let shown = place.path().display();
        let auth = format!("auth:\n  htpasswd:\n    realm: corymb\n    path: {shown}/users\n");
        let config = format!(
            "version: 0.1\nlog:\n  level: error\nstorage:\n  filesystem:\n    rootdirectory: {shown}/data\n\
             http:\n  addr: {host}\n{}",
            if is_guarded { auth.as_str() } else { "" },
        );
        let file = place.path().join("config.yml");
        std::fs::write(&file, config).expect("written");
        let mut command = Command::new(program);
        command.arg("serve").arg(&file).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().expect("the registry starts");
        let begun = Instant::now();
        while TcpStream::connect(&host).is_err() {
            assert!(begun.elapsed() < LIMIT, "nothing listens on {host}");
            std::thread::sleep(Duration::from_millis(20));
        }
        let authorization = is_guarded.then(|| format!("Basic {BASIC}"));
        Self { child, host, authorization, _place: place }
    }

    fn send(&self, method: &str, url: &str, kind: &str, body: &[u8]) -> Answer {
        let mut headers = vec![("content-type", kind)];
        headers.extend(self.authorization.as_deref().map(|value| ("authorization", value)));
        send(url, method, &headers, body)
    }

    /// Pushes a blob, and answers its descriptor.
    fn blob(&self, repository: &str, kind: &str, title: Option<&str>, content: &[u8]) -> Value {
        let digest = format!("sha256:{}", sha256(content));
        let uploads = format!("http://{}/v2/{repository}/blobs/uploads/", self.host);
        let begun = self.send("POST", &uploads, "application/octet-stream", b"");
        let place = begun.header("location").expect("a place").to_owned();
        let place = if place.starts_with('/') { format!("http://{}{place}", self.host) } else { place };
        let join = if place.contains('?') { '&' } else { '?' };
        let url = format!("{place}{join}digest={digest}");
        let put = self.send("PUT", &url, "application/octet-stream", content);
        assert_eq!(put.status, 201, "{}", put.text());
        let annotations = title.map(|title| json!({"org.opencontainers.image.title": title}));
        json!({"mediaType": kind, "digest": digest, "size": content.len(), "annotations": annotations})
    }

    /// Pushes a manifest of these layers under a tag, and answers its digest.
    fn manifest(&self, repository: &str, tag: &str, layers: &[Value]) -> String {
        let config = self.blob(repository, "application/vnd.oci.image.config.v1+json", None, b"{}");
        let text = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers}).to_string();
        let url = format!("http://{}/v2/{repository}/manifests/{tag}", self.host);
        let put = self.send("PUT", &url, MANIFEST, text.as_bytes());
        assert_eq!(put.status, 201, "{}", put.text());
        format!("sha256:{}", sha256(text.as_bytes()))
    }

    /// A model as `oras push` has it: a blob for each file.
    fn artefact(&self, repository: &str, tag: &str) -> String {
        let file = |title, content: &[u8]| self.blob(repository, "application/octet-stream", Some(title), content);
        let layers =
            [file("model.toml", b"file = 'net.onnx'"), file("net.onnx", &identity()), file("big.bin", b"unused")];
        self.manifest(repository, tag, &layers)
    }

    /// A model as KServe has it: an image with files in /models, of which the upper layer takes one away.
    fn modelcar(&self, repository: &str, tag: &str, toml: &[u8]) -> String {
        let lower = tape(&[("bin/sh", b"code"), ("models/net.onnx", &identity()), ("models/old.onnx", b"old")], true);
        let upper = tape(&[("models/model.toml", toml), ("models/.wh.old.onnx", b"")], false);
        let layers = [self.blob(repository, GZIP, None, &lower), self.blob(repository, PLAIN, None, &upper)];
        self.manifest(repository, tag, &layers)
    }
}

/// A layer of these files, by tar's own hand.
fn tape(files: &[(&str, &[u8])], is_packed: bool) -> Vec<u8> {
    let root = folder(files);
    let mut command = Command::new("tar");
    // The same bytes for the same files, so that a layer that is pushed again is known.
    command.args(["--create", "--file=-", "--sort=name", "--mtime=@0", "--directory"]).arg(root.path());
    let output = command.args(is_packed.then_some("--gzip")).arg(".").output().expect("tar");
    assert!(output.status.success(), "{}", said(&output));
    output.stdout
}

fn downloads(server: &Server) -> usize {
    server.events().iter().filter(|event| event["message"] == "downloaded").count()
}

#[test]
fn artefacts_and_images_are_served() {
    let Some(program) = program() else { return };
    let registry = Registry::start(&program, false);
    let digest = registry.artefact("team/net", "latest");
    registry.modelcar("team/car", "v1", b"file = 'net.onnx'");
    let place = cache();
    let path = place.path().to_string_lossy().into_owned();
    let (net, car) = (format!("oci://{}/team/net", registry.host), format!("oci://{}/team/car:v1", registry.host));
    let models = [format!("--model=net={net}"), format!("--model=pinned={net}@{digest}")];
    let arguments = [models[0].as_str(), &models[1], "--model-dir", &car, "--cache", &path];
    for round in 0..2 {
        let server = Server::start(&arguments);
        for model in ["net", "pinned", "car"] {
            predict(&server, model);
        }
        let downloads = downloads(&server);
        assert_eq!(downloads == 0, round == 1, "{downloads} downloads in round {round}");
    }
    for tree in std::fs::read_dir(place.path().join("models/trees")).expect("a cache").flatten() {
        for absent in ["big.bin", "old.onnx"] {
            assert!(!tree.path().join(absent).exists(), "{absent} was taken");
        }
    }

    // A tag that moves is another model, and of its image only what is new is fetched.
    registry.modelcar("team/car", "v1", b"file = 'net.onnx'\nlabels = 'absent.txt'");
    let text = failed(place.path(), &car, &[]);
    assert!(text.contains("absent.txt"), "{text}");
    registry.modelcar("team/car", "v1", b"# The same in other words.\nfile = 'net.onnx'");
    let before = blobs(place.path());
    pulled(place.path(), &car);
    assert_eq!(blobs(place.path()), before + 1);

    let absent = failed(place.path(), &format!("{net}:v9"), &[]);
    assert!(
        absent.contains(&format!("{net}:v9: the server answered 404 Not Found (MANIFEST_UNKNOWN: manifest unknown)")),
        "{absent}"
    );
    let short = failed(place.path(), "oci://team/net", &[]);
    assert!(short.contains("its first part, 'team', is no registry's host"), "{short}");
}

#[test]
fn passwords_of_docker_are_sent() {
    let Some(program) = program() else { return };
    let registry = Registry::start(&program, true);
    registry.artefact("net", "latest");
    let uri = format!("oci://{}/net", registry.host);
    let place = cache();
    let pulled = |auth: &str| {
        let home =
            folder(&[("config.json", json!({"auths": {&registry.host: {"auth": auth}}}).to_string().as_bytes())]);
        let mut command = pull(place.path(), &uri, &[]);
        command.env("DOCKER_CONFIG", home.path()).env_remove("REGISTRY_AUTH_FILE");
        let output = command.output().expect("the binary runs");
        (output.status.success(), said(&output))
    };
    // In base64: `me:hunter3`.
    let (is_pulled, text) = pulled("bWU6aHVudGVyMw==");
    let expected =
        format!("{uri}: the server answered 401 Unauthorized; asked with the credentials for '{}' in ", registry.host);
    assert!(!is_pulled && text.contains(&expected) && !text.contains("hunter"), "{text}");
    let (is_pulled, text) = pulled(BASIC);
    assert!(is_pulled, "{text}");
}
