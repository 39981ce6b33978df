//! V2 metadata: the signature is the same when it is written again.

use corymb_core::TensorSpec;
use corymb_wire::v2;
use serde_json::{Value, json};

use crate::decoder::check_refusal;

/// The body.
pub(crate) fn run(data: &[u8]) {
    let signature = match v2::decode_signature(data) {
        Ok(signature) => signature,
        Err(error) => return check_refusal(&error),
    };
    let all = |specs: &[TensorSpec]| specs.iter().map(v2::encode_spec).collect::<Vec<Value>>();
    let written = json!({ "inputs": all(&signature.inputs), "outputs": all(&signature.outputs) }).to_string();
    let again = v2::decode_signature(written.as_bytes());
    assert_eq!(again.unwrap_or_else(|error| panic!("{written} is refused: {error}")), signature);
}
