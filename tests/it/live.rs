//! Models that change while they are served: versions side by side, loads and unloads by request, sources that are watched.

mod lifecycle;
mod series;
mod weights;

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use corymb_proto::inference::grpc_inference_service_client::GrpcInferenceServiceClient;
use corymb_proto::inference::{
    ModelMetadataRequest, RepositoryIndexRequest, RepositoryModelLoadRequest, RepositoryModelUnloadRequest,
};
use serde_json::{Value, json};
use tonic::transport::Channel;

use crate::harness::{Answer, LIMIT, Server, SetOnDrop, agent, folder, root, try_send};
use crate::repository::store::Store;

fn identity() -> Vec<u8> {
    std::fs::read(root().join("tests/fixtures/models/identity_fp32.onnx")).expect("the fixture")
}

fn body() -> Vec<u8> {
    json!({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1.5, -2.0]}]})
        .to_string()
        .into_bytes()
}

fn infer(server: &Server, model: &str) -> Answer {
    server.post(&format!("/v2/models/{model}/infer"), "application/json", &body())
}

/// The version that answers.
fn version(server: &Server, model: &str) -> String {
    let answer = infer(server, model);
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()["model_version"].as_str().expect("a version").to_owned()
}

fn ask(server: &Server, path: &str, parameters: &Value) -> Answer {
    let body = json!({ "parameters": parameters }).to_string();
    server.post(&format!("/v2/repository/{path}"), "application/json", body.as_bytes())
}

fn load(server: &Server, model: &str, parameters: &Value) -> Answer {
    ask(server, &format!("models/{model}/load"), parameters)
}

fn unload(server: &Server, model: &str) -> Answer {
    // KServe's agent sends no body at all.
    server.post(&format!("/v2/repository/models/{model}/unload"), "application/json", b"")
}

/// `NAME VERSION STATE REASON` of the index.
fn index(server: &Server) -> Vec<String> {
    let list = ask(server, "index", &json!({})).json();
    let text = |entry: &Value, key: &str| entry[key].as_str().unwrap_or_default().to_owned();
    let line = |entry: &Value| ["name", "version", "state", "reason"].map(|key| text(entry, key)).join(" ");
    list.as_array().expect("a list").iter().map(|entry| line(entry).trim_end().to_owned()).collect()
}

fn eventually(what: &str, happened: impl Fn() -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !happened() {
        assert!(Instant::now() < deadline, "{what}: it did not happen");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Puts a file in the place of another, as who replaces a model that is served should.
fn put(folder: &Path, name: &str, content: &[u8]) {
    let (path, new) = (folder.join(name), folder.join(".new"));
    std::fs::create_dir_all(path.parent().expect("inside")).expect("made");
    std::fs::write(&new, content).expect("written");
    std::fs::rename(new, path).expect("renamed");
}

fn shown(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

fn ready_events(server: &Server) -> usize {
    server.events().iter().filter(|event| event["message"] == "model ready").count()
}

fn by_grpc<T>(
    server: &Server,
    call: impl AsyncFnOnce(GrpcInferenceServiceClient<Channel>) -> Result<T, tonic::Status>,
) -> Result<T, tonic::Status> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let channel = Channel::from_shared(server.url("")).expect("a URL").connect().await.expect("connects");
        call(GrpcInferenceServiceClient::new(channel)).await
    })
}

