//! The invariants of ARCHITECTURE.md, checked from `cargo metadata` and the files.

mod circles;
mod sizes;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::harness::root;

/// Normal dependencies of every crate of the workspace.
fn dependencies() -> BTreeMap<String, BTreeSet<String>> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(root())
        .output()
        .expect("cargo runs");
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo metadata prints JSON");
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    let packages = metadata["packages"].as_array().expect("packages");
    packages
        .iter()
        .map(|package| {
            let normal = package["dependencies"]
                .as_array()
                .expect("a list")
                .iter()
                .filter(|dependency| dependency["kind"].is_null());
            (text(&package["name"]), normal.map(|dependency| text(&dependency["name"])).collect())
        })
        .collect()
}

/// Source files of the project, generated code and build outputs left out.
fn sources() -> Vec<PathBuf> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).expect("a folder").flatten() {
            let path = entry.path();
            let name = entry.file_name().to_string_lossy().into_owned();
            if path.is_dir() && !["target", "generated", ".git"].contains(&name.as_str()) {
                walk(&path, found);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    for folder in ["runtime", "backends", "plugins", "proto", "tests"] {
        walk(&root().join(folder), &mut found);
    }
    assert!(found.len() > 50, "the sources are where they are looked for");
    found
}

fn relative(path: &Path) -> String {
    path.strip_prefix(root()).expect("inside").to_string_lossy().into_owned()
}

#[test]
fn core_knows_no_runtime_no_wire_and_no_engine() {
    let all = dependencies();
    let core = &all["corymb-core"];
    let allowed = ["bytemuck", "bytes", "futures-core", "half", "thiserror"];
    assert!(core.iter().all(|name| allowed.contains(&name.as_str())), "{core:?}");
}

#[test]
fn servers_and_engines_are_known_where_they_should_be() {
    let homes: [(&[&str], &[&str]); 10] = [
        (&["axum", "tonic-health", "tonic-reflection", "tower"], &["corymb-server"]),
        // The load generator is a client, and so is what corymb-proto has behind its feature.
        (&["tonic"], &["corymb-server", "corymb-proto", "corymb-loadtest"]),
        (&["hyper", "hyper-util"], &["corymb-listener", "corymb-loadtest"]),
        (&["prost"], &["corymb-wire", "corymb-proto", "corymb-onnx", "corymb-tests-fuzz"]),
        (&["ort", "libloading"], &["corymb-backend-onnxruntime"]),
        (&["wasmtime"], &["corymb-plugin-host"]),
        (&["tract-onnx", "tract-nnef", "tract-core"], &["corymb-backend-tract"]),
        (
            &[
                "corymb-backend-onnxruntime",
                "corymb-backend-process",
                "corymb-backend-tract",
                "corymb-plugin-host",
                "corymb-metrics",
                "opentelemetry-otlp",
            ],
            &["corymb", "corymb-tests-bench", "corymb-tests-operators"],
        ),
        (&["opentelemetry_sdk"], &["corymb", "corymb-metrics"]),
        (&["opentelemetry-prometheus", "prometheus"], &["corymb-metrics"]),
    ];
    for (crate_name, dependencies) in dependencies() {
        for (guarded, homes) in &homes {
            let stray = guarded.iter().find(|name| dependencies.contains(**name));
            // The benchmarks measure against the bare engine.
            let bench = crate_name == "corymb-tests-bench";
            assert!(
                stray.is_none() || homes.contains(&crate_name.as_str()) || bench,
                "{crate_name} depends on {stray:?}"
            );
        }
    }
}

/// What the server side of a connection needs is the listener's alone.
#[test]
fn the_wire_the_listener_and_the_server_keep_apart() {
    let all = dependencies();
    let has_none_of = |name: &str, refused: &[&str]| {
        let found: Vec<_> = refused.iter().filter(|refused| all[name].contains(**refused)).collect();
        assert!(found.is_empty(), "{name} depends on {found:?}");
    };
    has_none_of("corymb-wire", &["tokio", "hyper", "hyper-util", "axum", "h2", "tonic", "tower"]);
    let above = ["corymb-core", "corymb-proto", "corymb-wire", "corymb-engine", "corymb-server"];
    has_none_of("corymb-listener", &[&["axum", "tonic", "serde_json"][..], &above].concat());
    has_none_of("corymb-server", &["h2", "hyper", "hyper-util", "rustls", "tokio-rustls"]);
    let proto = fs::read_to_string(root().join("proto/Cargo.toml")).expect("the manifest");
    for line in proto.lines().filter(|line| line.starts_with("tonic = ") || line.starts_with("tonic-prost = ")) {
        assert!(line.contains("optional = true"), "messages are built without tonic: {line}");
    }
    let manifest = fs::read_to_string(root().join("Cargo.toml")).expect("the workspace");
    for line in manifest.lines().filter(|line| line.starts_with("hyper = ") || line.starts_with("hyper-util = ")) {
        assert!(!line.contains("server"), "the listener's manifest says which features of a server it needs: {line}");
    }
}

#[test]
fn crates_import_only_what_lies_below_them() {
    let allowed: BTreeMap<&str, &[&str]> = BTreeMap::from([
        ("corymb-core", &[][..]),
        ("corymb-proto", &[]),
        ("corymb-componentize", &[]),
        ("corymb-hardware", &[]),
        ("corymb-metrics", &[]),
        ("corymb-repository", &["corymb-core"]),
        ("corymb-engine", &["corymb-core", "corymb-repository"]),
        ("corymb-listener", &[]),
        ("corymb-wire", &["corymb-core", "corymb-proto"]),
        ("corymb-tests-fuzz", &["corymb-core", "corymb-proto", "corymb-wire"]),
        ("corymb-server", &["corymb-core", "corymb-engine", "corymb-listener", "corymb-proto", "corymb-wire"]),
        ("corymb-onnx", &["corymb-core"]),
        ("corymb-backend-onnxruntime", &["corymb-core", "corymb-onnx"]),
        ("corymb-backend-process", &["corymb-core"]),
        ("corymb-loadtest", &["corymb-proto"]),
        ("corymb-backend-tract", &["corymb-core", "corymb-onnx"]),
        ("corymb-images", &["corymb-core"]),
        ("corymb-plugin-host", &["corymb-core", "corymb-images"]),
        ("corymb-tests-zoo", &["corymb-core"]),
        ("corymb-tests-operators", &["corymb-backend-tract", "corymb-core"]),
    ]);
    for (crate_name, dependencies) in dependencies() {
        let Some(allowed) = allowed.get(crate_name.as_str()) else {
            assert!(["corymb", "corymb-tests-bench"].contains(&crate_name.as_str()), "{crate_name} is not in the map");
            continue;
        };
        let own = dependencies.iter().filter(|name| name.starts_with("corymb"));
        let stray: Vec<_> = own.filter(|name| !allowed.contains(&name.as_str())).collect();
        assert!(stray.is_empty(), "{crate_name} depends on {stray:?}");
    }
}

#[test]
fn wiring_alone_names_what_is_plugged_in() {
    for path in sources().iter().map(|path| relative(path)).filter(|path| path.starts_with("runtime/cli/src")) {
        if path.contains("/wiring/") {
            continue;
        }
        let text = fs::read_to_string(root().join(&path)).expect("read");
        for name in ["corymb_backend_", "corymb_plugin_host", "opentelemetry"] {
            let named = text.lines().any(|line| line.contains(name) && !line.contains("directives"));
            assert!(!named, "{path} names {name}");
        }
    }
}

#[test]
fn the_environment_is_read_in_one_place() {
    for path in sources().iter().map(|path| relative(path)) {
        let product =
            ["runtime/", "backends/", "plugins/host/", "plugins/images/src"].iter().any(|root| path.starts_with(root));
        if !product
            || path == "runtime/cli/src/config/environment.rs"
            || path.contains("/tests/")
            || path.contains("/examples/")
            || path.ends_with("/build.rs")
        {
            continue;
        }
        let text = fs::read_to_string(root().join(&path)).expect("read");
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        for reading in ["env::var(", "env::vars", "env::var_os("] {
            assert!(!code.contains(reading), "{path} reads the environment by {reading}");
        }
    }
}

#[test]
fn statuses_are_mapped_in_one_table() {
    for path in sources().iter().map(|path| relative(path)).filter(|path| path.starts_with("runtime/engine/src")) {
        let text = fs::read_to_string(root().join(&path)).expect("read");
        assert!(!text.contains("StatusCode") && !text.contains("http::"), "{path} knows HTTP");
    }
    let core: String = fs::read_dir(root().join("runtime/core/src"))
        .expect("core")
        .flatten()
        .filter_map(|entry| fs::read_to_string(entry.path()).ok())
        .collect();
    assert!(!core.contains("Serialize"), "core types are not serialised: each protocol has its own conversion");
}

#[test]
fn files_are_named_for_a_thing_and_say_what_they_are() {
    for path in sources() {
        let text = fs::read_to_string(&path).expect("read");
        let name = relative(&path);
        assert!(text.starts_with("//! "), "{name} does not open with a sentence");
        let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        for vague in ["util", "utils", "helper", "helpers", "common", "misc", "manager"] {
            assert_ne!(stem, vague, "{name}");
        }
    }
}

/// Whoever clones the repository has nothing beside it.
#[test]
fn nothing_outside_the_checkout_is_opened() {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).expect("a folder").flatten() {
            let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
            let is_built = ["target", ".git", "node_modules", ".venv", "__pycache__"].contains(&name.as_str());
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) && !is_built {
                walk(&path, found);
            } else if entry.metadata().is_ok_and(|file| file.is_file() && file.len() < 1 << 20) {
                found.push(path);
            }
        }
    }
    let mut files = Vec::new();
    walk(&root(), &mut files);
    let outside = concat!("../", "shared");
    let opens = |path: &&PathBuf| fs::read(path).is_ok_and(|text| String::from_utf8_lossy(&text).contains(outside));
    let found: Vec<String> = files.iter().filter(opens).map(|path| relative(path)).collect();
    assert_eq!(found, Vec::<String>::new());
}

