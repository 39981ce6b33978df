//! Cases about files: what is told of them, what is loaded, and what is refused and how.

use super::values::{ensure_close, ensure_same, fp32};
use super::{Case, Outcome, Suite, answer, ensure, ensure_error, output};
use crate::{BackendError, Device, Dim, FileSource, LoadOptions, ModelFiles, Signature, Tensors, UnsupportedOperator};

/// A device that no machine has.
const NOWHERE: Device = Device::Cuda(4095);

/// Fixtures that each backend loads.
const LOADABLE: [&str; 12] = [
    "identity_fp32",
    "pair",
    "many",
    "scalar",
    "linear",
    "unnamed",
    "fixed",
    "mixed_rows",
    "sequence",
    "image",
    "default",
    "listed_initializer",
];

pub(super) fn cases() -> Vec<Case> {
    let mut cases = vec![
        Case::new("check names a version and a device", check),
        Case::new("symbols and unnamed dimensions are kept apart", dimensions),
        Case::new("rows are proved from the graph", rows),
        Case::new("an initializer listed among the inputs is no input in file format 3", listed_initializer),
        Case::new("an output without a declared shape gets one", open_output),
        Case::new("an embedded model is the same model", embedded),
        Case::new("external data is read from beside the model", external),
        Case::new("external data outside the model's folder is refused", external_outside),
        Case::new("a device that is not there is Unavailable", device),
        Case::new("a missing file is InvalidModel", missing),
        Case::new("a folder is InvalidModel", folder),
        Case::new("an empty file is InvalidModel", |suite| invalid_bytes(suite, &[])),
        Case::new("a text file is InvalidModel", |suite| invalid_bytes(suite, b"this is not a model")),
        Case::new("a file truncated anywhere is refused", truncated),
        Case::new("a file with a flipped bit is refused or loaded", corrupt),
        Case::new("an unknown operator is named by inspect and refused by load", |suite| {
            unsupported(suite, "unknown_operator", "Frobnicate", "", "puzzle")
        }),
        Case::new("a standard name in a foreign domain is named by inspect and refused by load", |suite| {
            unsupported(suite, "foreign", "Relu", "com.acme", "surprise")
        }),
        Case::new("a sequence as an output is refused", |suite| refused(suite, "sequence_output")),
        Case::new("an operator set from the future is refused", |suite| refused(suite, "future_opset")),
        Case::new("no operator set is refused", |suite| refused(suite, "no_opset")),
        Case::new("an output that nothing makes is refused", |suite| refused(suite, "unmade_output")),
        Case::new("a graph that feeds itself is refused", |suite| refused(suite, "cycle")),
        Case::new("an initializer smaller than its shape is refused", |suite| refused(suite, "lying_size")),
        Case::new("a dimension's name may nest deeply", |suite| suite.load("deep_dimension").map(drop)),
    ];
    cases.extend(
        LOADABLE.map(|name| {
            Case::new(format!("inspect agrees with load: {name}"), move |suite| inspect_agrees(suite, name))
        }),
    );
    cases
}

fn inspect(suite: &Suite<'_>, name: &str) -> Result<crate::ModelInfo, String> {
    suite
        .backend
        .inspect(&suite.files(name), &LoadOptions::default())
        .map_err(|error| format!("inspect {name}.onnx: {error}"))
}

fn check(suite: &Suite<'_>) -> Outcome {
    let available = suite.backend.check().map_err(|error| error.to_string())?;
    ensure(!available.version.is_empty(), || "the version is empty".to_owned())?;
    ensure(available.devices.contains(&Device::Cpu), || format!("the devices are {:?}", available.devices))?;
    ensure(!suite.backend.name().is_empty(), || "the name is empty".to_owned())
}

