//! Models that the real signing tool signed, and what is refused of them. `tests/fixtures/signatures/make.py` made them.

use std::fs;
use std::path::{Path, PathBuf};

use super::*;
use crate::layout::{open, open_dir};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/signatures")
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("created");
    for entry in fs::read_dir(from).expect("a folder").flatten() {
        let to = to.join(entry.file_name());
        match entry.path().is_dir() {
            true => copy(&entry.path(), &to),
            false => fs::write(&to, fs::read(entry.path()).expect("read")).expect("written"),
        }
    }
}

/// The signed model in a folder of its own, with one of its signatures.
struct Model(tempfile::TempDir);

impl Model {
    fn new(signature: &str) -> Self {
        let root = tempfile::tempdir().expect("a temporary folder");
        copy(&fixtures().join("model"), &root.path().join("m"));
        let model = Self(root);
        model.sign(signature);
        model
    }

    fn sign(&self, signature: &str) {
        let signature = fs::read(fixtures().join(format!("by/{signature}.sig"))).expect("a signature");
        fs::write(self.path(SIGNATURE), signature).expect("written");
    }

    fn path(&self, file: &str) -> PathBuf {
        self.0.path().join("m").join(file)
    }

    fn write(&self, file: &str, content: &[u8]) {
        let path = self.path(file);
        fs::create_dir_all(path.parent().expect("inside")).expect("created");
        fs::write(path, content).expect("written");
    }

    /// Who signed it, or why it is refused.
    fn open(&self, trusted: &str) -> Result<String, String> {
        opened(&self.0.path().join("m"), trusted)
    }

    fn refused(&self, trusted: &str) -> String {
        self.open(trusted).expect_err("it must be refused")
    }
}

fn policy(trusted: &str) -> SignaturePolicy {
    let mut policy = SignaturePolicy::default();
    for name in trusted.split(' ') {
        policy.demand(Trust::read(&fixtures().join("trust").join(name)).expect(name));
    }
    policy
}

fn opened(path: &Path, trusted: &str) -> Result<String, String> {
    let models = open("m", &path.to_string_lossy(), &policy(trusted)).map_err(|error| error.to_string())?;
    Ok(models[0].signed.as_ref().expect("a signature was demanded").shown())
}

#[test]
fn what_changes_after_it_was_verified_is_noticed() {
    let model = Model::new("p256");
    let path = model.path("").to_string_lossy().into_owned();
    let changes: [&dyn Fn(); 4] = [
        &|| model.write("labels.txt", b"others"),
        &|| fs::remove_file(model.path("labels.txt")).expect("removed"),
        // What was put back, with its old date too, may have been read in between.
        &|| {
            let file = fs::File::options().write(true).open(model.path("external.bin")).expect("there");
            let date = file.metadata().and_then(|meta| meta.modified()).expect("a date");
            file.set_modified(date).expect("set");
        },
        &|| {
            fs::copy(model.path("model.toml"), model.path("copy")).expect("copied");
            fs::rename(model.path("copy"), model.path("model.toml")).expect("renamed");
        },
    ];
    for (index, change) in changes.iter().enumerate() {
        model.write("labels.txt", &fs::read(fixtures().join("model/labels.txt")).expect("there"));
        let models = open("m", &path, &policy("p256.pub")).expect("signed");
        let signed = models[0].signed.as_ref().expect("a signature was demanded");
        signed.ensure_unchanged().expect("nothing has changed");
        // Dates of files go by the kernel's tick.
        std::thread::sleep(std::time::Duration::from_millis(20));
        change();
        let error = signed.ensure_unchanged().expect_err("noticed").to_string();
        assert!(error.ends_with("it was changed while the model was being loaded"), "{index}: {error}");
    }
}

#[test]
fn what_the_tool_signed_is_believed() {
    for (signature, trusted, by) in [
        ("p256", "p256.pub", "5 files by the key sha256:"),
        ("p384", "p384.pub", "5 files by the key sha256:"),
        ("p256", "stranger.pub root.pem p256.pub", "5 files by the key sha256:"),
        ("shards", "p256.pub", "5 files by the key sha256:"),
        ("without_docs", "p256.pub", "4 files by the key sha256:"),
        ("chain", "root.pem", "5 files by the certificate sha256:"),
        ("code", "stranger.pem root.pem", "5 files by the certificate sha256:"),
    ] {
        let signed = Model::new(signature).open(trusted).expect(signature);
        assert!(signed.starts_with(by), "{signature}: {signed}");
    }
    // Git's files are left out by the signature itself.
    let model = Model::new("p256");
    model.write(".gitattributes", b"x");
    model.write(".git/config", b"x");
    assert!(model.open("p256.pub").is_ok());
    // Without a policy nobody looks.
    model.write("model.sig", b"nonsense");
    assert!(open("m", &model.path("").to_string_lossy(), &SignaturePolicy::default()).is_ok());
}

