//! The messages of the ONNX format, generated from `onnx.proto`, and how they are read and written.
//!
//! Every field is there, since a file that is changed is written again from these types. Fields whose presence means
//! something are `Option`s. Weights are slices of the file's bytes.

use bytes::Bytes;
use prost::Message as _;

pub use bindings::*;

#[allow(missing_docs, clippy::all, clippy::allow_attributes_without_reason, reason = "generated")]
mod bindings {
    include!(concat!(env!("OUT_DIR"), "/onnx.rs"));
}

/// Element types of tensors, as `TensorProto.data_type` and `Tensor.elem_type` hold them: integers, since a file may
/// come from a newer release.
#[allow(missing_docs, reason = "the names are those of the specification, which says what they mean")]
pub mod elem {
    use super::tensor_proto::DataType;

    pub const FLOAT: i32 = DataType::Float as i32;
    pub const UINT8: i32 = DataType::Uint8 as i32;
    pub const INT8: i32 = DataType::Int8 as i32;
    pub const UINT16: i32 = DataType::Uint16 as i32;
    pub const INT16: i32 = DataType::Int16 as i32;
    pub const INT32: i32 = DataType::Int32 as i32;
    pub const INT64: i32 = DataType::Int64 as i32;
    pub const STRING: i32 = DataType::String as i32;
    pub const BOOL: i32 = DataType::Bool as i32;
    pub const FLOAT16: i32 = DataType::Float16 as i32;
    pub const DOUBLE: i32 = DataType::Double as i32;
    pub const UINT32: i32 = DataType::Uint32 as i32;
    pub const UINT64: i32 = DataType::Uint64 as i32;
    pub const BFLOAT16: i32 = DataType::Bfloat16 as i32;

    /// The specification's name of an element type in small letters, for messages.
    #[must_use]
    pub fn name(elem_type: i32) -> String {
        DataType::try_from(elem_type).map_or("unknown".to_owned(), |known| known.as_str_name().to_ascii_lowercase())
    }
}

/// The bytes of a model.
#[must_use]
pub fn encode(model: &ModelProto) -> Vec<u8> {
    model.encode_to_vec()
}

/// A model of its bytes, of which it keeps slices.
///
/// # Errors
/// What the decoder says.
pub fn decode(bytes: Bytes) -> Result<ModelProto, String> {
    ModelProto::decode(bytes).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model(tensor: TensorProto, attribute: AttributeProto) -> ModelProto {
        let node = NodeProto { attribute: vec![attribute], ..NodeProto::default() };
        let graph = GraphProto { node: vec![node], initializer: vec![tensor], ..GraphProto::default() };
        ModelProto { graph: Some(graph), ..ModelProto::default() }
    }

    #[test]
    fn numbers_in_a_file_are_the_published_ones() {
        let tensor = TensorProto {
            dims: vec![2, 1],
            data_type: elem::INT64,
            int64_data: vec![3, 4],
            raw_data: Some(Bytes::from_static(b"r")),
            data_location: Some(tensor_proto::DataLocation::Default as i32),
            ..TensorProto::default()
        };
        let attribute = AttributeProto {
            i: Some(0),
            ints: vec![5, 6],
            r#type: attribute_proto::AttributeType::Ints as i32,
            ..AttributeProto::default()
        };
        let expected = [
            &[0x3a, 30][..],
            // The node with its attribute: lists of an attribute are not packed, and 0 is there.
            &[0x0a, 11, 0x2a, 9, 0x18, 0, 0x40, 5, 0x40, 6, 0xa0, 1, 7],
            // The tensor: its dims are not packed, its elements are.
            &[0x2a, 15, 0x08, 2, 0x08, 1, 0x10, 7, 0x3a, 2, 3, 4, 0x4a, 1, b'r', 0x70, 0],
        ];
        assert_eq!(encode(&model(tensor, attribute)), expected.concat());
    }

    #[test]
    fn weights_and_texts_are_slices_of_the_file() {
        let tensor = TensorProto {
            raw_data: Some(Bytes::from(vec![7; 4096])),
            string_data: vec![Bytes::from_static(b"text")],
            ..TensorProto::default()
        };
        let attribute = AttributeProto { s: Some(Bytes::from_static(b"text")), ..AttributeProto::default() };
        let file = Bytes::from(encode(&model(tensor, attribute)));
        let graph = decode(file.clone()).expect("decodes").graph.expect("a graph");
        let (tensor, attribute) = (&graph.initializer[0], &graph.node[0].attribute[0]);
        let slices = tensor.raw_data.iter().chain(&tensor.string_data).chain(&attribute.s);
        assert_eq!(slices.clone().count(), 3);
        for slice in slices {
            assert!(file.as_ptr_range().contains(&slice.as_ptr()), "{} bytes were copied", slice.len());
        }
    }

    #[test]
    fn element_types_have_the_names_of_the_specification() {
        assert_eq!(
            [0, 1, 17, 28, 29, -1].map(elem::name),
            ["undefined", "float", "float8e4m3fn", "float6e3m2", "unknown", "unknown"]
        );
    }
}
