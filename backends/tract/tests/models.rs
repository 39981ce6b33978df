//! tract's own promises: what it refuses by name, hostile files, the plans of a real network.

use std::path::{Path, PathBuf};

use corymb_backend_tract::Tract;
use corymb_core::{
    Backend as _, BackendError, FileSource, Instance, LoadOptions, Model, ModelFiles, RunOptions, Tensor, Tensors,
};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/models")
}

fn on_disk(path: impl Into<PathBuf>) -> ModelFiles {
    ModelFiles { model: FileSource::Path(path.into()) }
}

fn embedded(bytes: Vec<u8>) -> ModelFiles {
    ModelFiles { model: FileSource::Embedded { name: "embedded.onnx".to_owned(), bytes: bytes.into() } }
}

fn load(files: &ModelFiles) -> Result<Box<dyn Model>, BackendError> {
    Tract::default().load(files, &LoadOptions::default())
}

fn run(instance: &mut dyn Instance, input: &str, tensor: Tensor) -> Result<Tensors, BackendError> {
    let batch = [Tensors::from_iter([(input, tensor)])];
    Ok(instance.run(&batch, &RunOptions::default())?.remove(0))
}

fn pattern(shape: &[usize]) -> Tensor {
    let count = shape.iter().product::<usize>();
    let elements: Vec<f32> = (0..count).map(|index| (index as f32 * 0.37).sin()).collect();
    Tensor::from_slice(shape, &elements).expect("a tensor")
}

#[test]
fn the_version_is_that_of_the_lock_file() {
    let lock =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../Cargo.lock")).expect("a lock file");
    let version = Tract::default().check().expect("usable").version;
    assert!(lock.contains(&format!("name = \"tract-onnx\"\nversion = \"{version}\"")), "tract {version} is not locked");
}

#[test]
fn what_tract_gets_wrong_is_refused_by_name() {
    for (fixture, operator, node) in [
        ("foreign", "Relu", "surprise"),
        ("reverse_rnn", "RNN", "backwards"),
        ("filled", "ConstantOfShape", "flood"),
        ("sequence_output", "SequenceConstruct", "bundle"),
        ("identity_bytes", "Input", "x"),
        ("future_opset", "Operator set", ""),
    ] {
        let files = on_disk(folder().join(format!("{fixture}.onnx")));
        let unsupported = Tract::default().inspect(&files, &LoadOptions::default()).expect("a model").unsupported;
        let named = unsupported.iter().any(|found| found.operator == operator && found.node == node);
        assert!(named, "{fixture}: {unsupported:?}");
        let error = load(&files).map(drop).expect_err(fixture).to_string();
        assert!(error.contains(operator), "{fixture}: {error}");
    }
}

#[test]
fn damaged_files_never_panic() {
    let paths = std::fs::read_dir(folder()).expect("fixtures").map(|entry| entry.expect("an entry").path());
    for path in paths.filter(|path| path.extension().is_some_and(|extension| extension == "onnx")) {
        let whole = std::fs::read(&path).expect("a file");
        let step = whole.len() / 100 + 1;
        for index in (0..whole.len()).step_by(step) {
            let mut flipped = whole.clone();
            flipped[index] ^= 1 << (index % 8);
            for files in [embedded(flipped), embedded(whole[..index].to_vec())] {
                let _ = Tract::default().inspect(&files, &LoadOptions::default());
                let _ = load(&files);
            }
        }
    }
}

#[test]
fn a_file_that_changed_under_a_loaded_model_is_noticed() {
    let temporary = tempfile::tempdir().expect("a folder");
    let path = temporary.path().join("model.onnx");
    std::fs::copy(folder().join("linear.onnx"), &path).expect("copied");
    let mut instance = load(&on_disk(&path)).expect("loaded").instance(1).expect("an instance");
    run(&mut *instance, "x", pattern(&[2, 4])).expect("the file is read again for two rows");
    std::fs::copy(folder().join("unnamed.onnx"), &path).expect("replaced");
    let error = run(&mut *instance, "x", pattern(&[3, 4])).expect_err("noticed");
    assert!(matches!(&error, BackendError::Failed(text) if text.contains("has changed")), "{error:?}");
    run(&mut *instance, "x", pattern(&[1, 4])).expect("the plans that are there still run");
}

#[test]
fn external_data_of_an_embedded_model_is_refused() {
    let bytes = std::fs::read(folder().join("external.onnx")).expect("a file");
    assert!(matches!(load(&embedded(bytes)), Err(BackendError::Unsupported(_))));
}

/// EfficientNet-Lite0 with stored FP16 weights, as it is served.
#[test]
fn the_flowers_network_answers_alike_alone_and_in_rows() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/models/flowers/model.onnx");
    let model = load(&on_disk(path)).expect("loaded");
    assert!(model.profile().rows.is_proved() && !model.profile().batches_pay);
    let mut instance = model.instance(1).expect("an instance");
    let pixels = pattern(&[3, 3, 160, 160]);
    let together = run(&mut *instance, "pixels", pixels.clone()).expect("three rows");
    let together = together.get("scores").expect("scores");
    assert_eq!(together.shape(), [3, 6]);
    for row in 0..3 {
        let alone = run(&mut *instance, "pixels", pixels.slice_rows(row, 1).expect("a row")).expect("one row");
        let alone = alone.get("scores").and_then(Tensor::as_slice::<f32>).expect("scores").to_vec();
        assert!((alone.iter().sum::<f32>() - 1.0).abs() < 1e-4, "{alone:?}");
        let among = together.slice_rows(row, 1).expect("a row");
        let among = among.as_slice::<f32>().expect("scores");
        assert!(alone.iter().zip(among).all(|(a, b)| (a - b).abs() < 1e-4), "{alone:?} {among:?}");
    }
}
