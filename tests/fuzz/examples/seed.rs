//! Writes the `seed-…` files of the corpus: what the wire's own encoders make of small tensors, and a few bodies by hand.

use std::fs;
use std::io::{self, Write as _};
use std::path::Path;

use bytes::Bytes;
use corymb_core::{Buffer, DType, Dim, Parameters, Response, Signature, Tensor, TensorSpec, Tensors, Value};
use corymb_proto::inference::infer_parameter::ParameterChoice;
use corymb_proto::inference::model_infer_request::{InferInputTensor, InferRequestedOutputTensor};
use corymb_proto::inference::{InferParameter, InferTensorContents, ModelInferRequest};
use corymb_tests_fuzz::CORPUS;
use corymb_wire::grpc::{self, Form, PREFIX};
use corymb_wire::v2::{Ask, Binary};
use corymb_wire::{Coding, Unbounded, v1, v2};
use prost::Message as _;

/// Two elements of a dtype.
fn tensor(dtype: DType) -> Tensor {
    let Some(size) = dtype.size() else {
        return Tensor::from_elements([1, 2], vec![Bytes::from_static(b"a\"\n"), Bytes::from_static(b"\xff\x00")])
            .expect("two elements");
    };
    // An element of ones in each byte, and one of zeros: valid for every dtype.
    let bytes = [vec![1; size], vec![0; size]].concat();
    Tensor::from_buffer(dtype, [1, 2], Buffer::copy_of(&bytes)).expect("two elements")
}

fn x(dtype: DType) -> Tensors {
    Tensors::from_iter([("x", tensor(dtype))])
}

fn response(outputs: Tensors) -> Response {
    let parameters = [("k".to_owned(), Value::Double(0.5)), ("n".to_owned(), Value::Uint64(u64::MAX))];
    let parameters = parameters.into_iter().collect::<Parameters>();
    Response { id: "a".to_owned(), model: "m".to_owned(), version: "3".to_owned(), parameters, outputs }
}

