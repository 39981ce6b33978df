//! How people lay models out, in a hundred places, and what is served of each: from a folder, a hub and object stores alike.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde::Deserialize;
use serde_json::{Value, json};

use super::cache;
use super::store::Store;
use crate::harness::{Server, corymb, root};

/// At a time.
const THREADS: usize = 4;
/// One of so many is tried on each of the object stores.
const STEP: usize = 8;

#[derive(Deserialize)]
struct Layouts {
    layout: Vec<Layout>,
}

/// See the table's own head.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Layout {
    name: String,
    from: String,
    files: Vec<String>,
    #[serde(default)]
    external: BTreeMap<String, Vec<String>>,
    #[serde(default)]
    texts: BTreeMap<String, String>,
    named: String,
    file: Option<String>,
    unnamed: Option<Vec<String>>,
    unnamed_error: Option<String>,
    unnamed_hub: Option<Vec<String>>,
}

fn table() -> Vec<Layout> {
    let text = std::fs::read_to_string(root().join("tests/fixtures/layouts.toml")).expect("the table");
    toml::from_str::<Layouts>(&text).expect("the table").layout
}

fn varint(mut value: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

/// A field of protobuf that holds bytes.
fn field(number: usize, content: &[u8]) -> Vec<u8> {
    [varint(number << 3 | 2), varint(content.len()), content.to_vec()].concat()
}

/// A field of protobuf that holds a number.
fn number(number: usize, value: usize) -> Vec<u8> {
    [varint(number << 3), varint(value)].concat()
}

/// A model that adds what lies outside of it to what it is sent, and calls it by a name of its own.
fn model(output: &str, outside: &[String]) -> Vec<u8> {
    let node = |operator: &str, inputs: &[&str], output: &str| {
        let inputs = inputs.iter().map(|input| field(1, input.as_bytes()));
        field(
            1,
            &[inputs.collect::<Vec<_>>().concat(), field(2, output.as_bytes()), field(4, operator.as_bytes())].concat(),
        )
    };
    let tensor = |name: &str| {
        let shape = field(2, &field(1, &number(1, 1)));
        [field(1, name.as_bytes()), field(2, &field(1, &[number(1, 1), shape].concat()))].concat()
    };
    let (mut nodes, mut weights, mut last) = (Vec::new(), Vec::new(), "x".to_owned());
    for (place, location) in outside.iter().enumerate() {
        let entry = [field(1, b"location"), field(2, location.as_bytes())].concat();
        let name = format!("w{place}");
        weights.push(field(
            5,
            &[number(1, 1), number(2, 1), field(8, name.as_bytes()), field(13, &entry), number(14, 1)].concat(),
        ));
        let sum = format!("s{place}");
        nodes.push(node("Add", &[&last, &name], &sum));
        last = sum;
    }
    nodes.push(node("Identity", &[&last], output));
    let graph = [nodes.concat(), field(2, b"g"), weights.concat(), field(11, &tensor("x")), field(12, &tensor(output))]
        .concat();
    [number(1, 8), field(7, &graph), field(8, &number(2, 17))].concat()
}

impl Layout {
    /// What lies at a path.
    fn content(&self, path: &str) -> Vec<u8> {
        if let Some(text) = self.texts.get(path) {
            return text.clone().into_bytes();
        }
        if !path.ends_with(".onnx") {
            return b"\0\0\0\0".to_vec();
        }
        let folder = path.rsplit_once('/').map_or(String::new(), |(folder, _)| format!("{folder}/"));
        let outside = self.external.get(path).cloned().unwrap_or_default();
        let outside: Vec<String> =
            outside.iter().map(|file| file.strip_prefix(&folder).unwrap_or(file).to_owned()).collect();
        model(&self.output(path), &outside)
    }

    /// What the model at a path calls its output.
    fn output(&self, path: &str) -> String {
        format!("y{}", self.files.iter().position(|known| known == path).expect("listed"))
    }

    fn write(&self, place: &Path) {
        std::fs::create_dir_all(place).expect("made");
        for path in &self.files {
            let file = place.join(path);
            std::fs::create_dir_all(file.parent().expect("below")).expect("made");
            std::fs::write(&file, self.content(path)).expect("written");
        }
    }

    /// With a name, and without one.
    fn check(&self, uri: &str, variables: &[(&str, &str)], unnamed: bool) -> Vec<String> {
        let folder = cache();
        let list = |more: &[&str]| {
            let mut command = corymb(&["models", "list", uri, "--json", "--cache", &folder.path().to_string_lossy()]);
            let output = command.args(more).envs(variables.iter().copied()).output().expect("the binary runs");
            let models: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap_or_default();
            let error = String::from_utf8_lossy(&output.stderr).into_owned();
            let errors = models.iter().filter_map(|model| model["error"].as_str().map(str::to_owned));
            (models.clone(), errors.chain([error]).collect::<Vec<_>>().join("\n"))
        };
        let mut wrong = Vec::new();
        let (models, errors) = list(&["--model-name", "iris"]);
        match self.named.strip_prefix("error: ") {
            Some(expected) if !errors.contains(expected) => {
                wrong.push(format!("named: expected '{expected}': {errors}"))
            }
            Some(_) => {}
            None => {
                let output = format!("{} FP32[1]", self.output(self.file.as_deref().expect("which is served")));
                let served = models.iter().any(|model| model["name"] == "iris" && model["outputs"] == json!([output]));
                if models.len() != 1 || !served {
                    wrong.push(format!("named: expected {output}: {models:?} {errors}"));
                }
            }
        }
        if !unnamed {
            return wrong;
        }
        let (models, errors) = list(&[]);
        let names: Vec<&str> =
            models.iter().filter(|model| model["error"].is_null()).filter_map(|model| model["name"].as_str()).collect();
        let of_hub = self.unnamed_hub.as_ref().filter(|_| uri.starts_with("hf://"));
        match (of_hub.or(self.unnamed.as_ref()), &self.unnamed_error) {
            (Some(expected), _) if names != *expected => {
                wrong.push(format!("unnamed: expected {expected:?}: {models:?} {errors}"))
            }
            (None, Some(expected)) if !errors.contains(expected) => {
                wrong.push(format!("unnamed: expected '{expected}': {errors}"))
            }
            (Some(_), _) => wrong.extend(on_demand(uri, &models, variables, &folder.path().to_string_lossy())),
            _ => {}
        }
        wrong
    }
}

/// Whether what is listed of a place loads from there when it is asked for, too.
fn on_demand(uri: &str, listed: &[Value], variables: &[(&str, &str)], cache: &str) -> Option<String> {
    let arguments = ["--model-dir", uri, "--load-on-demand", "--cache", cache];
    let server = Server::start_with(&arguments, variables);
    let known = server.get("/v1/models").json();
    for model in listed.iter().filter(|model| model["error"].is_null()) {
        let name = model["name"].as_str().unwrap_or_default();
        let answer = server.get(&format!("/v2/models/{name}"));
        let outputs = answer.json()["outputs"].clone();
        let loaded = format!("{} FP32[1]", outputs[0]["name"].as_str().unwrap_or_default());
        if model["outputs"] != json!([loaded])
            || !known["models"].as_array().is_some_and(|all| all.contains(&json!(name)))
        {
            return Some(format!("on demand: expected {model}: {known} {}", answer.text()));
        }
    }
    None
}

/// Each layout in turn, several at a time; what is wrong with which.
fn each(layouts: &[Layout], check: impl Fn(&Layout) -> Vec<String> + Sync) -> Vec<String> {
    let (next, wrong) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                while let Some(layout) = layouts.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let found = check(layout);
                    wrong
                        .lock()
                        .expect("whole")
                        .extend(found.into_iter().map(|line| format!("{}: {line}", layout.name)));
                }
            });
        }
    });
    wrong.into_inner().expect("whole")
}

