//! Models from a web server: fetched once, resumed, checked, and what goes wrong said plainly.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::{Server, corymb, flowers, folder, picture, root};
use crate::repository_store::{Fault, Store};

/// A model that every backend loads in no time.
fn identity() -> Vec<u8> {
    std::fs::read(root().join("tests/fixtures/models/identity_fp32.onnx")).expect("the fixture")
}

/// Bytes that are no model, for what only downloads.
fn noise(bytes: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    std::iter::repeat_with(next).flat_map(u64::to_le_bytes).take(bytes).collect()
}

fn cache() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

/// `models pull` into a cache.
fn pull(cache: &Path, uri: &str, more: &[&str]) -> Command {
    let mut command = corymb(&["models", "pull", uri, "--cache", &cache.to_string_lossy()]);
    command.args(more).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn said(output: &Output) -> String {
    [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned()).concat()
}

fn pulled(cache: &Path, uri: &str) -> String {
    let output = pull(cache, uri, &[]).output().expect("the binary runs");
    assert!(output.status.success(), "{}", said(&output));
    said(&output)
}

/// What a failed pull says in its last line.
fn failed(cache: &Path, uri: &str, more: &[&str]) -> String {
    let output = pull(cache, uri, more).output().expect("the binary runs");
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    String::from_utf8_lossy(&output.stderr).lines().last().unwrap_or_default().to_owned()
}

/// Finished files of the cache.
fn blobs(cache: &Path) -> usize {
    let Ok(entries) = std::fs::read_dir(cache.join("models/blobs")) else { return 0 };
    entries.flatten().filter(|entry| !entry.file_name().to_string_lossy().contains('.')).count()
}

fn predict(server: &Server, model: &str) {
    let body = json!({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1.5, -2.0]}]});
    let answer = server.post(&format!("/v2/models/{model}/infer"), "application/json", body.to_string().as_bytes());
    assert_eq!(answer.status, 200, "{}", answer.text());
}

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

fn sha256(content: &[u8]) -> String {
    let file = folder(&[("x", content)]);
    let output = Command::new("sha256sum").arg(file.path().join("x")).output().expect("coreutils");
    String::from_utf8_lossy(&output.stdout).split_whitespace().next().expect("a digest").to_owned()
}

#[test]
fn a_download_that_is_killed_goes_on_where_it_was() {
    // Three parts, the last one short.
    let content = noise(20_000_000);
    let store = Store::start(&[("m/big.onnx", &content)]);
    store.limit_rate(1_000_000);
    let cache = cache();
    let uri = format!("{}#sha256={}", store.url("m/big.onnx"), sha256(&content));
    let mut killed = 0;
    for round in 0..50_u64 {
        let mut child = pull(cache.path(), &uri, &[]).spawn().expect("the binary starts");
        std::thread::sleep(Duration::from_millis(40 + (round * 37) % 160));
        killed += usize::from(child.try_wait().expect("known").is_none());
        child.kill().expect("killed");
        child.wait().expect("ended");
        assert!(blobs(cache.path()) <= 1);
    }
    assert!(killed > 10, "{killed} were killed while they downloaded");
    store.limit_rate(0);
    pulled(cache.path(), &uri);
    let delivered = store.delivered();
    println!("killed {killed} times; {delivered} bytes delivered of {}", content.len());
    assert!(delivered <= 2 * content.len() as u64, "{delivered} bytes were delivered of {}", content.len());
    let listed: Value = serde_json::from_str(&listed(cache.path())).expect("JSON");
    let path = Path::new(listed[0]["path"].as_str().expect("a path")).join("big.onnx");
    assert!(std::fs::read(path).expect("there") == content);
}

fn listed(cache: &Path) -> String {
    let output = corymb(&["models", "list", "--cached", "--json", "--cache", &cache.to_string_lossy()]).output();
    String::from_utf8_lossy(&output.expect("the binary runs").stdout).into_owned()
}

