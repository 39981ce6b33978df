//! A start that cannot succeed: exit code and one clear line.

use std::fs;
use std::net::TcpListener;
use std::process::Output;

use crate::harness::{LIMIT, Server, corymb, flowers_copy, folder, picture, root, run};

/// The last line of what the command said.
fn failure(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{text}");
    let errors: Vec<&str> = text.lines().filter(|line| line.starts_with("error: ")).collect();
    assert_eq!(errors.len(), 1, "{text}");
    assert!(!text.contains("panicked"), "{text}");
    errors[0].to_owned()
}

fn serve(arguments: &[&str]) -> String {
    let all = [&["serve", "--host", "127.0.0.1", "--port", "0"], arguments].concat();
    failure(&run(&all))
}

/// What is done to a model's folder.
type Damage<'a> = &'a dyn Fn(&std::path::Path);

#[test]
fn what_is_missing_or_damaged_is_named() {
    let cases: [(&str, Damage<'_>, &[&str]); 8] = [
        (
            "an absent model",
            &|path| fs::remove_file(path.join("model.onnx")).expect("removed"),
            &["model.onnx: no such file"],
        ),
        (
            "a changed model",
            &|path| fs::write(path.join("model.onnx"), "x").expect("written"),
            &["model.onnx", "sha256"],
        ),
        (
            "an absent plugin",
            &|path| fs::remove_file(path.join("flowers.wasm")).expect("removed"),
            &["flowers.wasm: no such file"],
        ),
        ("a damaged plugin", &|path| fs::write(path.join("flowers.wasm"), "\0asm?").expect("written"), &["flowers"]),
        (
            "a damaged manifest",
            &|path| fs::write(path.join("model.toml"), "file = [").expect("written"),
            &["model.toml: line 1"],
        ),
        (
            "an unknown key",
            &|path| fs::write(path.join("model.toml"), "bakend = 'tract'").expect("written"),
            &["model.toml: unknown key `bakend`; did you mean `backend`?"],
        ),
        (
            "a configuration that the plugin refuses",
            &|path| {
                let manifest = fs::read_to_string(path.join("model.toml")).expect("read");
                fs::write(path.join("model.toml"), manifest.replace("size =", "sice =")).expect("written");
            },
            &["sice"],
        ),
        (
            "a sample that is no picture",
            &|path| fs::write(path.join("warmup/image_bytes.jpg"), "x").expect("written"),
            &["warm-up with image_bytes.jpg failed"],
        ),
    ];
    for (what, damage, says) in cases {
        let copy = flowers_copy();
        damage(copy.path());
        let error = serve(&["--model-dir", &copy.path().to_string_lossy(), "--model-name", "m"]);
        for part in says {
            assert!(error.contains(part), "{what}: '{part}' in: {error}");
        }
    }
}

#[test]
fn a_file_that_is_no_model_is_named() {
    let models = folder(&[("m/model.onnx", b"not a model"), ("empty/notes.txt", b"")]);
    let path = |name: &str| models.path().join(name).to_string_lossy().into_owned();
    let error = serve(&["--model", &format!("m={}", path("m"))]);
    assert!(error.contains("load model 'm'") && error.contains("model.onnx"), "{error}");
    let error = serve(&["--model-dir", &path("empty")]);
    assert!(error.contains("no model; expected model.toml, one .onnx file, or numbered folders"), "{error}");
    let error = serve(&["--model-dir", &path("absent")]);
    assert!(error.contains("absent: No such file"), "{error}");
    let error = serve(&["--model", &format!("m={}", path("m")), "--backend", "tracd"]);
    assert!(error.contains("backend 'tracd' is unknown; there are onnxruntime, tract"), "{error}");
    let error = serve(&["--device", "cuda"]);
    assert!(error.contains("tract") && error.contains("cuda"), "{error}");
}

#[test]
fn a_taken_port_fails_at_once() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("bound").port().to_string();
    let error = failure(&run(&["serve", "--host", "127.0.0.1", "--port", &port]));
    assert!(error.contains(&port) && error.contains("in use"), "{error}");
}

