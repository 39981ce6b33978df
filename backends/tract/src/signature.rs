//! The signature that a graph declares, read from tract's types, and what of it tract cannot take.

use std::collections::HashSet;

use corymb_core::{BatchAxes, DType, Dim, Signature, TensorSpec};
use corymb_onnx::{Declared, dim, report, tensor_spec};
use tract_onnx::pb::tensor_shape_proto::dimension::Value as DimValue;
use tract_onnx::pb::type_proto::Value as TypeValue;
use tract_onnx::pb::{ModelProto, ValueInfoProto};

/// Reads the declared inputs and outputs. Inputs or outputs that no tensor can stand for are left out and reported.
pub(crate) fn declared(proto: &ModelProto) -> Declared {
    let mut declared = Declared::default();
    let Some(graph) = &proto.graph else { return declared };
    let constants: HashSet<&str> = graph.initializer.iter().map(|tensor| tensor.name.as_str()).collect();
    for input in &graph.input {
        declared.add_input(&input.name, spec(input), proto.ir_version, constants.contains(input.name.as_str()));
    }
    for output in &graph.output {
        declared.add_output(&output.name, spec(output));
    }
    let Declared { signature, unsupported, .. } = &mut declared;
    let specs = signature.inputs.iter().map(|spec| ("Input", spec));
    for (role, spec) in specs.chain(signature.outputs.iter().map(|spec| ("Output", spec))) {
        if let Some(reason) = unread(spec.dtype) {
            unsupported.push(report(role, &spec.name, reason));
        }
    }
    declared
}

fn unread(dtype: DType) -> Option<&'static str> {
    match dtype {
        DType::Bytes => Some("holds text, and tract has no operators on text"),
        DType::Bf16 => Some("is bfloat16, which tract does not read"),
        _ => None,
    }
}

/// None when type or rank are left open; an error when no tensor of ours can stand for it.
fn spec(value: &ValueInfoProto) -> Result<Option<TensorSpec>, String> {
    let Some(r#type) = &value.r#type else { return Ok(None) };
    // tract's protobuf types know tensors only: a sequence, a map or an optional decodes as no value at all.
    let Some(TypeValue::TensorType(tensor)) = &r#type.value else {
        return Err("is a sequence, a map or an optional value; only tensors are served".to_owned());
    };
    let dims = tensor.shape.as_ref().map(|shape| {
        let dims = shape.dim.iter().map(|declared| match &declared.value {
            Some(DimValue::DimValue(size)) => dim(Some(*size), ""),
            Some(DimValue::DimParam(symbol)) => dim(None, symbol),
            None => Dim::Unknown,
        });
        dims.collect()
    });
    tensor_spec(&value.name, tensor.elem_type, dims)
}

/// The shapes of one row, where nothing but the axes of rows is open: what a plan can be made for before any request.
pub(crate) fn shapes_of_one_row(signature: &Signature, axes: Option<&BatchAxes>) -> Option<Vec<Option<Vec<usize>>>> {
    let shapes = signature.inputs.iter().map(|spec| {
        if spec.optional {
            return Some(None);
        }
        let dims = spec.shape.iter().enumerate().map(|(axis, dim)| match dim.fixed() {
            None if axes.is_some_and(|axes| axes.input(&spec.name) == Some(axis)) => Some(1),
            size => size,
        });
        Some(Some(dims.collect::<Option<Vec<_>>>()?))
    });
    shapes.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fp32(name: &str, shape: &[Dim]) -> TensorSpec {
        TensorSpec::new(name, DType::Fp32, shape.to_vec())
    }

    #[test]
    fn one_row_needs_everything_else_fixed() {
        let (n, l) = (Dim::Symbol("N".into()), Dim::Symbol("L".into()));
        let output = vec![fp32("y", std::slice::from_ref(&n))];
        let axes = BatchAxes { inputs: vec![("x".to_owned(), Some(0))], outputs: vec![("y".to_owned(), Some(0))] };
        let row = |dims: &[Dim]| {
            shapes_of_one_row(&Signature { inputs: vec![fp32("x", dims)], outputs: output.clone() }, Some(&axes))
        };
        assert_eq!(row(&[n.clone(), Dim::Fixed(3)]), Some(vec![Some(vec![1, 3])]));
        assert_eq!(row(&[n, l]), None);
    }
}
