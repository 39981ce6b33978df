//! ONNX Runtime's own promises: what would end the process, what a caller can make of a graph, what is shared.

mod place;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use corymb_backend_onnxruntime::{OnnxRuntime, Search};
use corymb_core::{
    Backend as _, BackendError, CancelFlag, Device, FileSource, Instance, LoadOptions, Model, ModelFiles, RUN_BYTES,
    RunOptions, Tensor, Tensors,
};

fn files(name: &str) -> ModelFiles {
    ModelFiles { model: FileSource::Path(place::fixtures().join(format!("{name}.onnx"))) }
}

fn load(backend: &OnnxRuntime, name: &str) -> Box<dyn Model> {
    backend.load(&files(name), &LoadOptions::default()).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn instance(backend: &OnnxRuntime, name: &str) -> Box<dyn Instance> {
    load(backend, name).instance(1).expect("an instance")
}

fn try_run(instance: &mut dyn Instance, inputs: Tensors) -> Result<Tensors, BackendError> {
    Ok(instance.run(&[inputs], &RunOptions::default())?.remove(0))
}

fn int64(elements: &[i64]) -> Tensor {
    Tensor::from_slice([elements.len()], elements).expect("a tensor")
}

fn scalar(element: i64) -> Tensor {
    Tensor::from_slice(Vec::new(), &[element]).expect("a tensor")
}

fn fp32(elements: &[f32]) -> Tensor {
    Tensor::from_slice([elements.len()], elements).expect("a tensor")
}

/// Operands of the model `divide`.
fn operands(pairs: &[(i64, i64)]) -> Tensors {
    let wide = |pick: fn(&(i64, i64)) -> i64| pairs.iter().map(pick).collect::<Vec<i64>>();
    let (a, b) = (wide(|pair| pair.0), wide(|pair| pair.1));
    let clamp = |all: &[i64], least: i64| all.iter().map(|&one| one.max(least)).collect::<Vec<i64>>();
    let to_32 = |all: &[i64]| {
        let all = clamp(all, i64::from(i32::MIN));
        let all: Vec<i32> = all.iter().map(|&one| i32::try_from(one).expect("fits")).collect();
        Tensor::from_slice([all.len()], &all).expect("a tensor")
    };
    let to_16 = |all: &[i64]| {
        let all = clamp(all, i64::from(i16::MIN));
        let all: Vec<i16> = all.iter().map(|&one| i16::try_from(one).expect("fits")).collect();
        Tensor::from_slice([all.len()], &all).expect("a tensor")
    };
    Tensors::from_iter([
        ("a64", int64(&a)),
        ("b64", int64(&b)),
        ("a32", to_32(&a)),
        ("b32", to_32(&b)),
        ("a16", to_16(&a)),
        ("b16", to_16(&b)),
    ])
}

/// This test would not fail, it would take the whole process with it.
#[test]
fn the_smallest_integer_divided_by_minus_one_is_answered() {
    let Some(backend) = place::backend() else { return };
    let mut instance = instance(&backend, "divide");
    let pairs = [(i64::MIN, -1), (7, -1), (-7, 2), (7, -2), (0, -1), (i64::MIN, 1), (6, 3)];
    let answer = try_run(&mut *instance, operands(&pairs)).expect("answered");
    let wide = |name: &str| answer.get(name).and_then(Tensor::as_slice::<i64>).expect(name).to_vec();
    let narrow = |name: &str| answer.get(name).and_then(Tensor::as_slice::<i32>).expect(name).to_vec();
    let short = |name: &str| answer.get(name).and_then(Tensor::as_slice::<i16>).expect(name).to_vec();
    // The quotient is cut towards zero, the remainder has the divisor's sign, and what does not fit wraps.
    assert_eq!(wide("quotient64"), [i64::MIN, -7, -3, -3, 0, i64::MIN, 2]);
    assert_eq!(wide("remainder64"), [0, 0, 1, -1, 0, 0, 0]);
    assert_eq!(narrow("quotient32"), [i32::MIN, -7, -3, -3, 0, i32::MIN, 2]);
    assert_eq!(narrow("remainder32"), [0, 0, 1, -1, 0, 0, 0]);
    assert_eq!(short("quotient16"), [i16::MIN, -7, -3, -3, 0, i16::MIN, 2]);
    assert_eq!(short("remainder16"), [0, 0, 1, -1, 0, 0, 0]);
    let ratio = answer.get("ratio").and_then(Tensor::as_slice::<f32>).expect("ratio").to_vec();
    assert_eq!(ratio[1..4], [-7.0, -3.5, -3.5]);

    let error = try_run(&mut *instance, operands(&[(1, 1), (1, 0)])).expect_err("divided by zero");
    assert!(matches!(&error, BackendError::InvalidInput(text) if text.contains("by zero")), "{error:?}");
    try_run(&mut *instance, operands(&[(6, 3)])).expect("the next one is served");
}

#[test]
fn a_division_in_a_branch_is_guarded_by_the_types_of_that_branch() {
    let Some(backend) = place::backend() else { return };
    let mut instance = instance(&backend, "divide_branch");
    let mut answer = |floats: bool| {
        let floats =
            Tensor::new(corymb_core::DType::Bool, Vec::new(), vec![u8::from(floats)].into()).expect("a tensor");
        let inputs = Tensors::from_iter([("floats", floats), ("a", int64(&[i64::MIN, 7])), ("b", int64(&[-1, 2]))]);
        let answer = try_run(&mut *instance, inputs).expect("answered");
        answer.get("y").and_then(Tensor::as_slice::<f32>).expect("y").to_vec()
    };
    assert_eq!(answer(true), [9.223_372e18, 3.5]);
    assert_eq!(answer(false), [-9.223_372e18, 3.0]);
}

#[test]
fn a_division_in_a_function_is_guarded_where_it_takes_integers() {
    let Some(backend) = place::backend() else { return };
    let operands = Tensors::from_iter([("a", int64(&[i64::MIN, 7])), ("b", int64(&[-1, -2]))]);
    let answer = try_run(&mut *instance(&backend, "divide_function"), operands).expect("answered");
    assert_eq!(answer.get("y").and_then(Tensor::as_slice::<i64>), Some(&[i64::MIN, -3][..]));
    let operands = Tensors::from_iter([("a", fp32(&[7.0])), ("b", fp32(&[2.0]))]);
    let answer = try_run(&mut *instance(&backend, "divide_function_float"), operands).expect("answered");
    assert_eq!(answer.get("y").and_then(Tensor::as_slice::<f32>), Some(&[3.5][..]));
}

#[test]
fn what_a_caller_sends_fails_that_request_alone() {
    let Some(backend) = place::backend() else { return };
    let mut lookup = instance(&backend, "lookup");
    for token in [10, -11, i64::MAX] {
        let error = try_run(&mut *lookup, Tensors::from_iter([("token", int64(&[token]))])).expect_err("out of range");
        assert!(matches!(&error, BackendError::InvalidInput(text) if text.contains("Gather")), "{error:?}");
        try_run(&mut *lookup, Tensors::from_iter([("token", int64(&[9]))])).expect("the next one is served");
    }
    let mut count = instance(&backend, "count");
    for limit in [1 << 44, 1 << 62, i64::MAX] {
        let error = try_run(&mut *count, Tensors::from_iter([("limit", scalar(limit))])).expect_err("does not fit");
        let text = error.to_string();
        assert!(!text.contains(".cc") && !text.contains(".h:"), "sources are named: {text}");
        let answer = try_run(&mut *count, Tensors::from_iter([("limit", scalar(3))])).expect("the next one is served");
        assert_eq!(answer.get("numbers").and_then(Tensor::as_slice::<i64>), Some(&[0, 1, 2][..]));
    }
}

#[test]
fn a_run_that_nobody_waits_for_ends_and_the_instance_lives_on() {
    let Some(backend) = place::backend() else { return };
    let mut instance = instance(&backend, "loop");
    let request = |rounds: i64| Tensors::from_iter([("rounds", scalar(rounds)), ("x", fp32(&[1.0]))]);
    let cancel = CancelFlag::new();
    let options = RunOptions { cancel: cancel.clone(), ..RunOptions::default() };
    let begun = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !begun.load(Ordering::SeqCst) {
                std::thread::yield_now();
            }
            std::thread::sleep(Duration::from_millis(50));
            cancel.cancel();
        });
        begun.store(true, Ordering::SeqCst);
        // Hours, if it were not ended.
        let result = instance.run(&[request(1 << 40)], &options);
        assert!(matches!(result, Err(BackendError::Cancelled)), "{result:?}");
    });
    try_run(&mut *instance, request(3)).expect("the next one is served");
}