#[test]
fn mistakes_in_the_configuration_are_named() {
    let config = folder(&[("c.toml", b"prot = 1")]);
    let error = serve(&["--config", &config.path().join("c.toml").to_string_lossy()]);
    assert!(error.contains("c.toml: unknown key `prot`; did you mean `port`?"), "{error}");
    let mut command = corymb(&["serve", "--host", "127.0.0.1"]);
    let error = failure(&command.env("CORYMB_DRAIN_DELAY", "soon").output().expect("runs"));
    assert!(error.contains("CORYMB_DRAIN_DELAY"), "{error}");
    let unknown = run(&["serve", "--prot", "1"]);
    assert_eq!(unknown.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("--port"), "a similar flag is named");
}

#[test]
fn one_that_fails_does_not_stop_the_others_when_told_to_keep_going() {
    let identity = root().join("tests/fixtures/models/identity_fp32.onnx");
    let models = folder(&[("bad.onnx", b"not a model")]);
    let bad = format!("bad={}", models.path().join("bad.onnx").display());
    let good = format!("good={}", identity.display());
    let server = Server::start(&["--keep-going", "--model", &bad, "--model", &good]);
    assert_eq!(server.get("/v2/health/ready").status, 200);
    assert_eq!(server.get("/v2/models/good/ready").status, 200);
    assert_eq!(server.get("/v2/models/bad/ready").status, 503);
    let status = server.get("/v1/models/bad").json();
    assert_eq!(status["ready"], false, "{status}");
}

#[test]
fn the_port_of_knative_is_taken() {
    let free = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = free.local_addr().expect("bound").port().to_string();
    drop(free);
    // The flag of the harness would win over $PORT.
    let mut command = corymb(&["serve", "--host", "127.0.0.1", "--log-format", "json"]);
    let mut child = command.env("PORT", &port).stderr(std::process::Stdio::null()).spawn().expect("starts");
    let url = format!("http://127.0.0.1:{port}/v2/health/ready");
    let agent = crate::harness::agent();
    let ready = (0..600).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(50));
        crate::harness::try_send(&agent, &url, "GET", &[], &[]).is_ok_and(|answer| answer.status == 200)
    });
    child.kill().expect("our child");
    child.wait().expect("our child");
    assert!(ready, "nothing answered on $PORT");
}

#[test]
fn two_models_of_one_name_are_refused() {
    let identity = root().join("tests/fixtures/models/identity_fp32.onnx");
    let model = format!("m={}", identity.display());
    let error = serve(&["--model", &model, "--model", &model]);
    assert!(error.contains("two models are named 'm'"), "{error}");
}

/// Nothing takes the place of what was named.
#[test]
fn a_library_that_was_named_is_used_or_the_start_fails() {
    let named = "the library of ONNX Runtime that was named";
    let error = serve(&["--onnxruntime", "/absent/libonnxruntime.so"]);
    assert!(error.contains(named) && error.contains("/absent/libonnxruntime.so: is not there"), "{error}");
    for variable in ["CORYMB_ONNXRUNTIME", "ORT_DYLIB_PATH"] {
        let mut command = corymb(&["serve", "--host", "127.0.0.1", "--port", "0"]);
        let error = failure(&command.env(variable, "/absent/ort.so").output().expect("it runs"));
        assert!(error.contains(named) && error.contains("/absent/ort.so: is not there"), "{variable}: {error}");
    }
    // Where tract is asked for nothing takes its place.
    let server = Server::start(&["--onnxruntime", "/absent/libonnxruntime.so", "--backend", "tract"]);
    assert_eq!(server.get("/v2/health/ready").status, 200);
}

