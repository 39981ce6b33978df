//! Models that are loaded when they are asked for, through the real binary: one load however many ask, room made by those that were
//! not used for longest, and what does not fit refused with its figures.

use serde_json::json;

use crate::harness::{Server, folder, root, run, send};
use crate::repository::store::{Fault, Store};

fn identity() -> Vec<u8> {
    std::fs::read(root().join("tests/fixtures/models/identity_fp32.onnx")).expect("the fixture")
}

/// A model with so many bytes of weights that it adds up with what it is sent: the file is the identity with an initializer that
/// nothing uses.
fn heavy(bytes: usize) -> Vec<u8> {
    let varint = |mut value: usize| {
        let mut bytes = Vec::new();
        loop {
            let low = (value & 0x7f) as u8;
            value >>= 7;
            bytes.push(if value == 0 { low } else { low | 0x80 });
            if value == 0 {
                return bytes;
            }
        }
    };
    let field =
        |number: usize, content: &[u8]| [varint(number << 3 | 2), varint(content.len()), content.to_vec()].concat();
    // TensorProto: dims, data_type FLOAT, name, raw_data; below GraphProto.initializer and ModelProto.graph.
    let elements = bytes / 4;
    let tensor =
        [vec![1 << 3], varint(elements), vec![2 << 3, 1], field(8, b"unused"), field(9, &vec![1; elements * 4])]
            .concat();
    [identity(), field(7, &field(5, &tensor))].concat()
}

fn ask(server: &Server, model: &str) -> crate::harness::Answer {
    let body = json!({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1.5, -2.0]}]});
    server.post(&format!("/v2/models/{model}/infer"), "application/json", body.to_string().as_bytes())
}

fn state(server: &Server, model: &str) -> (String, String) {
    let index = server.post("/v2/repository/index", "application/json", b"{}").json();
    let found = index.as_array().expect("a list").iter().find(|entry| entry["name"] == model).expect("listed").clone();
    let text = |key: &str| found[key].as_str().unwrap_or_default().to_owned();
    (text("state"), text("reason"))
}

#[test]
fn the_least_recently_used_make_room() {
    let heavy = heavy(2 << 20);
    let pinned = b"pinned = true";
    let files: Vec<(String, &[u8])> = ["a", "b", "c", "d", "kept"]
        .iter()
        .map(|name| (format!("{name}/model.onnx"), heavy.as_slice()))
        .chain([("kept/model.toml".to_owned(), pinned.as_slice())])
        .collect();
    let files: Vec<(&str, &[u8])> = files.iter().map(|(path, content)| (path.as_str(), *content)).collect();
    let place = folder(&files);
    let cache = tempfile::tempdir().expect("a temporary folder");
    let dir = place.path().to_string_lossy().into_owned();
    let arguments =
        ["--model-dir", &dir, "--load-on-demand", "--model-memory", "9MiB", "--cache", &cache.path().to_string_lossy()];
    let server = Server::start(&arguments);
    assert_eq!(server.get("/v2/health/ready").status, 200);
    for model in ["a", "kept"] {
        assert_eq!(state(&server, model), ("UNAVAILABLE".to_owned(), "unloaded".to_owned()));
        assert_eq!(server.get(&format!("/v2/models/{model}/ready")).status, 200);
    }
    for model in ["kept", "a", "b", "a", "c", "d"] {
        let answer = ask(&server, model);
        assert_eq!(answer.status, 200, "{model}: {}", answer.text());
    }
    let ready: Vec<&str> =
        ["kept", "a", "b", "c", "d"].into_iter().filter(|name| state(&server, name).0 == "READY").collect();
    assert!(ready.contains(&"kept") && ready.contains(&"d") && !ready.contains(&"b") && ready.len() < 5, "{ready:?}");
    // What is described is loaded for it.
    assert_eq!(server.get("/v2/models/b").json()["name"], "b");
    assert_eq!(state(&server, "b").0, "READY");
    let metrics = server.get("/metrics").text();
    assert!(
        metrics.contains("corymb_model_evictions_total{") && metrics.contains("corymb_model_memory_bytes{"),
        "{metrics}"
    );
    assert!(metrics.contains("corymb_model_loads_total{model=\"a\",outcome=\"ok\"}"), "{metrics}");
    assert_eq!(ask(&server, "absent").status, 404);
    // One that has come since is found.
    std::fs::create_dir(place.path().join("new")).expect("made");
    std::fs::write(place.path().join("new/model.onnx"), identity()).expect("written");
    std::thread::sleep(std::time::Duration::from_secs(6));
    assert_eq!(ask(&server, "new").status, 200);
}

