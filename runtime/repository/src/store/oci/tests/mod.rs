//! Models of registries, from the URI to the folder: of one that does what a test wants, and of `distribution` itself.

mod fake;
mod images;
mod login;
mod real;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};

use crate::store::client::Environment;
use crate::store::credentials::server::environment;
use crate::{ModelFolder, Offline, Repository, RepositoryOptions, SignaturePolicy};
use fake::{Content, Reply, Server};

const GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
const PLAIN: &str = "application/vnd.oci.image.layer.v1.tar";
const MANIFEST: &str = "labels = \"labels.txt\"\n";

fn onnx() -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/models/identity_fp32.onnx");
    std::fs::read(path).expect("the fixture")
}

/// A cache of its own, and who opens models by way of it.
struct Opener {
    repository: Repository,
    cache: tempfile::TempDir,
}

impl Opener {
    fn new(environment: &Environment) -> Self {
        let cache = tempfile::tempdir().expect("a temporary folder");
        Self { repository: repository(cache.path(), environment, Offline::Never), cache }
    }

    /// Who has the same cache and asks nobody.
    fn offline(&self) -> Repository {
        repository(self.cache.path(), &Environment::new(), Offline::Always)
    }

    async fn open(&self, uri: &str) -> Result<Vec<ModelFolder>, String> {
        self.repository.open("m", uri).await.map_err(|error| error.to_string())
    }

    /// The files of the model, beside their contents' lengths.
    async fn files(&self, uri: &str) -> String {
        let folders = self.open(uri).await.unwrap_or_else(|error| panic!("{error}"));
        let model = folders[0].path().expect("on the disk");
        let is_tree = |path: &&Path| path.parent().is_some_and(|folder| folder.ends_with("trees"));
        let path = model.ancestors().find(is_tree).expect("in the cache").to_owned();
        let mut files = Vec::new();
        let mut folders = vec![path.clone()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
                if entry.path().is_dir() {
                    folders.push(entry.path());
                } else {
                    let name = entry.path().strip_prefix(&path).expect("inside").display().to_string();
                    files.push(format!("{name}:{}", entry.metadata().expect("there").len()));
                }
            }
        }
        files.sort();
        files.join(" ")
    }

    /// Finished files of the cache.
    fn blobs(&self) -> usize {
        let entries = std::fs::read_dir(self.cache.path().join("models/blobs")).expect("a cache").flatten();
        entries.filter(|entry| !entry.file_name().to_string_lossy().contains('.')).count()
    }
}

fn repository(cache: &Path, environment: &Environment, offline: Offline) -> Repository {
    Repository::new(RepositoryOptions {
        cache: Some(cache.to_owned()),
        cache_size: None,
        download_timeout: Duration::from_secs(1),
        environment: environment.clone(),
        progress: None,
        signatures: SignaturePolicy::default(),
        offline,
    })
}

async fn failed(environment: &Environment, uri: &str) -> String {
    Opener::new(environment).open(uri).await.map(drop).expect_err("refused")
}

/// A tape of entries: files as `PATH=CONTENT`, links as `PATH>TARGET`, hard links as `PATH#TARGET`, folders as `PATH/`.
fn tape(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let mut tape = tar::Builder::new(Vec::new());
    for (name, content) in entries {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        header.set_size(0);
        let link = name.split_once('>').map(|link| (link, tar::EntryType::Symlink));
        let link = link.or(name.split_once('#').map(|link| (link, tar::EntryType::Link)));
        if let Some(((path, target), kind)) = link {
            header.set_entry_type(kind);
            tape.append_link(&mut header, path, target).expect("written");
            continue;
        }
        let kind = match *name {
            name if name.ends_with('/') => tar::EntryType::Directory,
            "dev/null" => tar::EntryType::Char,
            _ => tar::EntryType::Regular,
        };
        header.set_entry_type(kind);
        header.set_size(content.len() as u64);
        // Names that no tool writes are written here.
        let bytes = name.as_bytes();
        header.as_old_mut().name[..bytes.len()].copy_from_slice(bytes);
        header.set_cksum();
        tape.append(&header, *content).expect("written");
    }
    tape.into_inner().expect("finished")
}

fn gzip(content: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    std::io::Write::write_all(&mut encoder, content).expect("written");
    encoder.finish().expect("finished")
}

