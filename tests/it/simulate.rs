//! `corymb simulate`: loads of every form, three autoscalers side by side, and what is wrong with a load by its line.

use std::io::Write as _;
use std::process::Stdio;

use serde_json::Value;

use crate::harness::{corymb, folder, run};

fn output(arguments: &[&str]) -> String {
    let output = run(arguments);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{arguments:?}: {text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

fn json(arguments: &[&str]) -> Value {
    serde_json::from_str(&output(arguments)).expect("JSON")
}

const HEY: &str = "response-time,DNS+dialup,DNS,Request-write,Response-delay,Response-read,status-code,offset\n";

/// A hundred seconds of ten requests each, as hey writes them.
fn hey() -> String {
    let rows =
        (0..1000).map(|row| format!("0.0100,0.0001,0.0000,0.0001,0.0090,0.0001,200,{:.4}\n", f64::from(row) / 10.0));
    HEY.to_owned() + &rows.collect::<String>()
}

const SUMMARY: &str = "\nSummary:\n  Total:\t100.0000 secs\n  Slowest:\t0.0500 secs\n  Requests/sec:\t10.0000\n";

/// The same from Prometheus, in two series.
fn matrix() -> String {
    let values: Vec<String> = (0..10).map(|step| format!("[{},\"5\"]", 1_700_000_000 + step * 10)).collect();
    let series = format!("{{\"metric\":{{}},\"values\":[{}]}}", values.join(","));
    format!("{{\"status\":\"success\",\"data\":{{\"resultType\":\"matrix\",\"result\":[{series},{series}]}}}}")
}

#[test]
fn every_form_of_a_load_is_understood() {
    let out = folder(&[
        ("load.csv", b"seconds,rate\n0,10\n100,0\n"),
        ("hey.txt", hey().as_bytes()),
        ("summary", SUMMARY.as_bytes()),
        ("answer.txt", matrix().as_bytes()),
    ]);
    for name in ["load.csv", "hey.txt", "summary", "answer.txt"] {
        let path = out.path().join(name).to_string_lossy().into_owned();
        let arguments = [
            "simulate",
            "--load",
            &path,
            "--service-time",
            "50ms",
            "--target",
            "2",
            "--arrivals",
            "constant",
            "--json",
        ];
        let result = json(&arguments);
        assert_eq!(result["load"]["file"], path.as_str());
        assert_eq!((&result["load"]["seconds"], &result["load"]["requests"]), (&100.0.into(), &1000.into()), "{name}");
        let scalers: Vec<&str> =
            result["outcomes"].as_array().expect("outcomes").iter().filter_map(|one| one["scaler"].as_str()).collect();
        assert_eq!(scalers, ["kpa", "hpa", "keda"]);
    }
}

#[test]
fn a_load_may_come_from_a_pipe() {
    let mut child = corymb(&["simulate", "--load", "-", "--service-time", "50ms", "--target", "2", "--scaler", "hpa"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    child.stdin.take().expect("a pipe").write_all(SUMMARY.as_bytes()).expect("written");
    let output = child.wait_with_output().expect("it ends");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && text.contains("  hpa  ") && !text.contains("  kpa  "), "{text}");
}

#[test]
fn what_is_wrong_with_a_load_is_named_by_its_place() {
    let hey = |row: &str| format!("{HEY}0.01,0,0,0,0.01,0,200,0.5\n{row}\n");
    let cut = matrix().replace("]}]}}", "");
    let negative = matrix().replacen("\"5\"", "\"-5\"", 1);
    let large = "Summary:\n  Total:\t5.0 secs\n  Requests/sec:\t2000000000\n".to_owned();
    let cases: Vec<(String, &str)> = vec![
        ("0,1\n20,1\n10,1\n30,0\n".to_owned(), "line 3 of the trace: 10 s does not come after"),
        ("0,1\n20,-1\n30,0\n".to_owned(), "line 2 of the trace: '20,-1'; expected seconds and a rate from 0 to 1e9"),
        ("0,1\n20,1000000001\n30,0\n".to_owned(), "line 2 of the trace: '20,1000000001'"),
        ("0,1\n20,NaN\n30,0\n".to_owned(), "line 2 of the trace: '20,NaN'"),
        (String::new(), "line 1 of the trace: expected at least two rows"),
        (hey("0.01,0,0,0,0.01,0,200,-3"), "line 3 of the trace: offset is '-3'"),
        (hey("0.01,200"), "line 3 of the trace: 2 columns; expected 8"),
        (large, "line 3 of the trace: a rate of 2000000000; expected 0 to 1e9"),
        (negative, "sample 1 of the trace: '-5'; expected a rate from 0 to 1e9"),
        (cut, "line 1 of the trace: no answer of Prometheus to a range query: EOF"),
        ("{\"data\":{\"resultType\":\"vector\",\"result\":[]}}".to_owned(), "is a vector; expected a matrix"),
        ("0,1\n9000000,0\n".to_owned(), "the trace takes 9000000 s; a simulation has at most 3024000"),
    ];
    for (text, words) in cases {
        let out = folder(&[("load", text.as_bytes())]);
        let path = out.path().join("load").to_string_lossy().into_owned();
        let failed = run(&["simulate", "--load", &path, "--service-time", "50ms"]);
        let error = String::from_utf8_lossy(&failed.stderr).into_owned();
        assert_eq!(failed.status.code(), Some(1), "{words}: {error}");
        assert!(error.starts_with(&format!("error: {path}: ")) && error.contains(words), "{words}: {error}");
    }
}

#[test]
fn mistakes_are_named() {
    let out = folder(&[("load.csv", b"0,10\n100,0\n"), ("empty.json", b"{}")]);
    let path = |name: &str| out.path().join(name).to_string_lossy().into_owned();
    let (load, empty) = (path("load.csv"), path("empty.json"));
    for (arguments, words) in [
        (&["--load", &load][..], "--service-time says it, or --measured"),
        (&["--service-time", "1s"], "--load"),
        (&["--load", "/nowhere", "--service-time", "1s"], "/nowhere: "),
        (&["--load", &load, "--service-time", "1s", "--set", "hpa-tolerence=1"], "did you mean hpa-tolerance?"),
        (
            &["--load", &load, "--service-time", "1s", "--set", "hpa-tolerance=-1"],
            "hpa-tolerance is -1; expected 0 to 10",
        ),
        (&["--load", &load, "--service-time", "1s", "--scaler", "kpa", "--set", "hpa-tolerance=1"], "of --scaler hpa"),
        (&["--load", &load, "--service-time", "1s", "--target", "0.5"], "hpa: target is 0.5; expected 1 or more"),
        (&["--load", &load, "--service-time", "1s", "--scaler", "vpa"], "[possible values: kpa, hpa, keda]"),
        (&["--load", &load, "--service-time", "1s", "--objective", "p42=1s"], "'p42' is unknown"),
        (&["--load", &load, "--service-time", "1s", "--picture", "x.gif"], "ends in .svg or .png"),
        (&["--load", &load, "--measured", &empty], "there is no 'steps'"),
    ] {
        let failed = run(&[&["simulate"], arguments].concat());
        let error = String::from_utf8_lossy(&failed.stderr).into_owned();
        assert!(!failed.status.success() && error.contains(words), "{arguments:?}: {error}");
    }
}

#[test]
fn three_scalers_are_side_by_side_in_a_table_and_a_picture() {
    let out = folder(&[("load.csv", b"0,10\n300,100\n900,10\n1500,0\n")]);
    let path = |name: &str| out.path().join(name).to_string_lossy().into_owned();
    let (load, svg, png) = (path("load.csv"), path("all.svg"), path("all.png"));
    let arguments = [
        "simulate",
        "--load",
        &load,
        "--service-time",
        "lognormal:80ms:300ms",
        "--parallelism",
        "2",
        "--target",
        "1",
        "--objective",
        "p95=400ms",
        "--picture",
        &svg,
        "--picture",
        &png,
    ];
    let table = output(&arguments);
    for words in ["  kpa  ", "  hpa  ", "  keda  ", "kpa: p95 of 400 ms is ", "later or lost"] {
        assert!(table.contains(words), "{words}: {table}");
    }
    let picture = std::fs::read_to_string(&svg).expect("written");
    for words in ["kpa: p50", "hpa: p50", "keda: p50", "requests a second", "ready replicas"] {
        assert!(picture.contains(words), "{words}");
    }
    assert!(std::fs::read(&png).expect("written").starts_with(b"\x89PNG\r\n\x1a\n"));
    let result = json(&[&arguments[..], &["--json"]].concat());
    for outcome in result["outcomes"].as_array().expect("outcomes") {
        let summary = &outcome["summary"];
        assert_eq!((&outcome["model"], &summary["answered"]), (&"events".into(), &summary["requests"]));
        for key in ["p50_ms", "p95_ms", "p99_ms"] {
            assert!(summary["latency"][key].is_number() && summary["lateness"][key].is_number(), "{summary}");
        }
        assert!(summary["pod_seconds"].as_f64().is_some_and(|cost| cost > 1500.0), "{summary}");
        let objective = &summary["objective"];
        assert_eq!((&objective["percentile"], &objective["limit_ms"]), (&"p95".into(), &400.0.into()));
        assert!(objective["met"].is_boolean() && objective["late_share"].is_number(), "{objective}");
        let is_knative = outcome["scaler"] == "kpa";
        assert_eq!(outcome["ticks"].as_array().is_some_and(Vec::is_empty), !is_knative);
        assert_eq!(outcome["syncs"].as_array().map(Vec::len), Some(if is_knative { 0 } else { 100 }));
        assert_eq!(outcome["hpa"]["sync_period"].as_u64(), (!is_knative).then_some(15));
    }
}

#[test]
fn a_replay_of_tune_is_a_simulation_of_knative() {
    let out = folder(&[("load.csv", b"0,10\n60,50\n120,0\n")]);
    let load = out.path().join("load.csv").to_string_lossy().into_owned();
    let flags = [
        "--service-time",
        "exponential:100ms",
        "--parallelism",
        "2",
        "--target",
        "1",
        "--target",
        "3",
        "--set",
        "window=30s",
        "--seed",
        "5",
        "--json",
    ];
    let replayed = json(&[&["tune", "--replay", &load][..], &flags].concat());
    let simulated = json(&[&["simulate", "--scaler", "kpa", "--load", &load][..], &flags].concat());
    assert_eq!(replayed["replays"].as_array().map(Vec::len), Some(2));
    assert_eq!(replayed["replays"], simulated["outcomes"]);
}

#[test]
fn a_day_of_ten_thousand_a_second_is_a_fluid() {
    let out = folder(&[("day.csv", b"0,10000\n86400,0\n")]);
    let load = out.path().join("day.csv").to_string_lossy().into_owned();
    let result = json(&[
        "simulate",
        "--load",
        &load,
        "--service-time",
        "20ms",
        "--parallelism",
        "8",
        "--target",
        "6",
        "--start-replicas",
        "40",
        "--json",
    ]);
    assert_eq!(result["load"]["requests"], 864_000_000);
    for outcome in result["outcomes"].as_array().expect("outcomes") {
        let summary = &outcome["summary"];
        assert_eq!((&outcome["model"], &summary["refused"]), (&"fluid".into(), &0.into()), "{summary}");
        assert!(summary["replicas_mean"].as_f64().is_some_and(|pods| (30.0..60.0).contains(&pods)), "{summary}");
    }
}