#[test]
fn numbers_without_measure_are_refused() {
    for (arguments, expected) in [
        (["--drain-timeout", "18446744073709551615s"], "expected a year at most"),
        (["--idle-timeout", "400days"], "expected a year at most"),
        (["--poll", "18446744073709551615s"], "expected a year at most"),
        (["--workers", "1000000"], "expected at most 1024"),
    ] {
        let output = run(&[&["serve"], &arguments[..]].concat());
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(2) && said.contains(expected), "{arguments:?}: {said}");
    }
}

/// As many as a large machine has: each has an instance of the plugin, also while the model is warmed up.
#[test]
fn many_workers_start() {
    let server = Server::start(&["--workers", "256"]);
    let answer = server.post("/v1/models/flowers-sample:predict", "image/jpeg", &picture());
    assert_eq!(answer.status, 200, "{}", answer.text());
}

/// An error is the last thing that a server says, and is its code whoever reads it.
#[test]
fn a_start_fails_whoever_reads_why() {
    for errors in ["/dev/full", "/dev/null"] {
        let errors = fs::OpenOptions::new().write(true).open(errors).expect("a device");
        let mut command = corymb(&["serve", "--host", "127.0.0.1", "--port", "0", "--model", "m=/absent.onnx"]);
        assert_eq!(command.stderr(errors).status().expect("it runs").code(), Some(1));
    }
}

/// Whatever is wrong with one folder of many is a failed model; with all of them the server stays, and is not ready.
#[test]
fn what_is_wrong_with_one_folder_does_not_stop_the_others_when_told_to_keep_going() {
    let identity = fs::read(root().join("tests/fixtures/models/identity_fp32.onnx")).expect("the fixture");
    let bad: [(&str, &[u8]); 7] = [
        ("two/a.onnx", &identity),
        ("two/b.onnx", &identity),
        ("typo/model.onnx", &identity),
        ("typo/model.toml", b"bakend = 'tract'"),
        ("python/config.pbtxt", b"backend: \"python\""),
        ("python/1/model.onnx", &identity),
        ("my model (1)/model.onnx", &identity),
    ];
    let names = ["my model (1)", "python", "two", "typo"];
    let models = folder(&[&[("good/model.onnx", &identity[..])][..], &bad].concat());
    fs::create_dir(models.path().join("lost+found")).expect("made");
    let path = models.path().to_string_lossy().into_owned();
    let error = serve(&["--model-dir", &path]);
    assert!(error.ends_with("; --keep-going serves the other models"), "{error}");
    let server = Server::start(&["--keep-going", "--model-dir", &path]);
    assert_eq!(server.get("/v2/health/ready").status, 200);
    let index = server.post("/v2/repository/index", "application/json", b"{}").json();
    let of = |state: &str| -> Vec<String> {
        let all = index.as_array().expect("a list").iter().filter(|entry| entry["state"] == state);
        all.map(|entry| entry["name"].as_str().expect("a name").to_owned()).collect()
    };
    assert_eq!((of("READY"), of("UNAVAILABLE")), (vec!["good".to_owned()], names.map(str::to_owned).to_vec()));
    for name in names {
        server.event(|event| event["message"] == "model failed to load" && event["model"] == name);
    }
    drop(server);
    fs::remove_dir_all(models.path().join("good")).expect("removed");
    let server = Server::start(&["--keep-going", "--model-dir", &path]);
    assert_eq!((server.get("/v2/health/live").status, server.get("/v2/health/ready").status), (200, 503));
}

/// Containers start with a soft limit of 1,024.
#[test]
fn the_limit_of_open_files_is_raised_as_far_as_it_may_be() {
    let server = Server::start_after("ulimit -Sn 64", &[]);
    let limits = fs::read_to_string(format!("/proc/{}/limits", server.id())).expect("it runs");
    let files = limits.lines().find(|line| line.starts_with("Max open files")).expect("told");
    let numbers: Vec<&str> = files.split_whitespace().skip(3).take(2).collect();
    assert!(numbers[0] == numbers[1] && numbers[0] != "64", "{files}");
}

