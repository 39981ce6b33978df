//! Signed models: served where the signature is that of somebody who is trusted, else refused before anything is loaded.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::json;

use crate::harness::{Server, corymb, folder, root, run, skip};
use crate::repository::store::Store;

const FILES: [&str; 5] = ["model.toml", "external.onnx", "external.bin", "labels.txt", "docs/card.md"];

fn fixtures() -> PathBuf {
    root().join("tests/fixtures/signatures")
}

fn read(name: &str) -> Vec<u8> {
    std::fs::read(fixtures().join(name)).expect(name)
}

fn trust(name: &str) -> String {
    fixtures().join("trust").join(name).to_string_lossy().into_owned()
}

/// The signed model with this signature, its files below `place`.
fn files(place: &str, signature: &str) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<_> =
        FILES.iter().map(|name| (format!("{place}{name}"), read(&format!("model/{name}")))).collect();
    files.push((format!("{place}model.sig"), read(&format!("by/{signature}.sig"))));
    files
}

fn borrowed(files: &[(String, Vec<u8>)]) -> Vec<(&str, &[u8])> {
    files.iter().map(|(name, content)| (name.as_str(), content.as_slice())).collect()
}

fn model(signature: &str) -> tempfile::TempDir {
    folder(&borrowed(&files("m/", signature)))
}

fn said(output: &Output) -> String {
    [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned()).concat()
}

/// The last line of a start that fails before it serves or loads anything.
fn refused(arguments: &[&str], variables: &[(&str, &str)]) -> String {
    let mut command = corymb(&["serve", "--host", "127.0.0.1", "--port", "0", "--log-format", "json"]);
    let output = command.args(arguments).envs(variables.iter().copied()).output().expect("the binary runs");
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!text.contains("\"serving\"") && !text.contains("corymb_engine"), "{text}");
    text.lines().last().unwrap_or_default().to_owned()
}

fn predict(server: &Server, model: &str) {
    assert_eq!(server.get(&format!("/v2/models/{model}/ready")).status, 200);
}

#[test]
fn a_folder_that_is_signed_is_served() {
    let model = model("p256");
    let uri = model.path().join("m").to_string_lossy().into_owned();
    let server = Server::start(&["--model-dir", &uri, "--verify-signature", &trust("p256.pub")]);
    predict(&server, "m");
    let event = server.event(|event| event["message"] == "signature verified");
    assert_eq!(event["model"], "m", "{event}");
    assert!(event["signed"].as_str().is_some_and(|text| text.starts_with("5 files by the key sha256:")), "{event}");
    drop(server);

    // By certificate, and by the variable and the file of the configuration.
    std::fs::write(model.path().join("m/model.sig"), read("by/chain.sig")).expect("written");
    let keys = format!("{} {}", trust("p384.pub"), trust("root.pem"));
    drop(Server::start_with(&["--model-dir", &uri], &[("CORYMB_VERIFY_SIGNATURE", &keys)]));
    let config = folder(&[("c.toml", format!("verify_signature = ['m={}']", trust("root.pem")).as_bytes())]);
    let config = config.path().join("c.toml").to_string_lossy().into_owned();
    drop(Server::start(&["--model-dir", &uri, "--config", &config]));
}

