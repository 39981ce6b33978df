//! A model that serves is loaded anew and something is wrong with it, at each step of a load: whoever asks for it is told what, and
//! those who are served notice nothing.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::json;

use super::{eventually, identity, index, infer, load, put, shown, under_load, unload, version};
use crate::harness::{Server, folder, root};

/// An array of so many FP32 numbers in NumPy's format.
fn npy(count: usize) -> Vec<u8> {
    let header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': (1, {count}), }}");
    let header = format!("{header:<117}\n");
    [b"\x93NUMPY\x01\x00\x76\x00", header.as_bytes(), &vec![0; 4 * count]].concat()
}

/// What is changed in the folder of a model, and what is said of it.
type Fault<'a> = (&'a str, Vec<(&'a str, Vec<u8>)>, &'a str);

fn faults() -> Vec<Fault<'static>> {
    let file = |path: &str| std::fs::read(root().join(path)).expect("it is there");
    let model = |name: &str| vec![("model.onnx", file(&format!("tests/fixtures/models/{name}.onnx")))];
    let manifest = |text: &'static str| vec![("model.toml", text.as_bytes().to_vec())];
    let flowers = file("deploy/models/flowers/flowers.wasm");
    let plugin = |bytes: Vec<u8>| [manifest("[plugin]\nfile = 'p.wasm'"), vec![("p.wasm", bytes)]].concat();
    let half = |mut bytes: Vec<u8>| {
        bytes.truncate(bytes.len() / 2);
        bytes
    };
    vec![
        ("an empty file", vec![("model.onnx", Vec::new())], "model.onnx"),
        ("half a file", vec![("model.onnx", half(identity()))], "model.onnx"),
        ("weights that are absent", model("external"), "external.bin"),
        ("an operator that nobody has", model("unknown_operator"), "cannot run"),
        ("more memory than there is", model("filled"), "ConstantOfShape"),
        ("a typo", manifest("bakend = 'tract'"), "did you mean `backend`?"),
        ("a checksum of other bytes", manifest("sha256 = '00'"), "sha256"),
        ("a backend that is absent", manifest("backend = 'onnxruntime'"), "onnxruntime"),
        ("a device that is absent", manifest("device = 'cuda'"), "cuda"),
        ("labels that are absent", manifest("labels = 'labels.txt'"), "labels.txt"),
        ("a plugin that is absent", manifest("[plugin]\nfile = 'p.wasm'"), "p.wasm"),
        ("a plugin that is none", plugin(b"\0asm?".to_vec()), "plugin p: not a component"),
        ("half a plugin", plugin(half(flowers.clone())), "plugin p: not a component"),
        ("a plugin of another model", plugin(flowers), "expected one of FP32 [?,3,H,W]"),
        ("a sample of another shape", vec![("warmup/x.npy", npy(3))], "warm-up"),
        ("a sample of no input", vec![("warmup/y.npy", npy(2))], "warm-up"),
    ]
}

