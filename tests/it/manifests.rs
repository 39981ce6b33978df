//! `corymb manifest`: the files of `deploy/` are what it prints, and Knative's and KServe's own code accepts them.

use std::path::PathBuf;
use std::process::Command;

use crate::harness::{root, run, skip};

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

/// The same with everything that can be said.
const FULL: [&str; 20] = [
    "--name",
    "full",
    "--namespace",
    "models",
    "--image",
    "registry.local/corymb:1",
    "--model",
    "gs://b/\"m\": #x",
    "--target",
    "8",
    "--utilization",
    "80",
    "--container-concurrency",
    "16",
    "--min-scale",
    "2",
    "--max-scale",
    "20",
    "--cpu",
    "2",
];

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
fn mistakes_are_refused() {
    for (arguments, words) in [
        (&["knative", "--name", "My_Model"][..], "'My_Model' is no name in Kubernetes"),
        (&["kserve"], "name it by --model"),
        (&["knative", "--min-scale", "9", "--max-scale", "3"], "--min-scale is 9"),
    ] {
        let failed = run(&[&["manifest"], arguments].concat());
        let error = String::from_utf8_lossy(&failed.stderr).into_owned();
        assert!(failed.status.code() == Some(1) && error.contains(words), "{arguments:?}: {error}");
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
        // The last of a flag that is given twice would be an error: what is particular comes without its name.
        let kind: Vec<&str> =
            arguments.iter().copied().take_while(|argument| !["--name", "--target"].contains(argument)).collect();
        std::fs::write(&path, print(&[&kind[..], &FULL].concat())).expect("written");
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
