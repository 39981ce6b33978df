//! Layouts, planned from their names alone.

use super::{Ask, Note, Plan, Step, Texts, step};
use crate::error::RepositoryError;
use crate::store::{Digests, Listing, Object};

fn listing(files: &[(&str, &str)]) -> Listing {
    let object = Object { size: 1, tag: None, digests: Digests::default(), composite: None };
    files.iter().map(|(path, _)| ((*path).to_owned(), object.clone())).collect()
}

/// The plan of these files, given with their texts.
fn plan_of(files: &[(&str, &str)], ask: &Ask<'_>) -> Result<Plan, RepositoryError> {
    let listing = listing(files);
    let mut texts = Texts::new();
    loop {
        match step(&listing, &texts, ask)? {
            Step::Done(plan) => return Ok(plan),
            Step::Read(path) => {
                let text = files.iter().find(|(known, _)| *known == path).expect("it is there").1;
                assert!(texts.insert(path, text.to_owned()).is_none(), "a text is asked for once");
            }
        }
    }
}

fn plan(files: &[(&str, &str)]) -> Result<Plan, RepositoryError> {
    plan_of(files, &Ask::of("m"))
}

/// The model's file of each version.
fn models(files: &[(&str, &str)]) -> Vec<String> {
    let plan = plan(files).unwrap_or_else(|error| panic!("{files:?}: {error}"));
    plan.versions.into_iter().map(|version| version.model.unwrap_or_default()).collect()
}

fn error(files: &[(&str, &str)]) -> String {
    plan(files).expect_err("nothing to serve").to_string()
}

#[test]
fn one_model_is_found_where_people_put_it() {
    for (files, expected) in [
        (&["m.onnx"][..], "m.onnx"),
        (&["model.onnx", "model_quantized.onnx", "config.json"], "model.onnx"),
        // transformers.js and sentence-transformers.
        (&["config.json", "tokenizer.json", "onnx/model.onnx", "onnx/model_fp16.onnx"], "onnx/model.onnx"),
        (&["1_Pooling/config.json", "modules.json", "onnx/model.onnx", "model.safetensors"], "onnx/model.onnx"),
        // An archive's folder, and KServe's initializer around a repository.
        (&["flowers/net.onnx", "flowers/warmup/x.npy"], "flowers/net.onnx"),
        (&["a/b/model.onnx"], "a/b/model.onnx"),
        // What macOS leaves beside files.
        (&["model.onnx", "._model.onnx", "__MACOSX/._model.onnx", ".DS_Store"], "model.onnx"),
        (&["resnet/model.onnx", "__MACOSX/resnet/._model.onnx"], "resnet/model.onnx"),
        // Triton.
        (&["simple/config.pbtxt", "simple/1/model.onnx"], "simple/1/model.onnx"),
        (&["models/simple/1/model.onnx"], "models/simple/1/model.onnx"),
        (&["1/model.onnx/model.onnx", "1/model.onnx/weights"], "1/model.onnx/model.onnx"),
        (&["1/model.onnx/net.onnx"], "1/model.onnx/net.onnx"),
        // Beside versions no file counts.
        (&["1/m.onnx", "2/m.onnx", "old.onnx"], "2/m.onnx"),
        (&["1/m.onnx", "2/m.onnx.part", "old.onnx"], "1/m.onnx"),
        (&["01/m.onnx", "2/readme.txt"], "01/m.onnx"),
    ] {
        let files: Vec<(&str, &str)> = files.iter().map(|path| (*path, "")).collect();
        assert_eq!(models(&files), [expected]);
    }
}

#[test]
fn a_repository_of_huggingface_hub_s_cache_is_one() {
    let files = [
        ("refs/main", "abc\n"),
        ("blobs/x", ""),
        ("snapshots/abc/onnx/model.onnx", ""),
        ("snapshots/abc/onnx/model_q4.onnx", ""),
        ("snapshots/old/onnx/model.onnx", ""),
    ];
    assert_eq!(models(&files), ["snapshots/abc/onnx/model.onnx"]);
    assert!(
        error(&[("refs/main", "gone"), ("blobs/x", ""), ("snapshots/abc/m.onnx", "")]).contains("snapshots: no model")
    );
    assert_eq!(models(&[("refs/v1", "abc"), ("blobs/x", ""), ("snapshots/abc/m.onnx", "")]), ["snapshots/abc/m.onnx"]);
}

