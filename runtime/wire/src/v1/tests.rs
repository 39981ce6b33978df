//! V1's rules, each as a signature, a body, and what comes of it.

use bytes::Bytes;
use corymb_core::{Buffer, Code, DType, Dim, Error, Signature, Tensor, TensorSpec, Tensors};

use super::*;
use crate::limits::Unbounded;

fn spec(name: &str, dtype: DType, tail: &[usize]) -> TensorSpec {
    let mut shape = vec![Dim::Symbol("N".into())];
    shape.extend(tail.iter().map(|size| Dim::Fixed(*size)));
    TensorSpec::new(name, dtype, shape)
}

fn optional(spec: TensorSpec) -> TensorSpec {
    TensorSpec { optional: true, ..spec }
}

fn signature(inputs: Vec<TensorSpec>) -> Signature {
    Signature { inputs, outputs: Vec::new() }
}

/// `a` FP32 [N,2] and `b` INT64 [N].
fn two() -> Signature {
    signature(vec![spec("a", DType::Fp32, &[2]), spec("b", DType::Int64, &[])])
}

/// `x` of one dtype alone.
fn one(dtype: DType, tail: &[usize]) -> Signature {
    signature(vec![spec("x", dtype, tail)])
}

/// The TensorFlow flowers model's.
fn flowers() -> Signature {
    Signature {
        inputs: vec![spec("image_bytes", DType::Bytes, &[]), optional(spec("key", DType::Bytes, &[]))],
        outputs: vec![
            spec("scores", DType::Fp32, &[6]),
            spec("prediction", DType::Int64, &[]),
            spec("key", DType::Bytes, &[]),
        ],
    }
}

fn read(signature: &Signature, body: &str) -> Result<(Tensors, Form), String> {
    let body = Bytes::copy_from_slice(body.as_bytes());
    let decoded = super::decode(signature, &HeaderMap::new(), &body, &Limits::default(), &mut Unbounded);
    decoded.map(|decoded| (decoded.inputs, decoded.ask)).map_err(|error| {
        assert_eq!(error.code, Code::InvalidArgument, "{}", error.message);
        error.message
    })
}

fn accepted(signature: &Signature, body: &str) -> (Tensors, Form) {
    read(signature, body).unwrap_or_else(|message| panic!("{body}: {message}"))
}

fn encode(signature: &Signature, form: Form, outputs: &Tensors) -> Result<Vec<u8>, Error> {
    let response = Response { outputs: outputs.clone(), ..Response::default() };
    super::encode(signature, form, &response, &mut Unbounded).map(|encoded| encoded.body.to_vec())
}

fn f32s(tensors: &Tensors, name: &str) -> (Vec<usize>, Vec<f32>) {
    let tensor = tensors.get(name).expect("present");
    (tensor.shape().to_vec(), tensor.as_slice::<f32>().expect("FP32").to_vec())
}

fn texts(tensors: &Tensors, name: &str) -> Vec<Bytes> {
    tensors.get(name).expect("present").elements().expect("BYTES").to_vec()
}

#[test]
fn the_flowers_request_is_understood() {
    let body = r#"{"instances":[{"image_bytes":{"b64":"/9j/4A=="},"key":"   1"}]}"#;
    let (tensors, form) = accepted(&flowers(), body);
    assert_eq!(form, Form::Rows(1));
    assert_eq!(texts(&tensors, "image_bytes"), [&b"\xff\xd8\xff\xe0"[..]]);
    assert_eq!(texts(&tensors, "key"), ["   1"]);
    // `key` may be left out, and then the bare value is enough.
    for body in [r#"{"instances":[{"image_bytes":{"b64":"/9g="}}]}"#, r#"{"instances":[{"b64":"/9g="}]}"#] {
        let (tensors, _) = accepted(&flowers(), body);
        assert_eq!(texts(&tensors, "image_bytes"), [&b"\xff\xd8"[..]], "{body}");
        assert!(tensors.get("key").is_none());
    }
}

