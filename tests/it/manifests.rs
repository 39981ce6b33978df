//! `corymb manifest`: the files of `deploy/` are what it prints, and Kubernetes', Knative's and KServe's own code accepts them.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::harness::{Server, corymb, root, run, run_command, skip};

const MODEL: [&str; 4] = ["--name", "my-model", "--model", "gs://my-bucket/my-model"];
const NAMESPACE: [&str; 2] = ["--namespace", "models"];

/// A kind of manifest.
struct Kind {
    /// What prints it.
    print: &'static [&'static str],
    /// Its file in `deploy/`, if there is one, and what prints that besides.
    file: Option<(&'static str, &'static [&'static [&'static str]])>,
    /// The flags that it cannot be printed without.
    needs: &'static [&'static str],
    /// The flags that have no place in it.
    unheard: &'static [&'static [&'static str]],
}

/// Knative's autoscaler alone has these.
const KPA_ALONE: &[&str] = &["--panic-window-percentage", "--panic-threshold-percentage", "--target-burst-capacity"];
const SCALING: &[&str] = &["--target", "--utilization", "--min-scale", "--max-scale", "--window", "--scale-down-delay"];

const KINDS: [Kind; 11] = [
    Kind { print: &["knative"], file: Some(("knative/kpa.yaml", &[])), needs: &[], unheard: &[] },
    Kind {
        print: &["knative", "--class", "hpa"],
        file: Some(("knative/hpa.yaml", &[])),
        needs: &[],
        unheard: &[KPA_ALONE, &["--scale-down-delay", "--window"]],
    },
    Kind {
        print: &["knative", "--class", "keda"],
        file: Some(("knative/keda.yaml", &[&NAMESPACE])),
        needs: &["--namespace"],
        unheard: &[KPA_ALONE, &["--scale-down-delay"]],
    },
    Kind {
        print: &["kserve", "--runtime"],
        file: Some(("kserve/runtime.yaml", &[])),
        needs: &[],
        unheard: &[
            KPA_ALONE,
            SCALING,
            &["--name", "--namespace", "--model", "--container-concurrency", "--service-account"],
        ],
    },
    Kind {
        print: &["kserve"],
        file: Some(("kserve/knative.yaml", &[&MODEL])),
        needs: &["--model"],
        unheard: &[&["--cache-claim"]],
    },
    Kind {
        print: &["kserve", "--mode", "standard"],
        file: Some(("kserve/standard.yaml", &[&MODEL])),
        needs: &["--model"],
        unheard: &[KPA_ALONE, &["--container-concurrency", "--window", "--cache-claim"]],
    },
    Kind {
        print: &["kserve", "--mode", "standard", "--prometheus", "http://prometheus.observability.svc:9090"],
        file: Some(("kserve/standard-prometheus.yaml", &[&MODEL, &NAMESPACE])),
        needs: &["--model", "--namespace"],
        unheard: &[KPA_ALONE, &["--container-concurrency", "--cache-claim"]],
    },
    Kind {
        print: &["kserve", "--mode", "standard", "--autoscaler", "hpa"],
        file: Some(("kserve/standard-hpa.yaml", &[&MODEL])),
        needs: &["--model"],
        unheard: &[KPA_ALONE, &["--container-concurrency", "--window", "--cache-claim"]],
    },
    Kind {
        print: &["kfserving"],
        file: Some(("kfserving/flowers.yaml", &[&["--target", "1"]])),
        needs: &[],
        unheard: &[KPA_ALONE, &["--utilization", "--container-concurrency", "--scale-down-delay", "--cache-claim"]],
    },
    Kind {
        print: &["kubernetes"],
        file: Some(("kubernetes/hpa.yaml", &[&MODEL])),
        needs: &[],
        unheard: &[KPA_ALONE, &["--container-concurrency", "--window"]],
    },
    Kind {
        print: &["kubernetes", "--autoscaler", "keda"],
        file: Some(("kubernetes/keda.yaml", &[&MODEL, &NAMESPACE])),
        needs: &["--namespace"],
        unheard: &[KPA_ALONE, &["--container-concurrency"]],
    },
];