#[test]
fn two_processes_download_once_and_one_takes_over_from_the_other() {
    let content = noise(4_000_000);
    let store = Store::start(&[("m/big.onnx", &content)]);
    for kill in [false, true] {
        let cache = cache();
        store.limit_rate(4_000_000);
        let before = store.delivered();
        let mut first = pull(cache.path(), &store.url("m/big.onnx"), &[]).spawn().expect("the binary starts");
        let begun = Instant::now();
        while store.delivered() < before + 500_000 {
            assert!(begun.elapsed() < Duration::from_secs(30), "the download has not begun");
            std::thread::sleep(Duration::from_millis(5));
        }
        let second = pull(cache.path(), &store.url("m/big.onnx"), &[]).spawn().expect("the binary starts");
        if kill {
            first.kill().expect("killed");
        }
        let second = second.wait_with_output().expect("ended");
        assert!(second.status.success(), "{}", said(&second));
        assert_eq!(first.wait().expect("ended").success(), !kill);
        let delivered = store.delivered() - before;
        // When one is killed, what was on its way to it is lost.
        let limit = content.len() as u64 + if kill { 1_000_000 } else { 10 };
        assert!(delivered <= limit, "{delivered} bytes were delivered, kill: {kill}");
    }
}

/// A fault of the first requests for content; then all is well.
fn passing(count: usize, fault: Fault) -> impl Fn(&crate::repository_store::Request) -> Option<Fault> {
    move |request| (!request.is_probe && request.number < count).then_some(fault)
}

#[test]
fn what_passes_is_waited_for() {
    let content = noise(10_000_000);
    for (name, count, fault) in [
        ("errors", 3, Fault::Status(500, None)),
        ("busy", 2, Fault::Status(503, Some(1))),
        ("too many", 1, Fault::Status(429, Some(1))),
        ("cut", 3, Fault::Cut(300_000)),
        ("stalled", 1, Fault::Stall(100_000)),
        ("short parts", 5, Fault::Short(100_000)),
        ("no ranges", usize::MAX, Fault::IgnoreRange),
        ("a flipped bit", 1, Fault::Flip),
    ] {
        let store = Store::faulty(&[("m/big.onnx", &content)], passing(count, fault));
        let cache = cache();
        // Of a plain web server only the URI's checksum tells that a bit has flipped.
        let uri = store.url("m/big.onnx");
        if matches!(fault, Fault::Flip) {
            let error = failed(cache.path(), &format!("{uri}#sha256={}", sha256(&content)), &[]);
            assert!(error.contains("its sha256 is "), "{name}: {error}");
            assert_eq!(blobs(cache.path()), 0, "{name}");
        }
        pulled(cache.path(), &format!("{uri}#sha256={}", sha256(&content)));
        println!("{name}: {} bytes delivered", store.delivered());
    }
}

#[test]
fn an_object_that_changes_is_downloaded_anew_or_refused() {
    let content = noise(20_000_000);
    let once = |request: &crate::repository_store::Request| {
        (!request.is_probe && request.number == 1).then_some(Fault::OtherTag)
    };
    let store = Store::faulty(&[("m/big.onnx", &content)], once);
    let cache = cache();
    pulled(cache.path(), &format!("{}#sha256={}", store.url("m/big.onnx"), sha256(&content)));

    let always = |request: &crate::repository_store::Request| {
        request.start.is_some_and(|start| start > 0).then_some(Fault::OtherTag)
    };
    let store = Store::faulty(&[("m/big.onnx", &content)], always);
    let error = failed(cache.path(), &store.url("m/big.onnx"), &[]);
    assert!(error.contains("big.onnx: it was replaced while it was being downloaded"), "{error}");
}