#[test]
fn an_output_that_is_an_input_or_a_weight_outlives_both() {
    let Some(backend) = place::backend() else { return };
    let mut instance = instance(&backend, "through");
    let elements: Vec<f32> = (0..1000).map(|index| index as f32).collect();
    let answer = try_run(&mut *instance, Tensors::from_iter([("x", fp32(&elements))])).expect("answered");
    drop(instance);
    // Something else takes the place of the input, if it can.
    let others: Vec<Tensor> = (0..64).map(|_| fp32(&vec![-1.0; 1000])).collect();
    let negated: Vec<f32> = elements.iter().map(|element| -element).collect();
    assert_eq!(answer.get("x").and_then(Tensor::as_slice::<f32>), Some(&elements[..]));
    assert_eq!(answer.get("y").and_then(Tensor::as_slice::<f32>), Some(&negated[..]));
    assert_eq!(answer.get("w").and_then(Tensor::as_slice::<f32>), Some(&[1.5, 2.5][..]));
    drop(others);
}

/// Of an operand without elements `Concat` counts the size all the same, and writes nothing there.
#[test]
fn what_others_left_in_memory_is_not_answered() {
    const SIZE: usize = 2000;
    const TOLD: f32 = 777.25;
    let Some(backend) = place::backend() else { return };
    let (mut others, mut joined) = (instance(&backend, "identity_fp32"), instance(&backend, "join"));
    let tensor = |rows: usize, columns: usize, number: f32| {
        Tensor::from_slice([rows, columns], &vec![number; rows * columns]).expect("a tensor")
    };
    for _ in 0..20 {
        try_run(&mut *others, Tensors::from_iter([("x", tensor(SIZE, 2, TOLD))])).expect("answered");
        let given = Tensors::from_iter([("x", tensor(0, SIZE, 0.0)), ("z", tensor(2, SIZE, 1.0))]);
        let Ok(answer) = try_run(&mut *joined, given) else { continue };
        let numbers = answer.get("y").and_then(Tensor::as_slice::<f32>).expect("numbers");
        assert!(!numbers.contains(&TOLD), "of {} numbers some are another's", numbers.len());
    }
}