#[test]
fn versions_are_served_side_by_side_and_requests_are_divided() {
    let model = identity();
    let manifest = b"[versions]\nlatest = 2\ncanary = 10\n";
    let files =
        folder(&[("m/model.toml", manifest), ("m/1/m.onnx", &model), ("m/2/m.onnx", &model), ("m/10/m.onnx", &model)]);
    let server = Server::start(&["--model-dir", &shown(files.path()), "--admin"]);
    assert_eq!(index(&server), ["m 2 READY", "m 10 READY"]);
    for version in ["2", "10"] {
        let answer = server.post(&format!("/v2/models/m/versions/{version}/infer"), "application/json", &body());
        assert_eq!(answer.json()["model_version"], version);
    }
    let absent = server.post("/v2/models/m/versions/1/infer", "application/json", &body());
    assert_eq!((absent.status, absent.error()), (404, "model 'm' has no version '1'; it has '2', '10'".to_owned()));

    let share = || (0..200).filter(|_| version(&server, "m") == "10").count();
    let newest = share();
    assert!((18..=22).contains(&newest), "{newest} of 200 went to the canary");
    assert_eq!(server.get("/v2/models/m").json()["parameters"]["weights"], json!({"2": 90, "10": 10}));
    let metadata = by_grpc(&server, async |mut client| {
        client.model_metadata(ModelMetadataRequest { name: "m".into(), ..Default::default() }).await
    });
    assert_eq!(metadata.expect("answered").into_inner().properties["weights"], "2=90,10=10");
    let page = server.get("/metrics").text();
    for version in ["2", "10"] {
        let counted = page.lines().any(|line| {
            line.starts_with("corymb_request_duration_seconds_count{")
                && line.contains(&format!("version=\"{version}\""))
        });
        assert!(counted, "requests of version {version} in {page}");
    }

    // By request, without loading anything anew.
    let before = ready_events(&server);
    assert_eq!(load(&server, "m", &json!({"weights": "2=1,10=0"})).status, 200);
    assert_eq!(share(), 0);
    let weights = ask(&server, "index", &json!({})).json();
    assert_eq!((&weights[0]["weight"], &weights[1]["weight"]), (&json!(1), &json!(0)));
    assert_eq!(load(&server, "m", &json!({"canary": 100})).status, 200);
    assert_eq!(share(), 200);
    // Versions that nobody serves get nothing in silence.
    let refused = load(&server, "m", &json!({"weights": "2=1,9=1"}));
    assert_eq!(refused.status, 400, "{}", refused.text());
    assert!(refused.error().contains("`weights` names version 9, and 2, 10 are served"), "{}", refused.text());
    assert_eq!(share(), 200);
    assert_eq!(ready_events(&server), before);
}

#[test]
fn without_admin_nothing_changes_and_the_index_can_be_read() {
    let server = Server::start(&[]);
    for path in ["load", "unload"] {
        let refused = server.post(&format!("/v2/repository/models/flowers-sample/{path}"), "application/json", b"");
        assert_eq!(refused.status, 403);
        assert!(refused.error().contains("started without --admin"), "{}", refused.text());
    }
    let refused = by_grpc(&server, async |mut client| {
        client.repository_model_unload(RepositoryModelUnloadRequest::default()).await
    });
    assert_eq!(refused.expect_err("refused").code(), tonic::Code::PermissionDenied);
    let listed = by_grpc(&server, async |mut client| client.repository_index(RepositoryIndexRequest::default()).await);
    let models = listed.expect("answered").into_inner().models;
    assert_eq!((models[0].name.as_str(), models[0].state.as_str()), ("flowers-sample", "READY"));
    assert_eq!(index(&server), ["flowers-sample 1 READY"]);
}

#[test]
fn models_are_loaded_and_unloaded_by_request() {
    let model = identity();
    let files = folder(&[("a/m.onnx", &model)]);
    let server = Server::start(&["--model-dir", &shown(files.path()), "--admin"]);
    assert_eq!(server.get("/v2/health/ready").status, 200);

    // As KServe's agent does it: files first, then the name.
    put(files.path(), "b/m.onnx", &model);
    let loaded = load(&server, "b", &json!({}));
    assert_eq!((loaded.status, loaded.json()), (200, json!({"name": "b", "load": true})));
    assert_eq!(version(&server, "b"), "1");
    let before = ready_events(&server);
    assert_eq!(load(&server, "b", &json!({})).status, 200);
    assert_eq!(ready_events(&server), before, "what has not changed is not loaded");

    let unloaded = unload(&server, "b");
    assert_eq!((unloaded.status, unloaded.json()), (200, json!({"name": "b", "unload": true})));
    eventually("the model goes", || index(&server).contains(&"b 1 UNAVAILABLE unloaded".to_owned()));
    let gone = infer(&server, "b");
    assert_eq!((gone.status, gone.error()), (404, "model 'b' is not loaded".to_owned()));
    assert_eq!(unload(&server, "b").status, 200, "once more is no error");
    assert_eq!(unload(&server, "nobody").status, 404);
    let unknown = load(&server, "nobody", &json!({}));
    assert_eq!(unknown.status, 404);
    assert!(!unknown.text().contains(&shown(files.path())), "{}", unknown.text());
    assert_eq!(server.get("/v2/health/ready").status, 200, "who was unloaded is not waited for");

    // What is broken leaves what serves.
    put(files.path(), "a/m.onnx", b"no model");
    let broken = load(&server, "a", &json!({}));
    assert_eq!(broken.status, 400);
    assert!(broken.error().starts_with("model 'a' was not loaded: "), "{}", broken.text());
    assert!(!broken.text().contains(&shown(files.path())), "{}", broken.text());
    assert_eq!(version(&server, "a"), "1");
    assert!(
        index(&server).iter().any(|line| line.starts_with("a 1 READY loading it anew failed: ")),
        "{:?}",
        index(&server)
    );
    put(files.path(), "a/m.onnx", &model);
    assert_eq!(load(&server, "a", &json!({})).status, 200);
    assert!(index(&server).contains(&"a 1 READY".to_owned()));
    for (parameters, status) in [(json!({"config": "{}"}), 501), (json!({"x": 1}), 400), (json!({"canary": 101}), 400)]
    {
        assert_eq!(load(&server, "a", &parameters).status, status, "{parameters}");
    }
}