#[test]
fn what_cannot_be_loaded_is_refused_with_the_reason() {
    let heavy = heavy(3 << 20);
    let place = folder(&[
        ("large/model.onnx", &heavy),
        ("broken/model.onnx", b"not a model"),
        ("fine/model.onnx", &identity()),
    ]);
    let dir = place.path().to_string_lossy().into_owned();
    let server = Server::start(&["--model-dir", &dir, "--load-on-demand", "--model-memory", "2MiB"]);
    let large = ask(&server, "large");
    assert_eq!(large.status, 413, "{}", large.text());
    assert!(large.text().contains("takes 3.0 MiB, and all models together may take 2.0 MiB"), "{}", large.text());
    let ready = server.get("/v2/models/large/ready");
    assert_eq!((ready.status, ready.json()["ready"].as_bool()), (503, Some(false)), "{}", ready.text());
    assert!(ready.text().contains("takes 3.0 MiB"), "{}", ready.text());
    let broken = ask(&server, "broken");
    assert_eq!(broken.status, 503, "{}", broken.text());
    assert!(
        broken.text().contains("model 'broken' cannot be loaded: ") && !broken.text().contains(&dir),
        "{}",
        broken.text()
    );
    assert_eq!(server.get("/v2/models/broken/ready").status, 503);
    assert_eq!(ask(&server, "fine").status, 200);
    // Mended, it is tried again.
    std::fs::write(place.path().join("broken/model.onnx"), identity()).expect("written");
    std::thread::sleep(std::time::Duration::from_millis(2200));
    assert_eq!(ask(&server, "broken").status, 200);
}

#[test]
fn one_load_answers_all_who_ask() {
    let place = folder(&[("m/model.onnx", &heavy(8 << 20)), ("n/model.onnx", &identity())]);
    let dir = place.path().to_string_lossy().into_owned();
    let server = Server::start(&["--model-dir", &dir, "--load-on-demand"]);
    std::thread::scope(|scope| {
        let asked: Vec<_> = (0..16).map(|_| scope.spawn(|| ask(&server, "m").status)).collect();
        let statuses: Vec<u16> = asked.into_iter().map(|thread| thread.join().expect("asked")).collect();
        assert!(statuses.iter().all(|status| *status == 200), "{statuses:?}");
    });
    // The log is read beside.
    std::thread::sleep(std::time::Duration::from_millis(300));
    let loads = server.events().iter().filter(|event| event["message"] == "model loaded on demand").count();
    assert_eq!(loads, 1);
}

