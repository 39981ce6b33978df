//! What a model asks of its engine: options that reach it, mistakes that are named, libraries of custom operators.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::{Server, corymb, folder, onnxruntime_environment, root, skip};

/// What manifests call the library here: the file's own name depends on the version of Python.
const LIBRARY: &str = "libortextensions.so";

/// A folder with a fixture and a manifest.
fn model(fixture: &str, manifest: &str) -> TempDir {
    let path = root().join(format!("tests/fixtures/models/{fixture}.onnx"));
    let content = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    folder(&[("model.onnx", &content), ("model.toml", manifest.as_bytes())])
}

fn named(name: &str, folder: &TempDir) -> String {
    format!("{name}={}", folder.path().display())
}

/// The flag that allows the library of onnxruntime-extensions, from the virtual environment that
/// `CORYMB_TEST_ORT_EXTENSIONS` names, else that of ONNX Runtime.
fn extensions() -> Option<String> {
    let prefixes = ["CORYMB_TEST_ORT_EXTENSIONS", "CORYMB_TEST_ONNXRUNTIME", "VIRTUAL_ENV"];
    let found = prefixes.into_iter().find_map(|name| library_in(Path::new(&std::env::var(name).ok()?)));
    if found.is_none() {
        skip("no virtual environment with the package onnxruntime-extensions: name one by CORYMB_TEST_ORT_EXTENSIONS");
    }
    found.map(|library| format!("{LIBRARY}={}", library.display()))
}

fn library_in(prefix: &Path) -> Option<PathBuf> {
    let pythons = prefix.join("lib").read_dir().ok()?.flatten();
    let folders = pythons.map(|python| python.path().join("site-packages/onnxruntime_extensions"));
    let mut files = folders.filter_map(|folder| folder.read_dir().ok()).flatten().flatten().map(|file| file.path());
    files.find(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("_extensions_pydll") && (name.ends_with(".so") || name.ends_with(".dylib"))
    })
}

/// Why a server does not start: one line.
fn refused(arguments: &[&str], variables: &[(&str, &str)]) -> String {
    let mut command = corymb(&["serve", "--host", "127.0.0.1", "--port", "0"]);
    let output = command.args(arguments).envs(variables.iter().copied()).output().expect("the binary runs");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{text}");
    let errors: Vec<&str> = text.lines().filter(|line| line.starts_with("error: ")).collect();
    assert_eq!(errors.len(), 1, "{text}");
    errors[0].to_owned()
}

fn infer(server: &Server, model: &str, texts: &[&str]) -> Value {
    let input = json!({"name": "text", "datatype": "BYTES", "shape": [texts.len()], "data": texts});
    let body = json!({ "inputs": [input] }).to_string();
    let answer = server.post(&format!("/v2/models/{model}/infer"), "application/json", body.as_bytes());
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

fn output<'a>(answer: &'a Value, name: &str) -> &'a Value {
    let outputs = answer["outputs"].as_array().expect("outputs");
    &outputs.iter().find(|output| output["name"] == name).unwrap_or_else(|| panic!("{name} in {answer}"))["data"]
}

#[test]
fn a_model_with_its_tokenizer_inside_is_served() {
    let (Some(prefix), Some(library)) = (onnxruntime_environment(), extensions()) else { return };
    let manifest = format!("[onnxruntime]\ncustom_operators = ['{LIBRARY}']\noptimization = 'extended'");
    let (tokenizer, lower) = (model("tokenizer", &manifest), model("lower_case", &manifest));
    let models = [named("tokenizer", &tokenizer), named("lower", &lower)];
    let variables = [("VIRTUAL_ENV", prefix.as_str())];
    let flags = ["--custom-operators", &library, "--model", &models[0], "--model", &models[1]];
    let server = Server::start_with(&flags, &variables);
    for _ in 0..3 {
        let answer = infer(&server, "tokenizer", &["A GOOD movies"]);
        assert_eq!(output(&answer, "ids"), &json!([2, 9, 5, 7, 8, 3]));
        assert_eq!(output(&answer, "score"), &json!([1.25]));
        let answer = infer(&server, "lower", &["HeLLo", "ÄÖ", ""]);
        assert_eq!(output(&answer, "lower"), &json!(["hello", "äö", ""]));
    }
    // The variable says the same as the flag, and what is listed is what is served.
    let by_variable = [("VIRTUAL_ENV", prefix.as_str()), ("CORYMB_CUSTOM_OPERATORS", library.as_str())];
    let server = Server::start_with(&["--model", &models[0]], &by_variable);
    assert_eq!(output(&infer(&server, "tokenizer", &["bad"]), "score"), &json!([-1.0]));
    let mut list = corymb(&["models", "list", "--json", "--custom-operators", &library, "--model", &models[0]]);
    let listed = list.envs(variables).output().expect("the binary runs");
    let listed: Value = serde_json::from_slice(&listed.stdout).expect("JSON");
    assert_eq!((&listed[0]["backend"], &listed[0]["reason"]), (&json!("onnxruntime"), &Value::Null), "{listed}");
}