#[test]
fn both_meanings_of_the_grpc_methods_are_understood() {
    let files = folder(&[("a/m.onnx", &identity())]);
    let server = Server::start(&["--model-dir", &shown(files.path()), "--admin"]);
    // Triton's field 2, KServe's field 1.
    for (repository_name, model_name) in [("", "a"), ("a", ""), ("some", "a")] {
        let (first, second) = (repository_name.to_owned(), model_name.to_owned());
        let unloaded = by_grpc(&server, async |mut client| {
            let request =
                RepositoryModelUnloadRequest { repository_name: first, model_name: second, ..Default::default() };
            client.repository_model_unload(request).await
        });
        let unloaded = unloaded.expect("unloaded").into_inner();
        assert_eq!((unloaded.model_name.as_str(), unloaded.is_unloaded), ("a", true));
        assert!(infer(&server, "a").status >= 404);
        let (first, second) = (repository_name.to_owned(), model_name.to_owned());
        let loaded = by_grpc(&server, async |mut client| {
            let request =
                RepositoryModelLoadRequest { repository_name: first, model_name: second, ..Default::default() };
            client.repository_model_load(request).await
        });
        let loaded = loaded.expect("loaded").into_inner();
        assert_eq!((loaded.model_name.as_str(), loaded.is_loaded), ("a", true));
        assert_eq!(version(&server, "a"), "1");
    }
    let unknown = by_grpc(&server, async |mut client| {
        let request = RepositoryModelLoadRequest { model_name: "nobody".into(), ..Default::default() };
        client.repository_model_load(request).await
    });
    assert_eq!(unknown.expect_err("unknown").code(), tonic::Code::NotFound);
}

#[test]
fn models_come_from_below_the_roots_alone() {
    let model = identity();
    let outside = folder(&[("secret/m.onnx", &model)]);
    let more = folder(&[("c/m.onnx", &model)]);
    let files = folder(&[("a/m.onnx", &model)]);
    std::os::unix::fs::symlink(outside.path(), files.path().join("link")).expect("linked");
    let (dir, extra) = (shown(files.path()), shown(more.path()));
    let server = Server::start(&["--model-dir", &dir, "--admin", "--admin-root", &extra]);
    let secret = outside.path().join("secret");
    let climbing = format!("{dir}/../{}/secret", outside.path().file_name().expect("a name").to_string_lossy());
    for uri in [shown(&secret), climbing, format!("{dir}/link/secret"), "s3://bucket/m".to_owned(), "/etc".to_owned()] {
        let refused = load(&server, "x", &json!({ "uri": uri }));
        assert_eq!(refused.status, 403, "{uri}: {}", refused.text());
        assert!(refused.error().contains("--admin-root"), "{}", refused.text());
    }
    for name in ["..%2Fsecret", "%2E%2E", "a%2Fb"] {
        let refused = load(&server, name, &json!({}));
        assert!([400, 404].contains(&refused.status), "{name}: {} {}", refused.status, refused.text());
    }
    assert_eq!(load(&server, "x", &json!({ "uri": format!("{extra}/c") })).status, 200);
    assert_eq!(version(&server, "x"), "1");
    assert_eq!(load(&server, "y", &json!({ "uri": format!("file://{dir}/a") })).status, 200);
    // By its name alone it is found again where it was.
    assert_eq!(unload(&server, "x").status, 200);
    assert_eq!(load(&server, "x", &json!({})).status, 200);
}

#[test]
fn an_empty_folder_is_enough_where_models_may_come_later() {
    let files = folder(&[]);
    let server = Server::start(&["--model-dir", &shown(files.path()), "--admin"]);
    assert_eq!(server.get("/v2/health/ready").status, 200);
    put(files.path(), "late/m.onnx", &identity());
    assert_eq!(load(&server, "late", &json!({})).status, 200);
    assert_eq!(version(&server, "late"), "1");
}

