//! `corymb manifest`: the files of `deploy/` are what it prints, and Knative's and KServe's own code accepts them.

use std::path::PathBuf;
use std::process::Command;

use crate::harness::{Server, root, run, skip};

/// Each file, and what prints it.
const FILES: [(&str, &[&str]); 7] = [
    ("knative/kpa.yaml", &["knative"]),
    ("knative/hpa.yaml", &["knative", "--class", "hpa"]),
    ("knative/keda.yaml", &["knative", "--class", "keda"]),
    ("kserve/runtime.yaml", &["kserve", "--runtime"]),
    ("kserve/knative.yaml", &["kserve", "--name", "my-model", "--model", "gs://my-bucket/my-model"]),
    (
        "kserve/standard.yaml",
        &["kserve", "--mode", "standard", "--name", "my-model", "--model", "gs://my-bucket/my-model"],
    ),
    ("kfserving/flowers.yaml", &["kfserving", "--target", "1"]),
];

/// Everything that can be said.
const FLAGS: [[&str; 2]; 11] = [
    ["--name", "full"],
    ["--namespace", "models"],
    ["--image", "registry.local/corymb:1"],
    ["--model", "gs://b/\"m\": #x"],
    ["--target", "8"],
    ["--utilization", "80"],
    ["--container-concurrency", "16"],
    ["--min-scale", "2"],
    ["--max-scale", "20"],
    ["--cpu", "2"],
    ["--memory", "2Gi"],
];

/// What has no place in a kind, by the last words of what prints it.
fn unheard(arguments: &[&str]) -> &'static [&'static str] {
    match arguments {
        [.., "--runtime"] => &[
            "--name",
            "--namespace",
            "--model",
            "--target",
            "--utilization",
            "--container-concurrency",
            "--min-scale",
            "--max-scale",
        ],
        [_, "--mode", "standard"] => &["--container-concurrency"],
        ["kfserving"] => &["--utilization", "--container-concurrency"],
        _ => &[],
    }
}

/// What prints a kind, without what its file says besides.
fn kind<'a>(arguments: &[&'a str]) -> Vec<&'a str> {
    arguments.iter().copied().take_while(|argument| !["--name", "--target"].contains(argument)).collect()
}

/// With everything that has a place in it.
fn full<'a>(arguments: &[&'a str]) -> Vec<&'a str> {
    let kind = kind(arguments);
    let heard = FLAGS.into_iter().filter(|[flag, _]| !unheard(&kind).contains(flag));
    kind.iter().copied().chain(heard.flatten()).collect()
}

