//! Folders, trees and mistakes, opened from disk.

use super::*;
use crate::store::Algorithm;

/// A folder with these files, each holding its own name.
fn tree(files: &[&str]) -> tempfile::TempDir {
    let root = tempfile::tempdir().expect("a temporary folder");
    for file in files {
        let path = root.path().join(file);
        fs::create_dir_all(path.parent().expect("inside")).expect("created");
        fs::write(path, file).expect("written");
    }
    root
}

fn uri(root: &tempfile::TempDir, path: &str) -> String {
    root.path().join(path).to_string_lossy().into_owned()
}

fn open(name: &str, uri: &str) -> Result<Vec<ModelFolder>, RepositoryError> {
    super::open(name, uri, &SignaturePolicy::default())
}

fn open_dir(uri: &str, name: Option<&str>) -> Result<Vec<ModelFolder>, RepositoryError> {
    super::open_dir(uri, name, &SignaturePolicy::default())
}

/// The only version that is taken.
fn open_one(name: &str, uri: &str) -> Result<ModelFolder, RepositoryError> {
    open(name, uri).map(|folders| <[_; 1]>::try_from(folders).expect("one")).map(|[folder]| folder)
}

fn model_name(folder: &ModelFolder) -> String {
    folder.model.as_ref().expect("a model").model.name()
}

#[test]
fn files_folders_and_version_trees_are_models() {
    let root =
        tree(&["bare.onnx", "plain/net.onnx", "plain/warmup/x.npy", "tree/1/a.onnx", "tree/02/b.onnx", "tree/x"]);
    let open = |path: &str| open_one("m", path);
    let bare = open(&uri(&root, "bare.onnx")).expect("valid");
    assert_eq!((model_name(&bare).as_str(), bare.version.as_str()), ("bare.onnx", "1"));
    let plain = open(&format!("file://{}", uri(&root, "plain"))).expect("valid");
    assert_eq!(model_name(&plain), "net.onnx");
    assert_eq!(plain.samples[0].input, "x");
    let tree = open(&uri(&root, "tree")).expect("valid");
    assert_eq!((model_name(&tree).as_str(), tree.version.as_str()), ("b.onnx", "2"));
}

#[test]
fn a_model_dir_is_one_model_or_many() {
    let root = tree(&["repo/a/m.onnx", "repo/b/1/m.onnx", "repo/notes/readme.md", "one/m.onnx", "none/x.txt"]);
    let names = |dir: &str, name| -> Vec<String> {
        open_dir(&uri(&root, dir), name).expect("valid").into_iter().map(|folder| folder.name).collect()
    };
    assert_eq!(names("repo", None), ["a", "b"]);
    assert_eq!(names("one", None), ["one"]);
    assert_eq!(names("one", Some("other")), ["other"]);
    assert!(matches!(open_dir(&uri(&root, "none"), None), Err(RepositoryError::Empty { .. })));
}

#[test]
fn mistakes_name_the_file() {
    let root = tree(&["two/a.onnx", "two/b.onnx", "m/model.onnx", "evil/m.onnx"]);
    let manifest = |dir: &str, text: &str| fs::write(root.path().join(dir).join(MANIFEST), text).expect("written");
    let message = |dir: &str| open("m", &uri(&root, dir)).expect_err(dir).to_string();

    assert!(
        message("two").contains("2 .onnx files and none is called model.onnx (a.onnx, b.onnx)"),
        "{}",
        message("two")
    );
    assert!(message("absent").contains("absent: No such file"));
    assert!(open("m", "s3://bucket/x").expect_err("scheme").to_string().contains("expected a path or file://"));
    manifest("m", "file = 'other.onnx'");
    assert!(message("m").contains("other.onnx: no such file, but model.toml names it"));
    manifest("m", &format!("sha256 = '{}'", "0".repeat(64)));
    assert!(message("m").contains("the manifest says 0000"));
    for outside in ["../m/model.onnx", "/etc/passwd", ""] {
        manifest("evil", &format!("file = '{outside}'"));
        assert!(message("evil").contains("must name a file in the model's own folder"), "{}", message("evil"));
    }
    for name in ["", ".", "..", "a/b", "ä", "-x"] {
        assert!(matches!(open(name, &uri(&root, "two")), Err(RepositoryError::Name(_))), "{name}");
    }
}

#[test]
fn the_checksum_is_of_the_model() {
    let root = tree(&["m/model.onnx"]);
    let mut hasher = Algorithm::Sha256.hasher(0);
    hasher.update(b"m/model.onnx");
    let digest = hasher.finish();
    let file = uri(&root, "m/model.onnx");
    assert!(open("m", &format!("{file}#sha256={digest}")).is_ok());
    assert!(open("m", &format!("{file}#sha256={}", "0".repeat(64))).is_err());
    fs::write(root.path().join("m").join(MANIFEST), format!("sha256 = '{digest}'")).expect("written");
    assert!(open("m", &uri(&root, "m")).is_ok());
}

#[test]
fn embedded_files_are_a_folder() {
    let manifest = Bytes::from_static(b"file = 'model.onnx'\n[plugin]\nfile = 'p.wasm'\nheaders = ['X-A']");
    let file = |name: &'static str| (name, Bytes::from_static(name.as_bytes()));
    let files = [(MANIFEST, manifest), file("model.onnx"), file("p.wasm"), file("warmup/image_bytes.jpg")];
    let folder = embedded("flowers", &files).expect("valid");
    assert_eq!(model_name(&folder), "model.onnx");
    assert_eq!(folder.plugin.expect("given").headers, ["x-a"]);
    assert_eq!(folder.samples[0].input, "image_bytes");
    assert!(matches!(embedded("flowers", &files[..2]), Err(RepositoryError::Missing { .. })));
}

#[test]
fn the_policy_of_a_version_tree_chooses() {
    let root = tree(&["t/1/a.onnx", "t/2/a.onnx", "t/10/a.onnx", "t/labels.txt"]);
    let versions = |text: &str| -> Result<Vec<String>, String> {
        fs::write(root.path().join("t").join(MANIFEST), text).expect("written");
        let folders = open("m", &uri(&root, "t")).map_err(|error| error.to_string())?;
        Ok(folders.into_iter().map(|folder| folder.version).collect())
    };
    assert_eq!(versions("").expect("valid"), ["10"]);
    assert_eq!(versions("[versions]\nlatest = 2").expect("valid"), ["2", "10"]);
    assert_eq!(versions("[versions]\nall = true").expect("valid"), ["1", "2", "10"]);
    assert_eq!(versions("[versions]\nonly = [1, 10]").expect("valid"), ["1", "10"]);
    let error = versions("[versions]\nonly = [3]").expect_err("absent");
    assert!(error.contains("`versions.only` names 3; there are 1, 2, 10"), "{error}");
    // What the versions share lies beside them.
    assert_eq!(versions("labels = 'labels.txt'").expect("valid"), ["10"]);
}

#[test]
fn a_saved_model_is_named_for_what_it_is() {
    let root = tree(&["s/1/saved_model.pb"]);
    let error = open("m", &uri(&root, "s")).expect_err("not ONNX").to_string();
    assert!(error.contains("SavedModel") && error.contains("convert.py"), "{error}");
}