/// Clients that send one request after the other until they are told to stop; any failure is theirs to report.
fn under_load(server: &Server, model: &str, work: impl FnOnce(&AtomicUsize)) -> (usize, Vec<String>) {
    let (stop, answered) = (AtomicBool::new(false), AtomicUsize::new(0));
    let url = server.url(&format!("/v2/models/{model}/infer"));
    let client = || {
        let agent = agent();
        while !stop.load(Ordering::SeqCst) {
            match try_send(&agent, &url, "POST", &[("content-type", "application/json")], &body()) {
                Ok(answer) if answer.status == 200 => answered.fetch_add(1, Ordering::SeqCst),
                Ok(answer) => return Some(format!("{} {}", answer.status, answer.text())),
                Err(error) => return Some(error.to_string()),
            };
        }
        None
    };
    let failures = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..4).map(|_| scope.spawn(client)).collect();
        let _stop = SetOnDrop(&stop);
        work(&answered);
        stop.store(true, Ordering::SeqCst);
        clients.into_iter().filter_map(|client| client.join().expect("no panic")).collect()
    });
    (answered.load(Ordering::SeqCst), failures)
}

#[test]
fn a_reload_under_load_loses_nothing() {
    let model = identity();
    let files = folder(&[("m/1/m.onnx", &model), ("n/m.onnx", &model)]);
    let server = Server::start(&["--model-dir", &shown(files.path()), "--admin", "--poll", "100ms"]);
    let (answered, failures) = under_load(&server, "m", |_| {
        // The same version anew, by request.
        for _ in 0..20 {
            put(files.path(), "m/1/m.onnx", &model);
            let loaded = load(&server, "m", &json!({}));
            assert_eq!(loaded.status, 200, "{}", loaded.text());
        }
        // A newer version in its place, found by looking.
        for number in 2..6 {
            put(files.path(), &format!("m/{number}/m.onnx"), &model);
            eventually("the newer version answers", || version(&server, "m") == number.to_string());
        }
    });
    assert_eq!(failures, Vec::<String>::new(), "after {answered} answers");
    assert!(answered > 0);
    eventually("the old ones are gone", || {
        let others = index(&server).into_iter().filter(|line| line.starts_with("m ") && *line != "m 5 READY");
        others.into_iter().all(|line| line.contains("UNAVAILABLE"))
    });
    let loads = |model: &str| {
        server.events().iter().filter(|event| event["message"] == "model ready" && event["model"] == model).count()
    };
    assert_eq!(loads("n"), 1, "what had not changed was not loaded again");
}

#[test]
fn a_failed_reload_keeps_serving_and_is_said_once() {
    let files = folder(&[("m/m.onnx", &identity())]);
    let server = Server::start(&["--model-dir", &shown(files.path()), "--poll", "100ms"]);
    let failures = || server.events().iter().filter(|event| event["level"] == "ERROR").count();
    let failed = |message: &str| server.event(|event| event["message"] == message);

    put(files.path(), "m/m.onnx", b"no model");
    failed("model failed to load");
    // Time for several looks more.
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!((version(&server, "m").as_str(), failures()), ("1", 1), "{:#?}", server.events());
    assert!(index(&server).contains(&"m 1 READY loading it anew failed".to_owned()), "{:?}", index(&server));
    assert_eq!(server.get("/v2/health/ready").status, 200);

    put(files.path(), "m/model.toml", b"fil = 'x'");
    failed("its source cannot be used; what serves is left as it is");
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!((version(&server, "m").as_str(), failures()), ("1", 2), "{:#?}", server.events());

    std::fs::remove_file(files.path().join("m/model.toml")).expect("removed");
    put(files.path(), "m/m.onnx", &identity());
    eventually("it is loaded again", || index(&server).contains(&"m 1 READY".to_owned()));
}

#[test]
fn models_appear_and_vanish_with_their_folders() {
    let model = identity();
    let files = folder(&[("a/m.onnx", &model), ("b/m.onnx", &model)]);
    let server = Server::start(&["--model-dir", &shown(files.path()), "--poll", "100ms", "--admin"]);
    put(files.path(), "c/m.onnx", &model);
    eventually("c appears", || infer(&server, "c").status == 200);
    std::fs::remove_dir_all(files.path().join("b")).expect("removed");
    eventually("b vanishes", || infer(&server, "b").status == 404);
    eventually("b is forgotten", || index(&server) == ["a 1 READY", "c 1 READY"]);
    assert_eq!(server.get("/v2/health/ready").status, 200);
    // What was unloaded by request stays unloaded, whatever happens to its files.
    assert_eq!(unload(&server, "a").status, 200);
    put(files.path(), "a/m.onnx", &model);
    put(files.path(), "d/m.onnx", &model);
    eventually("d appears", || infer(&server, "d").status == 200);
    assert_eq!(infer(&server, "a").status, 404);
    assert_eq!(load(&server, "a", &json!({})).status, 200);
    assert_eq!(infer(&server, "a").status, 200);
}

