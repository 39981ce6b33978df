//! `corymb tune`: the sweep against the real server, and the replay of traces.

use std::path::Path;

use serde_json::Value;

use crate::harness::{Server, folder, root, run};

fn output(arguments: &[&str]) -> String {
    let output = run(arguments);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{arguments:?}: {text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

fn shown(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

fn json(arguments: &[&str]) -> Value {
    serde_json::from_str(&output(arguments)).expect("JSON")
}

/// What is recommended was replayed, and holds.
fn holds(told: &Value) {
    assert!(told["replicas"].as_u64().is_some_and(|replicas| replicas >= 1), "{told}");
    let loads: Vec<&str> =
        told["replays"].as_array().expect("replays").iter().filter_map(|replay| replay["load"].as_str()).collect();
    assert_eq!(loads, ["steady", "step", "sawtooth", "poisson"]);
    for replay in told["replays"].as_array().expect("replays") {
        assert_eq!((&replay["oscillates"], &replay["objective_met"]), (&false.into(), &true.into()), "{replay}");
        assert!(replay["pods_min"].is_u64() && replay["pods_max"].is_u64() && replay["p95_ms"].is_f64(), "{replay}");
    }
}

/// What was asked for and what was measured is in the manifest; its line of arguments.
fn serves<'a>(manifest: &'a str, model: &str) -> &'a str {
    for asked in ["image: \"registry.local/corymb:1\"", "cpu: \"500m\"", "memory: \"1Gi\"", "namespace: \"models\""] {
        assert!(manifest.contains(&format!(" {asked}\n")), "{asked}: {manifest}");
    }
    // What was measured is what is served.
    let line = manifest.lines().find_map(|line| line.trim().strip_prefix("args: ")).expect("arguments");
    let served: Vec<String> = serde_json::from_str(line).expect("a list");
    assert_eq!(served, ["serve", "--model", model, "--backend", "tract"]);
    let server = Server::start(&served.iter().skip(1).map(String::as_str).collect::<Vec<_>>());
    assert_eq!(server.get("/v2/models/identity/ready").status, 200);
    line
}

/// What was measured is as good as a server: for a manifest, with the model where it is to be found, and for a trace.
fn measured_before(out: &Path, tuned: &str, told: &Value, line: &str) {
    let path = |name: &str| out.join(name).to_string_lossy().into_owned();
    let read = |path: &str| std::fs::read(path).expect("written");
    std::fs::write(path("tuned.json"), tuned).expect("written");
    let (again, stored) = (path("again.yaml"), path("stored.yaml"));
    let measured = ["tune", "--measured", &path("tuned.json"), "--image", "registry.local/corymb:1", "--manifest"];
    output(&[&measured[..], &[&again]].concat());
    assert!(String::from_utf8_lossy(&read(&again)).contains(line));
    output(&[&measured[..], &[&stored, "--model", "identity=s3://bucket/identity"]].concat());
    let stored = String::from_utf8_lossy(&read(&stored)).into_owned();
    assert!(stored.contains("\"identity=s3://bucket/identity\""), "{stored}");
    let replayed = json(&["tune", "--replay", &path("trace.csv"), "--measured", &path("tuned.json"), "--json"]);
    let outcome = &replayed["replays"][0];
    assert_eq!(outcome["autoscaling"]["target"], told["target"]);
    assert_eq!(outcome["autoscaling"]["container_concurrency"], told["container_concurrency"]);
    // All steps that were measured.
    assert_eq!(outcome["pod"]["service_time"]["curve"].as_array().map(Vec::len), Some(4), "{}", outcome["pod"]);
    // 5 a second for a minute and 50 for another, at random.
    let requests = outcome["summary"]["requests"].as_f64().expect("a number");
    assert!((2700.0..3900.0).contains(&requests), "{requests}");
}

#[test]
fn a_sweep_ends_in_numbers_a_picture_and_a_manifest_and_can_be_replayed() {
    let model = format!("identity={}", root().join("tests/fixtures/models/identity_fp32.onnx").display());
    let out = folder(&[("trace.csv", b"seconds,rate\n0,5\n60,50\n120,0\n")]);
    let [svg, png, yaml] = ["knee.svg", "knee.png", "service.yaml"].map(|name| shown(&out.path().join(name)));
    let tuned = output(&[
        "tune",
        "--model",
        &model,
        "--step",
        "200ms",
        "--warm-up",
        "0s",
        "--max-concurrency",
        "4",
        "--objective",
        "p99=60s",
        "--rate",
        "1000",
        "--picture",
        &svg,
        "--picture",
        &png,
        "--manifest",
        &yaml,
        "--image",
        "registry.local/corymb:1",
        "--cpu",
        "500m",
        "--memory",
        "1Gi",
        "--namespace",
        "models",
        "--backend",
        "tract",
        "--json",
    ]);
    let result: Value = serde_json::from_str(&tuned).expect("JSON");
    // Every step meets that objective, so the knee is where the sweep was told to end.
    let steps: Vec<u64> =
        result["steps"].as_array().expect("steps").iter().filter_map(|step| step["concurrency"].as_u64()).collect();
    assert_eq!(steps, [1, 2, 3, 4]);
    let told = &result["recommendation"];
    assert_eq!(told["knee"], 4);
    holds(told);
    assert_eq!(result["rejected"], Value::Null);
    let (target, limit) = (told["target"].as_f64().expect("a number"), &told["container_concurrency"]);
    assert!(target > 0.0 && limit.as_f64() >= Some(target), "{told}");
    let warnings = told["warnings"].to_string();
    assert!(warnings.contains("may lie beyond it") && !warnings.contains("does not say"), "{warnings}");
    let read = |path: &str| std::fs::read(path).expect("written");
    let picture = String::from_utf8_lossy(&read(&svg)).into_owned();
    assert!(picture.contains("knee: 4") && picture.contains("ready replicas") && picture.contains("sawtooth"));
    assert!(read(&png).starts_with(b"\x89PNG\r\n\x1a\n"));
    let manifest = String::from_utf8_lossy(&read(&yaml)).into_owned();
    for said in [format!("containerConcurrency: {limit}"), format!("autoscaling.knative.dev/target: \"{target}\"")] {
        assert!(manifest.contains(&said), "{said}: {manifest}");
    }
    let line = serves(&manifest, &model);
    measured_before(out.path(), &tuned, told, line);
}

#[test]
fn a_replay_needs_no_server_and_tells_every_tick() {
    let out = folder(&[("trace.csv", b"0,24\n300,0\n500,0\n")]);
    let trace = out.path().join("trace.csv").to_string_lossy().into_owned();
    let svg = out.path().join("replay.svg").to_string_lossy().into_owned();
    let arguments = [
        "tune",
        "--replay",
        &trace,
        "--service-time",
        "200ms",
        "--parallelism",
        "4",
        "--cold-start",
        "1s",
        "--replay-arrivals",
        "constant",
        "--target",
        "1",
        "--picture",
        &svg,
    ];
    let result = json(&[&arguments[..], &["--json"]].concat());
    let outcome = &result["replays"][0];
    let ticks = outcome["ticks"].as_array().expect("ticks");
    let at = |seconds: f64| ticks.iter().rev().find(|tick| tick["t"].as_f64() <= Some(seconds)).expect("a tick");
    // 4.8 in flight at 70 % of 1.
    assert_eq!(at(290.0)["desired"], 7, "{}", at(290.0));
    assert_eq!(at(290.0)["ready"], 7);
    assert_eq!(at(499.0)["replicas"], 0);
    assert!(ticks.iter().all(|tick| tick["stable"].is_number() && tick["panic"].is_number()));
    assert!(outcome["records"].as_array().is_some_and(|records| records.len() >= 300));
    assert_eq!(outcome["summary"]["answered"], 7200);
    assert!(std::fs::read_to_string(&svg).expect("written").contains("replicas"));

    // Several targets are rows of a table; a smaller target costs more pods.
    let table = output(&[&arguments[..], &["--target", "4", "--set", "window=30s"]].concat());
    let rows: Vec<&str> = table.lines().filter(|line| line.contains(" / ")).collect();
    assert_eq!(rows.len(), 3, "{table}");
}

#[test]
fn mistakes_in_a_replay_are_named() {
    let out = folder(&[("bad.csv", b"0,1\n0,2\n"), ("good.csv", b"0,1\n9,0\n")]);
    let path = |name: &str| out.path().join(name).to_string_lossy().into_owned();
    let (bad, good) = (path("bad.csv"), path("good.csv"));
    for (arguments, words) in [
        (&["--replay", &bad, "--service-time", "1s"][..], "line 2 of the trace: 0 s does not come after"),
        (&["--replay", &good, "--service-time", "1s", "--set", "windw=6s"], "did you mean window?"),
        (&["--replay", &good, "--service-time", "1s", "--set", "hpa-tolerance=1"], "it is of --scaler hpa"),
        (&["--replay", &good, "--service-time", "1s", "--set", "window=5s"], "window is 5; expected 6 to 3600"),
        (&["--objective", "p42=1s"], "'p42' is unknown"),
        (&["--picture", "x.gif"], "ends in .svg or .png"),
        (&["--cpu", "2"], "--cpu is of the manifest"),
        (&["--manifest", "x.yaml", "--memory", "512m"], "0.512 bytes"),
        (&["models/mine", "--manifest", "x.yaml"], "models/mine is on this machine"),
        (&["--model", "m=/models/m", "--manifest", "x.yaml"], "/models/m is on this machine"),
        (&["models/mine", "--manifest", "x.yaml", "--image", "mine"], "by its whole path in the image"),
        (&["s3://b/m", "--verify-signature", "k.pem", "--manifest", "x.yaml"], "--verify-signature names a file"),
        (&["--replay", &good, "--service-time", "1s", "--manifest", "x.yaml"], "a manifest is of what was measured"),
    ] {
        let failed = run(&[&["tune"], arguments].concat());
        let error = String::from_utf8_lossy(&failed.stderr).into_owned();
        assert!(!failed.status.success() && error.contains(words), "{arguments:?}: {error}");
    }
}

#[test]
fn a_running_server_does_not_say_where_its_model_is() {
    let model = format!("identity={}", root().join("tests/fixtures/models/identity_fp32.onnx").display());
    let server = Server::start(&["--model", &model]);
    let out = folder(&[]);
    let yaml = out.path().join("service.yaml").to_string_lossy().into_owned();
    let url = server.url("");
    let quick = ["--step", "100ms", "--warm-up", "0s", "--max-concurrency", "1", "--rate", "1000"];
    let tune = [&["tune", &url, "--manifest", &yaml], &quick[..]].concat();
    let failed = run(&tune);
    let error = String::from_utf8_lossy(&failed.stderr).into_owned();
    assert!(!failed.status.success() && error.contains("name it by --model identity=URI"), "{error}");
    // Nothing was measured.
    assert!(!String::from_utf8_lossy(&failed.stdout).contains("in flight"));
    output(&[&tune[..], &["--model", "identity=gs://bucket/model"]].concat());
    let manifest = std::fs::read_to_string(&yaml).expect("written");
    assert!(manifest.contains("args: [\"serve\", \"--model\", \"identity=gs://bucket/model\"]\n"), "{manifest}");
    assert!(manifest.contains("name: \"identity\"\n"), "{manifest}");
}
