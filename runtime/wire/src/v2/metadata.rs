//! What a model takes and gives, as V2's metadata say it.

use corymb_core::{Code, DType, Dim, Error, Signature, TensorSpec};
use serde_json::{Value, json};

/// One input or output. A size that varies is -1; what the protocol has no member for stands in `parameters`.
#[must_use]
pub fn encode_spec(spec: &TensorSpec) -> Value {
    let size = |size: usize| i64::try_from(size).unwrap_or(i64::MAX);
    let shape: Vec<i64> = spec.shape.iter().map(|dim| dim.fixed().map_or(-1, size)).collect();
    let mut object = json!({ "name": spec.name, "datatype": spec.dtype.name(), "shape": shape });
    if spec.optional {
        object["parameters"]["optional"] = true.into();
    }
    if let Some(media_type) = &spec.media_type {
        object["parameters"]["media_type"] = media_type.as_str().into();
    }
    object
}

/// Reads the answer of `GET /v2/models/NAME`, of this server or another.
///
/// # Errors
/// [`Code::InvalidArgument`] where it is not such an answer.
pub fn decode_signature(body: &[u8]) -> Result<Signature, Error> {
    let metadata: Value = serde_json::from_slice(body)
        .map_err(|error| Error::new(Code::InvalidArgument, format!("the metadata are not valid JSON: {error}")))?;
    let specs = |list: &str| {
        let given = metadata[list].as_array();
        let given = given.ok_or_else(|| invalid(format!("the model's metadata has no list of {list}")))?;
        given.iter().map(decode_spec).collect::<Result<Vec<_>, _>>()
    };
    Ok(Signature { inputs: specs("inputs")?, outputs: specs("outputs")? })
}

fn decode_spec(object: &Value) -> Result<TensorSpec, Error> {
    let name = object["name"].as_str().ok_or_else(|| invalid("a tensor of the metadata has no name"))?;
    let datatype = object["datatype"].as_str().unwrap_or_default();
    let dtype = DType::from_name(datatype).ok_or_else(|| invalid(format!("'{name}' has the datatype '{datatype}'")))?;
    let sizes = object["shape"].as_array().into_iter().flatten();
    let dim = |size: &Value| size.as_i64().and_then(|size| usize::try_from(size).ok()).map_or(Dim::Unknown, Dim::Fixed);
    let mut spec = TensorSpec::new(name, dtype, sizes.map(dim).collect());
    spec.optional = object.pointer("/parameters/optional") == Some(&Value::Bool(true));
    spec.media_type = object.pointer("/parameters/media_type").and_then(Value::as_str).map(str::to_owned);
    Ok(spec)
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(Code::InvalidArgument, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_goes_there_and_back() {
        let mut image = TensorSpec::new("image_bytes", DType::Bytes, vec![Dim::Unknown]);
        image.media_type = Some("image/*".to_owned());
        let mut key = TensorSpec::new("key", DType::Bytes, vec![Dim::Unknown]);
        key.optional = true;
        let scores = TensorSpec::new("scores", DType::Fp32, vec![Dim::Unknown, Dim::Fixed(6)]);
        let signature = Signature { inputs: vec![image, key], outputs: vec![scores] };
        let all = |specs: &[TensorSpec]| specs.iter().map(encode_spec).collect::<Vec<_>>();
        let metadata = json!({ "inputs": all(&signature.inputs), "outputs": all(&signature.outputs) });
        assert_eq!(metadata["outputs"][0]["shape"], json!([-1, 6]));
        assert_eq!(decode_signature(metadata.to_string().as_bytes()).expect("valid"), signature);
    }

    #[test]
    fn what_is_no_signature_is_named() {
        let message = |body: &str| decode_signature(body.as_bytes()).expect_err("refused").message;
        assert_eq!(message("{}"), "the model's metadata has no list of inputs");
        assert!(message("x").contains("not valid JSON"));
        let odd = r#"{"inputs": [{"name": "x", "datatype": "FLOAT", "shape": []}], "outputs": []}"#;
        assert_eq!(message(odd), "'x' has the datatype 'FLOAT'");
    }
}