#[test]
fn rows_are_stacked() {
    let (tensors, form) = accepted(&two(), r#"{"instances":[{"a":[1,2],"b":7},{"b":8,"a":[3.5,NaN]}]}"#);
    assert_eq!(form, Form::Rows(2));
    let (shape, values) = f32s(&tensors, "a");
    assert_eq!((shape, &values[..3]), (vec![2, 2], &[1.0, 2.0, 3.5][..]));
    assert!(values[3].is_nan());
    assert_eq!(tensors.get("b").and_then(Tensor::as_slice::<i64>), Some(&[7, 8][..]));

    let (tensors, form) = accepted(&one(DType::Fp32, &[2]), r#"{"instances":[[1,-Infinity],{"x":[3,4]}]}"#);
    assert_eq!(form, Form::Rows(2));
    assert_eq!(f32s(&tensors, "x"), (vec![2, 2], vec![1.0, f32::NEG_INFINITY, 3.0, 4.0]));
    let (tensors, _) = accepted(&one(DType::Bytes, &[]), r#"{"instances":["text", {"b64":"AQ"}, {"x":"y"}]}"#);
    assert_eq!(texts(&tensors, "x"), ["text", "\u{1}", "y"]);
    let (tensors, _) = accepted(&one(DType::Bool, &[2]), r#"{"instances":[[true,0]]}"#);
    assert_eq!(tensors.get("x").and_then(Tensor::as_slice::<u8>), Some(&[1, 0][..]));
    // Empty rows take the hidden dimensions from the signature.
    let (tensors, _) = accepted(&one(DType::Fp32, &[0, 3]), r#"{"instances":[[],[]]}"#);
    assert_eq!(f32s(&tensors, "x"), (vec![2, 0, 3], vec![]));
}

#[test]
fn columns_have_the_shape_of_their_nesting() {
    let (tensors, form) = accepted(&two(), r#"{"inputs":{"b":[7,8],"a":[[1,2],[3,4]]}}"#);
    assert_eq!(form, Form::Columns);
    assert_eq!(f32s(&tensors, "a"), (vec![2, 2], vec![1.0, 2.0, 3.0, 4.0]));
    let (tensors, form) = accepted(&one(DType::Fp32, &[2]), r#"{"inputs":[[1,2]]}"#);
    assert_eq!((form, f32s(&tensors, "x")), (Form::Columns, (vec![1, 2], vec![1.0, 2.0])));
    let (tensors, _) = accepted(&one(DType::Fp32, &[2]), r#"{"inputs":5}"#);
    assert_eq!(f32s(&tensors, "x"), (vec![], vec![5.0]));
    let (tensors, _) = accepted(&one(DType::Fp32, &[2]), r#"{"inputs":{"x":[]}}"#);
    assert_eq!(f32s(&tensors, "x"), (vec![0, 2], vec![]));
    let (tensors, _) = accepted(&flowers(), r#"{"inputs":[{"b64":"AQ=="},"a"]}"#);
    assert_eq!(texts(&tensors, "image_bytes"), ["\u{1}", "a"]);
    let (tensors, _) = accepted(&flowers(), r#"{"inputs":{"b64":"AQ=="}}"#);
    assert_eq!(tensors.get("image_bytes").expect("present").shape(), [0_usize; 0]);
    // KServe's clients send rows under this name too.
    let (tensors, form) = accepted(&two(), r#"{"inputs":[{"a":[1,2],"b":7}]}"#);
    assert_eq!((form, f32s(&tensors, "a").0), (Form::Rows(1), vec![1, 2]));
    let (_, form) = accepted(&flowers(), r#"{"inputs":[{"image_bytes":"x"}]}"#);
    assert_eq!(form, Form::Rows(1));
}

#[test]
fn what_surrounds_the_values_is_read_generously() {
    let x = one(DType::Fp32, &[]);
    for body in [
        r#"{"signature_name":"serving_default","instances":[1]}"#,
        r#"{"instances":[1],"signature_name":""}"#,
        r#"{"instances":[1],"signature_name":null}"#,
        r#"{"id":"7","parameters":{"a":[{}]},"instances":[1],"more":NaN}"#,
        " {\n\t\"instances\" : [ 1 ] }\r\n",
    ] {
        assert_eq!(f32s(&accepted(&x, body).0, "x"), (vec![1], vec![1.0]), "{body}");
    }
}

#[test]
fn documents_are_values_of_the_json_itself() {
    let mut doc = spec("doc", DType::Bytes, &[]);
    doc.media_type = Some("application/json".into());
    let signature = Signature { inputs: vec![doc.clone()], outputs: vec![doc] };
    let body = r#"{"instances":[{"doc":{"a":[1]}},{"b64":"x"},[1,[2]],"text",null,{}]}"#;
    let (tensors, form) = accepted(&signature, body);
    assert_eq!(texts(&tensors, "doc"), [r#"{"a":[1]}"#, r#"{"b64":"x"}"#, "[1,[2]]", "\"text\"", "null", "{}"]);
    let (columns, _) = accepted(&signature, r#"{"inputs":{"doc":[{"a":[1]},[1,[2]]]}}"#);
    assert_eq!(texts(&columns, "doc"), [r#"{"a":[1]}"#, "[1,[2]]"]);

    let message = read(&signature, r#"{"instances":[{"doc":[1,NaN]}]}"#).expect_err("refused");
    assert_eq!(message, "instance 0, input 'doc': is not valid JSON: it holds NaN or Infinity");

    let written = String::from_utf8(encode(&signature, form, &tensors).expect("written")).expect("UTF-8");
    assert_eq!(written, r#"{"predictions":[{"a":[1]},{"b64":"x"},[1,[2]],"text",null,{}]}"#);
    let broken = Tensors::from_iter([("doc", Tensor::from_elements([1], vec!["{".into()]).expect("valid"))]);
    let written = String::from_utf8(encode(&signature, Form::Rows(1), &broken).expect("written")).expect("UTF-8");
    assert_eq!(written, r#"{"predictions":["{"]}"#);
}

#[test]
fn refusals_say_where_and_what() {
    let (x, b, xy) = (one(DType::Int32, &[2]), one(DType::Bytes, &[]), two());
    let cases = [
        (&x, "", "the body is empty; expected JSON"),
        (&x, "[1]", "the JSON does not fit: expected object but found array at line 1 column 1"),
        (&x, "{}", "the body has neither `instances` nor `inputs`"),
        (&x, r#"{"instances":[]}"#, "`instances` is empty; expected at least one instance"),
        (&x, r#"{"instances":{"x":1}}"#, "`instances` is an object; expected a list"),
        (&x, r#"{"instances":null}"#, "`instances` is null; expected a list"),
        (
            &x,
            r#"{"instances":[[1,2]],"inputs":[]}"#,
            "only one of `instances` and `inputs` may be given, and only once",
        ),
        (
            &x,
            r#"{"instances":[[1,2]],"instances":[[1,2]]}"#,
            "only one of `instances` and `inputs` may be given, and only once",
        ),
        (
            &x,
            r#"{"signature_name":"other","instances":[]}"#,
            "unknown signature 'other'; this model serves 'serving_default'",
        ),
        (&x, r#"{"signature_name":5,"instances":[]}"#, "`signature_name` is a number; expected a text"),
        (&x, r#"{"instances":[[1,2],[3,4.5]]}"#, "instance 1, input 'x'[1]: 4.5 is not an integer; expected INT32"),
        (
            &x,
            r#"{"instances":[[1,2],[3,4000000000]]}"#,
            "instance 1, input 'x'[1]: 4000000000 is out of range for INT32",
        ),
        (&x, r#"{"instances":[[1,2],["3",4]]}"#, "instance 1, input 'x'[0]: expected INT32, found a text"),
        (
            &x,
            r#"{"instances":[[1,2],[3]]}"#,
            "instance 1, input 'x': has 1 values where the first list of that depth has 2: the nesting is ragged",
        ),
        (
            &x,
            r#"{"instances":[[1,2],3]}"#,
            "instance 1, input 'x': found a number where others have a list: the nesting is ragged",
        ),
        (&x, r#"{"instances":[{"y":1}]}"#, "instance 0: unknown input 'y'; expected 'x'"),
        (&x, r#"{"instances":[{"x":[1,2],"x":[1,2]}]}"#, "instance 0: input 'x' is given twice"),
        (&x, r#"{"instances":[{}]}"#, "instance 0: input 'x' is missing; expected INT32 [N,2]"),
        (&x, r#"{"instances":[[1,2]"#, "the body is not valid JSON: EOF while parsing a list at line 1 column 19"),
        (&x, r#"{"instances":[[1,2]]} x"#, "the body is not valid JSON: trailing characters at line 1 column 23"),
        (&x, r#"{"instances":[x]}"#, "the body is not valid JSON: expected value at line 1 column 15"),
        (&x, r#"{"inputs":{"y":1}}"#, "unknown input 'y'; expected 'x'"),
        (&x, r#"{"inputs":{"x":[1],"x":[1]}}"#, "input 'x' is given twice"),
        (
            &b,
            r#"{"instances":["a",{"b64":"a*b"}]}"#,
            "instance 1, input 'x': is not valid base64: Invalid symbol 42, offset 1.",
        ),
        (
            &b,
            r#"{"instances":[5]}"#,
            "instance 0, input 'x': expected a text or {\"b64\": …} for BYTES, found a number",
        ),
        (&b, r#"{"instances":[{"B64":""}]}"#, "instance 0: unknown input 'B64'; expected 'x'"),
        (&xy, r#"{"instances":[5]}"#, "instance 0 is a number; expected an object with 'a', 'b'"),
        (&xy, r#"{"inputs":[5]}"#, "`inputs` is a list; expected an object with 'a', 'b'"),
        (&xy, r#"{"instances":[{"a":[1,2]}]}"#, "instance 0: input 'b' is missing; expected INT64 [N]"),
        (
            &xy,
            r#"{"instances":[{"a":[1,2],"b":1},{"a":[1,2]}]}"#,
            "instance 1 has no input 'b', which the instances before it have; give it in all instances or in none",
        ),
        (&xy, r#"{"instances":[{"a":[1,2],"c":1}]}"#, "instance 0: unknown input 'c'; expected one of 'a', 'b'"),
    ];
    for (signature, body, expected) in cases {
        assert_eq!(read(signature, body).expect_err(body), expected, "{body}");
    }
    let keys = r#"{"instances":[{"image_bytes":""},{"image_bytes":"","key":"k"}]}"#;
    let expected = "instance 1 has input 'key', which instance 0 has not; give it in all instances or in none";
    assert_eq!(read(&flowers(), keys).expect_err(keys), expected);
    let keys = r#"{"instances":[{"image_bytes":"","key":"k"},""]}"#;
    let expected =
        "instance 1 has no input 'key', which the instances before it have; give it in all instances or in none";
    assert_eq!(read(&flowers(), keys).expect_err(keys), expected);
}

#[test]
fn depth_is_bounded() {
    let deep = "[".repeat(1_000_000);
    assert!(
        read(&one(DType::Fp32, &[]), &format!("{{\"instances\":{deep}")).expect_err("deep").contains("deeper than 16")
    );
    let message = read(&one(DType::Fp32, &[]), &format!("{{\"other\":{deep}")).expect_err("deep");
    assert!(message.contains("recursion limit exceeded"), "{message}");
    let message = read(&one(DType::Bytes, &[]), &format!("{{\"inputs\":{deep}")).expect_err("deep");
    assert!(message.contains("deeper than 16"), "{message}");
}

fn written(form: Form, outputs: &Tensors) -> String {
    String::from_utf8(encode(&Signature::default(), form, outputs).expect("written")).expect("UTF-8")
}

#[test]
fn the_flowers_answer_is_the_samples() {
    let scores = [0.999_114_93_f32, 9.209_879e-5, 0.000_136_786_21, 0.000_337_257_55, 0.000_300_532_6, 1.848_136_2e-5];
    let outputs = Tensors::from_iter([
        ("scores", Tensor::from_slice([1, 6], &scores).expect("valid")),
        ("prediction", Tensor::from_slice([1], &[0_i64]).expect("valid")),
        ("key", Tensor::from_elements([1], vec!["   1".into()]).expect("valid")),
    ]);
    let scores = "[0.99911493,0.00009209879,0.00013678621,0.00033725754,0.0003005326,0.000018481362]";
    let expected = format!(r#"{{"predictions":[{{"scores":{scores},"prediction":0,"key":"   1"}}]}}"#);
    assert_eq!(written(Form::Rows(1), &outputs), expected);
    let expected = format!(r#"{{"outputs":{{"scores":[{scores}],"prediction":[0],"key":["   1"]}}}}"#);
    assert_eq!(written(Form::Columns, &outputs), expected);
}

#[test]
fn a_single_output_drops_its_name() {
    let outputs = Tensors::from_iter([("y", Tensor::from_slice([2, 2], &[1_i8, 2, 3, 4]).expect("valid"))]);
    assert_eq!(written(Form::Rows(2), &outputs), r#"{"predictions":[[1,2],[3,4]]}"#);
    assert_eq!(written(Form::Columns, &outputs), r#"{"outputs":[[1,2],[3,4]]}"#);
    let scalar = Tensors::from_iter([("y", Tensor::from_slice([], &[f32::NAN]).expect("valid"))]);
    assert_eq!(written(Form::Columns, &scalar), r#"{"outputs":NaN}"#);
    let empty = Tensor::from_buffer(DType::Fp32, [2, 0], Buffer::default()).expect("valid");
    assert_eq!(written(Form::Rows(2), &Tensors::from_iter([("y", empty)])), r#"{"predictions":[[],[]]}"#);
}

#[test]
fn bytes_are_text_where_they_can_be() {
    let elements = |name: &str, elements: Vec<&'static [u8]>| {
        let elements: Vec<Bytes> = elements.into_iter().map(Bytes::from_static).collect();
        let tensor = Tensor::from_elements([elements.len()], elements).expect("valid");
        written(Form::Columns, &Tensors::from_iter([(name, tensor)]))
    };
    assert_eq!(elements("y", vec![b"a\"b", b""]), r#"{"outputs":["a\"b",""]}"#);
    assert_eq!(elements("y_bytes", vec![b"ab"]), r#"{"outputs":[{"b64":"YWI="}]}"#);
    // One kind for all elements, so that a reader knows what to expect.
    assert_eq!(elements("y", vec![b"ab", b"\xff"]), r#"{"outputs":[{"b64":"YWI="},{"b64":"/w=="}]}"#);
}

#[test]
fn outputs_without_a_row_per_instance_need_columns() {
    let outputs = Tensors::from_iter([("y", Tensor::from_slice([3], &[1_i8, 2, 3]).expect("valid"))]);
    let message = encode(&Signature::default(), Form::Rows(2), &outputs).expect_err("refused").message;
    let expected = "output 'y' has shape [3], which is not one row for each of 2 instances; \
                    send `inputs` instead of `instances` to get it as it is";
    assert_eq!(message, expected);
    let scalar = Tensors::from_iter([("y", Tensor::from_slice([], &[1_i8]).expect("valid"))]);
    assert!(encode(&Signature::default(), Form::Rows(1), &scalar).is_err());
}

#[test]
fn a_request_that_a_client_writes_is_read_and_so_is_its_answer() {
    let numbers = Tensor::from_slice([2, 2], &[1.5_f32, 2.0, 3.0, 4.0]).expect("valid");
    let indices = Tensor::from_slice([2], &[7_i64, 8]).expect("valid");
    let inputs = Tensors::from_iter([("a", numbers.clone()), ("b", indices)]);
    let written = encode_request(&inputs).expect("written").body;
    assert_eq!(written, r#"{"instances":[{"a":[1.5,2.0],"b":7},{"a":[3.0,4.0],"b":8}]}"#);
    assert_eq!(accepted(&two(), std::str::from_utf8(&written).expect("UTF-8")), (inputs, Form::Rows(2)));

    let alone = Tensors::from_iter([("x", numbers.clone())]);
    assert_eq!(encode_request(&alone).expect("written").body, "{\"instances\":[[1.5,2.0],[3.0,4.0]]}");
    let uneven = Tensors::from_iter([("a", numbers), ("s", Tensor::from_slice([], &[7_i64]).expect("valid"))]);
    let written = encode_request(&uneven).expect("written").body;
    assert_eq!(written, r#"{"inputs":{"a":[[1.5,2.0],[3.0,4.0]],"s":7}}"#);

    let answer = |body: &'static str| {
        let body = Bytes::from_static(body.as_bytes());
        decode_answer(&flowers(), &body, &Limits::default(), &mut Unbounded).map_err(|error| error.message)
    };
    let outputs = answer(r#"{"predictions":[{"scores":[0,0,1,0,0,0],"prediction":2}]}"#).expect("read");
    assert_eq!(f32s(&outputs, "scores"), (vec![1, 6], vec![0.0, 0.0, 1.0, 0.0, 0.0, 0.0]));
    assert!(outputs.get("key").is_none());
    let refused = answer(r#"{"predictions":[{"scores":["x"]}]}"#).expect_err("refused");
    assert_eq!(refused, "prediction 0, output 'scores'[0]: expected FP32, found a text");
}