fn print(arguments: &[&str]) -> String {
    let output = run(&[&["manifest"], arguments].concat());
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn what_is_deployed_is_what_is_printed() {
    for (file, arguments) in FILES {
        let path = root().join("deploy").join(file);
        let kept = std::fs::read_to_string(&path).unwrap_or_default();
        let printed = print(arguments);
        assert!(!printed.contains("${"), "{printed}");
        assert_eq!(kept, printed, "corymb manifest {} > deploy/{file}", arguments.join(" "));
    }
}

#[test]
fn what_is_asked_for_is_in_the_manifest_or_refused() {
    for (_, arguments) in FILES {
        let kind = kind(arguments);
        let all = full(arguments);
        for [flag, value] in FLAGS {
            if unheard(&kind).contains(&flag) {
                let needed: &[&str] = if kind.contains(&"standard") { &["--model", "gs://b/m"] } else { &[] };
                let failed = run(&[&["manifest"], &kind[..], needed, &[flag, value]].concat());
                let error = String::from_utf8_lossy(&failed.stderr).into_owned();
                assert!(error.contains(&format!("{flag} has no place in a")), "{kind:?} {flag}: {error}");
                assert!(!failed.status.success());
                continue;
            }
            // Without it the manifest is another one.
            let at = all.iter().position(|argument| *argument == flag).expect("it is said");
            let without = [&all[..at], &all[at + 2..]].concat();
            let needs_model = flag == "--model" && kind.first() == Some(&"kserve");
            assert!(needs_model || print(&all) != print(&without), "{kind:?}: {flag} changes nothing");
        }
    }
}

#[test]
fn what_a_manifest_starts_is_a_server() {
    let model = format!("file://{}", root().join("tests/fixtures/models/identity_fp32.onnx").display());
    for (kind, wanted) in [(&["knative"][..], "mine"), (&["kfserving"], "mine"), (&["kserve", "--runtime"], "here")] {
        let of_service = ["--name", "mine", "--model", &model];
        let printed = print(&[kind, if kind.contains(&"--runtime") { &[] } else { &of_service[..] }].concat());
        let line = printed.lines().find_map(|line| line.trim().strip_prefix("args: ")).expect("arguments");
        // What KServe puts there.
        let line = line.replace("/mnt/models", &model).replace("{{.Name}}", wanted);
        let arguments: Vec<String> = serde_json::from_str(&line).expect("a list");
        let mut arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        assert_eq!(arguments.remove(0), "serve");
        if let Some(at) = arguments.iter().position(|argument| *argument == "--port") {
            assert_eq!(arguments.drain(at..at + 2).collect::<Vec<_>>(), ["--port", "8080"]);
        }
        let server = Server::start(&arguments);
        assert_eq!(server.get(&format!("/v2/models/{wanted}/ready")).status, 200, "{kind:?}");
    }
}

#[test]
fn mistakes_are_refused() {
    for (arguments, words) in [
        (&["knative", "--class", "hpa", "--min-scale", "0"][..], "this class keeps one pod at least"),
        (&["kserve", "--mode", "standard", "--model", "gs://b/m", "--min-scale", "0"], "keeps one pod at least"),
        (&["kserve", "--runtime", "--mode", "standard"], "--mode has no place in a ClusterServingRuntime"),
        (&["knative", "--target", "9", "--container-concurrency", "8"], "expected 0 or at least --target, 9"),
        (&["knative", "--name", "My_Model"], "'My_Model' is no name in Kubernetes"),
        (&["kserve"], "name it by --model"),
        (&["knative", "--min-scale", "9", "--max-scale", "3"], "--min-scale is 9"),
    ] {
        let failed = run(&[&["manifest"], arguments].concat());
        let error = String::from_utf8_lossy(&failed.stderr).into_owned();
        assert!(failed.status.code() == Some(1) && error.contains(words), "{arguments:?}: {error}");
    }
    for (flag, value, words) in [
        ("--cpu", "abc", "expected cores, e.g. 2 or 500m"),
        ("--memory", "512m", "that is 0.512 bytes; expected at least 16Mi"),
        ("--image", "corymb latest", "expected the name of an image"),
    ] {
        for kind in ["knative", "kserve", "kfserving"] {
            let failed = run(&["manifest", kind, flag, value]);
            let error = String::from_utf8_lossy(&failed.stderr).into_owned();
            assert!(failed.status.code() == Some(2) && error.contains(words), "{kind} {flag} {value}: {error}");
        }
    }
}

#[test]
fn the_schemas_and_the_webhooks_of_knative_and_kserve_accept_them() {
    if Command::new("go").arg("version").output().is_err() {
        skip("Go is not there to check manifests against Knative's and KServe's schemas");
        return;
    }
    let out = tempfile::tempdir().expect("a temporary folder");
    let mut files: Vec<PathBuf> = Vec::new();
    for (file, arguments) in FILES {
        files.push(root().join("deploy").join(file));
        let path = out.path().join(format!("full-{}", file.replace('/', "-")));
        std::fs::write(&path, print(&full(arguments))).expect("written");
        files.push(path);
        if arguments.contains(&"--runtime") {
            continue;
        }
        let kind = kind(arguments);
        // Targets below one are for requests that take all of a pod.
        let path = out.path().join(format!("half-{}", file.replace('/', "-")));
        let half = print(&[&kind[..], &["--name", "half", "--model", "gs://b/m", "--target", "0.5"]].concat());
        // The HPA of Knative rounds up.
        let is_whole = arguments.contains(&"--class");
        assert!(is_whole || half.contains("\"0.5\"") || half.contains("value: \"0.35\""), "{half}");
        std::fs::write(&path, half).expect("written");
        files.push(path);
    }
    let checker = out.path().join("check");
    let built = Command::new("go")
        .args(["build", "-o"])
        .arg(&checker)
        .arg(".")
        .current_dir(root().join("tests/manifests"))
        .output()
        .expect("go runs");
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    let checked = Command::new(&checker).args(&files).output().expect("runs");
    let text = format!("{}{}", String::from_utf8_lossy(&checked.stdout), String::from_utf8_lossy(&checked.stderr));
    assert!(checked.status.success(), "{text}");
    assert_eq!(text.lines().filter(|line| line.starts_with("ok ")).count(), files.len(), "{text}");
    // A checker that finds nothing wrong with anything would pass all of the above.
    let broken = [
        ("knative/kpa.yaml", "containerPort: 8080", "containerPort: 8012", "8012"),
        ("knative/kpa.yaml", "dev/target: \"4\"", "dev/target: \"zero\"", "target"),
        ("knative/kpa.yaml", "timeoutSeconds", "timeoutSecond", "timeoutSecond"),
        ("kserve/runtime.yaml", "autoSelect", "autoselect", "autoselect"),
        ("kserve/standard.yaml", "metricNames", "metricName", "metricName"),
        ("kfserving/flowers.yaml", "maxReplicas: 10", "maxReplicas: ten", "maxReplicas"),
        ("kfserving/flowers.yaml", "runAsUser", "runAsUsr", "runAsUsr"),
    ];
    for (index, (file, right, wrong, named)) in broken.into_iter().enumerate() {
        let text = std::fs::read_to_string(root().join("deploy").join(file)).expect("kept");
        assert!(text.contains(right), "{file} has no {right}");
        let path = out.path().join(format!("broken-{index}.yaml"));
        std::fs::write(&path, text.replacen(right, wrong, 1)).expect("written");
        let refused = Command::new(&checker).arg(&path).output().expect("runs");
        let said = format!("{}{}", String::from_utf8_lossy(&refused.stdout), String::from_utf8_lossy(&refused.stderr));
        assert!(!refused.status.success() && said.contains(named), "{file} with {wrong}: {said}");
    }
}
