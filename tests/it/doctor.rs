//! `corymb doctor`, and the thread plan as the server tells it.

use std::fs;
use std::net::TcpListener;
use std::process::{Command, Output};

use serde_json::Value;

use crate::harness::{Server, control_group, corymb, folder, root, run};

fn document(output: &Output) -> Value {
    let text = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}{}", stderr(output)))
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn finding<'a>(document: &'a Value, list: &str, subject: &str) -> &'a Value {
    let found = document[list].as_array().expect("a list").iter().find(|finding| finding["subject"] == subject);
    found.unwrap_or_else(|| panic!("no {subject} in {document}"))
}

#[test]
fn the_page_says_what_there_is() {
    let output = run(&["doctor", "--port", "0"]);
    let page = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(0), "{page}{}", stderr(&output));
    assert!(page.starts_with(&format!("corymb {}\n", env!("CARGO_PKG_VERSION"))), "{page}");
    for section in ["Hardware", "Quota and memory", "Threads", "Backends", "Devices", "Serving"] {
        assert!(page.contains(&format!("\n{section}\n")), "{section} in {page}");
    }
    assert!(page.ends_with("\nA model can be served.\n"), "{page}");
    assert!(!page.contains('\u{1b}'), "no colours in a pipe: {page}");
    // Only a word that is longer than the page, such as a path, may be too wide.
    let wide = page.lines().filter(|line| line.chars().count() > 100);
    assert!(
        wide.clone().all(|line| line.split_whitespace().any(|word| word.len() > 60)),
        "{:?}",
        wide.collect::<Vec<_>>()
    );
}

#[test]
fn the_document_has_its_keys() {
    let output = run(&["doctor", "--json", "--port", "0"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let document = document(&output);
    assert_eq!((&document["ok"], &document["version"]), (&Value::Bool(true), &env!("CARGO_PKG_VERSION").into()));
    for (pointer, is_right) in [
        ("/hardware/processor/instruction_sets", Value::is_array as fn(&Value) -> bool),
        ("/hardware/processor/processors", Value::is_u64),
        ("/hardware/numa", Value::is_array),
        ("/hardware/nvidia", Value::is_object),
        ("/hardware/display_adapters", Value::is_array),
        ("/quota/cores", Value::is_f64),
        ("/quota/limited_by", Value::is_string),
        ("/quota/processors_allowed", Value::is_u64),
        ("/memory/run_limit_bytes", Value::is_u64),
        ("/memory/limit_bytes", Value::is_u64),
        ("/memory/limited_by", Value::is_string),
        ("/memory/process_bytes", Value::is_u64),
        ("/memory/available_bytes", Value::is_u64),
        ("/threads/workers", Value::is_u64),
        ("/threads/io_threads", Value::is_u64),
        ("/failures", Value::is_array),
        ("/warnings", Value::is_array),
    ] {
        assert!(document.pointer(pointer).is_some_and(is_right), "{pointer} in {document}");
    }
    let tract = document["backends"].as_array().expect("a list").iter().find(|backend| backend["name"] == "tract");
    let tract = tract.expect("tract is compiled in");
    assert_eq!((&tract["usable"], &tract["devices"][0]), (&Value::Bool(true), &"cpu".into()));
    let cpu = finding(&document, "devices", "cpu");
    assert!(cpu["text"].as_str().expect("a text").contains("tract"), "{cpu}");
    assert_eq!(finding(&document, "surroundings", "plugins")["usable"], true);
    assert_eq!(finding(&document, "surroundings", "cache folder")["usable"], true);
}

#[test]
fn what_is_named_and_not_usable_fails() {
    for (arguments, expected) in [
        (&["--backend", "tracd"][..], "error: backend 'tracd' is unknown; there are "),
        (&["--backend", "tract", "--device", "cuda:63"], "error: cuda:63 is not usable: "),
        (&["--device", "gpu"], "error: 'gpu' is not a device; expected auto, cpu, cuda[:N]"),
        (&["--device", "cpu,openvino:63"], "error: openvino:63 is not usable: "),
    ] {
        let output = run(&[&["doctor", "--json", "--port", "0"], arguments].concat());
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        assert!(stderr(&output).starts_with(expected), "{}", stderr(&output));
        let document = document(&output);
        assert_eq!(document["ok"], false);
        let failure = document["failures"][0].as_str().expect("a reason");
        assert!(stderr(&output).contains(failure), "{failure}");
    }
    let failed = run(&["doctor", "--port", "0", "--device", "cuda:63"]);
    let text = String::from_utf8_lossy(&failed.stdout).into_owned();
    assert!(text.contains("\nNo model can be served like this\n  reason            cuda:63 is not usable"), "{text}");
    let page = run(&["doctor", "--port", "0", "--backend", "tract", "--device", "cuda:63-or-cpu"]);
    assert_eq!(page.status.code(), Some(0), "{}", stderr(&page));
    let text = String::from_utf8_lossy(&page.stdout).into_owned();
    assert!(text.contains("  cuda:63           not usable: "), "{text}");
}

#[test]
fn the_configuration_is_that_of_serve() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("bound").port().to_string();
    let mut command = corymb(&["doctor", "--json", "--host", "127.0.0.1", "--port", &port]);
    command.env("CORYMB_WORKERS", "7").env("CORYMB_WORKER", "8");
    let output = command.output().expect("runs");
    // A server that runs already is no reason to fail.
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let document = document(&output);
    assert_eq!(document["threads"]["workers"], 7);
    let reason = finding(&document, "surroundings", &format!("port {port}"))["reason"].as_str().expect("taken");
    assert!(reason.contains("in use"), "{reason}");
    let warnings = document["warnings"].to_string();
    assert!(warnings.contains("did you mean CORYMB_WORKERS?"), "{warnings}");

    let output = run(&["doctor", "--config", "/absent.toml"]);
    assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0));
    assert!(stderr(&output).starts_with("error: --config /absent.toml: "), "{}", stderr(&output));
}