#[test]
fn other_servers_words_are_understood() {
    let mlflow = "artifact_path: model\nflavors:\n  onnx:\n    code: null\n    data: net.onnx\n    onnx_version: 1.15.0\n  \
                  python_function:\n    loader_module: mlflow.onnx\n";
    assert_eq!(models(&[("MLmodel", mlflow), ("a.onnx", ""), ("net.onnx", "")]), ["net.onnx"]);
    assert_eq!(
        models(&[("MLmodel", &mlflow.replace("net.onnx", "model.onnx")), ("model.onnx/model.onnx", "")]),
        ["model.onnx/model.onnx"]
    );
    assert_eq!(models(&[("MLmodel", "flavors:\n  onnx: {}"), ("model.onnx", "")]), ["model.onnx"]);
    assert!(error(&[("MLmodel", "flavors:\n  sklearn: {}"), ("a.onnx", "")]).contains("`flavors` has no `onnx`"));
    assert!(error(&[("MLmodel", "flavors: ["), ("a.onnx", "")]).starts_with("MLmodel: "));
    let mlserver =
        r#"{"name": "iris", "implementation": "mlserver_onnx.OnnxModel", "parameters": {"uri": "./net.onnx"}}"#;
    assert_eq!(models(&[("model-settings.json", mlserver), ("a.onnx", ""), ("net.onnx", "")]), ["net.onnx"]);
    let other = r#"{"implementation": "mlserver_sklearn.SKLearnModel", "parameters": {"uri": "m.joblib"}}"#;
    assert!(error(&[("model-settings.json", other), ("m.joblib", "")]).contains("only ONNX models are served"));
    let triton = [("config.pbtxt", "\u{feff}default_model_filename: 'net'"), ("1/net", ""), ("old.onnx", "")];
    assert_eq!(models(&triton), ["1/net"]);
    assert!(plan(&triton).expect("valid").notes.contains(&Note::Stray { file: "old.onnx".to_owned() }));
}

#[test]
fn the_policy_chooses_among_those_that_are_whole() {
    let with = |file: &'static str, text: &'static str| {
        let files = [(file, text), ("1/m.onnx", ""), ("3/m.onnx", ""), ("9/m.onnx.part", "")];
        plan(&files).map(|plan| plan.versions.iter().map(|version| version.number).collect::<Vec<_>>())
    };
    let one = |file, text| with(file, text).map_err(|error| error.to_string());
    assert_eq!(one("model.toml", "[versions]\nall = true"), Ok(vec![1, 3]));
    assert_eq!(one("config.pbtxt", "version_policy { specific { versions: [ 1, 7 ] } }"), Ok(vec![1]));
    let absent = one("config.pbtxt", "version_policy { specific { versions: [ 7 ] } }").expect_err("absent");
    assert!(absent.contains("config.pbtxt: `version_policy.specific.versions` names 7; there are 1, 3, 9"), "{absent}");
    let absent = one("model.toml", "[versions]\nonly = [1, 7]").expect_err("absent");
    assert!(absent.contains("model.toml: `versions.only` names 7"), "{absent}");
    // One that is named must be whole.
    let part = one("model.toml", "[versions]\nonly = [9]").expect_err("not whole");
    assert!(part.contains("9: no model"), "{part}");
    let before = |text: &'static str| {
        let files = [("model.toml", text), ("1/m.onnx", ""), ("3/m.onnx", "")];
        let ask = Ask { before: Some(3), ..Ask::of("m") };
        plan_of(&files, &ask).map(|plan| plan.versions[0].number)
    };
    assert_eq!(before("").expect("valid"), 1);
    assert!(before("[versions]\nonly = [1]").is_err());
}

#[test]
fn a_file_of_the_usual_name_is_the_model_whatever_lies_beside_it() {
    let beside =
        plan(&[("model.onnx", ""), ("onnx/model.onnx", ""), ("onnx/model_quantized.onnx", "")]).expect("valid");
    assert_eq!(beside.versions[0].model.as_deref(), Some("model.onnx"));
    assert_eq!(beside.notes, [Note::Others { folder: String::new(), others: "onnx".to_owned() }]);
    let below = plan(&[("x/model.onnx", ""), ("x/onnx/model.onnx", "")]).expect("valid");
    assert_eq!(below.versions[0].model.as_deref(), Some("x/model.onnx"));
}