/// A Deployment that nobody scales has no file of its own.
const UNSCALED: Kind = Kind {
    print: &["kubernetes", "--autoscaler", "none"],
    file: None,
    needs: &[],
    unheard: &[
        KPA_ALONE,
        &["--target", "--utilization", "--max-scale", "--window", "--scale-down-delay", "--container-concurrency"],
    ],
};

/// The alerts are in `deploy/` as a file of Prometheus' own.
const RULES: Kind = Kind {
    print: &["kubernetes", "--rules"],
    file: None,
    needs: &[],
    unheard: &[
        KPA_ALONE,
        SCALING,
        &[
            "--image",
            "--model",
            "--container-concurrency",
            "--cpu",
            "--cpu-limit",
            "--memory",
            "--memory-limit",
            "--gpu",
        ],
        &["--service-account", "--env", "--cache-claim"],
    ],
};

fn kinds() -> impl Iterator<Item = &'static Kind> {
    KINDS.iter().chain([&UNSCALED, &RULES])
}

/// Everything that can be said.
const FLAGS: [[&str; 2]; 22] = [
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
    ["--cpu-limit", "2500m"],
    ["--memory", "2Gi"],
    ["--memory-limit", "3G"],
    ["--gpu", "1"],
    ["--service-account", "models.reader"],
    ["--env", "AWS_REGION=eu-central-1: \"a\" #b"],
    ["--cache-claim", "shared"],
    ["--window", "45s"],
    ["--panic-window-percentage", "20"],
    ["--panic-threshold-percentage", "300"],
    ["--target-burst-capacity", "-1"],
    ["--scale-down-delay", "2m"],
];

impl Kind {
    fn hears(&self, flag: &str) -> bool {
        !self.unheard.iter().any(|flags| flags.contains(&flag))
    }

    /// What its file is printed by.
    fn of_file(&self) -> Option<(&'static str, Vec<&'static str>)> {
        let (file, besides) = self.file?;
        Some((file, self.print.iter().chain(besides.iter().flat_map(|flags| flags.iter())).copied().collect()))
    }

    /// With everything that has a place in it.
    fn full(&self) -> Vec<&'static str> {
        let heard = FLAGS.into_iter().filter(|[flag, _]| self.hears(flag));
        self.print.iter().copied().chain(heard.flatten()).collect()
    }

    /// With what it cannot be printed without.
    fn least(&self) -> Vec<&'static str> {
        let needed = FLAGS.into_iter().filter(|[flag, _]| self.needs.contains(flag));
        self.print.iter().copied().chain(needed.flatten()).collect()
    }
}

