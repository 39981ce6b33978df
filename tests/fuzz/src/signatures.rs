//! The signatures that REST requests are decoded by.

use std::sync::LazyLock;

use corymb_core::{DType, Dim, Signature, Tensor, TensorSpec, Tensors};

/// Each has outputs like its inputs, so that what a request brings can be answered.
pub(crate) static SIGNATURES: LazyLock<Vec<Signature>> = LazyLock::new(|| {
    let mut inputs: Vec<Vec<TensorSpec>> =
        DType::ALL.into_iter().map(|dtype| vec![TensorSpec::new("x", dtype, vec![n(), Dim::Unknown])]).collect();
    let all = DType::ALL.into_iter().map(|dtype| TensorSpec::new(dtype.name(), dtype, vec![n()]));
    inputs.push(all.collect());
    inputs.push(vec![
        TensorSpec::new("x", DType::Fp32, vec![n(), Dim::Fixed(2)]),
        TensorSpec { optional: true, ..TensorSpec::new("key", DType::Bytes, vec![n()]) },
    ]);
    inputs.push(vec![documents(vec![n()])]);
    inputs.push(vec![documents(vec![n(), Dim::Fixed(2)]), TensorSpec::new("x", DType::Int64, vec![n()])]);
    inputs.push(vec![of_type("image_bytes", "image/*", vec![n()])]);
    inputs.push(vec![TensorSpec::new("x", DType::Fp32, vec![Dim::Fixed(2), Dim::Fixed(3)])]);
    inputs.push(vec![
        TensorSpec::new("text", DType::Bytes, vec![n()]),
        of_type("raw_bytes", "application/octet-stream", vec![n()]),
    ]);
    inputs.push(vec![TensorSpec::new("x", DType::Int64, Vec::new())]);
    inputs.push(vec![TensorSpec::new("x", DType::Bytes, Vec::new())]);
    inputs.push(vec![TensorSpec::new("x", DType::Fp32, vec![Dim::Fixed(0), n(), Dim::Fixed(2)])]);
    inputs.push(Vec::new());
    inputs.into_iter().map(|inputs| Signature { outputs: inputs.clone(), inputs }).collect()
});

fn n() -> Dim {
    Dim::Symbol("N".into())
}

fn of_type(name: &str, media_type: &str, shape: Vec<Dim>) -> TensorSpec {
    TensorSpec { media_type: Some(media_type.to_owned()), ..TensorSpec::new(name, DType::Bytes, shape) }
}

fn documents(shape: Vec<Dim>) -> TensorSpec {
    of_type("document", "application/json", shape)
}

/// Whether the elements of that tensor are JSON documents.
pub(crate) fn holds_documents(specs: &[TensorSpec], name: &str) -> bool {
    let spec = specs.iter().find(|spec| spec.name == name);
    spec.is_some_and(|spec| spec.media_type.as_deref() == Some("application/json"))
}

/// That tensors are among `specs`, each once, and JSON where they should be.
pub(crate) fn check_declared(specs: &[TensorSpec], tensors: &Tensors) {
    for (index, (name, tensor)) in tensors.iter().enumerate() {
        let spec = specs.iter().find(|spec| spec.name == name);
        let spec = spec.unwrap_or_else(|| panic!("'{name}' is not in the signature"));
        assert_eq!(tensor.dtype(), spec.dtype, "'{name}'");
        assert!(tensors.iter().skip(index + 1).all(|(other, _)| other != name), "'{name}' is there twice");
        if holds_documents(specs, name) {
            check_documents(tensor);
        }
    }
}

fn check_documents(tensor: &Tensor) {
    for document in tensor.elements().unwrap_or_default() {
        if let Err(error) = serde_json::from_slice::<serde::de::IgnoredAny>(document) {
            // The two parsers differ in how deep they go.
            assert!(error.to_string().contains("recursion"), "{document:?} is no JSON: {error}");
        }
    }
}