/// What `serve` refuses is refused here, with the same words.
#[test]
fn models_are_loaded_as_they_are_to_be_served() {
    let absent = run(&["doctor", "--port", "0", "--model-dir", "/absent/models"]);
    assert_eq!(absent.status.code(), Some(1));
    assert!(stderr(&absent).contains("/absent/models: "), "{}", stderr(&absent));
    let bad = folder(&[("bad.onnx", b"not a model")]);
    let bad = format!("bad={}", bad.path().join("bad.onnx").display());
    let identity = format!("good={}", root().join("tests/fixtures/models/identity_fp32.onnx").display());
    let both = ["doctor", "--json", "--port", "0", "--model", &bad, "--model", &identity];
    let output = run(&both);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).contains("model bad: ") && stderr(&output).contains("not an ONNX model"),
        "{}",
        stderr(&output)
    );
    let document = document(&output);
    assert_eq!(finding(&document, "surroundings", "model good")["usable"], true);
    let output = run(&[&both[..], &["--keep-going"]].concat());
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let library = run(&["doctor", "--port", "0", "--onnxruntime", "/absent/ort.so"]);
    assert_eq!(library.status.code(), Some(1));
    assert!(stderr(&library).contains("/absent/ort.so: is not there"), "{}", stderr(&library));
}

#[test]
fn a_cache_that_cannot_be_written_is_told() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    let below = file.path().join("cache").to_string_lossy().into_owned();
    let output = run(&["doctor", "--json", "--port", "0", "--cache", &below]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let document = document(&output);
    let cache = finding(&document, "surroundings", "cache folder");
    assert!(cache["reason"].as_str().expect("a reason").contains(&below), "{cache}");
    assert!(cache["remedy"].as_str().expect("a remedy").contains("--cache"), "{cache}");
}