/// The models `a` and `b`, as a folder and as a file, in an archive.
fn archive() -> Vec<u8> {
    let place = folder(&[("a/model.onnx", &identity()), ("b.onnx", &identity())]);
    let mut tar = std::process::Command::new("tar");
    let output = tar.args(["-cz", "a", "b.onnx"]).current_dir(place.path()).output().expect("tar runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

#[test]
fn models_of_a_store_are_loaded_and_without_it_those_that_were() {
    let store = Store::start(&[("models.tar.gz", &archive())]);
    let uri = store.url("models.tar.gz");
    let cache = tempfile::tempdir().expect("a temporary folder");
    let cache = cache.path().to_string_lossy().into_owned();
    let arguments = ["--model-dir", &uri, "--load-on-demand", "--cache", &cache];
    let server = Server::start(&arguments);
    assert_eq!(server.get("/v1/models").json(), json!({"models": ["a", "b"]}));
    for model in ["a", "b"] {
        let answer = ask(&server, model);
        assert_eq!(answer.status, 200, "{model}: {}", answer.text());
    }
    drop(server);
    let before = store.delivered();
    let server = Server::start(&[&arguments[..], &["--offline"]].concat());
    assert_eq!(server.get("/v1/models").json(), json!({"models": ["a", "b"]}));
    assert_eq!(ask(&server, "b").status, 200);
    assert_eq!(store.delivered(), before);
    // A list that cannot be read is no list without the model.
    let answer = ask(&server, "c");
    assert_eq!(answer.status, 404, "{}", answer.text());
}

#[test]
fn what_is_loaded_by_request_counts_and_what_is_unloaded_is_not_ready() {
    let heavy = heavy(2 << 20);
    let place = folder(&[("a.onnx", &heavy), ("b.onnx", &heavy), ("c/model.onnx", &heavy)]);
    let elsewhere = folder(&[("other/model.onnx", &heavy), ("large/model.onnx", &self::heavy(6 << 20))]);
    let (dir, root) = (place.path().to_string_lossy().into_owned(), elsewhere.path().to_string_lossy().into_owned());
    let server = Server::start(&[
        "--model-dir",
        &dir,
        "--load-on-demand",
        "--model-memory",
        "5MiB",
        "--admin",
        "--admin-root",
        &root,
    ]);
    let load = |name: &str, ask: serde_json::Value| {
        let body = ask.to_string();
        server.post(&format!("/v2/repository/models/{name}/load"), "application/json", body.as_bytes())
    };
    for model in ["a", "b", "c"] {
        let answer = load(model, json!({}));
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(state(&server, model).0, "READY");
    }
    let from = |place: &str| json!({"parameters": {"uri": format!("{root}/{place}")}});
    let answer = load("other", from("other"));
    assert_eq!(answer.status, 200, "{}", answer.text());
    let ready = ["a", "b", "c", "other"].into_iter().filter(|name| state(&server, name).0 == "READY").count();
    assert!(ready < 4 && state(&server, "other").0 == "READY", "{ready}");
    // Evicted or not, it is there again for who asks.
    assert_eq!(ask(&server, "a").status, 200);
    assert_eq!(ask(&server, "other").status, 200);
    let large = load("large", from("large"));
    assert_eq!(large.status, 413, "{}", large.text());
    assert_eq!(server.get("/v2/models/other/versions/99/ready").status, 404);
    let unloaded = server.post("/v2/repository/models/other/unload", "application/json", b"{}");
    assert_eq!(unloaded.status, 200, "{}", unloaded.text());
    assert_ne!(server.get("/v2/models/other/ready").status, 200);
    assert_eq!(ask(&server, "other").status, 404);
}

#[test]
fn a_place_without_models_is_no_server() {
    let deep = folder(&[("a/b/model.onnx", &identity())]);
    let empty = folder(&[]);
    let twice = folder(&[("m/model.onnx", &identity())]);
    let named = format!("m={}", twice.path().join("m/model.onnx").display());
    let path = |place: &tempfile::TempDir| place.path().to_string_lossy().into_owned();
    for (arguments, words) in [
        (vec!["--model-dir", &path(&empty)], "no model"),
        (vec!["--model-dir", &path(&deep)], "a/b"),
        (vec!["--model-dir", &path(&twice), "--model", &named], "two models are named 'm'"),
    ] {
        let arguments = [&["serve", "--port", "0", "--load-on-demand"], &arguments[..]].concat();
        let ended = run(&arguments);
        let error = String::from_utf8_lossy(&ended.stderr).into_owned();
        assert!(ended.status.code() == Some(1) && error.contains(words), "{arguments:?}: {error}");
        let doctor = run(&[&["doctor"], &arguments[1..]].concat());
        assert_eq!(doctor.status.code(), Some(1), "{arguments:?}");
    }
    // They may come by request.
    let server = Server::start(&["--model-dir", &path(&empty), "--load-on-demand", "--admin"]);
    assert_eq!(server.get("/v2/health/ready").status, 200);
    // One that cannot be loaded keeps nothing from starting.
    let broken = folder(&[("broken/model.onnx", b"not a model"), ("fine/model.onnx", &identity())]);
    let doctor = run(&["doctor", "--port", "0", "--load-on-demand", "--model-dir", &path(&broken)]);
    let page = String::from_utf8_lossy(&doctor.stdout).into_owned();
    assert!(doctor.status.success() && page.contains("2 known"), "{page}");
}

#[test]
fn what_cannot_even_be_opened_is_said_everywhere() {
    let place = folder(&[("two/a.onnx", &identity()), ("two/b.onnx", &identity()), ("fine.onnx", &identity())]);
    let dir = place.path().to_string_lossy().into_owned();
    let server = Server::start(&["--model-dir", &dir, "--load-on-demand", "--admin"]);
    let first = ask(&server, "two");
    assert_eq!(first.status, 503, "{}", first.text());
    assert_eq!(first.header("retry-after"), Some("1"), "{}", first.text());
    let (state, reason) = state(&server, "two");
    assert!(state == "UNAVAILABLE" && reason.contains("failed to load"), "{state}: {reason}");
    server.event(|event| event["message"] == "model failed to load" && event["model"] == "two");
    let load = |name: &str| server.post(&format!("/v2/repository/models/{name}/load"), "application/json", b"{}");
    assert_ne!(load("two").status, 200);
    let metrics = server.get("/metrics").text();
    assert!(metrics.contains("corymb_model_loads_total{model=\"two\",outcome=\"failed\"} 2"), "{metrics}");
    // Mended, it is as if nothing had been.
    std::fs::remove_file(place.path().join("two/b.onnx")).expect("removed");
    assert_eq!(load("two").status, 200);
    assert_eq!(self::state(&server, "two").0, "READY");
    let status = server.get("/v1/models/two").json();
    assert_eq!(status["model_version_status"].as_array().expect("a list").len(), 1, "{status}");
}

#[test]
fn whoever_waits_for_a_model_waits_as_long_as_it_says() {
    let store = Store::faulty(&[("slow.onnx", &identity())], |_| Some(Fault::Stall(0)));
    let server = Server::start(&["--model", &format!("slow={}", store.url("slow.onnx")), "--load-on-demand"]);
    let url = |path: &str| server.url(&format!("/{path}"));
    let limit = [("x-request-timeout", "300ms")];
    for path in ["v2/models/slow", "v1/models/slow/metadata"] {
        let answer = send(&url(path), "GET", &limit, b"");
        assert_eq!(answer.status, 504, "{path}: {}", answer.text());
    }
    // In microseconds.
    let body = json!({
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1.5, -2.0]}],
        "parameters": {"timeout": 300_000},
    });
    let answer = server.post("/v2/models/slow/infer", "application/json", body.to_string().as_bytes());
    assert_eq!(answer.status, 504, "{}", answer.text());
}