fn shared(content: Content) -> Arc<Mutex<Content>> {
    Arc::new(Mutex::new(content))
}

/// An artefact of three files, one of which no model needs.
fn artefact(content: &mut Content, tag: &str) -> String {
    let layers = [
        content.file("model.toml", MANIFEST.as_bytes()),
        content.file("net.onnx", &onnx()),
        content.file("labels.txt", b"a\nb\n"),
        content.file("unused.bin", b"of no use"),
    ];
    content.manifest(tag, &layers)
}

#[tokio::test]
async fn files_of_an_artefact_are_fetched_as_they_are_needed() {
    let mut content = Content::default();
    let digest = artefact(&mut content, "latest");
    let content = shared(content);
    let server = Server::of(&content).await;
    let uri = format!("oci://{}/team/net", server.host);
    let opener = Opener::new(&Environment::new());
    let expected = format!("labels.txt:4 model.toml:{} net.onnx:{}", MANIFEST.len(), onnx().len());
    assert_eq!(opener.files(&uri).await, expected);
    let lines = server.lines();
    assert_eq!(lines[0], "HEAD /v2/team/net/manifests/latest");
    assert_eq!(lines[1], format!("GET /v2/team/net/manifests/sha256:{}", &digest[7..13]));
    assert_eq!(lines.len(), 5, "{lines:?}");
    // What is there needs no second download, and a manifest that is named no question.
    assert_eq!(opener.files(&uri).await, expected);
    assert_eq!(server.lines().len(), 2);
    assert_eq!(opener.repository.revision(&uri).await.expect("asked"), digest);
    assert_eq!(server.lines(), ["HEAD /v2/team/net/manifests/latest"]);
    let pinned = format!("{uri}@{digest}");
    assert_eq!(opener.files(&pinned).await, expected);
    assert!(server.lines().iter().all(|line| !line.starts_with("HEAD")));
    let file = format!("{uri}:latest/net.onnx");
    assert_eq!(opener.files(&file).await, format!("net.onnx:{}", onnx().len()));
    let unknown = failed(&Environment::new(), &format!("{uri}:latest/other.onnx")).await;
    assert_eq!(unknown, format!("{uri}:latest/other.onnx: there is no such object"));
    let unknown = failed(&Environment::new(), &format!("{uri}:v9")).await;
    assert_eq!(unknown, format!("{uri}:v9: the server answered 404 Not Found (MANIFEST_UNKNOWN: manifest unknown)"));
    let found = opener.repository.look_into(&uri, None).await.expect("asked").all().expect("a model");
    assert_eq!(found[0].name, "net");
}

#[tokio::test]
async fn bytes_that_are_not_those_of_the_digest_are_refused() {
    let mut content = Content::default();
    let digest = artefact(&mut content, "latest");
    let weights = crate::store::oci::sha256(&onnx());
    let blob = content.blobs.get_mut(&weights).expect("there");
    blob[40] ^= 1;
    let found = crate::store::oci::sha256(blob);
    let good = content.clone();
    let server = Server::of(&shared(content)).await;
    let uri = format!("oci://{}/net", server.host);
    let opener = Opener::new(&Environment::new());
    let said = opener.open(&uri).await.map(drop).expect_err("flipped");
    let (found, stated) = (&found[7..], &weights[7..]);
    assert_eq!(said, format!("{uri}/net.onnx: its sha256 is {found}; the store says {stated}"));
    let kept = opener.blobs();
    assert!(kept <= 2, "{kept} files were kept");

    // More than was said, by a server that does not say how much, and less.
    for (is_endless, body) in [(true, [&onnx()[..], b"more"].concat()), (false, onnx()[..9].to_vec())] {
        let good = good.clone();
        let path = format!("/v2/net/blobs/{weights}");
        let server = Server::start(move |request| {
            if request.line.ends_with(&path) {
                return Reply { is_endless, ..Reply::of(200, body.clone()) };
            }
            good.answer(request)
        });
        let said = failed(&Environment::new(), &format!("oci://{}/net", server.await.host)).await;
        assert!(said.contains("/net.onnx: "), "{said}");
    }

    // A manifest that is not what was named.
    let mut other = Content::default();
    artefact(&mut other, "latest");
    other.manifests.insert(digest.clone(), b"{\"layers\": []}".to_vec());
    let server = Server::of(&shared(other)).await;
    let pinned = format!("oci://{}/net@{digest}", server.host);
    let said = failed(&Environment::new(), &pinned).await;
    assert!(said.starts_with(&format!("{pinned}: its manifest's digest is sha256:")), "{said}");
    assert!(said.ends_with(&format!(", and should be {digest}")), "{said}");
}

