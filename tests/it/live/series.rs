//! Series on the metrics page end with the versions and models that they are of.

use std::collections::BTreeSet;

use serde_json::json;

use super::{eventually, identity, infer, load, put, shown, version};
use crate::harness::{Server, folder};

/// The series of the page that name a model, without their values.
fn series(server: &Server) -> BTreeSet<String> {
    let page = server.get("/metrics").text();
    let lines = page.lines().filter(|line| !line.starts_with('#') && line.contains("model=\""));
    let all: Vec<&str> = lines.filter_map(|line| Some(line.rsplit_once(' ')?.0)).collect();
    let different: BTreeSet<String> = all.iter().map(|line| (*line).to_owned()).collect();
    assert_eq!(different.len(), all.len(), "each series is there once: {page}");
    different
}

#[test]
fn versions_and_models_that_are_gone_leave_no_series() {
    let model = identity();
    let files = folder(&[("stays/m.onnx", &model), ("m/1/m.onnx", &model)]);
    let server = Server::start(&["--model-dir", &shown(files.path()), "--poll", "100ms", "--admin"]);
    let ask_both = || assert_eq!(["stays", "m"].map(|model| infer(&server, model).status), [200, 200]);
    ask_both();
    let before = series(&server);
    assert!(before.iter().any(|line| line.contains("version=\"1\"") && line.contains("corymb_batch_size_count")));
    // By request, and found by looking.
    for number in 2..=6 {
        put(files.path(), &format!("m/{number}/m.onnx"), &model);
        if number % 2 == 0 {
            assert_eq!(load(&server, "m", &json!({})).status, 200);
        }
        eventually("the newer version answers", || version(&server, "m") == number.to_string());
        put(files.path(), &format!("passing/{number}/m.onnx"), &model);
        eventually("another model appears", || infer(&server, "passing").status == 200);
        std::fs::remove_dir_all(files.path().join("passing")).expect("removed");
        eventually("it vanishes", || infer(&server, "passing").status == 404);
    }
    ask_both();
    let now = || -> BTreeSet<String> {
        let renamed = |line: String| line.replace("version=\"6\"", "version=\"1\"");
        series(&server).into_iter().map(renamed).collect()
    };
    eventually("all that is gone has left the page", || now() == before);
}