#[test]
fn each_layout_is_served_or_explained_from_a_folder() {
    let layouts = table();
    assert!(layouts.len() >= 30, "{} layouts", layouts.len());
    let wrong = each(&layouts, |layout| {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let place = folder.path().join("place");
        layout.write(&place);
        layout.check(&place.to_string_lossy(), &[], true)
    });
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn each_layout_of_the_hub_is_served_or_explained_from_there() {
    let layouts: Vec<Layout> = table().into_iter().filter(|layout| layout.from == "hub").collect();
    assert!(layouts.len() >= 20, "{} layouts", layouts.len());
    let wrong = each(&layouts, |layout| {
        let repository: Vec<&str> = layout.name.split(['/', ' ', ',']).take(2).collect();
        let repository = repository.join("/");
        let content: BTreeMap<&String, Vec<u8>> =
            layout.files.iter().map(|path| (path, layout.content(path))).collect();
        let entry = |(path, content): (&&String, &Vec<u8>)| json!({"type": "file", "path": path, "size": content.len(), "oid": "0"});
        let tree = Value::from(content.iter().map(entry).collect::<Vec<_>>()).to_string();
        let info = json!({"sha": "c0ffee"}).to_string();
        let paths: Vec<(String, &[u8])> = content
            .iter()
            .map(|(path, content)| (format!("{repository}/resolve/c0ffee/{path}"), content.as_slice()))
            .chain([
                (format!("api/models/{repository}/revision/main"), info.as_bytes()),
                (format!("api/models/{repository}/tree/c0ffee"), tree.as_bytes()),
            ])
            .collect();
        let paths: Vec<(&str, &[u8])> = paths.iter().map(|(path, content)| (path.as_str(), *content)).collect();
        let store = Store::start(&paths);
        layout.check(&format!("hf://{repository}"), &[("HF_ENDPOINT", &store.url(""))], true)
    });
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Writes some of the layouts below a folder, each as its place in the table.
pub(super) fn write_some(folder: &Path) {
    for (place, layout) in table().iter().enumerate().step_by(STEP) {
        layout.write(&folder.join(place.to_string()));
    }
}

/// Checks what [`write_some`] wrote where it lies now.
pub(super) fn check_some(place: &str, variables: &[(&str, &str)]) {
    let some: Vec<(usize, Layout)> = table().into_iter().enumerate().step_by(STEP).collect();
    let wrong: Vec<String> =
        some.iter().flat_map(|(at, layout)| layout.check(&format!("{place}/{at}"), variables, false)).collect();
    assert!(wrong.is_empty(), "{place}: {}", wrong.join("\n"));
}