#[test]
fn maps_are_refused_with_the_way_out() {
    let Some(backend) = place::backend() else { return };
    let inspected = backend.inspect(&files("zipmap"), &LoadOptions::default());
    let unsupported = inspected.expect("a model").unsupported;
    let text = unsupported.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
    assert!(text.contains("'probabilities'") && text.contains("zipmap=False"), "{text}");
    assert!(backend.load(&files("zipmap"), &LoadOptions::default()).is_err());
}

#[test]
fn missing_and_misplaced_weights_are_named() {
    let Some(backend) = place::backend() else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("external.onnx");
    std::fs::copy(place::fixtures().join("external.onnx"), &path).expect("copied");
    let copy = ModelFiles { model: FileSource::Path(path) };
    let error = backend.load(&copy, &LoadOptions::default()).map(drop).expect_err("missing").to_string();
    assert!(error.contains("'w'") && error.contains("external.bin") && !error.contains("/tmp"), "{error}");
    std::fs::write(folder.path().join("external.bin"), [0; 4]).expect("written");
    let error = backend.load(&copy, &LoadOptions::default()).map(drop).expect_err("too short").to_string();
    assert!(error.contains("end beyond 'external.bin', which has 4 bytes"), "{error}");
}

#[test]
fn a_device_is_never_replaced() {
    let Some(backend) = place::backend() else { return };
    for device in [Device::Cuda(4095), Device::CoreMl(7), Device::OpenVino(9)] {
        let options = LoadOptions { device, ..LoadOptions::default() };
        let error = backend.load(&files("linear"), &options).map(drop).expect_err("no such device");
        assert!(
            matches!(&error, BackendError::Unavailable { reason, .. } if reason.contains(&device.to_string())),
            "{error}"
        );
    }
    let all = backend.devices();
    assert!(matches!(all.last(), Some((Device::Cpu, Ok(())))), "{all:?}");
    for (device, outcome) in all {
        assert!(outcome.as_ref().is_ok() || outcome.as_ref().is_err_and(|reason| reason.len() > 20), "{device}");
    }
}

