//! The cache: bounded, read again on demand, and what runs stays in it.

use std::process::Command;

use serde_json::{Value, json};

use super::store::Store;
use super::{blobs, cache, identity, listed, noise, predict, pull, pulled, said};
use crate::harness::{Server, corymb, folder};

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
    assert!(said(&rm).contains("1 model stays: a running server uses it"), "{}", said(&rm));
    drop(server);
    let rm = corymb(&["models", "rm", &store.url("used"), "--cache", &folder]).output().expect("the binary runs");
    assert!(said(&rm).starts_with("1 model removed"), "{}", said(&rm));
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
        said(&verified).contains("its crc32c is ") && said(&verified).contains("the file has changed and was removed"),
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

/// The models of these names, each in a folder, in an archive.
fn archive(names: &[&str]) -> Vec<u8> {
    let files: Vec<String> = names.iter().map(|name| format!("{name}/model.onnx")).collect();
    let model = identity();
    let files: Vec<(&str, &[u8])> = files.iter().map(|path| (path.as_str(), model.as_slice())).collect();
    let place = folder(&files);
    let output = Command::new("tar").arg("-cz").args(names).current_dir(place.path()).output().expect("tar runs");
    assert!(output.status.success(), "{}", said(&output));
    output.stdout
}

/// The models that are served of a place, or the last line of the start that failed.
fn served(uri: &str, cache: &std::path::Path, more: &[&str]) -> Result<Value, String> {
    let mut command = corymb(&["models", "list", uri, "--json", "--cache", &cache.to_string_lossy()]);
    let output = command.args(more).output().expect("the binary runs");
    let models: Vec<Value> = serde_json::from_slice(&output.stdout).map_err(|_| said(&output))?;
    match models.iter().find_map(|model| model["error"].as_str()) {
        Some(error) => Err(error.to_owned()),
        None => Ok(models.iter().map(|model| model["name"].clone()).collect()),
    }
}

#[test]
fn without_its_store_a_place_holds_what_it_held_last() {
    let store = Store::start(&[("m.tar.gz", &archive(&["gone", "keep", "more"]))]);
    let (uri, cache) = (store.url("m.tar.gz"), cache());
    assert_eq!(served(&uri, cache.path(), &[]), Ok(json!(["gone", "keep", "more"])));
    store.put("m.tar.gz", &archive(&["keep", "more"]));
    for more in [&[][..], &["--offline"]] {
        assert_eq!(served(&uri, cache.path(), more), Ok(json!(["keep", "more"])));
    }
    // One whose files are not all there is named.
    let blobs: Vec<std::path::PathBuf> = records(cache.path(), "m.tar.gz/more/model.onnx");
    for blob in &blobs {
        std::fs::remove_file(blob).expect("removed");
    }
    assert!(!blobs.is_empty());
    let error = served(&uri, cache.path(), &["--offline"]).expect_err("one is not there");
    assert!(error.contains("m.tar.gz/more: it is not in the cache") && error.contains("or not whole"), "{error}");
}

/// The files of the cache whose source ends so.
fn records(cache: &std::path::Path, uri: &str) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(cache.join("models/blobs")).expect("a cache").flatten();
    let records = entries.map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|end| end == "json"));
    let is_of = |path: &std::path::PathBuf| {
        let text = std::fs::read(path).expect("read");
        let record: Value = serde_json::from_slice(&text).expect("a record");
        record["uri"].as_str().is_some_and(|known| known.ends_with(uri))
    };
    records.filter(is_of).map(|path| path.with_extension("")).collect()
}

#[test]
fn a_file_that_somebody_changed_in_the_cache_is_not_used() {
    let model = identity();
    let store = Store::start(&[("m/net.onnx", &model)]);
    let (uri, cache) = (store.url("m/net.onnx"), cache());
    assert_eq!(served(&uri, cache.path(), &[]), Ok(json!(["net"])));
    let blob = records(cache.path(), "m/net.onnx").pop().expect("one");
    let mut permissions = std::fs::metadata(&blob).expect("there").permissions();
    std::os::unix::fs::PermissionsExt::set_mode(&mut permissions, 0o644);
    std::fs::set_permissions(&blob, permissions).expect("allowed");
    let mut damaged = model.clone();
    damaged[20] ^= 1;
    std::fs::write(&blob, &damaged).expect("written");
    let error = served(&uri, cache.path(), &["--offline"]).expect_err("it is damaged");
    assert!(error.contains("it is not in the cache") && error.contains("or not whole"), "{error}");
    // From its store it is fetched anew.
    assert_eq!(served(&uri, cache.path(), &[]), Ok(json!(["net"])));
    assert_eq!(std::fs::read(&blob).expect("read"), model);
    // A copy of the cache has other times, and the same content.
    std::fs::File::options()
        .append(true)
        .open(&blob)
        .and_then(|file| file.set_modified(std::time::UNIX_EPOCH))
        .expect("set");
    assert_eq!(served(&uri, cache.path(), &["--offline"]), Ok(json!(["net"])));
}