#[test]
fn the_flowers_plugin_is_built_from_its_sources() {
    let stamp = fs::read_to_string(root().join("deploy/models/flowers/flowers.wasm.stamp")).expect("the stamp");
    let output =
        Command::new("bash").arg("plugins/build.sh").args(["--stamp", "plugins/flowers"]).current_dir(root()).output();
    let output = output.expect("bash runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let expected = String::from_utf8_lossy(&output.stdout).into_owned();
    let first = |text: &str| text.split_whitespace().next().unwrap_or_default().to_owned();
    assert_eq!(first(&stamp), first(&expected), "rebuild it: plugins/build.sh");
}

#[test]
fn the_card_of_the_flowers_model_speaks_of_the_model_that_is_there() {
    let folder = root().join("deploy/models/flowers");
    let read = |name: &str| fs::read_to_string(folder.join(name)).expect(name);
    let metrics: Value = serde_json::from_str(&read("metrics.json")).expect("JSON");
    let digest = metrics["sha256"].as_str().expect("a digest");
    // The repository compares the manifest's digest with the file whenever it is opened.
    assert!(read("model.toml").contains(digest), "metrics.json was measured from another file");
    let card = read("README.md");
    let figures = [&metrics["test"]["top1"], &metrics["others_test"]["top1"], &metrics["ece"]];
    for figure in figures.map(|figure| format!("**{:.3}**", figure.as_f64().expect("a number"))) {
        assert!(card.contains(&figure), "the card does not say {figure}");
    }
}

#[test]
fn the_map_names_every_crate() {
    let map = fs::read_to_string(root().join("ARCHITECTURE.md")).expect("the map");
    for name in dependencies().keys() {
        assert!(map.contains(&format!("`{name}`")), "ARCHITECTURE.md does not name {name}");
    }
}
