//! Devices: whether each works here, by trying.

use std::path::{Path, PathBuf};

use corymb_core::Device;
use corymb_onnx::proto::tensor_shape_proto::{Dimension, dimension::Value as DimValue};
use corymb_onnx::proto::type_proto::{Tensor, Value as TypeValue};
use corymb_onnx::proto::{
    GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorShapeProto, TypeProto, ValueInfoProto, elem, encode,
};

use crate::fault;
use crate::library::Library;
use crate::providers::is_built_in;
use crate::session::{Asked, Recipe, Source};
use crate::weights::Weights;

/// Accelerators, best first. `Device`s carry the index that is tried: the first.
const ACCELERATORS: [Device; 6] = [
    Device::TensorRt(0),
    Device::Cuda(0),
    Device::MiGraphX(0),
    Device::OpenVino(0),
    Device::CoreMl(0),
    Device::DirectMl(0),
];

/// What is said of a provider that the library was built without.
pub(crate) fn how_to_get(device: Device) -> &'static str {
    match device {
        Device::Cuda(_) | Device::TensorRt(_) => {
            "install `pip install onnxruntime-gpu[cuda,cudnn]` in place of onnxruntime"
        }
        Device::OpenVino(_) => "install `pip install onnxruntime-openvino` in place of onnxruntime",
        Device::MiGraphX(_) => "install AMD's build `onnxruntime-migraphx` in place of onnxruntime",
        Device::CoreMl(_) => "Core ML is in the builds for macOS",
        Device::DirectMl(_) => "install `pip install onnxruntime-directml` in place of onnxruntime, on Windows",
        Device::Cpu => "every build has it",
    }
}

/// Tries every kind of device, best first; the processor last.
pub(crate) fn probe(library: &Library) -> Vec<(Device, Result<(), String>)> {
    let all = ACCELERATORS.into_iter().chain([Device::Cpu]);
    all.map(|device| (device, works(library, device))).collect()
}

/// Runs a graph of one addition on the device, or says why that fails.
pub(crate) fn works(library: &Library, device: Device) -> Result<(), String> {
    if !is_built_in(device) {
        let (path, kind) = (library.path.display(), device.kind());
        return Err(format!("{path} has no {kind} provider"));
    }
    if matches!(device, Device::Cuda(_) | Device::TensorRt(_)) {
        preload(&library.path);
    }
    let (weights, source) = (Weights::default(), Source::Memory(bytes::Bytes::new()));
    let asked = Asked::default();
    let recipe = Recipe { library: library.clone(), device, weights, source, few_shapes: true, asked };
    let attempt = recipe.session_of(&encode(&addition()), 1).and_then(|mut session| {
        let one = ort::value::Tensor::from_array(([1_usize], vec![1.0_f32]))?;
        let outputs = session.run(ort::inputs![one])?;
        let (_, sum) = outputs[0].try_extract_tensor::<f32>()?;
        if sum == [2.0] { Ok(()) } else { Err(ort::Error::new(format!("it says that 1 + 1 is {sum:?}"))) }
    });
    attempt.map_err(|error| why(device, &fault::reason(error.message())))
}

/// What an execution provider's refusal means, where that is known.
pub(crate) fn why(device: Device, reason: &str) -> String {
    let kind = device.kind();
    let missing = reason
        .split_once(": cannot open shared object file")
        .and_then(|(before, _)| before.rsplit([' ', ':', '\'', '"']).find(|word| word.contains(".so")));
    if missing.is_some_and(|name| name.starts_with("libcuda.so")) {
        return "there is no NVIDIA driver here (libcuda.so.1 is missing)".to_owned();
    }
    if let Some(name) = missing {
        return format!("{name} is missing, which {kind} needs");
    }
    if reason.contains("no CUDA-capable device") {
        return "no NVIDIA GPU is visible here".to_owned();
    }
    if reason.contains("invalid device ordinal") || reason.contains("device ordinal") {
        let index = device.index().unwrap_or(0);
        return format!("there is no device {kind}:{index}; the first one is {kind}:0");
    }
    reason.to_owned()
}

/// y = x + x on one float.
fn addition() -> ModelProto {
    let value = |name: &str| {
        let dim = Dimension { value: Some(DimValue::DimValue(1)), ..Dimension::default() };
        let shape = Some(TensorShapeProto { dim: vec![dim] });
        let tensor = TypeValue::TensorType(Tensor { elem_type: elem::FLOAT, shape });
        let r#type = Some(TypeProto { value: Some(tensor), ..TypeProto::default() });
        ValueInfoProto { name: name.to_owned(), r#type, ..ValueInfoProto::default() }
    };
    let node = NodeProto {
        op_type: "Add".to_owned(),
        input: vec!["x".to_owned(), "x".to_owned()],
        output: vec!["y".to_owned()],
        ..NodeProto::default()
    };
    let graph = GraphProto {
        name: "probe".to_owned(),
        node: vec![node],
        input: vec![value("x")],
        output: vec![value("y")],
        ..GraphProto::default()
    };
    let opset_import = vec![OperatorSetIdProto { version: 13, ..OperatorSetIdProto::default() }];
    ModelProto { ir_version: 7, opset_import, graph: Some(graph), ..ModelProto::default() }
}

/// Loads NVIDIA's libraries where pip put them beside the wheel, since the dynamic linker does not look there:
/// `site-packages/nvidia/*/lib`. Failures show when the provider is loaded.
fn preload(library: &Path) {
    // site-packages/onnxruntime/capi/libonnxruntime.so
    let Some(nvidia) = library.ancestors().nth(3).map(|site| site.join("nvidia")) else { return };
    let Ok(packages) = nvidia.read_dir() else { return };
    let mut left: Vec<PathBuf> = packages
        .flatten()
        .filter_map(|package| package.path().join("lib").read_dir().ok())
        .flat_map(|files| files.flatten().map(|file| file.path()))
        .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().contains(".so.")))
        .collect();
    left.sort();
    // They need each other in no particular order: go round until nothing more loads.
    loop {
        let before = left.len();
        left.retain(|path| ort::util::preload_dylib(path).is_err());
        if left.is_empty() || left.len() == before {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_explained() {
        let cuda = Device::Cuda(3);
        let missing = "Failed to load library libonnxruntime_providers_cuda.so with error: libcublasLt.so.13: cannot open \
            shared object file: No such file or directory";
        assert!(why(cuda, missing).starts_with("libcublasLt.so.13 is missing, which cuda needs"));
        assert!(why(cuda, &missing.replace("libcublasLt.so.13", "libcuda.so.1")).contains("no NVIDIA driver"));
        assert_eq!(
            why(cuda, "CUDA failure 101: invalid device ordinal"),
            "there is no device cuda:3; the first one is cuda:0"
        );
        assert_eq!(why(cuda, "something else"), "something else");
    }
}