#[test]
fn what_cannot_be_decided_is_said() {
    let several = error(&[("a.onnx", ""), ("b.onnx", "")]);
    assert!(
        several.contains("2 .onnx files and none is called model.onnx (a.onnx, b.onnx); choose one by"),
        "{several}"
    );
    let several = error(&[("a/m.onnx", ""), ("x/b/m.onnx", ""), ("x/c/m.onnx", "")]);
    assert!(several.contains("several models lie below it (a, x/b, x/c), of which one is wanted"), "{several}");
    // A file beside a folder is one of them.
    let several = error(&[("net.onnx", ""), ("old/model.onnx", "")]);
    assert!(several.contains("several models lie below it (net.onnx, old)"), "{several}");
    let several = error(&[
        ("refs/main", "c"),
        ("blobs/x", ""),
        ("snapshots/c/text/model.onnx", ""),
        ("snapshots/c/image/model.onnx", ""),
    ]);
    assert!(several.contains("--model NAME=/snapshots/c/image`"), "{several}");
    assert!(error(&[("a/b/c/m.onnx", "")]).contains("no model"));
    assert!(error(&[("1/saved_model.pb", "")]).contains("SavedModel"));
    assert!(
        error(&[("model.toml", "file = 'x.onnx'"), ("m.onnx", "")])
            .contains("x.onnx: no such file, but model.toml names it")
    );
    assert!(
        error(&[("config.pbtxt", "default_model_filename: 'x.onnx'"), ("1/m.onnx", "")])
            .contains("1/x.onnx: no such file, but config.pbtxt names it")
    );
    let sample = "model_warmup { inputs { key: 'x' value { data_type: TYPE_FP32 dims: 1 input_data_file: 'raw' } } }";
    assert!(
        error(&[("config.pbtxt", sample), ("1/m.onnx", "")])
            .contains("warmup/raw: no such file, but config.pbtxt names it")
    );
    for outside in ["../m.onnx", "/m.onnx", ""] {
        let text = format!("file = '{outside}'");
        assert!(error(&[("model.toml", &text), ("m.onnx", "")]).contains("must name a file in the model's own folder"));
    }
}

#[test]
fn checksums_are_of_files_below_the_text_that_states_them() {
    let text = "model_repository_agents { agents { name: 'checksum' parameters { key: 'MD5:1/m.onnx' \
                value: '900150983cd24fb0d6963f7d28e17f72' } } }";
    let plan = plan(&[("s/config.pbtxt", text), ("s/1/m.onnx", "")]).expect("valid");
    assert_eq!(plan.versions[0].checks[0].path, "s/1/m.onnx");
}

#[test]
fn a_checksum_that_versions_share_is_compared_once() {
    let text = "version_policy { all {} } model_repository_agents { agents { name: 'checksum' parameters { key: 'MD5:1/m.onnx' \
                value: '900150983cd24fb0d6963f7d28e17f72' } } }";
    let plan = plan(&[("config.pbtxt", text), ("1/m.onnx", ""), ("2/m.onnx", "")]).expect("valid");
    assert_eq!(plan.versions.iter().map(|version| version.checks.len()).collect::<Vec<_>>(), [1, 0]);
    assert_eq!(plan.checked().collect::<Vec<_>>(), ["1/m.onnx"]);
}

#[test]
fn what_is_said_of_a_version_is_said_once() {
    let files = [
        ("model.toml", "[versions]\nall = true"),
        ("1/model.onnx", ""),
        ("1/other.onnx", ""),
        // Neither is whole.
        ("2/a.txt", ""),
        ("3/a.txt", ""),
    ];
    let plan = plan(&files).expect("valid");
    let others = plan.notes.iter().filter(|note| matches!(note, Note::Others { .. })).count();
    assert_eq!((plan.versions.len(), others, plan.notes.len()), (1, 1, 3), "{:?}", plan.notes);
}