fn inspect_agrees(suite: &Suite<'_>, name: &str) -> Outcome {
    let info = inspect(suite, name)?;
    let size = std::fs::metadata(suite.fixtures.join(format!("{name}.onnx"))).map_err(|error| error.to_string())?.len();
    ensure(info.size == size, || format!("inspect says {} bytes, the file has {size}", info.size))?;
    ensure(info.opset.is_some(), || "inspect names no operator set".to_owned())?;
    ensure(!info.platform.is_empty(), || "inspect names no platform".to_owned())?;
    ensure(info.unsupported.is_empty(), || format!("inspect finds unsupported: {:?}", info.unsupported))?;
    let model = suite.load(name)?;
    ensure(&info.signature == model.signature(), || {
        format!("inspect says {:?}, load says {:?}", info.signature, model.signature())
    })?;
    ensure(model.device() == &Device::Cpu, || format!("runs on {}; CPU was asked for", model.device()))
}

fn shapes(signature: &Signature) -> Vec<(&str, &[Dim])> {
    let specs = signature.inputs.iter().chain(&signature.outputs);
    specs.map(|spec| (spec.name.as_str(), spec.shape.as_slice())).collect()
}

fn dimensions(suite: &Suite<'_>) -> Outcome {
    let (n, m) = (Dim::Symbol("N".into()), Dim::Symbol("M".into()));
    let pair = inspect(suite, "pair")?.signature;
    let both = [n, m];
    let expected: Vec<(&str, &[Dim])> = ["a", "b", "sum", "difference"].map(|name| (name, both.as_slice())).to_vec();
    ensure(shapes(&pair) == expected, || format!("pair.onnx has {pair:?}"))?;
    let unnamed = inspect(suite, "unnamed")?.signature;
    let (input, output) = ([Dim::Unknown, Dim::Fixed(4)], [Dim::Unknown, Dim::Fixed(3)]);
    ensure(shapes(&unnamed) == [("x", &input[..]), ("y", &output[..])], || format!("unnamed.onnx has {unnamed:?}"))
}

fn rows(suite: &Suite<'_>) -> Outcome {
    for (name, expected) in [
        ("linear", true),
        ("unnamed", true),
        ("many", true),
        ("pair", true),
        ("sequence", true),
        ("image", true),
        ("fixed", false),
        ("scalar", false),
        ("mixed_rows", false),
    ] {
        let given = suite.load(name)?.profile().rows;
        ensure(given.is_proved() == expected, || format!("{name}.onnx: {given:?}; expected proved: {expected}"))?;
        let inspected = inspect(suite, name)?.rows;
        ensure(inspected == given, || format!("{name}.onnx: inspect says {inspected:?}, load says {given:?}"))?;
    }
    Ok(())
}

fn listed_initializer(suite: &Suite<'_>) -> Outcome {
    let signature = inspect(suite, "listed_initializer")?.signature;
    let names: Vec<&str> = signature.inputs.iter().map(|spec| spec.name.as_str()).collect();
    ensure(names == ["x"], || format!("the inputs are {names:?}"))
}

fn open_output(suite: &Suite<'_>) -> Outcome {
    let info = inspect(suite, "open_output")?;
    ensure(info.signature.output("y").is_some_and(|spec| spec.shape.len() == 2), || {
        format!("the outputs are {:?}", info.signature.outputs)
    })?;
    let model = suite.load("open_output")?;
    ensure(&info.signature == model.signature(), || {
        format!("inspect says {:?}, load says {:?}", info.signature, model.signature())
    })
}

fn bytes_of(suite: &Suite<'_>, name: &str) -> Result<Vec<u8>, String> {
    std::fs::read(suite.fixtures.join(format!("{name}.onnx"))).map_err(|error| error.to_string())
}

fn embed(bytes: Vec<u8>) -> ModelFiles {
    ModelFiles { model: FileSource::Embedded { name: "embedded.onnx".to_owned(), bytes: bytes.into() } }
}

fn embedded(suite: &Suite<'_>) -> Outcome {
    let files = embed(bytes_of(suite, "linear")?);
    let model = suite.backend.load(&files, &LoadOptions::default()).map_err(|error| error.to_string())?;
    let mut embedded = model.instance(1).map_err(|error| error.to_string())?;
    for rows in [1, 3] {
        let inputs = Tensors::from_iter([("x", fp32(&[rows, 4], 1)?)]);
        let from_disk = answer(&mut *suite.instance("linear")?, &inputs)?;
        ensure_same(output(&answer(&mut *embedded, &inputs)?, "y")?, output(&from_disk, "y")?)?;
    }
    Ok(())
}