#[test]
fn whatever_is_wrong_with_a_load_what_serves_goes_on() {
    let files = folder(&[("m/model.onnx", &identity())]);
    let own = files.path().join("m");
    let server = Server::start(&["--model-dir", &shown(files.path()), "--admin", "--onnxruntime", "none"]);
    let mut wrong = BTreeMap::new();
    let (answered, failures) = under_load(&server, "m", |_| {
        for (what, changes, says) in faults() {
            for (name, content) in &changes {
                put(&own, name, content);
            }
            let answer = load(&server, "m", &json!({}));
            let text = answer.text();
            let state = index(&server);
            let [said] = &state[..] else { panic!("{state:?}") };
            let said = said.starts_with("m 1 READY loading it anew failed: ") && said.contains(says);
            if answer.status != 400 || !text.contains(says) || !said {
                wrong.insert(what, format!("{} {text}; {state:?}", answer.status));
            }
            for (name, _) in &changes {
                std::fs::remove_file(own.join(name)).expect("it was put there");
            }
            put(&own, "model.onnx", &identity());
            let _ = std::fs::remove_dir(own.join("warmup"));
        }
        std::fs::remove_file(own.join("model.onnx")).expect("it was there");
        let gone = load(&server, "m", &json!({}));
        assert!(gone.status == 404 && index(&server)[0].contains("no model"), "{} {:?}", gone.text(), index(&server));
        put(&own, "model.onnx", &identity());
        let mended = load(&server, "m", &json!({}));
        assert_eq!((mended.status, index(&server)), (200, vec!["m 1 READY".to_owned()]), "{}", mended.text());
    });
    assert_eq!(failures, Vec::<String>::new(), "after {answered} answers");
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn many_loads_of_one_model_at_once_leave_one() {
    let files = folder(&[("m/1/model.onnx", &identity())]);
    let server = Server::start(&["--model-dir", &shown(files.path()), "--admin", "--onnxruntime", "none"]);
    let (answered, failures) = under_load(&server, "m", |_| {
        std::thread::scope(|scope| {
            for _ in 0..6 {
                scope.spawn(|| {
                    for _ in 0..5 {
                        let loaded = load(&server, "m", &json!({}));
                        assert_eq!(loaded.status, 200, "{}", loaded.text());
                    }
                });
            }
            for number in 2..12 {
                put(files.path(), &format!("m/{number}/model.onnx"), &identity());
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        assert_eq!(load(&server, "m", &json!({})).status, 200);
    });
    assert_eq!(failures, Vec::<String>::new(), "after {answered} answers");
    assert_eq!(version(&server, "m"), "11");
    eventually("one is left", || {
        index(&server).iter().filter(|line| !line.contains("UNAVAILABLE")).collect::<Vec<_>>() == ["m 11 READY"]
    });
}

/// Whoever was taken is answered, whoever comes later is told that it is gone, and nobody waits.
#[test]
fn a_model_is_let_go_while_it_is_asked() {
    let files = folder(&[("m/model.onnx", &identity())]);
    let server = Server::start(&["--model-dir", &shown(files.path()), "--admin", "--onnxruntime", "none"]);
    for _ in 0..20 {
        let (answered, failures) = under_load(&server, "m", |answered| {
            let before = answered.load(Ordering::SeqCst);
            eventually("it is asked", || answered.load(Ordering::SeqCst) > before + 20);
            assert_eq!(unload(&server, "m").status, 200);
            eventually("nobody answers", || infer(&server, "m").status == 404);
        });
        let told = |failure: &String| failure.starts_with("404 ") || failure.starts_with("503 ");
        // One of them may have been told to stop before it asked again.
        assert!(answered > 0 && failures.iter().all(told), "{failures:?}");
        let loaded = load(&server, "m", &json!({}));
        assert_eq!(loaded.status, 200, "{}", loaded.text());
    }
}

/// Under `--poll` nobody asks: the index says it for as long as it is so.
#[test]
fn what_is_wrong_with_a_source_is_said_until_it_is_right() {
    let files = folder(&[("m/model.onnx", &identity()), ("n/model.onnx", &identity())]);
    let server = Server::start(&["--model-dir", &shown(files.path()), "--admin", "--poll", "100ms"]);
    put(files.path(), "m/model.toml", b"bakend = 'tract'");
    let says = |part: &str| index(&server).iter().any(|line| line.starts_with("m 1 READY") && line.contains(part));
    eventually("it is said", || says("did you mean `backend`?"));
    std::thread::sleep(Duration::from_secs(1));
    assert!(says("did you mean `backend`?"), "{:?}", index(&server));
    std::fs::remove_file(files.path().join("m/model.toml")).expect("it was put there");
    eventually("it is no longer so", || index(&server) == ["m 1 READY", "n 1 READY"]);
    assert_eq!(version(&server, "m"), "1");
}