/// The first sessions of a process register the library's domains, which models that load at once must not do at once.
#[test]
fn models_with_the_same_library_load_at_once() {
    let (Some(prefix), Some(library)) = (onnxruntime_environment(), extensions()) else { return };
    let manifest = format!("[onnxruntime]\ncustom_operators = ['{LIBRARY}']\n[instances]\ncount = 2");
    let lower = model("lower_case", &manifest);
    let models: Vec<String> = (0..6).map(|number| format!("lower{number}={}", lower.path().display())).collect();
    let mut flags = vec!["--custom-operators", &library];
    models.iter().for_each(|model| flags.extend(["--model", model]));
    for _ in 0..16 {
        let server = Server::start_with(&flags, &[("VIRTUAL_ENV", &prefix)]);
        for number in 0..6 {
            let answer = infer(&server, &format!("lower{number}"), &["HeLLo"]);
            assert_eq!(output(&answer, "lower"), &json!(["hello"]));
        }
    }
}

#[test]
fn a_library_that_is_not_allowed_is_not_loaded() {
    let Some(prefix) = onnxruntime_environment() else { return };
    let variables = [("VIRTUAL_ENV", prefix.as_str())];
    let manifest = format!("backend = 'onnxruntime'\n[onnxruntime]\ncustom_operators = ['{LIBRARY}']");
    let asks = model("lower_case", &manifest);
    // The folder's own is none: it may come from anywhere.
    std::fs::write(asks.path().join(LIBRARY), "not loaded").expect("written");
    let named_model = named("m", &asks);
    let error = refused(&["--model", &named_model], &variables);
    assert!(error.contains(LIBRARY) && error.contains("none is allowed; start the server with --custom-op"), "{error}");
    let elsewhere = folder(&[("libother.so", b"x")]);
    let elsewhere = elsewhere.path().to_string_lossy().into_owned();
    let error = refused(&["--model", &named_model, "--custom-operators", &elsewhere], &variables);
    assert!(error.contains(&format!("allowed are {elsewhere}")), "{error}");
    let broken = asks.path().join(LIBRARY).to_string_lossy().into_owned();
    let error = refused(&["--model", &named_model, "--custom-operators", &broken], &variables);
    assert!(error.contains(&format!("{broken}: is not a shared library")), "{error}");
    let mut list = corymb(&["models", "list", "--json", "--model", &named_model]);
    let listed = list.envs(variables).output().expect("the binary runs");
    let listed: Value = serde_json::from_slice(&listed.stdout).expect("JSON");
    assert!(listed[0]["reason"].as_str().is_some_and(|reason| reason.contains("--custom-operators")), "{listed}");
    // A model that does not ask is told how.
    let silent = model("lower_case", "backend = 'onnxruntime'");
    let error = refused(&["--model", &named("m", &silent)], &variables);
    assert!(error.contains("StringLower") && error.contains("`custom_operators` under [onnxruntime]"), "{error}");
}