#[test]
fn a_store_is_asked_for_changes_and_gives_nothing_else() {
    let model = identity();
    let store = Store::start(&[("m/net.onnx", &model)]);
    let cache = tempfile::tempdir().expect("a temporary folder");
    let uri = format!("--model=m={}", store.url("m/net.onnx"));
    let server = Server::start(&[&uri, "--cache", &shown(cache.path()), "--poll", "100ms"]);
    let (delivered, asked) = (store.delivered(), store.requests().len());
    eventually("it is asked several times", || store.requests().len() > asked + 4);
    let more = store.delivered() - delivered;
    assert!(more <= (store.requests().len() - asked) as u64, "{more} bytes of an unchanged model were fetched");
    assert_eq!(ready_events(&server), 1);

    let linear = std::fs::read(root().join("tests/fixtures/models/linear.onnx")).expect("the fixture");
    store.put("m/net.onnx", &linear);
    eventually("it is loaded anew", || ready_events(&server) == 2);
    store.put("m/net.onnx", b"no model");
    server.event(|event| event["message"] == "model failed to load");
    assert_eq!(server.get("/v2/models/m/ready").status, 200);
}

/// The model with so many bytes of documentation: `doc_string` is ModelProto's field 6.
fn documented(model: &[u8], bytes: usize, letter: u8) -> Vec<u8> {
    let mut text = vec![letter; bytes];
    let mut length = bytes;
    let mut field = vec![6 << 3 | 2];
    while length >= 0x80 {
        field.push(u8::try_from(length & 0x7F).expect("seven bits") | 0x80);
        length >>= 7;
    }
    field.push(u8::try_from(length).expect("seven bits"));
    field.append(&mut text);
    [model, &field].concat()
}

#[test]
fn what_was_replaced_makes_room_in_the_cache() {
    let changed = |letter| documented(&identity(), 400_000, letter);
    let store = Store::start(&[("m/net.onnx", &changed(b'a'))]);
    let cache = tempfile::tempdir().expect("a temporary folder");
    let uri = format!("--model=m={}", store.url("m/net.onnx"));
    // Room for what serves and for what is to replace it.
    let server = Server::start(&[&uri, "--cache", &shown(cache.path()), "--cache-size", "1000000", "--poll", "100ms"]);
    for (letter, loads) in (b'b'..=b'f').zip(2..) {
        store.put("m/net.onnx", &changed(letter));
        eventually("it is loaded anew", || ready_events(&server) == loads);
    }
    assert_eq!(version(&server, "m"), "1");
    let blobs = std::fs::read_dir(cache.path().join("models/blobs")).expect("the cache").flatten();
    let used: u64 = blobs.map(|entry| entry.metadata().expect("read").len()).sum();
    assert!(used < 1_000_000, "{used} bytes");
}

/// `VmRSS` of the server, in KiB.
fn resident(server: &Server) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.id())).expect("it runs");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("a line");
    line.split_ascii_whitespace().nth(1).and_then(|kib| kib.parse().ok()).expect("a number")
}

/// A short form of `corymb-tests-bench cycles`: what leaks shows here by tens of percents.
fn cycles(server: &Server, model: &str, first: usize, more: usize) {
    let resident_after = |count: usize| {
        for _ in 0..count {
            assert_eq!(unload(server, model).status, 200);
            assert_eq!(load(server, model, &json!({})).status, 200);
        }
        // The allocator gives pages back after a second.
        std::thread::sleep(Duration::from_secs(2));
        resident(server)
    };
    let before = resident_after(first);
    let after = resident_after(more);
    assert!(after <= before + before / 10, "{before} KiB after {first} cycles, {after} KiB after {more} more");
    eventually("one load is remembered", || index(server) == [format!("{model} 1 READY")]);
}

#[test]
fn loading_and_unloading_gives_memory_back() {
    let files = folder(&[("m/m.onnx", &identity())]);
    let server = Server::start(&["--model-dir", &shown(files.path()), "--admin"]);
    cycles(&server, "m", 100, 200);
    // With matrix products, a plugin and a sample; inside the binary.
    cycles(&Server::start(&["--admin", "--onnxruntime", "none"]), "flowers-sample", 30, 100);
}
