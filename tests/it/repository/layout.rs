//! What a URI may stand for: a folder, a file, Triton's layout, a model of the hub; and what a model may name in it.

use serde_json::json;

use super::store::Store;
use super::{blobs, cache, failed, identity, noise, predict, pull, said, sha256};
use crate::harness::{Server, flowers, folder, picture};

#[test]
fn a_folder_on_a_web_server_is_served_and_fetched_once() {
    let read = |name: &str| std::fs::read(flowers().join(name)).expect(name);
    let names = ["model.toml", "model.onnx", "labels.txt", "flowers.wasm"];
    let content = names.map(read);
    let files: Vec<(String, &[u8])> =
        names.iter().zip(&content).map(|(name, content)| (format!("m/{name}"), content.as_slice())).collect();
    let mut files: Vec<(&str, &[u8])> = files.iter().map(|(path, content)| (path.as_str(), *content)).collect();
    // Whoever can write to a server must not be able to run code in ours.
    files.push(("m/flowers.cwasm", b"machine code"));
    let store = Store::start(&files);
    let cache = cache();
    let uri = format!("--model=flowers={}", store.url("m"));
    let arguments = [uri.as_str(), "--cache", &cache.path().to_string_lossy()];
    let server = Server::start(&arguments);
    let answer = server.post("/v1/models/flowers:predict", "image/jpeg", &picture());
    assert_eq!(answer.status, 200, "{}", answer.text());
    drop(server);
    assert!(store.requests().iter().all(|request| !request.path.ends_with(".cwasm")));
    let before = store.delivered();
    let total: usize = content.iter().map(Vec::len).sum();
    assert!(before < 2 * total as u64, "{before} of {total}");
    drop(Server::start(&arguments));
    let again = store.delivered() - before;
    assert!(again <= names.len() as u64, "{again} bytes of an unchanged model were fetched");
}

#[test]
fn a_file_a_checksum_and_a_password() {
    let model = identity();
    let store = Store::start(&[("a/net.onnx", &model)]);
    let cache = cache();
    let folder = cache.path().to_string_lossy().into_owned();
    let digest = sha256(&model);
    let uri = format!("http://me:hunter2@{}/a/net.onnx?sig=s3cret#sha256={digest}", store.address);
    let server = Server::start(&["--model-dir", &uri, "--cache", &folder]);
    predict(&server, "net");
    let log = format!("{:?}", server.events());
    assert!(!log.contains("hunter2") && !log.contains("s3cret"), "{log}");
    assert!(log.contains("a/net.onnx"), "{log}");
    let basic = "Basic bWU6aHVudGVyMg==";
    assert!(store.requests().iter().all(|request| request.authorization.as_deref() == Some(basic)));

    // What is in the cache already is held to a checksum that is new.
    let wrong = format!("http://me:hunter2@{}/a/net.onnx?sig=s3cret#sha256={}", store.address, "0".repeat(64));
    let error = failed(cache.path(), &wrong, &[]);
    assert!(error.contains(&format!("its sha256 is {digest}; the manifest or the URI says 0000")), "{error}");
    assert!(!error.contains("hunter2") && !error.contains("s3cret"), "{error}");
}

#[test]
fn nothing_leads_out_of_a_model_s_folder() {
    let wandering = b"\x3a\x18\x2a\x16\x6a\x12\x0a\x08location\x12\x06../out\x70\x01\x08\x01";
    let pretending = b"\x3a\x19\x2a\x17\x6a\x13\x0a\x08location\x12\x07p.cwasm\x70\x01\x08\x01";
    let store = Store::start(&[
        ("up/model.toml", b"file = '../secret.onnx'"),
        ("abs/model.toml", b"file = '/etc/passwd'"),
        ("code/model.toml", b"file = 'm.onnx'\n[plugin]\nfile = 'p.cwasm'"),
        ("code/m.onnx", b"x"),
        ("data/model.toml", b"file = 'm.onnx'"),
        ("data/m.onnx", wandering),
        ("pretext/model.toml", b"file = 'm.onnx'"),
        ("pretext/m.onnx", pretending),
        ("pretext/p.cwasm", b"x"),
        ("out", b"x"),
    ]);
    let cache = cache();
    for (path, key) in [
        ("up", "`file` is '../secret.onnx'"),
        ("abs", "`file` is '/etc/passwd'"),
        ("code", "`plugin.file`"),
        ("data", "`location` is '../out'"),
        ("pretext", "`location` is 'p.cwasm'"),
    ] {
        let error = failed(cache.path(), &store.url(path), &[]);
        assert!(error.contains(key) && error.contains("must name a file in the model's own folder"), "{path}: {error}");
    }
    let asked = store.requests();
    assert!(asked.iter().all(|request| !request.path.contains("secret") && request.path != "/out"), "{asked:?}");
    assert!(asked.iter().all(|request| !request.path.ends_with(".cwasm")), "{asked:?}");
}