struct Seeds(&'static str);

impl Seeds {
    fn write(&self, name: &str, pieces: &[&[u8]]) -> io::Result<()> {
        let folder = Path::new(CORPUS).join(self.0);
        fs::create_dir_all(&folder)?;
        fs::write(folder.join(format!("seed-{name}")), pieces.concat())
    }
}

fn index(dtype: DType) -> u8 {
    DType::ALL.iter().position(|known| *known == dtype).expect("known") as u8
}

/// The signatures behind those of one dtype each, in the order of `src/signatures.rs`.
const ALL: u8 = 14;
const PAIR: u8 = 15;
const DOCUMENTS: u8 = 16;
const DOCUMENTS_AND_NUMBERS: u8 = 17;
const IMAGE: u8 = 18;
const FIXED: u8 = 19;
const TEXTS: u8 = 20;
const SCALAR: u8 = 21;
const EMPTY: u8 = 23;

fn v1_seeds() -> io::Result<()> {
    let (request, answer) = (Seeds("v1_request"), Seeds("v1_answer"));
    for dtype in DType::ALL {
        let name = dtype.name().to_lowercase();
        let spec = TensorSpec::new("x", dtype, vec![Dim::Unknown, Dim::Unknown]);
        let signature = Signature { inputs: vec![spec.clone()], outputs: vec![spec] };
        let rows = v1::encode_request(&x(dtype)).expect("written").body;
        request.write(&name, &[&[index(dtype), 0], &rows])?;
        let columns =
            v1::encode(&signature, v1::Form::Columns, &response(x(dtype)), &mut Unbounded).expect("written").body;
        answer.write(&name, &[&[index(dtype)], &columns])?;
    }
    let all: Vec<String> = DType::ALL
        .iter()
        .map(|dtype| format!("\"{dtype}\":[{}]", if *dtype == DType::Bytes { "\"t\"" } else { "1" }))
        .collect();
    let all = format!("{{{}}}", all.join(","));
    let bodies: [(&str, u8, String); 15] = [
        ("all-columns", ALL, format!("{{\"inputs\":{all}}}")),
        ("all-rows", ALL, format!("{{\"instances\":[{}]}}", all.replace(['[', ']'], ""))),
        ("named-rows", PAIR, r#"{"instances":[{"x":[1,NaN],"key":"a"},{"key":"\u00e4","x":[-Infinity,1e3]}]}"#.into()),
        ("rows-of-kserve", PAIR, r#"{"inputs":[{"x":[1,2]},{"x":[3,4]}],"signature_name":"serving_default"}"#.into()),
        ("optional-columns", PAIR, r#"{"other":{"a":[null]},"inputs":{"x":[[1.5,2]],"key":[{"b64":"YQ=="}]}}"#.into()),
        ("documents", DOCUMENTS, r#"{"instances":[{"a":[1, 2.5]},[true],"t",null,3]}"#.into()),
        ("documents-columns", DOCUMENTS, r#"{"inputs":{"document":[{"a":{}},[[1]]]}}"#.into()),
        ("documents-named", DOCUMENTS_AND_NUMBERS, r#"{"instances":[{"document":[{},[]],"x":-1}]}"#.into()),
        ("base64", IMAGE, r#"{"instances":[{"b64":"/9j/4A=="},{"image_bytes":{"b64":"_9j_"}}]}"#.into()),
        ("fixed", FIXED, r#"{"inputs":[[1,2,3],[4,5,6]]}"#.into()),
        ("texts", TEXTS, r#"{"instances":[{"text":"a","raw_bytes":{"b64":"AA\n=="}}]}"#.into()),
        ("scalar", SCALAR, r#"{"inputs":-9223372036854775808}"#.into()),
        ("empty", EMPTY, r#"{"inputs":[]}"#.into()),
        ("many-texts", index(DType::Bytes), format!("{{\"inputs\":[{}\"\"]}}", "\"\",".repeat(9))),
        ("deep", index(DType::Fp32), format!("{{\"inputs\":{}1{}}}", "[".repeat(16), "]".repeat(16))),
    ];
    for (name, signature, body) in &bodies {
        request.write(name, &[&[*signature, 0], body.as_bytes()])?;
        let body = body.replace("\"instances\"", "\"predictions\"").replace("\"inputs\"", "\"outputs\"");
        answer.write(name, &[&[*signature], body.as_bytes()])?;
    }
    request.write("picture", &[&[IMAGE, 0], b"\xff\xd8\xff\xe0"])
}

fn v2_seeds() -> io::Result<()> {
    let (request, answer, metadata) = (Seeds("v2_request"), Seeds("v2_answer"), Seeds("v2_metadata"));
    let both = |json: &[u8], binary: &[u8]| [json, &[0], binary].concat();
    for dtype in DType::ALL {
        let name = dtype.name().to_lowercase();
        let written = v2::encode_request(&x(dtype), Binary::default()).expect("written");
        request.write(&name, &[&[index(dtype), 0], &written.body])?;
        let written = v2::encode_request(&x(dtype), Binary { inputs: true, outputs: true }).expect("written");
        let (json, binary) = written.body.split_at(written.json_len.expect("binary"));
        request.write(&format!("{name}-binary"), &[&[index(dtype), 1], &both(json, binary)])?;
        let response = response(x(dtype));
        let written =
            v2::encode(&Ask { id: "a".to_owned(), ..Ask::default() }, &response, &mut Unbounded).expect("written");
        answer.write(&name, &[&[0], &written.body])?;
        let written = v2::encode(&Ask { binary: true, ..Ask::default() }, &response, &mut Unbounded).expect("written");
        let (json, binary) = written.body.split_at(written.json_len.expect("binary"));
        answer.write(&format!("{name}-binary"), &[&[1], &both(json, binary)])?;
    }
    let asks = concat!(
        r#"{"id":"a","parameters":{"timeout":250,"priority":1,"k":0.5,"t":"x","f":false,"n":18446744073709551615,"#,
        r#""binary_data_output":true,"sequence_id":0},"outputs":[{"name":"key","parameters":{"binary_data":true,"#,
        r#""classification":0}},{"name":"x"}],"inputs":[{"shape":[1,2],"data":[[1,2]],"name":"x","datatype":"FP32"},"#,
        r#"{"name":"key","datatype":"BYTES","shape":[1],"parameters":{"content_type":"base64"},"data":["YQ"]}]}"#,
    );
    request.write("all-members", &[&[PAIR, 0], asks.as_bytes()])?;
    let odd =
        r#"{"inputs":[{"data":["a",{"b64":"YQ=="}],"datatype":"BYTES","shape":[2],"name":"x","parameters":null}]}"#;
    request.write("data-first", &[&[index(DType::Bytes), 0], odd.as_bytes()])?;
    request.write("raw", &[&[FIXED, 2], &[0; 24]])?;
    request.write("length", &[&[index(DType::Bool), 3], b"2\0{}"])?;
    request.write("picture", &[&[IMAGE, 4, 1], b"?"])?;
    let spec = |name: &str, dtype| TensorSpec::new(name, dtype, vec![Dim::Unknown, Dim::Fixed(6)]);
    let image = TensorSpec { media_type: Some("image/*".into()), optional: true, ..spec("image", DType::Bytes) };
    let list = serde_json::json!({
        "name": "m", "versions": ["1"], "platform": "onnx",
        "inputs": [v2::encode_spec(&image)], "outputs": [v2::encode_spec(&spec("y", DType::Fp32))],
    });
    metadata.write("model", &[list.to_string().as_bytes()])
}

/// Two elements of each dtype in its typed field.
fn contents(dtype: DType) -> InferTensorContents {
    let mut contents = InferTensorContents::default();
    match dtype {
        DType::Bool => contents.bool_contents = vec![true, false],
        DType::Int8 | DType::Int16 | DType::Int32 => contents.int_contents = vec![-128, 127],
        DType::Int64 => contents.int64_contents = vec![i64::MIN, 1],
        DType::Uint8 | DType::Uint16 | DType::Uint32 => contents.uint_contents = vec![0, 255],
        DType::Uint64 => contents.uint64_contents = vec![u64::MAX, 1],
        DType::Fp32 => contents.fp32_contents = vec![1.5, -0.0],
        DType::Fp64 => contents.fp64_contents = vec![1.5, -0.0],
        DType::Bytes => contents.bytes_contents = vec![Bytes::from_static(b"a"), Bytes::new()],
        DType::Fp16 | DType::Bf16 => {}
    }
    contents
}

fn parameter(choice: ParameterChoice) -> InferParameter {
    InferParameter { parameter_choice: Some(choice) }
}

fn grpc_seeds() -> io::Result<()> {
    let (request, answer, frame) = (Seeds("grpc_request"), Seeds("grpc_answer"), Seeds("grpc_frame"));
    for dtype in DType::ALL {
        let name = dtype.name().to_lowercase();
        request.write(&format!("{name}-raw"), &[&grpc::request("m", &x(dtype)).encode_to_vec()])?;
        let shape = if contents(dtype) == InferTensorContents::default() { vec![0] } else { vec![1, 2] };
        let input = InferInputTensor {
            name: "x".to_owned(),
            datatype: dtype.name().to_owned(),
            shape,
            contents: Some(contents(dtype)),
            ..Default::default()
        };
        let typed = ModelInferRequest { model_name: "m".to_owned(), inputs: vec![input], ..Default::default() };
        request.write(&name, &[&typed.encode_to_vec()])?;
        let written =
            grpc::encode(response(x(dtype)), Form::Unary, &mut Unbounded).expect("short").into_pieces().concat();
        answer.write(&name, &[&written[PREFIX..]])?;
    }
    let mut full = grpc::request("m", &x(DType::Fp32));
    full.model_version = "3".to_owned();
    full.id = "a".to_owned();
    full.parameters.insert("timeout".to_owned(), parameter(ParameterChoice::Int64Param(250)));
    full.inputs[0].parameters.insert("k".to_owned(), parameter(ParameterChoice::DoubleParam(0.5)));
    full.outputs.push(InferRequestedOutputTensor { name: "y".to_owned(), ..Default::default() });
    request.write("all-fields", &[&full.encode_to_vec()])?;
    // Floats one at a time, as old encoders write them: field 6 of the contents with four bytes each.
    let singles = [&[0x35, 0, 0, 0x80, 0x3f][..], &[0x35, 0, 0, 0, 0x40]].concat();
    let input = [&[0x12, 4][..], b"FP32", &[0x18, 2, 0x2a, singles.len() as u8], &singles].concat();
    request.write("singles", &[&[0x2a, input.len() as u8], &input])?;

    let refused = grpc::refusal("a".to_owned(), "no").expect("short");
    frame.write("plain", &[&[0], &refused.clone().into_pieces().concat()])?;
    for (index, coding) in [(1, Coding::Gzip), (2, Coding::Deflate)] {
        let written = refused.clone().deflated(coding).expect("short").into_pieces().concat();
        frame.write(coding.name(), &[&[index], &written])?;
        Seeds("inflate").write(coding.name(), &[&[index - 1, 0], &written[PREFIX..]])?;
    }
    frame.write("too-large", &[&[0, 0, 0xff, 0xff, 0xff, 0xff]])?;
    frame.write("flag", &[&[1, 2, 0, 0, 0, 0]])
}

fn small_seeds() -> io::Result<()> {
    let mut bare = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::best());
    bare.write_all(&[7; 5000])?;
    Seeds("inflate").write("bare-deflate", &[&[1, 9], &bare.finish()?])?;
    let mut bomb = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    bomb.write_all(&[0; 1 << 20])?;
    Seeds("inflate").write("bomb", &[&[0, 255], &bomb.finish()?])?;
    for (name, bytes) in
        [("jpeg", &b"\xff\xd8\xff\xe0"[..]), ("png", b"\x89PNG\r\n\x1a\n"), ("webp", b"RIFF\0\0\0\0WEBPVP8 ")]
    {
        Seeds("picture").write(name, &[&[IMAGE, 0], bytes])?;
        Seeds("picture").write(&format!("{name}-refused"), &[&[FIXED, 1], bytes])?;
    }
    Seeds("picture").write("header", &[&[IMAGE, 4], b"\xff\xd8\xff\xe0"])?;
    for dtype in DType::ALL {
        let data = match dtype.size() {
            Some(size) => vec![0; size * 2],
            None => vec![1, 0, 0, 0, b'a', 0, 0, 0, 0],
        };
        // Sizes are one less than their bytes: [1,2].
        Seeds("raw").write(&dtype.name().to_lowercase(), &[&[index(dtype), 2, 3, 0], &data])?;
    }
    Seeds("raw").write("fixed", &[&[FIXED, 0], &[0; 24]])?;
    for (name, dtype, text) in [
        ("nested", DType::Int32, "[ [1,-2],\n[0, 3] ]"),
        ("empty", DType::Uint8, "[[],[]]"),
        ("flags", DType::Bool, "[true,false,0,1]"),
        ("special", DType::Fp64, "[NaN,Infinity,-Infinity,-0,5e-324,1.7976931348623157e308]"),
        ("between", DType::Fp32, "[1.00000005960464477539062500000000000000001,1e-46,7.006492321624086e-46]"),
        ("below-the-largest", DType::Fp32, "[3.4028235677973366163753939545814256844699999e38]"),
        ("half-way", DType::Fp16, "[1.00048828125,65519.99,65520,5.960464477539063e-8,2.98023223876953125e-8]"),
        ("half-way-bf16", DType::Bf16, "[1.00390625,3.3961775292304601e38,9.2e-41,4.6e-41]"),
        ("widest", DType::Uint64, "[18446744073709551615]"),
        ("smallest", DType::Int64, "[-9223372036854775808,-0]"),
    ] {
        Seeds("numbers").write(name, &[&[index(dtype)], text.as_bytes()])?;
    }
    for (name, text) in [
        ("plain", r#""plain \u00e4""#),
        ("escapes", r#""a\n\t\"\\\/\b\f\r\ud83d\ude00""#),
        ("base64", r#"{"b64":"/9j/4A=="}"#),
        ("base64-url", r#"{"b64":"_9j_4A"}"#),
        ("base64-lines", r#"{"b64":"/9j/\n4A==\n"}"#),
    ] {
        Seeds("texts").write(name, &[text.as_bytes()])?;
    }
    Seeds("refusal").write("error", &[br#"{"error":"no \"room\""}"#])?;
    Seeds("timeouts").write("both", &[&[3], b"250ms\x001S"])?;
    Seeds("timeouts").write("micro", &[&[1], " 900 \u{b5}s\0".as_bytes()])?;
    Seeds("timeouts").write("grpc", &[&[2, 0], b"99999999H"])
}

fn main() -> io::Result<()> {
    v1_seeds()?;
    v2_seeds()?;
    grpc_seeds()?;
    small_seeds()
}