#[test]
fn who_is_not_trusted_is_refused() {
    for (signature, trusted, reason) in [
        ("p256", "stranger.pub", "m/model.sig: not signed by a trusted key, or changed since"),
        ("p256", "p384.pub", "not signed by a trusted key"),
        ("p256", "root.pem", "signed with a key, but only certificates are trusted"),
        ("p521", "p256.pub p384.pub", "not signed by a trusted key"),
        ("chain", "p256.pub", "signed by a certificate, but only keys are trusted; give the root certificate"),
        ("chain", "stranger.pem", "does not descend from a trusted root"),
        ("expired", "root.pem", "a certificate of the signer's chain expired on 2021-01-01T00:00:00Z"),
        ("web", "root.pem", "the signer's certificate is for other purposes than codeSigning"),
        ("encipher", "root.pem", "the signer's certificate does not allow signing"),
        ("predicate", "p256.pub", "a predicate 'https://model_signing/signature/v9.0'; expected https://model_signing"),
        ("old", "p256.pub", "signed by a tool before version 1.0"),
        ("blake3", "p256.pub", "its digests are 'blake3'; only sha256 is understood"),
        ("outside", "p256.pub", "it lists '../secret', which is no path in the model's folder"),
        ("twice", "p256.pub", "it lists 'docs/card.md' twice"),
        ("gap", "p256.pub", "the pieces of 'external.onnx' that it lists do not join"),
        ("subject", "p256.pub", "is not the one that its subject is the digest of"),
        ("empty", "p256.pub", "it lists 0 files"),
    ] {
        let error = Model::new(signature).refused(trusted);
        assert!(error.contains(reason), "{signature} by {trusted}: {error}");
        assert!(error.contains("m/model.sig: ") && !error.contains('\n'), "{error}");
    }
}

#[test]
fn every_file_is_as_it_was_signed() {
    let check = |signature: &str, change: &dyn Fn(&Model), expected: &str| {
        let model = Model::new(signature);
        change(&model);
        let error = model.refused("p256.pub");
        assert!(error.contains(expected), "{signature}: {error}");
    };
    for signature in ["p256", "shards"] {
        let labels =
            if signature == "p256" { "labels.txt: its sha256 is " } else { "labels.txt: its sha256 from byte 0" };
        check(signature, &|model| model.write("labels.txt", b"two\none\n"), labels);
        check(signature, &|model| model.write("external.bin", b"12345678"), "external.bin: its sha256");
        check(signature, &|model| model.write("docs/card.md", b""), "docs/card.md: its sha256");
        check(signature, &|model| model.write("docs/more.md", b""), "docs/more.md: this file is not in the signature");
        let empty = "new.toml: this file is not in the signature";
        check(signature, &|model| model.write("new.toml", b""), empty);
        let hidden = "docs/model.sig: this file is not in the signature";
        check(signature, &|model| model.write("docs/model.sig", b"x"), hidden);
        let gone = "external.bin: no such file, but it is in the signature";
        check(signature, &|model| fs::remove_file(model.path("external.bin")).expect("removed"), gone);
        check(
            signature,
            &|model| fs::remove_file(model.path(SIGNATURE)).expect("removed"),
            "m/model.sig: no such file",
        );
        let link = |model: &Model| {
            fs::rename(model.path("labels.txt"), model.0.path().join("labels")).expect("moved");
            std::os::unix::fs::symlink("../labels", model.path("labels.txt")).expect("linked");
        };
        check(signature, &link, "labels.txt: a symbolic link, which the signer did not allow");
    }
    let longer = |model: &Model| {
        let mut content = fs::read(model.path("external.onnx")).expect("read");
        content.push(0);
        model.write("external.onnx", &content);
    };
    check("shards", &longer, "external.onnx: it is longer than the 161 bytes that were signed");
    // What the signer left out may lie there, but not be used.
    check("without_labels", &|_| {}, "labels.txt: the model uses this file, but the signature does not cover it");
    let plugin = |model: &Model| model.write("p.cwasm", b"machine code");
    check("p256", &plugin, "p.cwasm: this file is not in the signature");
}