#[test]
fn triton_s_layout_is_served_and_what_has_no_counterpart_is_named() {
    let config =
        b"name: 'net' backend: 'onnxruntime'\nversion_policy: { specific { versions: [ 1 ] } }\noptimization { priority: PRIORITY_MAX }";
    let models = folder(&[("net/config.pbtxt", config), ("net/1/model.onnx", &identity()), ("net/2/model.onnx", b"x")]);
    let server = Server::start(&["--model-dir", &models.path().to_string_lossy()]);
    predict(&server, "net");
    let warned = server.event(|event| event["message"] == "these keys have no effect here");
    assert_eq!((&warned["model"], &warned["keys"]), (&json!("net"), &json!("optimization.priority")));
    let ensemble = folder(&[("e/config.pbtxt", b"platform: 'ensemble'"), ("e/1/model.onnx", b"x")]);
    let failed = crate::harness::run(&["models", "list", "--model-dir", &ensemble.path().to_string_lossy()]);
    assert!(said(&failed).contains("'e' is an ensemble, which is not supported"), "{}", said(&failed));
}

#[test]
fn a_model_of_the_hub_is_pinned_to_a_commit_and_its_checksum() {
    let model = identity();
    let commit = "0123456789abcdef0123456789abcdef01234567";
    let tree = json!([
        {"type": "file", "path": "README.md", "size": 3, "oid": "aa"},
        {"type": "directory", "path": "onnx", "size": 0, "oid": "bb"},
        {"type": "file", "path": "net.onnx", "size": model.len(), "oid": "cc",
         "lfs": {"oid": sha256(&model), "size": model.len(), "pointerSize": 1}},
        {"type": "file", "path": "../up.onnx", "size": 1, "oid": "dd"},
    ]);
    let (tree, info) = (tree.to_string(), json!({"sha": commit}).to_string());
    let content = format!("o/n/resolve/{commit}/net.onnx");
    let store = Store::start(&[
        ("api/models/o/n/revision/v1", info.as_bytes()),
        (&format!("api/models/o/n/tree/{commit}"), tree.as_bytes()),
        (&content, &model),
    ]);
    let cache = cache();
    let endpoint = store.url("");
    let variables = [("HF_ENDPOINT", endpoint.as_str()), ("HF_TOKEN", "hunter2")];
    let folder = cache.path().to_string_lossy().into_owned();
    let server = Server::start_with(&["--model", "net=hf://o/n@v1", "--cache", &folder], &variables);
    predict(&server, "net");
    let log = format!("{:?}", server.events());
    assert!(log.contains("hf://o/n@v1/net.onnx") && !log.contains("hunter2"), "{log}");
    assert!(store.requests().iter().all(|request| request.authorization.as_deref() == Some("Bearer hunter2")));
    drop(server);

    store.put(&content, &noise(model.len()));
    let other = self::cache();
    let mut again = pull(other.path(), "hf://o/n@v1", &[]);
    let output = again.envs(variables).output().expect("the binary runs");
    let text = said(&output);
    assert!(text.contains("hf://o/n@v1/net.onnx: its sha256 is ") && text.contains("; the store says "), "{text}");
    assert_eq!(blobs(other.path()), 0);
}