#[test]
fn what_does_not_pass_is_said_at_once_in_the_last_line() {
    let store = Store::faulty(&[("m/a.onnx", b"x")], |request| match request.path.as_str() {
        "/m/denied.onnx" => Some(Fault::Status(403, None)),
        "/m/busy.onnx" => Some(Fault::Status(503, Some(600))),
        "/m/broken.onnx" => Some(Fault::Status(500, None)),
        _ => None,
    });
    let cache = cache();
    let error = |path: &str, more: &[&str]| failed(cache.path(), &store.url(path), more);
    assert!(error("m/absent.onnx", &[]).ends_with("/m/absent.onnx: the server answered 404 Not Found"));
    assert!(error("m/denied.onnx", &[]).ends_with("/m/denied.onnx: the server answered 403 Forbidden"));
    let busy = error("m/busy.onnx", &[]);
    assert!(busy.contains("it asks to wait 600 s, which is more than --download-timeout leaves"), "{busy}");
    let broken = error("m/broken.onnx", &["--download-timeout", "1s"]);
    assert!(
        broken.contains("nothing came for 1 s (--download-timeout); the last try: the server answered 500"),
        "{broken}"
    );
    let nowhere = failed(cache.path(), "http://nowhere.invalid/m.onnx", &["--download-timeout", "1s"]);
    assert!(nowhere.contains("http://nowhere.invalid/m.onnx: nothing came for 1 s"), "{nowhere}");
    let closed = failed(cache.path(), "http://127.0.0.1:9/m.onnx", &["--download-timeout", "1s"]);
    assert!(closed.contains("refused"), "{closed}");
    let scheme = failed(cache.path(), "ftp://h/m.onnx", &[]);
    assert!(scheme.contains("the scheme 'ftp' is not known; expected a path, file://, s3://"), "{scheme}");
    assert_eq!(blobs(cache.path()), 0);
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
fn a_full_disk_is_an_error_that_leaves_nothing_behind() {
    let content = noise(3_000_000);
    let store = Store::start(&[("m/big.onnx", &content)]);
    let cache = cache();
    // A limit on the size of files stands for a disk that is full; its signal is ignored, as it is in containers.
    let script = format!(
        "trap '' XFSZ; ulimit -f 1000; exec \"$0\" models pull {} --cache {}",
        store.url("m/big.onnx"),
        cache.path().display()
    );
    let mut bash = Command::new("bash");
    bash.args(["-c", &script, env!("CARGO_BIN_EXE_corymb")]).env_clear().env("PATH", "/usr/bin:/bin");
    let output = bash.output().expect("bash runs");
    let text = said(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("big.onnx: the cache ") && text.contains("File too large"), "{text}");
    assert_eq!(blobs(cache.path()), 0);
    pulled(cache.path(), &store.url("m/big.onnx"));
}

#[test]
fn the_cache_has_a_bound_and_what_runs_is_not_evicted() {
    let model = identity();
    let filler = noise(1_000_000);
    let store = Store::start(&[("used/net.onnx", &model), ("a/a.onnx", &filler), ("b/b.onnx", &filler)]);
    let cache = cache();
    let folder = cache.path().to_string_lossy().into_owned();
    let server = Server::start(&["--model-dir", &store.url("used/net.onnx"), "--cache", &folder]);
    let bounded =
        |path: &str, size: &str| pull(cache.path(), &store.url(path), &["--cache-size", size]).output().expect("runs");
    assert!(bounded("a/a.onnx", "1500000").status.success());
    assert!(bounded("b/b.onnx", "1500000").status.success());
    let cached = listed(cache.path());
    assert!(
        cached.contains("b/b.onnx") && cached.contains("used/net.onnx") && !cached.contains("a/a.onnx"),
        "{cached}"
    );
    let full = said(&bounded("a/a.onnx", "900000"));
    assert!(
        full.contains("bytes do not fit: the cache may hold 900000") && full.contains("raise --cache-size"),
        "{full}"
    );
    predict(&server, "net");
    let rm = corymb(&["models", "rm", "--all", "--cache", &folder]).output().expect("the binary runs");
    assert!(said(&rm).contains("1 models stay: running servers use them"), "{}", said(&rm));
    drop(server);
    let rm = corymb(&["models", "rm", &store.url("used"), "--cache", &folder]).output().expect("the binary runs");
    assert!(said(&rm).starts_with("1 models removed"), "{}", said(&rm));
}

#[test]
fn what_was_downloaded_can_be_read_again() {
    let model = identity();
    let store = Store::start(&[("m/net.onnx", &model)]);
    let cache = cache();
    let folder = cache.path().to_string_lossy().into_owned();
    let text = pulled(cache.path(), &store.url("m/net.onnx"));
    assert!(text.starts_with("net (version 1) "), "{text}");
    let verify = || corymb(&["models", "verify", "--cache", &folder]).output().expect("the binary runs");
    let verified = verify();
    assert!(verified.status.success() && said(&verified).contains("unchanged (crc32c)"), "{}", said(&verified));
    let inspected = corymb(&["models", "inspect", &store.url("m/net.onnx"), "--json", "--cache", &folder]).output();
    let inspected: Value = serde_json::from_slice(&inspected.expect("the binary runs").stdout).expect("JSON");
    assert_eq!((&inspected[0]["backend"], &inspected[0]["bytes"]), (&json!("tract"), &json!(model.len())));

    let blob = std::fs::read_dir(cache.path().join("models/blobs")).expect("a cache").flatten();
    let blob = blob.map(|entry| entry.path()).find(|path| path.extension().is_none()).expect("a blob");
    let mut permissions = std::fs::metadata(&blob).expect("there").permissions();
    std::os::unix::fs::PermissionsExt::set_mode(&mut permissions, 0o644);
    std::fs::set_permissions(&blob, permissions).expect("root or owner");
    let mut damaged = model.clone();
    damaged[10] ^= 1;
    std::fs::write(&blob, &damaged).expect("written");
    let verified = verify();
    assert_eq!(verified.status.code(), Some(1));
    assert!(
        said(&verified).contains("its crc32c is ") && said(&verified).contains("1 of 1 files have changed"),
        "{}",
        said(&verified)
    );
    let before = store.delivered();
    pulled(cache.path(), &store.url("m/net.onnx"));
    assert!(store.delivered() - before >= model.len() as u64, "it was downloaded anew");
}

#[test]
fn a_changed_model_is_fetched_and_an_unchanged_file_of_it_is_not() {
    let store = Store::start(&[("m/model.toml", b"file = 'net.onnx'"), ("m/net.onnx", &identity())]);
    let cache = cache();
    pulled(cache.path(), &store.url("m"));
    let before = store.delivered();
    store.put("m/model.toml", b"file = 'net.onnx'\nbackend = 'tract'");
    pulled(cache.path(), &store.url("m"));
    let fetched = store.delivered() - before;
    assert!(fetched < 60, "{fetched} bytes were fetched, of a manifest that has 35");
    assert_eq!(blobs(cache.path()), 3);
}

#[test]
fn triton_s_layout_is_served_and_what_has_no_counterpart_is_named() {
    let config =
        b"name: 'net' backend: 'onnxruntime'\nversion_policy: { specific { versions: [ 1 ] } }\noptimization { }";
    let models = folder(&[("net/config.pbtxt", config), ("net/1/model.onnx", &identity()), ("net/2/model.onnx", b"x")]);
    let server = Server::start(&["--model-dir", &models.path().to_string_lossy()]);
    predict(&server, "net");
    let warned = server.event(|event| event["message"] == "these keys have no effect here");
    assert_eq!((&warned["model"], &warned["keys"]), (&json!("net"), &json!("optimization")));
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

#[test]
fn a_stop_does_not_wait_for_a_download() {
    let store = Store::start(&[("m/big.onnx", &noise(4_000_000))]);
    store.limit_rate(100_000);
    let cache = cache();
    let uri = store.url("m/big.onnx");
    let mut serve = corymb(&["serve", "--host", "127.0.0.1", "--port", "0", "--model-dir", &uri, "--cache"]);
    let mut serve = serve.arg(cache.path()).stderr(Stdio::piped()).spawn().expect("the binary starts");
    let begun = Instant::now();
    while store.delivered() < 50_000 {
        assert!(begun.elapsed() < Duration::from_secs(30), "the download has not begun");
        std::thread::sleep(Duration::from_millis(5));
    }
    let sent = Command::new("kill").arg("-TERM").arg(serve.id().to_string()).status().expect("kill runs");
    assert!(sent.success());
    while serve.try_wait().expect("known").is_none() {
        assert!(store.delivered() < 3_000_000, "the download goes on after the signal to stop");
        std::thread::sleep(Duration::from_millis(20));
    }
    let output = serve.wait_with_output().expect("ended");
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert!(said(&output).contains("stopped before the models were there"), "{}", said(&output));
    assert_eq!(blobs(cache.path()), 0);
}

#[test]
fn who_listens_early_does_so_while_models_are_downloaded() {
    // A long text of documentation, as the format's field 6, makes a download that lasts until it is let go.
    let model = [identity(), vec![0x32, 0x80, 0x89, 0x7a], vec![b'a'; 2_000_000]].concat();
    let store = Store::start(&[("m/slow.onnx", &model)]);
    store.limit_rate(20_000);
    let cache = cache();
    let (uri, folder) = (store.url("m/slow.onnx"), cache.path().display().to_string());
    let server = Server::start_until(&["--listen-early", "--model-dir", &uri, "--cache", &folder], &[], "listening");
    assert_eq!(server.get("/v2/health/live").status, 200);
    assert_eq!(server.get("/v2/health/ready").status, 503);
    assert_eq!(server.get("/v2/models/slow").status, 503, "nobody knows yet whether there is such a model");
    store.limit_rate(0);
    server.event(|event| event["message"] == "serving");
    assert_eq!(server.get("/v2/health/ready").status, 200);
    assert_eq!(server.get("/v2/models/slow").status, 200);
    assert_eq!(server.get("/v2/models/other").status, 404);
}

#[test]
fn the_proxies_of_the_environment_are_asked() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let proxy = format!("http://{}", listener.local_addr().expect("an address"));
    let (sender, asked) = channel();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut line = String::new();
            let _ = BufReader::new(&stream).read_line(&mut line);
            // Before the answer, after which whoever asked may end.
            let _ = sender.send(line.trim_end().to_owned());
            let _ = stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        }
    });
    let cache = cache();
    // No name server knows these hosts.
    let run = |uri: &str, variables: &[(&str, &str)]| {
        let output = pull(cache.path(), uri, &["--download-timeout", "1s"]).envs(variables.iter().copied()).output();
        let output = output.expect("the binary runs");
        assert_ne!(output.status.code(), Some(0), "{}", said(&output));
        said(&output)
    };
    let text = run("http://models.invalid/m.onnx", &[("HTTP_PROXY", &proxy)]);
    assert!(text.contains("http://models.invalid/m.onnx: the server answered 404 Not Found"), "{text}");
    assert_eq!(asked.try_recv().as_deref(), Ok("GET http://models.invalid/m.onnx HTTP/1.1"));
    run("https://models.invalid/m.onnx", &[("https_proxy", &proxy)]);
    assert_eq!(asked.try_recv().as_deref(), Ok("CONNECT models.invalid:443 HTTP/1.1"));
    run("http://models.invalid/m.onnx", &[("HTTP_PROXY", &proxy), ("NO_PROXY", "models.invalid")]);
    // A last try of the one before may come late.
    let mut since = asked.try_iter();
    assert!(since.all(|line| line.starts_with("CONNECT ") || line.is_empty()), "what NO_PROXY names is asked directly");
}
