//! gRPC messages as tensors once more: by the generated types, an element at a time, and without limits.

use bytes::Bytes;
use corymb_core::{Buffer, DType, Element, Tensor, Tensors, Value, element_count};
use corymb_proto::inference::infer_parameter::ParameterChoice;
use corymb_proto::inference::{InferParameter, InferTensorContents, ModelInferRequest, ModelInferResponse};

/// The tensors of a request; none where it must be refused.
pub(crate) fn request(request: &ModelInferRequest) -> Option<Tensors> {
    let raw = &request.raw_input_contents;
    let typed =
        |contents: &Option<InferTensorContents>| contents.as_ref().is_some_and(|some| *some != Default::default());
    if !raw.is_empty() && (raw.len() != request.inputs.len() || request.inputs.iter().any(|one| typed(&one.contents))) {
        return None;
    }
    let tensor = |(index, input): (usize, &corymb_proto::inference::model_infer_request::InferInputTensor)| {
        let (dtype, shape) = (DType::from_name(&input.datatype)?, sizes(&input.shape)?);
        let tensor = match raw.get(index) {
            Some(data) => self::raw(dtype, &shape, data),
            None => self::typed(dtype, &shape, input.contents.as_ref().unwrap_or(&InferTensorContents::default())),
        };
        Some((input.name.clone(), tensor?))
    };
    request.inputs.iter().enumerate().map(tensor).collect()
}

/// The tensors of an answer; none where it must be refused.
pub(crate) fn answer(answer: &ModelInferResponse) -> Option<Tensors> {
    if answer.raw_output_contents.len() != answer.outputs.len() {
        return None;
    }
    let outputs = answer.outputs.iter().zip(&answer.raw_output_contents);
    let tensor = outputs.map(|(output, data)| {
        let tensor = raw(DType::from_name(&output.datatype)?, &sizes(&output.shape)?, data)?;
        Some((output.name.clone(), tensor))
    });
    tensor.collect()
}

/// A parameter that has a value.
pub(crate) fn parameter((name, value): (&String, &InferParameter)) -> (String, Value) {
    let value = match value.parameter_choice.clone().expect("decoders refuse parameters without a value") {
        ParameterChoice::BoolParam(value) => Value::Bool(value),
        ParameterChoice::Int64Param(value) => Value::Int64(value),
        ParameterChoice::StringParam(value) => Value::Text(value),
        ParameterChoice::DoubleParam(value) => Value::Double(value),
        ParameterChoice::Uint64Param(value) => Value::Uint64(value),
    };
    (name.clone(), value)
}

/// A tensor of raw contents; none where they do not fit.
pub(crate) fn raw(dtype: DType, shape: &[usize], data: &[u8]) -> Option<Tensor> {
    if dtype != DType::Bytes {
        return Tensor::from_buffer(dtype, shape, Buffer::copy_of(data)).ok();
    }
    let (mut elements, mut rest) = (Vec::new(), data);
    while !rest.is_empty() {
        let (length, behind) = rest.split_first_chunk::<4>()?;
        let (element, behind) = behind.split_at_checked(u32::from_le_bytes(*length) as usize)?;
        elements.push(Bytes::copy_from_slice(element));
        rest = behind;
    }
    Tensor::from_elements(shape, elements).ok()
}

fn sizes(shape: &[i64]) -> Option<Vec<usize>> {
    shape.iter().map(|size| usize::try_from(*size).ok()).collect()
}

/// A tensor of typed contents, all of which are in the field of its dtype.
fn typed(dtype: DType, shape: &[usize], contents: &InferTensorContents) -> Option<Tensor> {
    let mut others = contents.clone();
    let tensor = match dtype {
        DType::Bool => {
            let flags: Vec<u8> = std::mem::take(&mut others.bool_contents).into_iter().map(u8::from).collect();
            Tensor::from_buffer(dtype, shape, Buffer::copy_of(&flags)).ok()
        }
        DType::Int8 => narrowed::<_, i8>(shape, std::mem::take(&mut others.int_contents)),
        DType::Int16 => narrowed::<_, i16>(shape, std::mem::take(&mut others.int_contents)),
        DType::Int32 => narrowed::<_, i32>(shape, std::mem::take(&mut others.int_contents)),
        DType::Int64 => narrowed::<_, i64>(shape, std::mem::take(&mut others.int64_contents)),
        DType::Uint8 => narrowed::<_, u8>(shape, std::mem::take(&mut others.uint_contents)),
        DType::Uint16 => narrowed::<_, u16>(shape, std::mem::take(&mut others.uint_contents)),
        DType::Uint32 => narrowed::<_, u32>(shape, std::mem::take(&mut others.uint_contents)),
        DType::Uint64 => narrowed::<_, u64>(shape, std::mem::take(&mut others.uint64_contents)),
        DType::Fp32 => narrowed::<_, f32>(shape, std::mem::take(&mut others.fp32_contents)),
        DType::Fp64 => narrowed::<_, f64>(shape, std::mem::take(&mut others.fp64_contents)),
        DType::Bytes => Tensor::from_elements(shape, std::mem::take(&mut others.bytes_contents)).ok(),
        // Without a field for their elements, they can have none.
        DType::Fp16 | DType::Bf16 if element_count(shape).ok()? == 0 => {
            Tensor::from_buffer(dtype, shape, Buffer::default()).ok()
        }
        DType::Fp16 | DType::Bf16 => None,
    };
    tensor.filter(|_| others == InferTensorContents::default())
}

fn narrowed<T, U: Element + TryFrom<T>>(shape: &[usize], elements: Vec<T>) -> Option<Tensor> {
    let elements: Vec<U> = elements.into_iter().map(|element| U::try_from(element).ok()).collect::<Option<_>>()?;
    Tensor::from_slice(shape, &elements).ok()
}