fn external(suite: &Suite<'_>) -> Outcome {
    let x = fp32(&[1, 2], 1)?;
    let given = x.as_slice::<f32>().unwrap_or_default();
    let expected: Vec<f32> = given.iter().zip([10.0, 20.0]).map(|(x, w)| x + w).collect();
    let expected = crate::Tensor::from_slice([1, 2], &expected).map_err(super::values::text)?;
    let answer = answer(&mut *suite.instance("external")?, &Tensors::from_iter([("x", x)]))?;
    ensure_close(output(&answer, "y")?, &expected)
}

fn external_outside(suite: &Suite<'_>) -> Outcome {
    refused(suite, "external_outside")
}

fn device(suite: &Suite<'_>) -> Outcome {
    let options = LoadOptions { device: NOWHERE, ..LoadOptions::default() };
    let result = suite.backend.load(&suite.files("linear"), &options);
    ensure_error(result, "Unavailable", |error| matches!(error, BackendError::Unavailable { .. }))
}

fn is_invalid_model(error: &BackendError) -> bool {
    matches!(error, BackendError::InvalidModel(_))
}

fn ensure_invalid_model(suite: &Suite<'_>, files: &ModelFiles) -> Outcome {
    ensure_error(suite.backend.inspect(files, &LoadOptions::default()), "InvalidModel from inspect", is_invalid_model)?;
    let loaded = suite.backend.load(files, &LoadOptions::default());
    ensure_error(loaded, "InvalidModel from load", is_invalid_model)
}

fn missing(suite: &Suite<'_>) -> Outcome {
    ensure_invalid_model(suite, &suite.files("there_is_no_such_file"))
}

fn folder(suite: &Suite<'_>) -> Outcome {
    ensure_invalid_model(suite, &ModelFiles { model: FileSource::Path(suite.fixtures.to_owned()) })
}

fn invalid_bytes(suite: &Suite<'_>, bytes: &[u8]) -> Outcome {
    ensure_invalid_model(suite, &embed(bytes.to_vec()))
}

fn truncated(suite: &Suite<'_>) -> Outcome {
    let whole = bytes_of(suite, "image")?;
    // Up to the opset import, which stands at the end: without it the rest may still be a graph.
    for len in (1..whole.len() - 16).step_by(whole.len() / 40) {
        let files = embed(whole[..len].to_vec());
        let result = suite.backend.load(&files, &LoadOptions::default());
        ensure_error(result, "InvalidModel", is_invalid_model).map_err(|reason| format!("at {len} bytes: {reason}"))?;
    }
    Ok(())
}

/// Damage that is not seen is no fault of a backend; a panic would be.
fn corrupt(suite: &Suite<'_>) -> Outcome {
    let whole = bytes_of(suite, "image")?;
    for index in (0..whole.len()).step_by(13) {
        let mut bytes = whole.clone();
        bytes[index] ^= 1 << (index % 8);
        let files = embed(bytes);
        let _ = suite.backend.inspect(&files, &LoadOptions::default());
        let _ = suite.backend.load(&files, &LoadOptions::default());
    }
    Ok(())
}

fn unsupported(suite: &Suite<'_>, name: &str, operator: &str, domain: &str, node: &str) -> Outcome {
    let info = inspect(suite, name)?;
    let is_it = |found: &UnsupportedOperator| {
        found.operator == operator && found.domain == domain && found.node == node && !found.reason.is_empty()
    };
    ensure(info.unsupported.iter().any(is_it), || format!("inspect finds {:?}", info.unsupported))?;
    ensure_error(
        suite.try_load(name),
        "Unsupported that names the operator",
        |error| matches!(error, BackendError::Unsupported(text) if text.contains(operator)),
    )
}

fn refused(suite: &Suite<'_>, name: &str) -> Outcome {
    ensure_error(suite.try_load(name), "InvalidModel or Unsupported", |error| {
        matches!(error, BackendError::InvalidModel(_) | BackendError::Unsupported(_))
    })
}
