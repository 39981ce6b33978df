//! Models from servers that others wrote: S3 (moto), Google Cloud Storage (fake-gcs-server), Azure (Azurite), nginx.

use std::io::{BufRead as _, BufReader};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::flips::Flipping;
use crate::harness::{LIMIT, Server, flowers, picture, root, skip};

/// Azurite's own account, which its documentation publishes.
const ACCOUNT: &str = "devstoreaccount1";
const KEY: &str = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

/// A process that ends with its test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A folder with the flowers model as `flowers/`, as version 2 of `tree/`, and twice in `many/`.
fn models() -> tempfile::TempDir {
    let models = tempfile::tempdir().expect("a temporary folder");
    for place in ["flowers", "tree/2", "many/one", "many/two"] {
        let folder = models.path().join(place);
        std::fs::create_dir_all(folder.join("warmup")).expect("made");
        for name in ["model.toml", "model.onnx", "labels.txt", "flowers.wasm", "warmup/image_bytes.jpg"] {
            std::fs::copy(flowers().join(name), folder.join(name)).expect(name);
        }
        std::fs::write(folder.join("flowers.cwasm"), "machine code").expect("written");
    }
    super::layouts::write_some(&models.path().join("layouts"));
    models
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port").port()
}

fn wait_for(port: u16) {
    let begun = Instant::now();
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(begun.elapsed() < LIMIT, "nothing listens on {port}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// The program that a variable names, else one of the path; none where it does not start.
fn program(variable: &str, name: &str, argument: &str) -> Option<PathBuf> {
    let path = std::env::var(variable).unwrap_or_else(|_| name.to_owned());
    let started = Command::new(&path).arg(argument).stdout(Stdio::null()).stderr(Stdio::null()).status();
    if started.is_ok() {
        return Some(path.into());
    }
    skip(&format!("{name} is not installed, and {variable} names none"));
    None
}

pub(super) fn python(module: &str) -> Option<String> {
    let python = std::env::var("CORYMB_TEST_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let importable = Command::new(&python).args(["-c", &format!("import {module}")]).output();
    if importable.is_ok_and(|output| output.status.success()) {
        return Some(python);
    }
    skip(&format!("{python} cannot import {module}: see tests/repository/requirements.txt"));
    None
}

/// Every layout from this place is served, and what is there needs no second download.
fn serves(place: &str, variables: &[(&str, &str)]) {
    let cache = tempfile::tempdir().expect("a temporary folder");
    let folder = cache.path().to_string_lossy().into_owned();
    let predict = |server: &Server, model: &str| {
        let answer = server.post(&format!("/v1/models/{model}:predict"), "image/jpeg", &picture());
        assert_eq!(answer.status, 200, "{place} {model}: {}", answer.text());
    };
    for round in 0..2 {
        let one = format!("--model=mine={place}/flowers");
        let tree = format!("--model=tree={place}/tree");
        let many = format!("{place}/many");
        let arguments = [one.as_str(), &tree, "--model-dir", &many, "--cache", &folder];
        let server = Server::start_with(&arguments, variables);
        for model in ["mine", "tree", "one", "two"] {
            predict(&server, model);
        }
        let metadata = server.get("/v2/models/tree").json();
        assert_eq!(metadata["versions"], serde_json::json!(["2"]), "{metadata}");
        let downloads = server.events().iter().filter(|event| event["message"] == "downloaded").count();
        assert_eq!(downloads == 0, round == 1, "{place}: {downloads} downloads in round {round}");
    }
    let listing = std::fs::read_dir(cache.path().join("models/trees")).expect("a cache");
    for tree in listing.flatten().filter(|entry| entry.path().is_dir()) {
        assert!(!tree.path().join("flowers.cwasm").exists(), "a compiled plugin was downloaded");
    }
    super::layouts::check_some(&format!("{place}/layouts"), variables);
    let file = format!("{place}/flowers/model.onnx");
    let server = Server::start_with(&["--model", &format!("file={file}"), "--cache", &folder], variables);
    assert_eq!(server.get("/v2/models/file/ready").status, 200);
}

/// The last line of a start that fails.
fn fails(uri: &str, variables: &[(&str, &str)]) -> String {
    let cache = tempfile::tempdir().expect("a temporary folder");
    let mut command = crate::harness::corymb(&["serve", "--port", "0", "--model-dir", uri]);
    command.arg("--cache").arg(cache.path()).envs(variables.iter().copied());
    let output = command.output().expect("the binary runs");
    assert_eq!(output.status.code(), Some(1));
    String::from_utf8_lossy(&output.stderr).lines().last().unwrap_or_default().to_owned()
}

#[test]
fn s3_serves_every_layout() {
    let Some(python) = python("moto.server, boto3") else { return };
    let models = models();
    let signatures = root().join("tests/fixtures/signatures");
    copy(&signatures.join("model"), &models.path().join("signed"));
    std::fs::copy(signatures.join("by/p256.sig"), models.path().join("signed/model.sig")).expect("copied");
    let script = root().join("tests/repository/s3.py");
    let mut child = Command::new(python);
    child.arg(script).arg(models.path()).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = Running(child.spawn().expect("Python starts"));
    let mut url = String::new();
    BufReader::new(child.0.stdout.take().expect("piped")).read_line(&mut url).expect("a line");
    let url = url.trim();
    assert!(url.starts_with("http://"), "the server did not start");
    let variables = [
        ("AWS_ENDPOINT_URL", url),
        ("AWS_ALLOW_HTTP", "true"),
        ("AWS_ACCESS_KEY_ID", "testing"),
        ("AWS_SECRET_ACCESS_KEY", "hunter2hunter2"),
        ("AWS_REGION", "us-east-1"),
    ];
    serves("s3://models", &variables);
    let absent = fails("s3://models/absent", &variables);
    assert!(absent.contains("s3://models/absent: no model; expected model.toml"), "{absent}");
    let absent = fails("s3://nowhere/flowers", &variables);
    assert!(
        absent.contains("s3://nowhere/flowers: the server answered 404") && absent.contains("NoSuchBucket"),
        "{absent}"
    );
    assert!(!absent.contains("hunter2"), "{absent}");

    let key = signatures.join("trust/p256.pub").to_string_lossy().into_owned();
    let demanding = [&variables[..], &[("CORYMB_VERIFY_SIGNATURE", key.as_str())]].concat();
    let cache = tempfile::tempdir().expect("a temporary folder");
    let signed = ["--model=m=s3://models/signed", "--cache", &cache.path().to_string_lossy()];
    assert_eq!(Server::start_with(&signed, &demanding).get("/v2/models/m/ready").status, 200);
    let unsigned = fails("s3://models/flowers", &demanding);
    assert!(unsigned.contains("s3://models/flowers/model.sig: no such file, but a signature"), "{unsigned}");

    let proxy = Flipping::before(url.trim_start_matches("http://"));
    let through = format!("http://{}", proxy.address);
    let variables = [&[("AWS_ENDPOINT_URL", through.as_str())], &variables[1..]].concat();
    for (word, by) in [
        ("md5", "md5"),
        ("crc32", "crc32"),
        ("crc32c", "crc32c"),
        ("crc64nvme", "crc64nvme"),
        ("sha1", "sha1"),
        ("sha256", "sha256"),
        ("md5-parts", "md5 of parts"),
    ] {
        for ending in ["", "/model.onnx"] {
            proxy.refuses(&format!("s3://models/checked/{word}{ending}"), &variables, by);
        }
    }
}

#[test]
fn google_cloud_storage_serves_every_layout() {
    let Some(program) = program("CORYMB_TEST_FAKE_GCS", "fake-gcs-server", "-help") else { return };
    let models = models();
    let data = tempfile::tempdir().expect("a temporary folder");
    copy(models.path(), &data.path().join("models"));
    let port = free_port();
    let mut server = Command::new(program);
    server.args(["-scheme", "http", "-host", "127.0.0.1", "-port", &port.to_string(), "-backend", "memory", "-data"]);
    server.arg(data.path()).args(["-public-host", &format!("127.0.0.1:{port}")]);
    let _server = Running(server.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it starts"));
    wait_for(port);
    let emulator = format!("http://127.0.0.1:{port}");
    serves("gs://models", &[("STORAGE_EMULATOR_HOST", &emulator)]);
    let proxy = Flipping::before(&format!("127.0.0.1:{port}"));
    let through = format!("http://{}", proxy.address);
    for ending in ["", "/model.onnx"] {
        proxy.refuses(&format!("gs://models/flowers{ending}"), &[("STORAGE_EMULATOR_HOST", &through)], "crc32c");
    }
}

#[test]
fn azure_serves_every_layout() {
    let Some(program) = program("CORYMB_TEST_AZURITE", "azurite-blob", "--version") else { return };
    let Some(python) = python("azure.storage.blob") else { return };
    let models = models();
    let data = tempfile::tempdir().expect("a temporary folder");
    let port = free_port();
    let mut server = Command::new(program);
    server.args(["--blobHost", "127.0.0.1", "--blobPort", &port.to_string(), "--silent", "--skipApiVersionCheck"]);
    server.arg("--location").arg(data.path()).stdout(Stdio::null()).stderr(Stdio::null());
    let _server = Running(server.spawn().expect("it starts"));
    wait_for(port);
    let endpoint = format!("http://127.0.0.1:{port}/{ACCOUNT}");
    let connection =
        format!("DefaultEndpointsProtocol=http;AccountName={ACCOUNT};AccountKey={KEY};BlobEndpoint={endpoint};");
    let script = root().join("tests/repository/fill_azure.py");
    let filled = Command::new(python).arg(script).arg(&connection).arg(models.path()).output().expect("Python starts");
    assert!(filled.status.success(), "{}", String::from_utf8_lossy(&filled.stderr));
    serves("az://models", &[("AZURE_STORAGE_CONNECTION_STRING", &connection)]);
    let proxy = Flipping::before(&format!("127.0.0.1:{port}"));
    let through = connection.replace(&format!("127.0.0.1:{port}"), &proxy.address);
    for ending in ["", "/model.onnx"] {
        let variables = [("AZURE_STORAGE_CONNECTION_STRING", through.as_str())];
        proxy.refuses(&format!("az://models/flowers{ending}"), &variables, "md5");
    }
    let wrong = connection.replace("Eby8vdM", "AAAAAAA");
    let denied = fails("az://models/flowers", &[("AZURE_STORAGE_CONNECTION_STRING", &wrong)]);
    assert!(denied.contains("az://models/flowers: the server answered 403"), "{denied}");
    assert!(!denied.contains("AAAAAAA"), "{denied}");
}

#[test]
fn nginx_serves_a_folder_and_a_file() {
    let Some(program) = program("CORYMB_TEST_NGINX", "nginx", "-v") else { return };
    let models = models();
    let port = free_port();
    let place = tempfile::tempdir().expect("a temporary folder");
    // One process, which ends when it is killed.
    let config = format!(
        "daemon off; master_process off; pid {0}/pid; error_log /dev/null; events {{ }}\n\
         http {{ access_log off; client_body_temp_path {0}/1; proxy_temp_path {0}/2; fastcgi_temp_path {0}/3;\n\
         uwsgi_temp_path {0}/4; scgi_temp_path {0}/5; server {{ listen 127.0.0.1:{port}; root {1}; }} }}\n",
        place.path().display(),
        models.path().display(),
    );
    let file = place.path().join("nginx.conf");
    std::fs::write(&file, config).expect("written");
    // Its workers run as nobody when it is started by root.
    for folder in [models.path(), place.path()] {
        std::fs::set_permissions(folder, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("ours");
    }
    let mut server = Command::new(program);
    server.arg("-c").arg(&file).arg("-p").arg(place.path()).stdout(Stdio::null()).stderr(Stdio::null());
    let _server = Running(server.spawn().expect("it starts"));
    wait_for(port);
    let cache = tempfile::tempdir().expect("a temporary folder");
    let folder = cache.path().to_string_lossy().into_owned();
    let url = format!("http://127.0.0.1:{port}/flowers");
    let server = Server::start(&["--model-dir", &url, "--cache", &folder]);
    let answer = server.post("/v1/models/flowers:predict", "image/jpeg", &picture());
    assert_eq!(answer.status, 200, "{}", answer.text());
    drop(server);
    let server = Server::start(&["--model", &format!("file={url}/model.onnx"), "--cache", &folder]);
    assert_eq!(server.get("/v2/models/file/ready").status, 200);
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("made");
    for entry in std::fs::read_dir(from).expect("a folder").flatten() {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).expect("copied");
        }
    }
}