#[test]
fn what_is_not_as_it_was_signed_is_refused_in_the_last_line() {
    let check = |signature: &str, key: &str, change: &dyn Fn(&Path), expected: &str| {
        let model = model(signature);
        change(&model.path().join("m"));
        let uri = model.path().join("m").to_string_lossy().into_owned();
        let error = refused(&["--model-dir", &uri, "--verify-signature", &trust(key)], &[]);
        assert!(error.starts_with("error: ") && error.contains(expected), "{error}");
    };
    let write = |folder: &Path, name: &str| std::fs::write(folder.join(name), "x").expect("written");
    check("p256", "stranger.pub", &|_| {}, "m/model.sig: not signed by a trusted key, or changed since");
    check("expired", "root.pem", &|_| {}, "m/model.sig: a certificate of the signer's chain expired on 2021-01-01");
    check("predicate", "p256.pub", &|_| {}, "m/model.sig: what was signed is a predicate 'https://model_signing/");
    check("p256", "p256.pub", &|folder| write(folder, "external.bin"), "m/external.bin: its sha256 is ");
    check("p256", "p256.pub", &|folder| write(folder, "new.txt"), "m/new.txt: this file is not in the signature");
    let remove = |folder: &Path| std::fs::remove_file(folder.join("labels.txt")).expect("removed");
    check("p256", "p256.pub", &remove, "m/labels.txt: no such file, but it is in the signature");
    let unsign = |folder: &Path| std::fs::remove_file(folder.join("model.sig")).expect("removed");
    check("p256", "p256.pub", &unsign, "m/model.sig: no such file, but a signature of this model is demanded");

    let key = trust("p256.pub");
    let embedded = refused(&["--verify-signature", &key], &[]);
    assert!(embedded.contains("the flowers model inside the binary has no signature of its own"), "{embedded}");
    let model = model("p256");
    let uri = model.path().join("m").to_string_lossy().into_owned();
    let stray = refused(&["--model-dir", &uri, "--verify-signature", &format!("n={key}")], &[]);
    assert!(stray.contains("--verify-signature names 'n', but no model has that name"), "{stray}");
    let doctor = run(&["doctor", "--port", "0", "--verify-signature", "/nowhere/key.pub"]);
    assert!(said(&doctor).contains("error: --verify-signature: /nowhere/key.pub: No such file"), "{}", said(&doctor));
    let absent = refused(&["--model-dir", &uri, "--verify-signature", "/nowhere/key.pub"], &[]);
    assert!(absent.contains("--verify-signature: /nowhere/key.pub: No such file"), "{absent}");
}

#[test]
fn what_a_web_server_gives_is_held_to_the_signature() {
    let files = files("m/", "p256");
    let store = Store::start(&borrowed(&files));
    let cache = tempfile::tempdir().expect("a temporary folder");
    let (uri, place) = (store.url("m"), cache.path().to_string_lossy().into_owned());
    let key = trust("p256.pub");
    let arguments = ["--model-dir", uri.as_str(), "--cache", &place, "--verify-signature", &key];
    predict(&Server::start(&arguments), "m");
    // What no manifest names is fetched and compared too.
    assert!(store.requests().iter().any(|request| request.path.ends_with("docs/card.md")));
    let verify = |key: &str| run(&["models", "verify", "--cache", &place, "--verify-signature", &trust(key)]);
    let verified = verify("p256.pub");
    assert!(verified.status.success(), "{}", said(&verified));
    assert!(said(&verified).contains(&format!("{uri}: signed, 5 files by the key sha256:")), "{}", said(&verified));
    let stranger = verify("stranger.pub");
    assert_eq!(stranger.status.code(), Some(1));
    assert!(said(&stranger).contains("model.sig: not signed by a trusted key"), "{}", said(&stranger));
    assert!(said(&stranger).contains("the model is not as somebody who is trusted signed it"));

    store.put("m/labels.txt", b"two\none\n");
    let error = refused(&arguments, &[]);
    assert!(error.contains(&format!("{}: its sha256 is ", store.url("m/labels.txt"))), "{error}");
    store.put("m/labels.txt", &read("model/labels.txt"));
    store.put("m/model.sig", b"{}");
    let error = refused(&arguments, &[]);
    assert!(error.contains(&format!("{}: not a Sigstore bundle", store.url("m/model.sig"))), "{error}");
    let unsigned = Store::start(&borrowed(&files[..5]));
    let error = refused(&["--model-dir", &unsigned.url("m"), "--cache", &place, "--verify-signature", &key], &[]);
    assert!(error.contains("model.sig: ") && error.contains("a signature of this model is demanded"), "{error}");

    // The bytes in the cache are compared, not what was written down of them.
    store.put("m/model.sig", &read("by/p256.sig"));
    drop(Server::start(&arguments));
    let tree = std::fs::read_dir(cache.path().join("models/trees")).expect("a cache").flatten();
    for tree in tree.filter(|entry| entry.path().is_dir()) {
        let file = tree.path().join("external.bin");
        let before = std::fs::metadata(&file).expect("there");
        let mut permissions = before.permissions();
        std::os::unix::fs::PermissionsExt::set_mode(&mut permissions, 0o644);
        std::fs::set_permissions(&file, permissions).expect("root or owner");
        std::fs::write(&file, b"87654321").expect("written");
        // By its date nobody sees it.
        let changed = std::fs::File::options().append(true).open(&file).expect("there");
        changed.set_modified(before.modified().expect("known")).expect("set");
    }
    let error = refused(&arguments, &[]);
    assert!(error.contains(&format!("{}: its sha256 is ", store.url("m/external.bin"))), "{error}");
}