fn print(arguments: &[&str]) -> String {
    let output = run(&[&["manifest"], arguments].concat());
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn what_is_deployed_is_what_is_printed() {
    let is_writing = std::env::var_os("CORYMB_WRITE_MANIFESTS").is_some();
    for (file, arguments) in kinds().filter_map(Kind::of_file) {
        let path = root().join("deploy").join(file);
        let printed = print(&arguments);
        assert!(!printed.contains("${"), "{printed}");
        if is_writing {
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
            std::fs::write(&path, &printed).expect("written");
        }
        let kept = std::fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(kept, printed, "corymb manifest {} > deploy/{file}", arguments.join(" "));
    }
}

#[test]
fn what_is_asked_for_is_in_the_manifest_or_refused() {
    for kind in kinds() {
        let all = kind.full();
        let printed = print(&all);
        for [flag, value] in FLAGS {
            if !kind.hears(flag) {
                let failed = run(&[&["manifest"], &kind.least()[..], &[flag, value]].concat());
                let error = String::from_utf8_lossy(&failed.stderr).into_owned();
                assert!(error.contains(&format!("{flag} has no place in a")), "{:?} {flag}: {error}", kind.print);
                assert!(!failed.status.success());
                continue;
            }
            // Without it the manifest is another one, or there is none.
            let at = all.iter().position(|argument| *argument == flag).expect("it is said");
            let without = [&all[..at], &all[at + 2..]].concat();
            if kind.needs.contains(&flag) {
                let failed = run(&[&["manifest"], &without[..]].concat());
                assert!(
                    !failed.status.success() && String::from_utf8_lossy(&failed.stderr).contains(flag),
                    "{:?} {flag}",
                    kind.print
                );
            } else {
                assert!(printed != print(&without), "{:?}: {flag} changes nothing", kind.print);
            }
        }
    }
}

/// The arguments of the container whose line is `index`th in a manifest.
fn arguments(printed: &str, index: usize) -> Vec<String> {
    let lines = printed.lines().filter_map(|line| line.trim().strip_prefix("args: "));
    serde_json::from_str(lines.into_iter().nth(index).expect("arguments")).expect("a list")
}

#[test]
fn what_a_manifest_starts_is_a_server() {
    let model = format!("file://{}", root().join("tests/fixtures/models/identity_fp32.onnx").display());
    for (kind, wanted) in [
        (&["knative"][..], "mine"),
        (&["kfserving"], "mine"),
        (&["kubernetes"], "mine"),
        (&["kserve", "--runtime"], "here"),
    ] {
        let of_service = ["--name", "mine", "--model", &model];
        let printed = print(&[kind, if kind.contains(&"--runtime") { &[] } else { &of_service[..] }].concat());
        // What KServe puts there.
        let arguments: Vec<String> = arguments(&printed, 0)
            .into_iter()
            .map(|argument| argument.replace("/mnt/models", &model).replace("{{.Name}}", wanted))
            .collect();
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
fn after_the_step_that_fills_the_claim_no_pod_compiles() {
    let model = format!("file://{}", crate::harness::flowers().display());
    let printed = print(&["kubernetes", "--name", "mine", "--model", &model, "--cache-claim", "shared"]);
    let [pod, job] = [0, 1].map(|index| arguments(&printed, index));
    let cache = tempfile::tempdir().expect("a temporary folder");
    let cache = cache.path().join("cache");
    let cache = cache.to_str().expect("UTF-8");
    for wanted in ["is compiled", "was compiled already"] {
        let job: Vec<&str> = job.iter().map(String::as_str).collect();
        let mut command = corymb(&job);
        command.env("CORYMB_CACHE", cache);
        let output = run_command(command);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success() && said.contains(wanted), "{said}{}", String::from_utf8_lossy(&output.stderr));
    }
    assert_eq!(pod[0], "serve");
    let pod: Vec<&str> = pod[1..].iter().map(String::as_str).collect();
    let server = Server::start_with(&pod, &[("CORYMB_CACHE", cache)]);
    let loaded = server.event(|event| event["message"] == "plugin loaded");
    assert_eq!(loaded["precompiled"], true, "{loaded}");
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
        (&["knative", "--metric", "rps"], "--metric rps needs --target"),
        (&["knative", "--metric", "saturation"], "counts requests, and knows nothing else"),
        (&["knative", "--class", "keda"], "name it by --namespace"),
        (&["knative", "--window", "5s"], "--window is 5s; expected whole seconds, 6s to 1h"),
        (&["knative", "--cpu", "2", "--cpu-limit", "1"], "--cpu-limit is 1; expected at least --cpu, 2"),
        (&["knative", "--env", "CORYMB_CACHE=/x"], "the manifest sets it"),
        (&["kserve", "--model", "gs://b/m", "--autoscaler", "hpa"], "is of the standard mode"),
        (&["kubernetes", "--max-scale", "0"], "an HPA needs a bound"),
        (&["kserve", "--mode", "standard", "--model", "gs://b/m", "--max-scale", "0"], "needs a bound"),
        (&["kserve", "--model", "az://a/c/m"], "KServe fetches gs://"),
        (&["kserve", "--model", "gs://b/m", "--cpu-limit", "none"], "gives a service without a limit its own"),
        (&["kubernetes", "--model", "pvc://c/m"], "Corymb fetches gs://"),
        (&["kubernetes", "--env", "POD_NAMESPACE=x"], "the manifest sets it"),
        (&["kubernetes", "--autoscaler", "keda", "--namespace", "a", "--window", "10s"], "need 15s at least"),
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
fn what_a_cluster_would_check_accepts_them() {
    if Command::new("go").arg("version").output().is_err() {
        skip("Go is not there to check manifests against Knative's and KServe's schemas");
        return;
    }
    let out = tempfile::tempdir().expect("a temporary folder");
    let mut files: Vec<PathBuf> = Vec::new();
    for (index, kind) in kinds().enumerate() {
        files.extend(kind.of_file().map(|(file, _)| root().join("deploy").join(file)));
        let mut check = |name: &str, text: String| {
            let path = out.path().join(format!("{name}-{index}.yaml"));
            std::fs::write(&path, text).expect("written");
            files.push(path);
        };
        check("full", print(&kind.full()));
        if !kind.hears("--target") {
            continue;
        }
        // Targets below one are for requests that take all of a pod.
        let least = kind.least();
        let half = [&least[..], &["--target", "0.5"]].concat();
        if kind.print.contains(&"--class") {
            // What Knative would cut to a whole number is not what was asked for.
            let refused = run(&[&["manifest"], &half[..]].concat());
            let error = String::from_utf8_lossy(&refused.stderr).into_owned();
            assert!(!refused.status.success() && error.contains("kept at 0.35"), "{error}");
        } else {
            let half = print(&half);
            assert!(half.contains("\"0.5\"") || half.contains("\"0.35\""), "{half}");
            check("half", half);
        }
        // KServe's collector sends on requests in flight alone, and KFServing's Knative counts nothing else.
        if kind.print != ["kserve", "--mode", "standard"] && kind.print != ["kfserving"] {
            check("rps", print(&[&least[..], &["--metric", "rps", "--target", "50"]].concat()));
        }
    }
    files.push(root().join("deploy/telemetry/podmonitor.yaml"));
    let checker = checker(out.path());
    let checked = Command::new(&checker).args(&files).output().expect("runs");
    let text = format!("{}{}", String::from_utf8_lossy(&checked.stdout), String::from_utf8_lossy(&checked.stderr));
    assert!(checked.status.success(), "{text}");
    assert_eq!(text.lines().filter(|line| line.starts_with("ok ")).count(), files.len(), "{text}");
}

/// The program in `tests/manifests`.
fn checker(out: &Path) -> PathBuf {
    let checker = out.join("check");
    let built = Command::new("go")
        .args(["build", "-o"])
        .arg(&checker)
        .arg(".")
        .current_dir(root().join("tests/manifests"))
        .output()
        .expect("go runs");
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    checker
}

/// A checker that finds nothing wrong with anything would pass all of the above.
#[test]
fn what_a_cluster_would_refuse_is_refused() {
    if Command::new("go").arg("version").output().is_err() {
        return skip("Go is not there to check manifests as a cluster does");
    }
    let out = tempfile::tempdir().expect("a temporary folder");
    let checker = checker(out.path());
    let broken = [
        ("knative/kpa.yaml", "containerPort: 8080", "containerPort: 8012", "8012"),
        ("knative/kpa.yaml", "dev/target: \"4\"", "dev/target: \"zero\"", "target"),
        ("knative/kpa.yaml", "timeoutSeconds", "timeoutSecond", "timeoutSecond"),
        ("kserve/runtime.yaml", "autoSelect", "autoselect", "autoselect"),
        ("kserve/standard.yaml", "metricNames", "metricName", "metricName"),
        ("kfserving/flowers.yaml", "maxReplicas: 10", "maxReplicas: ten", "maxReplicas"),
        ("kfserving/flowers.yaml", "runAsUser", "runAsUsr", "runAsUsr"),
        ("kubernetes/hpa.yaml", "maxUnavailable: 0", "maxUnavailable: many", "maxUnavailable"),
        ("kubernetes/hpa.yaml", "periodSeconds: 2", "periodSeconds: -2", "periodSeconds"),
        ("kubernetes/hpa.yaml", "minReplicas: 1", "minReplicas: 11", "maxReplicas"),
        ("kubernetes/hpa.yaml", "          readinessProbe", "          readinesProbe", "readinesProbe"),
        (
            "kubernetes/hpa.yaml",
            "  selector:\n    app.kubernetes.io/name: corymb",
            "  selector:\n    app.kubernetes.io/name: coryb",
            "do not have",
        ),
        ("kubernetes/keda.yaml", "scaleTargetRef", "scaleTarget", "scaleTarget"),
        ("telemetry/podmonitor.yaml", "sourceLabels", "source_labels", "source_labels"),
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