#[test]
fn a_file_that_changed_under_a_loaded_model_is_noticed() {
    let Some(backend) = place::backend() else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("model.onnx");
    std::fs::copy(place::fixtures().join("linear.onnx"), &path).expect("copied");
    let model = backend.load(&ModelFiles { model: FileSource::Path(path.clone()) }, &LoadOptions::default());
    let model = model.expect("loaded");
    model.instance(2).expect("an instance of two threads");
    std::fs::copy(place::fixtures().join("unnamed.onnx"), &path).expect("replaced");
    let error = model.instance(2).map(drop).expect_err("noticed").to_string();
    assert!(error.contains("has changed"), "{error}");
}

#[test]
fn a_second_search_finds_the_library_that_is_loaded() {
    let Some(first) = place::backend() else { return };
    let used = first.searched().iter().find(|place| place.verdict.starts_with("used")).expect("one is used").clone();
    let search = Search { explicit: Some(used.path.clone()), ..Search::default() };
    let again = OnnxRuntime::new(search, RUN_BYTES);
    assert_eq!(again.check().expect("usable").version, first.check().expect("usable").version);
}

/// EfficientNet-Lite0 with stored FP16 weights, as it is served.
#[test]
fn the_flowers_network_answers_alike_alone_and_in_rows() {
    let Some(backend) = place::backend() else { return };
    let path = place::fixtures().join("../../../deploy/models/flowers/model.onnx");
    let files = ModelFiles { model: FileSource::Path(path) };
    let model = backend.load(&files, &LoadOptions::default()).expect("loaded");
    assert!(model.profile().rows.is_proved() && model.profile().batches_pay);
    let mut instance = model.instance(1).expect("an instance");
    let elements: Vec<f32> = (0..3 * 3 * 160 * 160).map(|index| (index as f32 * 0.37).sin()).collect();
    let pixels = Tensor::from_slice([3, 3, 160, 160], &elements).expect("a tensor");
    let row = |index: usize| Tensors::from_iter([("pixels", pixels.slice_rows(index, 1).expect("a row"))]);
    let together = instance.run(&[row(0), row(1), row(2)], &RunOptions::default()).expect("three requests");
    for (index, answer) in together.iter().enumerate() {
        let alone = try_run(&mut *instance, row(index)).expect("one request");
        let alone = alone.get("scores").and_then(Tensor::as_slice::<f32>).expect("scores").to_vec();
        let among = answer.get("scores").and_then(Tensor::as_slice::<f32>).expect("scores");
        assert!((alone.iter().sum::<f32>() - 1.0).abs() < 1e-4, "{alone:?}");
        assert!(alone.iter().zip(among).all(|(a, b)| (a - b).abs() < 1e-4), "{alone:?} {among:?}");
    }
}