#[test]
fn a_file_on_a_web_server_is_held_to_the_signature_beside_it() {
    let store = Store::start(&[("s/net.onnx", &read("single/net.onnx")), ("s/model.sig", &read("single/model.sig"))]);
    let cache = tempfile::tempdir().expect("a temporary folder");
    let (uri, place) = (store.url("s/net.onnx"), cache.path().to_string_lossy().into_owned());
    let arguments = ["--model-dir", uri.as_str(), "--cache", &place, "--verify-signature", &trust("p256.pub")];
    predict(&Server::start(&arguments), "net");
    let verified = run(&["models", "verify", &uri, "--cache", &place, "--verify-signature", &trust("p256.pub")]);
    assert!(said(&verified).contains("net.onnx: signed, 1 files by the key"), "{}", said(&verified));
    store.put("s/net.onnx", &read("../models/identity_int8.onnx"));
    let error = refused(&arguments, &[]);
    assert!(error.contains("s/net.onnx: its sha256 is "), "{error}");
}

#[test]
fn what_a_listing_shows_is_held_to_the_signature_before_it_is_downloaded() {
    let commit = "0123456789abcdef0123456789abcdef01234567";
    let place = format!("o/n/resolve/{commit}/");
    let mut files = files(&place, "p256");
    for extra in [".gitattributes", "p.cwasm", "1/net.onnx"] {
        files.push((format!("{place}{extra}"), b"x".to_vec()));
    }
    let served = |names: &[&str]| {
        let listed = files.iter().filter_map(|(path, content)| {
            let name = path.strip_prefix(&place)?;
            names.contains(&name).then(|| json!({"type": "file", "path": name, "size": content.len(), "oid": name}))
        });
        let tree = json!(listed.collect::<Vec<_>>()).to_string();
        let info = json!({"sha": commit}).to_string();
        let tree_path = format!("api/models/o/n/tree/{commit}");
        let mut all = borrowed(&files);
        all.extend([("api/models/o/n/revision/v1", info.as_bytes()), (tree_path.as_str(), tree.as_bytes())]);
        Store::start(&all)
    };
    let signed: Vec<&str> = FILES.into_iter().chain(["model.sig", ".gitattributes"]).collect();
    let cache = tempfile::tempdir().expect("a temporary folder");
    let place = cache.path().to_string_lossy().into_owned();
    let arguments = ["--model=m=hf://o/n@v1", "--cache", &place, "--verify-signature", &trust("p256.pub")];
    let store = served(&signed);
    predict(&Server::start_with(&arguments, &[("HF_ENDPOINT", &store.url(""))]), "m");

    for (names, expected) in [
        ([&signed[..], &["p.cwasm"]].concat(), "hf://o/n@v1/p.cwasm: this file is not in the signature"),
        ([&signed[..], &["1/net.onnx"]].concat(), "hf://o/n@v1/1/net.onnx: this file is not in the signature"),
        (signed[1..].to_vec(), "hf://o/n@v1/model.toml: no such file, but it is in the signature"),
        (FILES.to_vec(), "hf://o/n@v1/model.sig: no such file, but a signature of this model is demanded"),
    ] {
        let store = served(&names);
        let error = refused(&arguments, &[("HF_ENDPOINT", &store.url(""))]);
        assert!(error.contains(expected), "{error}");
        let content = store.requests().into_iter().filter(|request| request.path.ends_with(".onnx")).count();
        assert_eq!(content, 0, "{expected}: the model was downloaded");
    }
}