#[test]
fn a_model_in_a_process_of_its_own_counts_with_that() {
    let apart: &[u8] = b"[instances]\nisolation = \"process\"\n";
    let heavy = heavy(4 << 20);
    let files = ["a", "b", "c"].map(|name| [format!("{name}/model.onnx"), format!("{name}/model.toml")]);
    let files: Vec<(&str, &[u8])> =
        files.iter().flat_map(|[model, manifest]| [(model.as_str(), heavy.as_slice()), (manifest, apart)]).collect();
    let place = folder(&files);
    let dir = place.path().to_string_lossy().into_owned();
    let server = Server::start(&["--model-dir", &dir, "--load-on-demand"]);
    for model in ["a", "b", "c"] {
        assert_eq!(ask(&server, model).status, 200);
    }
    // Of the first it is not told what is its own. A process takes more than the weights.
    let loaded = server.event(|event| event["message"] == "model loaded on demand" && event["model"] == "c");
    assert!(loaded["bytes"].as_u64() > Some(6 << 20), "{loaded}");
}

#[test]
fn a_name_that_two_claim_is_told() {
    let claim: &[u8] = br#"{"name": "iris", "implementation": "mlserver_onnx.OnnxModel"}"#;
    let place = folder(&[
        ("a/model.onnx", &identity()),
        ("a/model-settings.json", claim),
        ("b/model.onnx", &identity()),
        ("b/model-settings.json", claim),
    ]);
    let server = Server::start(&["--model-dir", &place.path().to_string_lossy(), "--load-on-demand"]);
    let told = server.event(|event| event["claimed"] == "iris");
    assert_eq!((&told["level"], &told["folder"], &told["name"]), (&json!("WARN"), &json!("b"), &json!("b")), "{told}");
    assert_eq!(server.get("/v1/models").json(), json!({"models": ["b", "iris"]}));
}