#[test]
fn mistakes_in_options_name_the_key() {
    for (section, says) in [
        ("optimisation = 'all'", "unknown key `onnxruntime.optimisation`; did you mean `onnxruntime.optimization`?"),
        ("optimization = 'full'", "`onnxruntime.optimization` is 'full'; expected one of off, basic, extended, lay"),
        (
            "[onnxruntime.session]\nsession.disable_prepakcing = true",
            "unknown key `onnxruntime.session.session.disable_prepakcing`; did you mean `session.disable_prepacking`?",
        ),
        ("[onnxruntime.cuda]\nuse_tf32 = 'maybe'", "`onnxruntime.cuda.use_tf32` is 'maybe'; expected true or false"),
        ("[onnxruntime.tensorrt]\ntrt_extra_plugin_lib_paths = 'a.so'", "expected nothing: it loads code"),
        ("custom_operators = ['../a.so']", "`onnxruntime.custom_operators` names '../a.so'"),
    ] {
        let model = model("linear", &format!("[onnxruntime]\n{section}"));
        // Whatever engine would run it.
        let error = refused(&["--onnxruntime", "none", "--model", &named("m", &model)], &[]);
        assert!(error.contains("model.toml: ") && error.contains(says), "{section}: {error}");
    }
}

#[test]
fn options_reach_the_engine() {
    let Some(prefix) = onnxruntime_environment() else { return };
    let variables = [("VIRTUAL_ENV", prefix.as_str())];
    // The library itself refuses a shape of an input that is not there, so it has seen the option.
    let wrong = "[onnxruntime.session]\n'session.max_shape_override' = 'nowhere:[4,4]'";
    let model_of = |session: &str| model("linear", &format!("backend = 'onnxruntime'\n{session}"));
    let error = refused(&["--model", &named("m", &model_of(wrong))], &variables);
    assert!(error.contains("nowhere"), "{error}");
    for level in ["off", "basic", "extended", "layout", "all"] {
        let right = format!(
            "[onnxruntime]\noptimization = '{level}'\n[onnxruntime.session]\n'session.disable_prepacking' = 1\n\
             'session.use_device_allocator_for_initializers' = true\n[onnxruntime.cuda]\nuse_tf32 = false"
        );
        let model = model_of(&right);
        let server = Server::start_with(&["--model", &named("m", &model)], &variables);
        assert_eq!(server.event(|event| event["message"] == "model ready")["backend"], "onnxruntime");
    }
}

#[test]
fn what_is_asked_of_another_engine_is_said_once() {
    const SAID: &str = "what the manifest asks of another backend has no effect";
    let asks = model("linear", "[onnxruntime]\noptimization = 'basic'");
    let server = Server::start(&["--onnxruntime", "none", "--model", &named("m", &asks)]);
    let said: Vec<Value> = server.events().into_iter().filter(|event| event["message"] == SAID).collect();
    assert_eq!(said.len(), 1, "{said:?}");
    assert_eq!((&said[0]["backend"], &said[0]["meant"]), (&json!("tract"), &json!("onnxruntime")), "{said:?}");
    let Some(prefix) = onnxruntime_environment() else { return };
    let server = Server::start_with(&["--model", &named("m", &asks)], &[("VIRTUAL_ENV", prefix.as_str())]);
    assert!(server.events().iter().all(|event| event["message"] != SAID), "{:?}", server.events());
}

#[test]
fn what_triton_says_of_the_engine_counts_or_is_named() {
    let Some(prefix) = onnxruntime_environment() else { return };
    let config = r#"
        backend: "onnxruntime"
        optimization { graph { level: 1 } priority: PRIORITY_MAX }
        parameters { key: "execution_mode" value: { string_value: "1" } }
        parameters { key: "session.disable_prepacking" value: { string_value: "1" } }
        parameters { key: "of_somebody" value: { string_value: "1" } }
    "#;
    let content = std::fs::read(root().join("tests/fixtures/models/linear.onnx")).expect("a fixture");
    let triton = folder(&[("1/model.onnx", &content), ("config.pbtxt", config.as_bytes())]);
    let server = Server::start_with(&["--model", &named("m", &triton)], &[("VIRTUAL_ENV", prefix.as_str())]);
    let event = server.event(|event| event["message"] == "these keys have no effect here");
    let keys = event["keys"].as_str().expect("a text");
    for key in ["optimization.priority", "parameters.execution_mode (the nodes of a run", "parameters.of_somebody"] {
        assert!(keys.contains(key), "{key}: {keys}");
    }
    assert!(!keys.contains("prepacking") && !keys.contains("graph"), "{keys}");
}