#[test]
fn too_little_address_space_for_a_pool_is_told() {
    let binary = env!("CARGO_BIN_EXE_corymb");
    let script = format!("ulimit -v 20000000 && exec {binary} doctor --json --port 0");
    let output = Command::new("sh").args(["-c", &script]).env_clear().output().expect("runs");
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let document = document(&output);
    assert_eq!(document["memory"]["address_space_bytes"], 20_480_000_000_u64);
    let plugins = finding(&document, "surroundings", "plugins");
    assert_eq!(plugins["usable"], true);
    assert!(plugins["text"].as_str().expect("a text").contains("raise `ulimit -v`"), "{plugins}");
}

#[test]
fn an_affinity_is_honoured() {
    let allowed = fs::read_to_string("/proc/self/status").expect("read");
    let allowed = allowed.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).expect("a line").trim();
    let first = allowed.split(['-', ',']).next().expect("a number").to_owned();
    let mut command = Command::new("taskset");
    command.args(["-c", &first, env!("CARGO_BIN_EXE_corymb"), "doctor", "--json", "--port", "0"]);
    let output = match command.output() {
        Ok(output) => output,
        // Part of every Debian; nothing that CI could install otherwise.
        Err(error) => return eprintln!("skipped: taskset: {error}"),
    };
    let document = document(&output);
    assert_eq!(document["quota"]["processors_allowed"], 1, "{document}");
    assert!(document["quota"]["cores"].as_f64().expect("a number") <= 1.0);
    assert_eq!((&document["threads"]["workers"], &document["threads"]["io_threads"]), (&1.into(), &1.into()));
}

#[test]
fn the_server_tells_its_plan() {
    let server = Server::start(&["--workers", "1", "--io-threads", "2"]);
    let plan = server.event(|event| event["message"] == "threads planned");
    assert_eq!((&plan["workers"], &plan["io_threads"]), (&1.into(), &2.into()), "{plan}");
    assert!(plan["cores"].as_f64().is_some_and(|cores| cores > 0.0) && plan["limited_by"].is_string(), "{plan}");
    let threads = fs::read_dir(format!("/proc/{}/task", server.id())).expect("running").flatten();
    let names: Vec<String> = threads
        .map(|thread| fs::read_to_string(thread.path().join("comm")).unwrap_or_default().trim().to_owned())
        .collect();
    let count = |prefix: &str| names.iter().filter(|name| name.starts_with(prefix)).count();
    // tokio gives the name of its I/O threads also to those that loaded the models.
    // For each worker there is one thread more, which takes its place while another model's work holds it.
    assert!(count("compute") == 2 && count("io") >= 2, "{names:?}");
}

#[test]
fn a_real_quota_of_one_core_is_honoured() {
    let Some(group) = control_group(1 << 30, Some(1)) else { return };
    let mut doctor = group.command(env!("CARGO_BIN_EXE_corymb"));
    let output = doctor.args(["doctor", "--json", "--port", "0"]).output().expect("runs");
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let document = document(&output);
    assert_eq!(document["quota"]["cores"], 1.0, "{document}");
    assert_eq!((&document["threads"]["workers"], &document["threads"]["io_threads"]), (&1.into(), &1.into()));
    assert_eq!(document["memory"]["limit_bytes"], 1_u64 << 30);
    assert_eq!(document["memory"]["body_limit_bytes"], 1_u64 << 27);
    let requests = document["memory"]["request_limit_bytes"].as_u64().expect("known");
    assert!((1 << 29..13 << 26).contains(&requests), "{document}");
    assert!(document["memory"]["limited_by"].as_str().expect("a file").contains("corymb-test-"), "{document}");
    let taken = document["memory"]["group_bytes"].as_u64().expect("in a group");
    assert!(taken > 0 && taken < 1 << 30);
    if document["quota"]["processors_allowed"].as_u64().expect("a number") > 1 {
        assert!(document["quota"]["limited_by"].as_str().expect("a file").contains("corymb-test-"), "{document}");
    }
}