#[test]
fn a_file_alone_is_signed_alone_or_with_its_folder() {
    let single = fixtures().join("single");
    assert!(opened(&single.join("net.onnx"), "p256.pub").expect("signed").starts_with("1 files by the key"));
    assert!(opened(&single, "p256.pub").expect_err("a folder").contains("the signature of a single file"));
    // Of a folder, the file and its external data count.
    let model = Model::new("p256");
    model.write("more.txt", b"not looked at");
    let file = model.path("external.onnx");
    assert!(opened(&file, "p256.pub").expect("signed").starts_with("2 files by the key"));
    model.write("external.bin", b"12345678");
    assert!(opened(&file, "p256.pub").expect_err("changed").contains("external.bin: its sha256"));
    model.write("other.onnx", b"");
    let other = opened(&model.path("other.onnx"), "p256.pub").expect_err("unsigned");
    assert!(other.contains("other.onnx: this file is not in the signature"), "{other}");
    // What a file refers to is not signed with it.
    let alone = tempfile::tempdir().expect("a temporary folder");
    copy(&single, alone.path());
    fs::copy(model.path("external.onnx"), alone.path().join("net.onnx")).expect("copied");
    assert!(
        opened(&alone.path().join("net.onnx"), "p256.pub").expect_err("another file").contains("net.onnx: its sha256")
    );
    fs::remove_file(alone.path().join(SIGNATURE)).expect("removed");
    assert!(
        opened(&alone.path().join("net.onnx"), "p256.pub")
            .expect_err("unsigned")
            .contains("no such file, but a signature")
    );
}

#[test]
fn each_version_has_a_signature_and_nothing_beside_them_counts() {
    let model = Model::new("p256");
    let tree = model.0.path().join("t");
    for version in ["1", "2"] {
        copy(&model.path(""), &tree.join(version));
    }
    assert!(opened(&tree, "p256.pub").is_ok());
    // A version that is not served is not looked at.
    fs::remove_file(tree.join("1/model.sig")).expect("removed");
    assert!(opened(&tree, "p256.pub").is_ok());
    fs::write(tree.join("model.toml"), "").expect("written");
    let error = opened(&tree, "p256.pub").expect_err("unsigned");
    assert!(error.contains("t/model.toml: the model uses this file, but the signature does not cover it"), "{error}");
    fs::remove_file(tree.join("model.toml")).expect("removed");
    fs::remove_file(tree.join("2/labels.txt")).expect("removed");
    fs::write(tree.join("labels.txt"), "one\ntwo\n").expect("written");
    assert!(opened(&tree, "p256.pub").expect_err("missing").contains("2/labels.txt: no such file, but it is in"));
    fs::remove_file(tree.join("2/model.sig")).expect("removed");
    assert!(opened(&tree, "p256.pub").expect_err("unsigned").contains("t/2/model.sig: no such file, but a signature"));
}

#[test]
fn one_signature_may_cover_all_versions() {
    let root = tempfile::tempdir().expect("a temporary folder");
    let tree = root.path().join("t");
    copy(&fixtures().join("tree"), &tree);
    assert!(opened(&tree, "p256.pub").expect("signed").starts_with("4 files by the key"));
    // All that it covers is compared, served or not.
    fs::write(tree.join("1/net.onnx"), "").expect("written");
    assert!(opened(&tree, "p256.pub").expect_err("changed").contains("t/1/net.onnx: its sha256"));
    copy(&fixtures().join("tree"), &tree);
    fs::create_dir(tree.join("3")).expect("made");
    fs::copy(tree.join("2/net.onnx"), tree.join("3/net.onnx")).expect("copied");
    assert!(opened(&tree, "p256.pub").expect_err("added").contains("t/3/net.onnx: this file is not in the signature"));
    // A signature of the version alone does not help against that of the whole.
    fs::copy(tree.join("model.sig"), tree.join("3/model.sig")).expect("copied");
    assert!(opened(&tree, "p256.pub").expect_err("added").contains("t/3/"));
}

#[test]
fn links_to_files_are_followed_where_the_signer_allowed_them() {
    let model = Model::new("links");
    let elsewhere = model.0.path().join("labels");
    fs::rename(model.path("labels.txt"), &elsewhere).expect("moved");
    std::os::unix::fs::symlink("../labels", model.path("labels.txt")).expect("linked");
    assert!(model.open("p256.pub").is_ok());
    fs::write(&elsewhere, "x").expect("written");
    assert!(model.refused("p256.pub").contains("labels.txt: its sha256 is "));
    let model = Model::new("links");
    fs::rename(model.path("docs"), model.0.path().join("docs")).expect("moved");
    std::os::unix::fs::symlink("../docs", model.path("docs")).expect("linked");
    assert!(model.refused("p256.pub").contains("docs: a symbolic link to a folder"));
}