#[test]
fn a_path_can_be_verified_without_being_served() {
    let model = model("p384");
    let uri = model.path().to_string_lossy().into_owned();
    let verified = run(&["models", "verify", &uri, "--verify-signature", &trust("p384.pub")]);
    assert!(verified.status.success(), "{}", said(&verified));
    assert!(said(&verified).contains("(m): signed, 5 files by the key sha256:"), "{}", said(&verified));
    std::fs::write(model.path().join("m/labels.txt"), "x").expect("written");
    let changed = run(&["models", "verify", &uri, "--json", "--verify-signature", &trust("p384.pub")]);
    assert_eq!(changed.status.code(), Some(1));
    assert!(said(&changed).contains("m/labels.txt: its sha256 is "), "{}", said(&changed));
}

/// What the signing tool that others use signs today is understood, and what it would refuse is refused.
#[test]
fn the_real_tool_and_this_server_agree() {
    let python = std::env::var("CORYMB_TEST_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let importable = Command::new(&python).args(["-c", "import model_signing"]).output();
    if !importable.is_ok_and(|output| output.status.success()) {
        return skip(&format!("{python} cannot import model_signing: see tests/repository/requirements.txt"));
    }
    let place = folder(&borrowed(&files("m/", "p256")));
    std::fs::remove_file(place.path().join("m/model.sig")).expect("removed");
    let keys = "from cryptography.hazmat.primitives.asymmetric import ec\n\
                from cryptography.hazmat.primitives import serialization as s\n\
                key = ec.generate_private_key(ec.SECP384R1())\n\
                pem = s.Encoding.PEM\n\
                open('key', 'wb').write(key.private_bytes(pem, s.PrivateFormat.PKCS8, s.NoEncryption()))\n\
                public = s.PublicFormat.SubjectPublicKeyInfo\n\
                open('key.pub', 'wb').write(key.public_key().public_bytes(pem, public))\n";
    let tool = |arguments: &[&str]| {
        let output = Command::new(&python).args(arguments).current_dir(place.path()).output().expect("Python starts");
        (output.status.success(), said(&output))
    };
    let succeeds = |arguments: &[&str]| {
        let (done, text) = tool(arguments);
        assert!(done, "{text}");
    };
    succeeds(&["-c", keys]);
    let signature = ["--signature", "m/model.sig", "m"];
    succeeds(&[&["-m", "model_signing", "sign", "key", "--private_key", "key"][..], &signature].concat());
    let check = [&["-m", "model_signing", "verify", "key", "--public_key", "key.pub"][..], &signature].concat();
    succeeds(&check);
    let (uri, key) = (place.path().join("m"), place.path().join("key.pub"));
    let (uri, key) = (uri.to_string_lossy().into_owned(), key.to_string_lossy().into_owned());
    let arguments = ["--model-dir", uri.as_str(), "--verify-signature", &key];
    predict(&Server::start(&arguments), "m");
    std::fs::write(place.path().join("m/external.bin"), b"87654321").expect("written");
    assert!(!tool(&check).0);
    let error = refused(&arguments, &[]);
    assert!(error.contains("m/external.bin: its sha256 is "), "{error}");
}
