//! Plugins that misbehave, served by the real binary: each costs its own request and nothing else.

use serde_json::{Value, json};

use crate::harness::{Server, folder, root, run};

fn fixture(path: &str) -> Vec<u8> {
    std::fs::read(root().join("tests/fixtures").join(path)).expect(path)
}

/// A folder with the hostile plugin around a model that answers its input.
fn model() -> tempfile::TempDir {
    folder(&[
        ("model.onnx", &fixture("models/identity_fp32.onnx")),
        ("hostile.wasm", &fixture("plugins/hostile.wasm")),
        ("model.toml", b"[plugin]\nfile = 'hostile.wasm'\n"),
    ])
}

fn request(behaviour: &str, timeout: Option<u64>) -> String {
    let mut parameters = json!({"do": behaviour});
    if let Some(timeout) = timeout {
        parameters["timeout"] = json!(timeout);
    }
    json!({"parameters": parameters, "inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1.0, 2.0]}]})
        .to_string()
}

#[test]
fn a_plugin_that_misbehaves_costs_its_own_request() {
    let model = model();
    let server = Server::start(&["--model", &format!("m={}", model.path().display())]);
    let infer = |behaviour, timeout| {
        server.post("/v2/models/m/infer", "application/json", request(behaviour, timeout).as_bytes())
    };
    // Behaviour, the client's timeout in µs, status, a part of the message.
    for (behaviour, timeout, status, says) in [
        ("loop", Some(100_000), 504, "m"),
        ("loop in host calls", Some(100_000), 504, "m"),
        ("loop in postprocess", Some(100_000), 504, "m"),
        ("grow", None, 500, "memory"),
        ("trap", None, 500, "hostile"),
        ("overflow the stack", None, 500, "hostile"),
        ("flood the handles", None, 500, "hostile"),
        ("large carry", None, 500, "hostile"),
        ("huge carry", None, 500, "hostile"),
        ("answer nothing", None, 500, "hostile"),
        ("answer another dtype", None, 500, "hostile"),
        ("error", None, 404, ""),
    ] {
        let answer = infer(behaviour, timeout);
        assert_eq!(answer.status, status, "{behaviour}: {}", answer.text());
        assert!(answer.error().contains(says), "{behaviour}: {}", answer.text());
        let next = infer("", None);
        assert_eq!(next.status, 200, "after {behaviour}: {}", next.text());
        let y: &Value = &next.json()["outputs"][0]["data"];
        assert_eq!(y, &json!([1.0, 2.0]));
    }
    let page = server.get("/metrics").text();
    let counted = |name: &str| page.lines().any(|line| line.starts_with(name) && !line.ends_with(" 0"));
    assert!(counted("corymb_plugin_traps_total"), "{page}");
    assert!(counted("corymb_plugin_limits_total"), "{page}");
}

#[test]
fn a_forbidden_import_ends_the_start() {
    let model = model();
    std::fs::write(model.path().join("hostile.wasm"), forbidden_import()).expect("written");
    let named = format!("m={}", model.path().display());
    let output = run(&["serve", "--host", "127.0.0.1", "--port", "0", "--model", &named]);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{text}");
    let error = text.lines().last().unwrap_or_default();
    assert!(error.starts_with("error: load model 'm'") && error.contains("wasi:cli/environment"), "{error}");
    assert_eq!(error.matches("wasi:cli/environment").count(), 1, "said once: {error}");
}

/// The smallest component that imports an instance named `wasi:cli/environment@0.2.0`: preamble, a type section with an
/// empty instance type, an import section.
fn forbidden_import() -> Vec<u8> {
    let name = b"wasi:cli/environment@0.2.0";
    let mut component = vec![0x00, 0x61, 0x73, 0x6d, 0x0d, 0x00, 0x01, 0x00];
    component.extend([0x07, 0x03, 0x01, 0x42, 0x00]);
    let import = [&[0x01, 0x00, u8::try_from(name.len()).expect("short")][..], name, &[0x05, 0x00]].concat();
    component.extend([0x0a, u8::try_from(import.len()).expect("short")]);
    component.extend(import);
    component
}

/// Unsigned LEB128, as WebAssembly writes numbers.
fn leb(mut number: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = (number & 0x7f) as u8;
        number >>= 7;
        bytes.push(if number > 0 { low | 0x80 } else { low });
        if number == 0 {
            return bytes;
        }
    }
}

/// What comes behind its length in bytes.
fn sized(content: &[u8]) -> Vec<u8> {
    [leb(content.len()), content.to_vec()].concat()
}

fn section(id: u8, content: &[u8]) -> Vec<u8> {
    [vec![id], sized(content)].concat()
}

/// A component whose core module has `functions` functions of one number each, all of this code, with so many locals more.
fn component(functions: usize, locals: usize, code: &[u8]) -> Vec<u8> {
    let body = sized(&[&[1], &leb(locals)[..], &[0x7f], code, &[0x0b]].concat());
    let module = [
        b"\0asm\x01\0\0\0".to_vec(),
        section(1, &[1, 0x60, 1, 0x7f, 1, 0x7f]),
        section(3, &[leb(functions), vec![0; functions]].concat()),
        section(10, &[leb(functions), body.repeat(functions)].concat()),
    ];
    [b"\0asm\x0d\0\x01\0".to_vec(), section(1, &module.concat()), section(2, &[1, 0, 0, 0])].concat()
}

/// Components that are small and cost a compiler gigabytes or minutes.
fn bombs() -> [(&'static str, Vec<u8>); 4] {
    const GET: &[u8] = &[0x20, 0];
    // A thousand locals that each of 1500 nested loops hands on.
    let add = |local: usize| [&[0x20], &leb(local)[..], &[0x41, 1, 0x6a, 0x21], &leb(local)].concat();
    let added: Vec<u8> = (1..=1000).flat_map(add).collect();
    let loops = [[3, 0x40].repeat(1500), added, [0x20, 0, 0x0d, 0, 0x0b].repeat(1500), GET.to_vec()].concat();
    let nested = [[0x20, 0, 4, 0x40].repeat(1_500_000), vec![0x0b; 1_500_000], GET.to_vec()].concat();
    let targets = [&[2, 0x40, 0x20, 0, 0x0e][..], &leb(1000), &[0; 1001], &[0x0b]].concat().repeat(7000);
    [
        ("loops", component(1, 1000, &loops)),
        ("functions", component(200_000, 0, GET)),
        ("conditions", component(1, 0, &nested)),
        ("tables", component(1, 0, &[&targets[..], GET].concat())),
    ]
}

#[test]
fn what_troubles_the_compiler_is_a_model_that_fails_to_load() {
    let healthy = model();
    let bombs: Vec<_> = bombs()
        .into_iter()
        .map(|(name, bomb)| {
            let model = fixture("models/identity_fp32.onnx");
            let manifest = b"[plugin]\nfile = 'bomb.wasm'\n";
            (name, folder(&[("model.onnx", &model), ("bomb.wasm", &bomb), ("model.toml", manifest)]))
        })
        .collect();
    let named = |name: &str, folder: &tempfile::TempDir| format!("--model={name}={}", folder.path().display());
    let mut arguments = vec!["--keep-going".to_owned(), named("m", &healthy)];
    arguments.extend(bombs.iter().map(|(name, folder)| named(name, folder)));
    let server = Server::start(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
    for (name, _) in &bombs {
        assert_eq!(server.get(&format!("/v2/models/{name}/ready")).status, 503, "{name}");
        let said = server.event(|event| event["model"] == *name && event["level"] == "ERROR").to_string();
        assert!(said.contains("compiling it takes more than the"), "{name}: {said}");
    }
    let answer = server.post("/v2/models/m/infer", "application/json", request("", None).as_bytes());
    assert_eq!(answer.status, 200, "{}", answer.text());
    // In one process with the server they would have taken gigabytes.
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.id())).expect("it lives");
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.parse().ok());
    assert!(peak.is_some_and(|peak: u64| peak < 400 << 10), "{peak:?} KiB");
}