#[test]
fn a_rule_of_a_model_is_its_only_one() {
    let model = Model::new("p256");
    copy(&model.path(""), &model.0.path().join("other"));
    let trust = |name: &str| Trust::read(&fixtures().join("trust").join(name)).expect(name);
    let mut own = SignaturePolicy::default();
    own.demand_of("m", trust("stranger.pub"));
    let root = model.0.path().to_string_lossy().into_owned();
    let error = open_dir(&root, None, &own).expect_err("not the stranger's").to_string();
    assert!(error.contains("m/model.sig: not signed by a trusted key"), "{error}");
    own.demand(trust("p256.pub"));
    assert!(open("other", &format!("{root}/other"), &own).is_ok());
    assert!(open("m", &format!("{root}/m"), &own).is_err(), "the key of the others does not help");
    own.demand_of("m", trust("p256.pub"));
    assert_eq!(open_dir(&root, None, &own).expect("signed").len(), 2);
    assert_eq!(own.names().into_iter().collect::<Vec<_>>(), ["m"]);
}

#[test]
fn bundles_that_are_no_signature_of_a_model() {
    let text = fs::read_to_string(fixtures().join("by/p256.sig")).expect("read");
    let trust = Trust::read(&fixtures().join("trust/p256.pub")).expect("a key");
    let refused = |text: &str, expected: &str| {
        let error = statement(text.as_bytes(), &trust).map(|(_, by)| by).expect_err(expected);
        assert!(error.contains(expected), "{error}");
    };
    let changed = |change: &dyn Fn(&mut serde_json::Value)| {
        let mut bundle: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        change(&mut bundle);
        bundle.to_string()
    };
    refused("", "not a Sigstore bundle");
    refused("[]", "not a Sigstore bundle");
    refused(&"[".repeat(100_000), "not a Sigstore bundle");
    refused(&text.replace("v0.3", "v0.9"), "expected application/vnd.dev.sigstore.bundle.v0.3+json");
    let entry =
        |bundle: &mut serde_json::Value| bundle["verificationMaterial"]["tlogEntries"] = serde_json::json!([{}]);
    refused(&changed(&entry), "a keyless signature");
    let keyless = |bundle: &mut serde_json::Value| {
        bundle["verificationMaterial"] = serde_json::json!({"certificate": {"rawBytes": ""}});
    };
    refused(&changed(&keyless), "sign with a key or a certificate instead");
    let nobody = |bundle: &mut serde_json::Value| bundle["verificationMaterial"] = serde_json::json!({});
    refused(&changed(&nobody), "either a public key or a chain of certificates");
    let none = |bundle: &mut serde_json::Value| bundle["dsseEnvelope"]["signatures"] = serde_json::json!([]);
    refused(&changed(&none), "the envelope has 0 signatures");
    let kind = |bundle: &mut serde_json::Value| bundle["dsseEnvelope"]["payloadType"] = "text/plain".into();
    refused(&changed(&kind), "of type 'text/plain'");
    let payload = |bundle: &mut serde_json::Value| bundle["dsseEnvelope"]["payload"] = "e30=".into();
    refused(&changed(&payload), "not signed by a trusted key, or changed since");
    let envelope = |bundle: &mut serde_json::Value| bundle["dsseEnvelope"] = serde_json::Value::Null;
    refused(&changed(&envelope), "no DSSE envelope");

    // A flipped byte anywhere is a refusal, never a panic.
    for at in (0..text.len()).step_by(7) {
        let mut bytes = text.clone().into_bytes();
        bytes[at] ^= 1;
        let _ = statement(&bytes, &trust);
    }
}

#[test]
fn keys_that_are_no_keys() {
    let parse = |name: &str| Trust::parse(&fs::read(fixtures().join("trust").join(name)).expect(name));
    assert!(parse("root.pem").is_ok());
    assert!(parse("p521.pub").expect_err("too long").contains("another kind than ECDSA P-256 and P-384"));
    for (text, expected) in [
        ("", "neither a public key nor a certificate"),
        ("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "belongs to the signer alone"),
        ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "cannot be a root"),
        ("-----BEGIN PUBLIC KEY-----\n!\n-----END PUBLIC KEY-----\n", "not PEM"),
    ] {
        let error = Trust::parse(text.as_bytes()).expect_err(expected);
        assert!(error.contains(expected), "{error}");
    }
    let absent = Trust::read(Path::new("/nowhere/key.pub")).expect_err("absent").to_string();
    assert!(absent.starts_with("/nowhere/key.pub: "), "{absent}");
}
