//! V2's rules, each as a signature, a body, and what comes of it.

use std::time::Duration;

use bytes::Bytes;
use corymb_core::{Code, DType, Dim, Parameters, Tensor, TensorSpec, Value};
use half::{bf16, f16};
use http::HeaderValue;

use super::*;
use crate::limits::Unbounded;
use crate::raw::JSON_LENGTH;

fn signature() -> Signature {
    let n = || Dim::Symbol("N".into());
    let specs = DType::ALL.map(|dtype| TensorSpec::new(dtype.name().to_lowercase(), dtype, vec![n()]));
    Signature { inputs: specs.to_vec(), outputs: specs.to_vec() }
}

fn decode(signature: &Signature, json: &Bytes, binary: &Bytes) -> Result<Decoded<Ask>, Error> {
    request::read(signature, json, binary, &Limits::default(), &mut Unbounded)
}

fn read(body: &str) -> Result<Decoded<Ask>, Error> {
    decode(&signature(), &Bytes::copy_from_slice(body.as_bytes()), &Bytes::new())
}

fn accepted(body: &str) -> Decoded<Ask> {
    read(body).unwrap_or_else(|error| panic!("{body}: {}", error.message))
}

/// One FP32 input with these members behind its name.
fn fp32(members: &str) -> String {
    format!(r#"{{"inputs":[{{"name":"fp32",{members}}}]}}"#)
}

fn f32s(request: &Decoded<Ask>) -> (Vec<usize>, Vec<f32>) {
    let tensor = request.inputs.get("fp32").expect("present");
    (tensor.shape().to_vec(), tensor.as_slice::<f32>().expect("FP32").to_vec())
}

#[test]
fn members_come_in_any_order() {
    let expected = (vec![2], vec![1.0, 2.5]);
    for members in [
        r#""shape":[2],"datatype":"FP32","data":[1,2.5]"#,
        r#""data":[1,2.5],"datatype":"FP32","shape":[2]"#,
        r#""data":[1,2.5],"shape":[2],"datatype":"FP32""#,
        r#""datatype":"FP32","data":[1,2.5],"shape":[2],"parameters":{"content_type":"np"}"#,
        r#""shape":[2],"datatype":"FP32","data":[[1],[2.5]],"more":{"a":[]}"#,
        r#""shape":[2],"datatype":"FP32","parameters":null,"data":[1,2.5]"#,
    ] {
        assert_eq!(f32s(&accepted(&fp32(members))), expected, "{members}");
    }
    let (shape, values) =
        f32s(&accepted(&fp32(r#""shape":[4,1],"datatype":"FP32","data":[[[NaN,-Infinity]],[[1,2]]]"#)));
    assert_eq!((shape, values.len()), (vec![4, 1], 4));
}

#[test]
fn each_dtype_has_its_json() {
    let body = r#"{"inputs":[
        {"name":"bool","shape":[3],"datatype":"BOOL","data":[true,false,1]},
        {"name":"uint64","shape":[1],"datatype":"UINT64","data":[18446744073709551615]},
        {"name":"int8","shape":[1],"datatype":"INT8","data":[-128]},
        {"name":"fp16","shape":[2],"datatype":"FP16","data":[0.5,Infinity]},
        {"name":"bf16","shape":[1],"datatype":"BF16","data":[-0.0]},
        {"name":"fp64","shape":[],"datatype":"FP64","data":[0.1]},
        {"name":"bytes","shape":[2],"datatype":"BYTES","data":["a",{"b64":"/w=="}]}
    ]}"#;
    let inputs = accepted(body).inputs;
    let get = |name: &str| inputs.get(name).expect("present");
    assert_eq!(get("bool").as_slice::<u8>(), Some(&[1, 0, 1][..]));
    assert_eq!(get("uint64").as_slice::<u64>(), Some(&[u64::MAX][..]));
    assert_eq!(get("int8").as_slice::<i8>(), Some(&[-128][..]));
    assert_eq!(get("fp16").as_slice::<f16>(), Some(&[f16::from_f32(0.5), f16::INFINITY][..]));
    assert_eq!(get("bf16").as_slice::<bf16>().map(|values| values[0].to_bits()), Some(0x8000));
    assert_eq!(get("fp64").as_slice::<f64>(), Some(&[0.1][..]));
    assert_eq!(get("bytes").elements(), Some(&[Bytes::from("a"), Bytes::from_static(b"\xff")][..]));
}

#[test]
fn bytes_are_base64_where_the_content_type_says_so() {
    let body = r#"{"inputs":[{"name":"bytes","shape":[2],"datatype":"BYTES","data":["/w==",""],
                   "parameters":{"content_type":"base64"}}]}"#;
    let inputs = accepted(body).inputs;
    assert_eq!(
        inputs.get("bytes").expect("present").elements(),
        Some(&[Bytes::from_static(b"\xff"), Bytes::new()][..])
    );
    let broken = body.replace("/w==", "*");
    let message = read(&broken).expect_err("refused").message;
    assert!(message.starts_with("input 'bytes': element 0 of `data` is not valid base64"), "{message}");
}