/// What never ends, or is as long as a disk, is no manifest, no list of labels and no sample.
#[test]
fn special_and_endless_files_are_refused() {
    let model = fs::read(root().join("tests/fixtures/models/identity_fp32.onnx")).expect("the fixture");
    let fifo = |path: &std::path::Path| {
        let made = std::process::Command::new("mkfifo").arg(path).status().expect("mkfifo runs");
        assert!(made.success());
    };
    let sparse = |path: &std::path::Path| {
        fs::File::create(path).and_then(|file| file.set_len(20 << 30)).expect("made");
    };
    let not_regular = "it is not a regular file";
    let cases: [(Damage<'_>, &str); 7] = [
        (&|path| fifo(&path.join("model.toml")), not_regular),
        (&|path| fifo(&path.join("config.pbtxt")), not_regular),
        (&|path| sparse(&path.join("model.toml")), "it has 21474836480 bytes; at most 1048576 are read"),
        (
            &|path| {
                fs::write(path.join("model.toml"), "labels = 'labels.txt'").expect("written");
                fs::write(path.join("labels.txt"), "\n".repeat(50_000_000)).expect("written");
            },
            "it has 50000000 bytes; at most 16777216 are read",
        ),
        (
            &|path| {
                fs::create_dir(path.join("warmup")).expect("made");
                fifo(&path.join("warmup/x.npy"));
            },
            not_regular,
        ),
        (
            &|path| {
                fs::create_dir(path.join("warmup")).expect("made");
                std::os::unix::fs::symlink("/dev/zero", path.join("warmup/x.npy")).expect("linked");
            },
            not_regular,
        ),
        (
            &|path| {
                fs::create_dir(path.join("warmup")).expect("made");
                sparse(&path.join("warmup/x.npy"));
            },
            "it has 21474836480 bytes; at most 268435456 are read",
        ),
    ];
    for (damage, expected) in cases {
        let folder = folder(&[("model.onnx", &model)]);
        damage(folder.path());
        let error = serve(&["--model", &format!("m={}", folder.path().display())]);
        assert!(error.contains(expected), "{expected}: {error}");
    }
}

/// A pod that starts while the next version is being uploaded serves the one that is there.
#[test]
fn a_version_that_is_not_whole_is_passed_over() {
    let model = fs::read(root().join("tests/fixtures/models/identity_fp32.onnx")).expect("the fixture");
    let models = folder(&[("m/1/model.onnx", &model), ("m/2/model.onnx.part", &model[..10])]);
    let path = models.path().to_string_lossy().into_owned();
    let server = Server::start(&["--model-dir", &path, "--poll", "200ms"]);
    let version = || {
        let metadata = server.get("/v2/models/m").json();
        metadata["versions"]
            .as_array()
            .expect("a list")
            .iter()
            .map(|version| version.as_str().map(str::to_owned))
            .collect::<Vec<_>>()
    };
    assert_eq!(version(), [Some("1".to_owned())]);
    server
        .event(|event| event["message"] == "this version cannot be opened; it is passed over" && event["version"] == 2);
    fs::rename(models.path().join("m/2/model.onnx.part"), models.path().join("m/2/model.part")).expect("renamed");
    fs::write(models.path().join("m/2/.new"), &model).expect("written");
    fs::rename(models.path().join("m/2/.new"), models.path().join("m/2/model.onnx")).expect("renamed");
    let until = std::time::Instant::now() + LIMIT;
    while version() != [Some("2".to_owned())] {
        assert!(std::time::Instant::now() < until, "{:?}", version());
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    drop(server);
    // Of which none is whole there is nothing to serve.
    fs::remove_dir_all(models.path().join("m/1")).expect("removed");
    fs::remove_file(models.path().join("m/2/model.onnx")).expect("removed");
    let error = serve(&["--model-dir", &path]);
    assert!(error.contains("m/2"), "{error}");
}

/// As people keep them: files beside folders, a newer one beside numbered versions, several precisions of one model.
#[test]
fn bare_files_are_served_beside_folders() {
    let [fp32, int64] = ["identity_fp32", "identity_int64"]
        .map(|name| fs::read(root().join(format!("tests/fixtures/models/{name}.onnx"))).expect("the fixture"));
    let models = folder(&[
        ("bare.onnx", &fp32),
        ("both.onnx", &fp32),
        ("both/model.onnx", &int64),
        ("numbered/1/model.onnx", &fp32),
        ("numbered/2/model.onnx", &int64),
        ("numbered/old.onnx", &fp32),
        ("precisions/model.onnx", &int64),
        ("precisions/model_quantized.onnx", &fp32),
    ]);
    let path = models.path().to_string_lossy().into_owned();
    let server = Server::start(&["--admin", "--model-dir", &path]);
    let datatype = |name: &str| server.get(&format!("/v2/models/{name}")).json()["inputs"][0]["datatype"].clone();
    let all = ["bare", "both", "numbered", "precisions"];
    assert_eq!(all.map(datatype), ["FP32", "INT64", "INT64", "INT64"]);
    assert_eq!(server.get("/v2/models/numbered").json()["versions"], serde_json::json!(["2"]));
    let said = |text: &str, file: &str| {
        server.event(|event| {
            event["message"].as_str().is_some_and(|message| message.contains(text)) && event.to_string().contains(file)
        });
    };
    said("a folder beside it has the same name; the file is not served", "both.onnx");
    said("it lies beside numbered versions, and is none; it is not served", "old.onnx");
    said("`file` in model.toml names another", "model_quantized.onnx");
    // And by name.
    for verb in ["unload", "load"] {
        let path = format!("/v2/repository/models/bare/{verb}");
        let done = server.post(&path, "application/json", b"{}");
        assert_eq!(done.status, 200, "{verb}: {}", done.text());
    }
    assert_eq!(datatype("bare"), "FP32");
}

#[test]
fn an_older_version_stands_for_one_that_cannot_be_loaded() {
    let model = fs::read(root().join("tests/fixtures/models/identity_fp32.onnx")).expect("the fixture");
    let half = &model[..model.len() / 2];
    let models = folder(&[("m/1/model.onnx", &model), ("m/2/model.onnx", half), ("m/3/model.onnx", b"no model")]);
    let path = models.path().to_string_lossy().into_owned();
    let server = Server::start(&["--model-dir", &path, "--poll", "200ms"]);
    let versions = || server.get("/v2/models/m").json()["versions"].clone();
    assert_eq!(versions(), serde_json::json!(["1"]));
    server.event(|event| event["message"] == "an older version is served in place of the newest");
    let doctor = crate::harness::run(&["doctor", "--model-dir", &path]);
    let said = String::from_utf8_lossy(&doctor.stdout).into_owned();
    assert!(doctor.status.success() && said.contains("model m"), "{said}");
    let index = server.post("/v2/repository/index", "application/json", b"{}").json();
    let states: Vec<_> = index.as_array().expect("a list").iter().map(|entry| entry["state"].clone()).collect();
    assert_eq!(states, ["READY", "UNAVAILABLE", "UNAVAILABLE"], "{index}");
    // The newest is taken when it is whole.
    fs::write(models.path().join("m/3/.new"), &model).expect("written");
    fs::rename(models.path().join("m/3/.new"), models.path().join("m/3/model.onnx")).expect("renamed");
    let until = std::time::Instant::now() + LIMIT;
    while versions() != serde_json::json!(["3"]) {
        assert!(std::time::Instant::now() < until, "{}", versions());
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    drop(server);
    // One that is named is served or nothing is.
    fs::write(models.path().join("m/3/model.onnx"), b"no model").expect("written");
    fs::write(models.path().join("m/model.toml"), "[versions]\nonly = [3]").expect("written");
    let error = serve(&["--model-dir", &path]);
    assert!(error.contains("load model 'm'"), "{error}");
}