#[tokio::test]
async fn what_is_too_large_or_too_deep_is_refused() {
    let mut content = Content::default();
    let mut digest = artefact(&mut content, "flat");
    for tag in ["one", "two", "three"] {
        digest = content.tag(tag, &json!({"manifests": [{"digest": digest, "size": 1}]}));
    }
    let large = vec![b' '; (4 << 20) + 1];
    content.manifests.insert(crate::store::oci::sha256(&large), large.clone());
    content.manifests.insert("large".to_owned(), large);
    let none = json!({"mediaType": "application/vnd.docker.distribution.manifest.v1+json", "fsLayers": []});
    content.tag("old", &none);
    content.manifest("gguf", &[json!({"mediaType": "application/vnd.docker.ai.gguf.v3", "size": 1})]);
    content.manifests.insert(crate::store::oci::sha256(b"hello"), b"hello".to_vec());
    content.manifests.insert("odd".to_owned(), b"hello".to_vec());
    let server = Server::of(&shared(content)).await;
    let uri = |tag: &str| format!("oci://{}/net:{tag}", server.host);
    for tag in ["one", "two"] {
        Opener::new(&Environment::new()).open(&uri(tag)).await.expect("not too deep");
    }
    for (tag, expected) in [
        ("three", "its index leads through more than 2 others"),
        ("large", "an answer of more than 4194304 bytes"),
        (
            "old",
            "its manifest ('application/vnd.docker.distribution.manifest.v1+json') has no layers; expected an image",
        ),
        ("gguf", "it is a model of Docker's ('application/vnd.docker.ai.gguf.v3'), in GGUF or safetensors; expected"),
        ("odd", "its manifest cannot be understood: "),
    ] {
        let said = failed(&Environment::new(), &uri(tag)).await;
        assert!(said.starts_with(&format!("{}: {expected}", uri(tag))), "{said}");
    }
}

#[tokio::test]
async fn blobs_may_lie_with_others_who_learn_nothing() {
    let mut content = Content::default();
    artefact(&mut content, "latest");
    let blobs = content.clone();
    let others = Server::start(move |request| {
        let mut reply = blobs.answer(request);
        // Their own, and another with each answer.
        reply.headers.push(("etag", format!("\"{:p}\"", reply.body.as_ptr())));
        reply
    })
    .await;
    // Another name of this machine is another host.
    let place = others.host.replace("127.0.0.1", "localhost");
    let server = Server::start(move |request| {
        if request.headers.get("authorization").is_none_or(|value| value != "Basic bWU6aHVudGVyMg==") {
            let mut reply = Reply::of(401, "");
            reply.headers.push(("www-authenticate", "Basic realm=\"x\"".to_owned()));
            return reply;
        }
        let Some(path) = request.line.strip_prefix("GET ").filter(|path| path.contains("/blobs/")) else {
            return content.answer(request);
        };
        let mut reply = Reply::of(307, "");
        reply.headers.push(("location", format!("http://{place}{path}?signature=hunter3")));
        reply
    })
    .await;
    let config = tempfile::tempdir().expect("a temporary folder");
    let text = json!({"auths": {&server.host: {"auth": "bWU6aHVudGVyMg=="}}}).to_string();
    std::fs::write(config.path().join("config.json"), text).expect("written");
    let environment = environment(&[("DOCKER_CONFIG", &config.path().to_string_lossy())]);
    let uri = format!("oci://{}/net", server.host);
    Opener::new(&environment).open(&uri).await.expect("by way of others");
    let seen = others.requests();
    assert!(!seen.is_empty() && seen.iter().all(|request| !request.headers.contains_key("authorization")), "{seen:?}");
    let mut asked = server.requests();
    asked.retain(|request| request.headers.contains_key("authorization"));
    assert!(!asked.is_empty());
}

fn annotated(content: &mut Content, kind: &str, tape: &[u8]) -> Value {
    content.blob(kind, tape, &Value::Null)
}