#[test]
fn zero_rows_are_a_request() {
    let request = accepted(&fp32(r#""shape":[0,4],"datatype":"FP32","data":[]"#));
    assert_eq!(f32s(&request), (vec![0, 4], vec![]));
}

#[test]
fn parameters_are_handed_on_or_understood() {
    let body = r#"{"id":"7","model_name":"m","parameters":{"a":true,"b":-1,"c":18446744073709551615,"d":0.5,"e":"x",
        "g":9223372036854775807,"f":null,"timeout":250,"binary_data_output":true,"priority":1,"sequence_id":0},
        "outputs":[{"name":"fp32","parameters":{"binary_data":false}},{"name":"int8"}],"inputs":[]}"#;
    let request = accepted(body);
    let expected = Parameters::from_iter([
        ("a".to_owned(), Value::Bool(true)),
        ("b".to_owned(), Value::Int64(-1)),
        ("c".to_owned(), Value::Uint64(u64::MAX)),
        ("d".to_owned(), Value::Double(0.5)),
        ("e".to_owned(), Value::Text("x".into())),
        ("g".to_owned(), Value::Int64(i64::MAX)),
    ]);
    assert_eq!(request.parameters, expected);
    assert_eq!(request.timeout, Some(Duration::from_micros(250)));
    let output = |name: &str, binary| AskedOutput { name: name.into(), binary };
    let outputs = vec![output("fp32", Some(false)), output("int8", None)];
    assert_eq!(request.ask, Ask { id: "7".into(), outputs, binary: true });
    let bare = accepted(r#"{"id":null,"parameters":null,"outputs":[],"inputs":[]}"#);
    assert_eq!(bare.ask, Ask::default());
}

#[test]
fn refusals_say_where_and_what() {
    let valid = r#""shape":[1],"datatype":"FP32","data":[1]"#;
    let cases = [
        (String::new(), "the body is empty; expected JSON"),
        ("{}".into(), "`inputs` is missing"),
        (r#"{"inputs":null}"#.into(), "`inputs` is missing"),
        (r#"{"inputs":5}"#.into(), "request: `inputs` is a number; expected a list"),
        (r#"{"inputs":[5]}"#.into(), "inputs[0]: is a number; expected an object"),
        (r#"{"inputs":[{}]}"#.into(), "inputs[0]: `name` is missing"),
        (r#"{"inputs":[{"name":5}]}"#.into(), "inputs[0]: `name` is a number; expected a text"),
        (r#"{"inputs":[{"name":"a","name":"b"}]}"#.into(), "input 'a': `name` is given twice"),
        (r#"{"id":5}"#.into(), "request: `id` is a number; expected a text"),
        (r#"{"id":"a","id":"b"}"#.into(), "request: `id` is given twice"),
        (fp32(r#""shape":[1],"data":[1]"#), "input 'fp32': `datatype` is missing"),
        (fp32(r#""datatype":"FP32","data":[1]"#), "input 'fp32': `shape` is missing"),
        (
            fp32(r#""shape":[1],"datatype":"FP32""#),
            "input 'fp32': has neither `data` nor the parameter `binary_data_size`",
        ),
        (fp32(r#""shape":[-1]"#), "input 'fp32': `shape` has -1, which is no size of a dimension"),
        (fp32(r#""shape":[1.5]"#), "input 'fp32': `shape` is a number; expected whole numbers"),
        (fp32(r#""shape":["1"]"#), "input 'fp32': `shape` is a text; expected whole numbers"),
        (fp32(r#""shape":[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1]"#), "input 'fp32': `shape` has more than 16 dimensions"),
        (
            fp32(r#""shape":[9223372036854775807,16],"datatype":"FP32","data":[1]"#),
            "input 'fp32': shape [9223372036854775807,16] has too many elements",
        ),
        (
            fp32(r#""shape":[1099511627776,1],"datatype":"FP32","data":[1]"#),
            "input 'fp32': shape [1099511627776,1] takes 1099511627776 elements, 1 were given",
        ),
        (
            fp32(r#""datatype":"FLOAT""#),
            "input 'fp32': datatype 'FLOAT' is unknown; expected one of BOOL, UINT8, UINT16, UINT32, UINT64, INT8, \
             INT16, INT32, INT64, FP16, BF16, FP32, FP64, BYTES",
        ),
        (fp32(r#""shape":[2],"datatype":"FP32","data":[1,"a"]"#), "input 'fp32'[1]: expected FP32, found a text"),
        (fp32(r#""data":[1,"a"],"shape":[2],"datatype":"FP32""#), "input 'fp32'[1]: expected FP32, found a text"),
        (
            fp32(r#""shape":[3],"datatype":"FP32","data":[1,2]"#),
            "input 'fp32': shape [3] takes 3 elements, 2 were given",
        ),
        (
            fp32(r#""shape":[3],"datatype":"FP32","data":[[1,2],[3]]"#),
            "input 'fp32'[1]: has 1 values where the first list of that depth has 2: the nesting is ragged",
        ),
        (
            fp32(r#""shape":[1],"datatype":"FP32","data":[1],"parameters":{"binary_data_size":4}"#),
            "input 'fp32': has both `data` and the parameter `binary_data_size`",
        ),
        (
            fp32(r#""shape":[1],"datatype":"FP32","parameters":{"binary_data_size":4}"#),
            "input 'fp32': takes 4 bytes of binary data; 0 are left",
        ),
        (
            fp32(r#""parameters":{"binary_data_size":-1}"#),
            "input 'fp32': parameter 'binary_data_size' must be a number of bytes",
        ),
        (fp32(r#""parameters":[]"#), "input 'fp32': `parameters` is a list; expected an object"),
        (fp32(&format!("{valid},\"data\":[1]")), "input 'fp32': `data` is given twice"),
        (
            format!(r#"{{"inputs":[{{"name":"fp32",{valid}}},{{"name":"fp32",{valid}}}]}}"#),
            "input 'fp32' is given twice",
        ),
        (format!(r#"{{"inputs":[{{"name":"x",{valid}}}]}}"#), "unknown input 'x'; expected one of 'bool', 'uint8', "),
        (r#"{"inputs":[],"outputs":[{"name":"y"}]}"#.into(), "unknown output 'y'; expected one of "),
        (r#"{"outputs":[{"name":"int8"},{"name":"int8"}]}"#.into(), "output 'int8' is asked for twice"),
        (r#"{"outputs":[{}]}"#.into(), "outputs[0]: `name` is missing"),
        (r#"{"outputs":["int8"]}"#.into(), "outputs[0]: is a text; expected an object"),
        (
            r#"{"parameters":{"a":[1]}}"#.into(),
            "request: parameter 'a' is a list; expected a text, a number or a boolean",
        ),
        (r#"{"parameters":{"triton_a":1}}"#.into(), "request: parameter 'triton_a' is reserved"),
        (r#"{"inputs":[]"#.into(), "the body is not valid JSON: EOF while parsing an object at line 1 column 12"),
        (fp32(r#""data":[1,}],"datatype":"FP32""#), "the body is not valid JSON: expected value at line 1 column 37"),
        (fp32("\"data\":[1,\n\"\u{fffd}\\ud800\"],\"datatype\":\"BYTES\""), "the body is not valid JSON: "),
    ];
    for (body, expected) in cases {
        let error = read(&body).expect_err(&body);
        assert_eq!(error.code, Code::InvalidArgument, "{body}");
        assert!(error.message.starts_with(expected), "{body}\n   gave: {}\n wanted: {expected}", error.message);
    }
}

#[test]
fn what_is_not_offered_is_said_to_be_so() {
    for body in [
        r#"{"outputs":[{"name":"fp32","parameters":{"classification":3}}]}"#,
        r#"{"outputs":[{"name":"fp32","parameters":{"shared_memory_region":"r"}}]}"#,
        r#"{"inputs":[{"name":"fp32","parameters":{"shared_memory_region":"r"}}]}"#,
        r#"{"parameters":{"sequence_id":5}}"#,
    ] {
        assert_eq!(read(body).expect_err(body).code, Code::Unimplemented, "{body}");
    }
}

#[test]
fn lists_and_parameters_are_bounded() {
    let parameters: Vec<String> = (0..257).map(|index| format!("\"p{index}\":1")).collect();
    let error = read(&format!("{{\"parameters\":{{{}}}}}", parameters.join(","))).expect_err("many");
    assert_eq!(error.message, "request: more than 256 parameters");
    let deep = fp32(&format!("\"data\":{}", "[".repeat(1_000_000)));
    assert!(read(&deep).expect_err("deep").message.contains("recursion limit exceeded"));
    let deep = fp32(&format!("\"datatype\":\"FP32\",\"data\":{}", "[".repeat(1_000_000)));
    assert!(read(&deep).expect_err("deep").message.contains("lists are nested deeper than 16"));
}

#[test]
fn binary_data_follows_the_json() {
    let json = r#"{"inputs":[
        {"name":"bytes","shape":[1],"datatype":"BYTES","parameters":{"binary_data_size":5}},
        {"name":"int8","shape":[1],"datatype":"INT8","data":[7]},
        {"name":"fp32","shape":[2],"datatype":"FP32","parameters":{"binary_data_size":8}}]}"#;
    let json = Bytes::from_static(json.as_bytes());
    let mut binary = b"\x01\0\0\0a".to_vec();
    binary.extend_from_slice(bytemuck::cast_slice(&[1.0_f32, f32::NAN]));
    let decoded = decode(&signature(), &json, &Bytes::from(binary.clone())).expect("valid");
    assert_eq!(decoded.inputs.get("bytes").expect("present").elements(), Some(&[Bytes::from("a")][..]));
    let fp32 =
        decoded.inputs.get("fp32").and_then(|tensor| tensor.as_slice::<f32>().map(<[f32]>::to_vec)).expect("FP32");
    assert_eq!((fp32[0].to_bits(), fp32[1].to_bits()), (1.0_f32.to_bits(), f32::NAN.to_bits()));
    assert_eq!(decoded.inputs.iter().map(|(name, _)| name).collect::<Vec<_>>(), ["bytes", "int8", "fp32"]);

    let message =
        |binary: &[u8]| decode(&signature(), &json, &Bytes::copy_from_slice(binary)).expect_err("refused").message;
    assert_eq!(message(&binary[..12]), "input 'fp32': takes 8 bytes of binary data; 7 are left");
    binary.push(0);
    assert_eq!(message(&binary), "14 bytes of binary data follow the JSON; the inputs take 13");
    binary[0] = 2;
    let broken = "input 'bytes': BYTES element 0 has a length of 2; 1 bytes are left";
    assert_eq!(message(&binary), broken);
}

fn response() -> Response {
    let outputs = [
        ("fp32", Tensor::from_slice([1, 2], &[0.1_f32, f32::NAN]).expect("valid")),
        ("bytes", Tensor::from_elements([1], vec!["a\"".into()]).expect("valid")),
    ];
    Response { model: "m".into(), version: "1".into(), outputs: outputs.into_iter().collect(), ..Response::default() }
}

#[test]
fn the_response_keeps_tritons_order() {
    let written = |ask: &Ask, response: &Response| {
        let Encoded { body, json_len } = encode(ask, response, &mut Unbounded).expect("written");
        assert_eq!(json_len, None);
        String::from_utf8(body.to_vec()).expect("UTF-8")
    };
    let expected = concat!(
        r#"{"model_name":"m","model_version":"1","outputs":[{"name":"fp32","datatype":"FP32","shape":[1,2],"data":[0.1,NaN]},"#,
        r#"{"name":"bytes","datatype":"BYTES","shape":[1],"data":["a\""]}]}"#
    );
    assert_eq!(written(&Ask::default(), &response()), expected);
    let mut with_parameters = response();
    with_parameters.parameters.set("a", Value::Uint64(5));
    with_parameters.parameters.set("b", Value::Text("x".into()));
    let ask = Ask {
        id: "7\"".into(),
        outputs: vec![AskedOutput { name: "bytes".into(), binary: Some(false) }],
        binary: true,
    };
    let expected = concat!(
        r#"{"id":"7\"","model_name":"m","model_version":"1","parameters":{"a":5,"b":"x"},"#,
        r#""outputs":[{"name":"bytes","datatype":"BYTES","shape":[1],"data":["a\""]}]}"#
    );
    assert_eq!(written(&ask, &with_parameters), expected);
    let mut binary = response();
    binary.outputs = [("y", Tensor::from_elements([2], vec!["a".into(), Bytes::from_static(b"\xff")]).expect("valid"))]
        .into_iter()
        .collect();
    let expected = concat!(
        r#"{"model_name":"m","model_version":"1","outputs":[{"name":"y","datatype":"BYTES","shape":[2],"#,
        r#""parameters":{"content_type":"base64"},"data":["YQ==","/w=="]}]}"#
    );
    assert_eq!(written(&Ask::default(), &binary), expected);
}

#[test]
fn binary_outputs_follow_the_json() {
    let asked = |name: &str, binary| AskedOutput { name: name.into(), binary };
    let outputs = vec![asked("bytes", Some(true)), asked("fp32", None)];
    let Encoded { body, json_len } =
        encode(&Ask { outputs, ..Ask::default() }, &response(), &mut Unbounded).expect("written");
    let json_len = json_len.expect("binary");
    let expected = concat!(
        r#"{"model_name":"m","model_version":"1","outputs":[{"name":"bytes","datatype":"BYTES","shape":[1],"#,
        r#""parameters":{"binary_data_size":6}},{"name":"fp32","datatype":"FP32","shape":[1,2],"data":[0.1,NaN]}]}"#
    );
    assert_eq!(std::str::from_utf8(&body[..json_len]), Ok(expected));
    assert_eq!(&body[json_len..], b"\x02\0\0\0a\"");

    let all = encode(&Ask { binary: true, ..Ask::default() }, &response(), &mut Unbounded).expect("written");
    assert_eq!(all.body.len() - all.json_len.expect("binary"), 8 + 6);
    let missing = encode(&Ask { outputs: vec![asked("z", None)], ..Ask::default() }, &response(), &mut Unbounded)
        .expect_err("missing");
    assert_eq!((missing.code, missing.message.as_str()), (Code::Internal, "the model did not give output 'z'"));
}

#[test]
fn a_request_that_a_client_writes_is_read_and_so_is_its_answer() {
    let numbers = Tensor::from_slice([2], &[1.5_f32, f32::NEG_INFINITY]).expect("valid");
    let bytes = Tensor::from_elements([2], vec![Bytes::from_static(b"a"), Bytes::from_static(b"\xff")]).expect("valid");
    let inputs = Tensors::from_iter([("fp32", numbers), ("bytes", bytes)]);
    for binary in [false, true] {
        let Encoded { body, json_len } =
            encode_request(&inputs, Binary { inputs: binary, outputs: binary }).expect("written");
        assert_eq!(json_len.is_some(), binary);
        let mut headers = HeaderMap::new();
        if let Some(json_len) = json_len {
            headers.insert(&JSON_LENGTH, HeaderValue::from(json_len));
        }
        let request = super::decode(&signature(), &headers, &body, &Limits::default(), &mut Unbounded).expect("read");
        assert_eq!((&request.inputs, request.ask.binary), (&inputs, binary));

        let mut response = response();
        response.parameters.set("a", Value::Int64(5));
        response.outputs = inputs.clone();
        let Encoded { body, json_len } = encode(&request.ask, &response, &mut Unbounded).expect("written");
        headers.remove(&JSON_LENGTH);
        if let Some(json_len) = json_len {
            headers.insert(&JSON_LENGTH, HeaderValue::from(json_len));
        }
        let answer = decode_answer(&headers, &body, &Limits::default(), &mut Unbounded).expect("read");
        assert_eq!((&answer.outputs, &*answer.model, &*answer.version), (&inputs, "m", "1"));
        assert_eq!(answer.parameters, response.parameters);
    }
}

#[test]
fn answers_of_other_servers_are_read_or_refused_with_a_reason() {
    let read = |body: &'static str| {
        let body = Bytes::from_static(body.as_bytes());
        let answer = decode_answer(&HeaderMap::new(), &body, &Limits::default(), &mut Unbounded);
        answer.map(|answer| answer.outputs.len()).map_err(|error| error.message)
    };
    assert_eq!(read(r#"{"model_name":"m","outputs":[],"unknown":{"a":[1]}}"#), Ok(0));
    assert_eq!(read("{}"), Err("`outputs` is missing".to_owned()));
    assert_eq!(read(r#"{"outputs":[{"name":"y"}]}"#), Err("output 'y': `datatype` is missing".to_owned()));
    let binary = r#"{"outputs":[{"name":"y","datatype":"FP32","shape":[1],"parameters":{"binary_data_size":4}}]}"#;
    assert_eq!(read(binary), Err("output 'y': takes 4 bytes of binary data; 0 are left".to_owned()));
}

#[test]
fn memory_beyond_the_body_is_accounted() {
    let shape = 100_000;
    let body = format!(
        r#"{{"inputs":[{{"name":"fp64","datatype":"FP64","shape":[{shape}],"data":[{}0]}}]}}"#,
        "0,".repeat(shape - 1)
    );
    let mut budget = crate::limits::tests::Counted::of(usize::MAX);
    super::decode(&signature(), &HeaderMap::new(), &body.clone().into(), &Limits::default(), &mut budget)
        .expect("read");
    assert_eq!(budget.reserved, shape * 8);
    let mut budget = crate::limits::tests::Counted::of(shape);
    let refused = super::decode(&signature(), &HeaderMap::new(), &body.into(), &Limits::default(), &mut budget);
    assert_eq!(refused.expect_err("no room").code, Code::Overloaded);
}
