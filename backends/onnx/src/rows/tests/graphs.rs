//! Whole graphs: chains, candidates for the rows, control flow, functions and what writers leave out.

use corymb_core::{BatchAxes, DType, Dim, Independence, Signature, TensorSpec};

use super::super::analyse_rows;
use super::language::{attributes_of, list, model};
use crate::proto::{
    AttributeProto, FunctionProto, GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, elem,
};

/// A node as `y = Softmax:ms(x) axis=1`; several results are separated by commas.
pub(crate) fn node(line: &str) -> NodeProto {
    let (results, call) = line.split_once('=').expect("an assignment");
    let (operator, rest) = call.split_once('(').expect("operands");
    let (operands, attributes) = rest.split_once(')').expect("the end of the operands");
    let (operator, domain) = operator.trim().split_once(':').unwrap_or((operator.trim(), ""));
    let names = |text: &str| text.split(',').map(|name| name.trim().to_owned()).collect::<Vec<_>>();
    NodeProto {
        op_type: operator.to_owned(),
        domain: domain.to_owned(),
        input: if operands.trim().is_empty() { Vec::new() } else { names(operands) },
        output: names(results),
        attribute: attributes_of(attributes),
        ..NodeProto::default()
    }
}

pub(crate) fn nodes(lines: &[&str]) -> Vec<NodeProto> {
    lines.iter().map(|line| node(line)).collect()
}

pub(crate) fn graph(inputs: &[&str], lines: &[&str], outputs: &[&str]) -> GraphProto {
    let named = |names: &[&str]| {
        names.iter().map(|name| ValueInfoProto { name: (*name).to_owned(), ..ValueInfoProto::default() }).collect()
    };
    GraphProto { node: nodes(lines), input: named(inputs), output: named(outputs), ..GraphProto::default() }
}

pub(crate) fn with_graph(line: &str, name: &str, body: GraphProto) -> NodeProto {
    let mut node = node(line);
    node.attribute.push(AttributeProto { name: name.to_owned(), g: Some(body), ..AttributeProto::default() });
    node
}

fn spec(name: &str, shape: &str) -> TensorSpec {
    let (shape, optional) = shape.strip_suffix('!').map_or((shape, false), |shape| (shape, true));
    let dim = |text: &str| match text.parse() {
        Ok(size) => Dim::Fixed(size),
        Err(_) if text == "?" => Dim::Unknown,
        Err(_) => Dim::Symbol(text.into()),
    };
    let mut spec = TensorSpec::new(name, DType::Fp32, list(shape, ',').into_iter().map(dim).collect());
    spec.optional = optional;
    spec
}

/// What is found: `proved 0,- > 0`, or `mixes` or `unknown` with its reason.
pub(super) fn verdict(model: &ModelProto, inputs: &[(&str, &str)]) -> String {
    let outputs = &model.graph.as_ref().expect("a graph").output;
    let signature = Signature {
        inputs: inputs.iter().map(|(name, shape)| spec(name, shape)).collect(),
        outputs: outputs.iter().map(|output| spec(&output.name, "?")).collect(),
    };
    let found = analyse_rows(model, &signature);
    let axes = |axes: &[(String, Option<usize>)]| {
        axes.iter().map(|(_, axis)| axis.map_or("-".to_owned(), |axis| axis.to_string())).collect::<Vec<_>>().join(",")
    };
    match (found.independence, found.axes) {
        (Independence::Proved, Some(BatchAxes { inputs, outputs })) => {
            format!("proved {} > {}", axes(&inputs), axes(&outputs))
        }
        (Independence::Proved, None) => "proved without axes".to_owned(),
        (Independence::Mixes(culprit), _) => format!("mixes {culprit}"),
        (Independence::Unknown(culprit), _) => format!("unknown {culprit}"),
    }
}

#[track_caller]
pub(super) fn of_nodes(nodes: &[NodeProto], inputs: &[(&str, &str)], expected: &str) {
    let found = verdict(&model(nodes, &[("", 17), ("own", 1), ("com.microsoft", 1)], 1), inputs);
    assert!(found.starts_with(expected), "{found}, and not {expected}");
}

#[track_caller]
fn of(inputs: &[(&str, &str)], lines: &[&str], expected: &str) {
    of_nodes(&nodes(lines), inputs, expected);
}

#[test]
fn sizes_lead_through_reshapes() {
    // An attention's heads, as exporters write them.
    let heads = [
        "shape = Shape(x)",
        "zero = Constant() value_int=0",
        "one = Constant() value_int=1",
        "rows = Gather(shape, zero)",
        "steps = Gather(shape, one)",
        "front = Constant() value_ints=[0]",
        "r = Unsqueeze(rows, front)",
        "t = Unsqueeze(steps, front)",
        "h = Constant() value_ints=[4,8]",
        "split = Concat(r, t, h) axis=0",
        "cut = Reshape(x, split)",
        "q = Transpose(cut) perm=[0,2,1,3]",
        "k = Transpose(cut) perm=[0,2,3,1]",
        "s = MatMul(q, k)",
        "p = Softmax(s) axis=-1",
        "v = MatMul(p, q)",
        "back = Transpose(v) perm=[0,2,1,3]",
        "w = Constant() value_ints=[-1]",
        "joined = Concat(r, t, w) axis=0",
        "out0 = Reshape(back, joined)",
    ];
    of(&[("x", "N,T,32")], &heads, "proved 0 > 0");
    // The same with rows and steps exchanged.
    let mut wrong = heads;
    wrong[9] = "split = Concat(t, r, h) axis=0";
    of(&[("x", "N,T,32")], &wrong, "mixes Reshape 'cut'");
    of(
        &[("x", "N,T,4")],
        &[
            "a = Constant() value_ints=[-1,2]",
            "y = Reshape(x, a)",
            "z = Softmax(y)",
            "s = Shape(x)",
            "out0 = Reshape(z, s)",
        ],
        "proved",
    );
    of(
        &[("x", "N,T")],
        &[
            "a = Constant() value_ints=[-1,2]",
            "y = Reshape(x, a)",
            "z = Softmax(y)",
            "s = Shape(x)",
            "out0 = Reshape(z, s)",
        ],
        "unknown Reshape 'y'",
    );
    of(&[("x", "N,6")], &["a = Constant() value_ints=[2,-1]", "out0 = Reshape(x, a)"], "mixes Reshape 'out0'");
    of(&[("x", "N,T")], &["out0 = Transpose(x)"], "proved 0 > 1");
    of(&[("x", "N,T")], &["s = Shape(x)", "n = Cast(s) to=1", "out0 = Div(x, n)"], "mixes Div");
    of(&[("x", "N,T")], &["out0 = Shape(x)"], "mixes Shape 'out0': output 'out0' says how many rows there are");
    of(&[("x", "N,T")], &["out0 = Constant() value_ints=[1]"], "proved 0 > -");
    of(
        &[("x", "N,T,2")],
        &["y = Transpose(x) perm=[1,0,2]", "a = Constant() value_ints=[-1,2]", "out0 = Reshape(y, a)"],
        "proved 1 > 0",
    );
    of(&[("x", "N,T,2")], &["a = Constant() value_ints=[-1,2]", "out0 = Reshape(x, a)"], "proved 0 > 0");
    of(&[("x", "N,3")], &["out0 = Frobnicate(x)"], "unknown Frobnicate 'out0': there is no rule");
    of(
        &[("x", "N,3")],
        &["y = RandomNormalLike(x)", "out0 = Add(x, y)"],
        "mixes RandomNormalLike 'y': draws random numbers",
    );
    of(
        &[("x", "N,3")],
        &["c = Constant() value_ints=[1]", "y = RandomNormalLike(c)", "out0 = Add(x, y)"],
        "mixes RandomNormalLike",
    );
    of(&[("x", "N,3")], &["c = Constant() value_ints=[1]", "y = Bernoulli(c)", "out0 = Add(x, y)"], "mixes Bernoulli");
    of(
        &[("x", "N,3")],
        &["c = Constant() value_ints=[1]", "y = Sampling:com.microsoft(c)", "out0 = Add(x, y)"],
        "unknown Sampling",
    );
    of(
        &[("x", "N,3")],
        &["c = Constant() value_ints=[1]", "y = Frobnicate:own(c)", "out0 = Add(x, y)"],
        "unknown Frobnicate",
    );
    of(&[("x", "N,3")], &["out0 = Relu(ghost)"], "unknown Relu 'out0': an operand is made by no node");
}

#[test]
fn pads_and_numbers_are_followed_through_matrices() {
    let pads = |last: &'static str| {
        [
            "p = Constant() value_ints=[2,3]",
            "z = Constant() value_ints=[0,0]",
            "all = Concat(p, z) axis=0",
            "m = Constant() value_ints=[-1,2]",
            "pairs = Reshape(all, m)",
            "a = Constant() value_ints=[0]",
            "b = Constant() value_ints=[-1]",
            "e = Constant() value_ints=[-9]",
            "turned = Slice(pairs, b, e, a, b)",
            "by = Transpose(turned) perm=[1,0]",
            "flat = Reshape(by, b)",
            last,
        ]
    };
    of(&[("x", "N,T")], &pads("out0 = Pad(x, flat)"), "proved 0 > 0");
    of(&[("x", "N,T")], &pads("turned2 = Transpose(x)"), "unknown an output is made by no node");
}

#[test]
fn numbers_of_rows_pick_an_element_of_each() {
    let lines = [
        "s = Shape(x)",
        "i = Constant() value_int=0",
        "n = Gather(s, i)",
        "one = Constant() value_int=1",
        "r = Range(i, n, one)",
        "l = Constant() value_ints=[-1]",
        "u = Unsqueeze(r, l)",
        "m = ArgMax(ids) axis=1 keepdims=1",
        "at = Concat(u, m) axis=-1",
        "out0 = GatherND(x, at)",
    ];
    of(&[("x", "N,T,8"), ("ids", "N,T")], &lines, "proved 0,0 > 0");
    let mut wrong = lines;
    wrong[8] = "at = Concat(m, u) axis=-1";
    of(&[("x", "N,T,8"), ("ids", "N,T")], &wrong, "mixes GatherND");
    wrong = lines;
    wrong[9] = "out0 = Mul(u, m)";
    of(&[("x", "N,T,8"), ("ids", "N,T")], &wrong, "mixes Mul 'out0': output 'out0' numbers the rows");
}

#[test]
fn the_rows_are_looked_for_on_likely_axes() {
    let sum = ["out0 = Add(a, b)"];
    of(&[("a", "N,3"), ("b", "N,3")], &sum, "proved 0,0 > 0");
    of(&[("a", "N,3"), ("b", "M,3")], &sum, "proved 0,0 > 0");
    of(&[("a", "?,3"), ("b", "?,3")], &sum, "proved 0,0 > 0");
    of(&[("a", "N,T"), ("b", "T")], &sum, "proved 0,- > 0");
    of(&[("a", "N,3"), ("b", "1,3")], &sum, "proved 0,- > 0");
    of(&[("a", "N,3"), ("b", "2,3")], &sum, "unknown");
    of(&[("a", "N,T"), ("b", "N,T!")], &sum, "unknown input 'b' has the number of rows on two axes");
    of(&[("a", "N,3"), ("b", "3!")], &sum, "proved 0,- > 0");
    of(&[("a", "N,N")], &["out0 = Relu(a)"], "unknown input 'a' has the number of rows");
    of(&[("a", "3,4")], &["out0 = Relu(a)"], "unknown no input has an open first dimension");
    of(&[("a", "T,N,3"), ("h", "1,N,4")], &["out0 = LSTM(a, w, r, , , h)"], "unknown");
    let lstm = ["w = ConstantOfShape(ws)", "out0 = Relu(a)"];
    of(&[("a", "2,N"), ("ws", "2")], &lstm, "proved 1,- > 1");
    let summed = ["y = ReduceSum(a, z) keepdims=1", "out0 = Add(y, h)"];
    let zero = "z = Constant() value_ints=[0]";
    of(&[("a", "T,N"), ("h", "1,N")], &[zero, summed[0], summed[1]], "proved 1,1 > 1");
}

#[test]
fn attributes_without_a_value_are_zero() {
    of(&[("x", "N,3")], &["out0 = Softmax(x) axis"], "mixes Softmax");
    let twice = node("out0 = Softmax(x) axis=1 axis=0");
    of_nodes(&[twice], &[("x", "N,3")], "unknown Softmax 'out0': names an attribute twice");
}

fn tensor(data_type: i32, dims: &[i64], fill: impl Fn(&mut TensorProto)) -> NodeProto {
    let mut tensor = TensorProto { data_type, dims: dims.to_vec(), ..TensorProto::default() };
    fill(&mut tensor);
    let value = AttributeProto { name: "value".to_owned(), t: Some(tensor), ..AttributeProto::default() };
    NodeProto { attribute: vec![value], ..node("c = Constant()") }
}

#[test]
fn stored_numbers_are_read_in_every_form() {
    let cut = node("out0 = Reshape(x, c)");
    let raw = |bytes: Vec<u8>| move |tensor: &mut TensorProto| tensor.raw_data = Some(bytes.clone().into());
    let good = [
        tensor(elem::INT64, &[2], |tensor| tensor.int64_data = vec![-1, 2]),
        tensor(elem::INT64, &[2], raw([-1_i64, 2].iter().flat_map(|value| value.to_le_bytes()).collect())),
        tensor(elem::INT32, &[2], |tensor| tensor.int32_data = vec![-1, 2]),
        tensor(elem::INT32, &[2], raw([-1_i32, 2].iter().flat_map(|value| value.to_le_bytes()).collect())),
        tensor(elem::FLOAT, &[2], |tensor| tensor.float_data = vec![-1.0, 2.0]),
        tensor(elem::FLOAT, &[2], raw([-1_f32, 2.0].iter().flat_map(|value| value.to_le_bytes()).collect())),
        tensor(elem::DOUBLE, &[2], |tensor| tensor.double_data = vec![-1.0, 2.0]),
        tensor(elem::DOUBLE, &[2], raw([-1_f64, 2.0].iter().flat_map(|value| value.to_le_bytes()).collect())),
    ];
    for constant in good {
        of_nodes(&[constant, cut.clone()], &[("x", "N,4")], "proved 0 > 0");
    }
    let truth =
        [tensor(elem::BOOL, &[1], |tensor| tensor.int32_data = vec![1]), tensor(elem::BOOL, &[1], raw(vec![1]))];
    for constant in truth {
        let lines = [
            "a = Constant() value_ints=[-1]",
            "b = Constant() value_ints=[2]",
            "d = Where(c, a, b)",
            "out0 = Reshape(x, d)",
        ];
        of_nodes(&[vec![constant], nodes(&lines)].concat(), &[("x", "N,4")], "proved 0 > 0");
    }
    let wrong = [
        tensor(elem::INT64, &[2], |tensor| tensor.int64_data = vec![-1]),
        tensor(elem::FLOAT, &[2], |tensor| tensor.float_data = vec![f32::NAN, 2.0]),
        tensor(elem::FLOAT16, &[2], |tensor| tensor.int32_data = vec![-1, 2]),
    ];
    for constant in wrong {
        of_nodes(&[constant, cut.clone()], &[("x", "N,4")], "unknown Reshape");
    }
}

fn function(name: &str, overload: &str, lines: &[&str], defaults: &str) -> FunctionProto {
    FunctionProto {
        name: name.to_owned(),
        domain: "own".to_owned(),
        overload: overload.to_owned(),
        input: vec!["a".to_owned(), "b".to_owned()],
        output: vec!["r".to_owned()],
        node: nodes(lines),
        attribute_proto: attributes_of(defaults),
        opset_import: model(&[], &[("", 17), ("own", 1)], 0).opset_import,
        ..FunctionProto::default()
    }
}

/// Makes the attribute `axis` of a node that of the call.
fn of_call(mut node: NodeProto) -> NodeProto {
    node.attribute = vec![AttributeProto {
        name: "axis".to_owned(),
        ref_attr_name: "along".to_owned(),
        ..AttributeProto::default()
    }];
    node
}

#[test]
fn functions_are_followed_with_the_attributes_of_the_call() {
    let inputs = [("x", "N,3"), ("c", "1")];
    let with = |functions: Vec<FunctionProto>, lines: &[&str]| {
        let mut model = model(&nodes(lines), &[("", 17), ("own", 1)], 1);
        model.functions = functions;
        verdict(&model, &inputs)
    };
    let mut soft = function("F", "", &["r = Softmax(a)"], "along=1");
    soft.node = vec![of_call(node("r = Softmax(a)"))];
    let one = |call: &str| with(vec![soft.clone()], &[call]);
    assert_eq!(one("out0 = F:own(x)"), "proved 0,- > 0");
    assert!(one("out0 = F:own(x) along=0").starts_with("mixes Softmax"));
    assert_eq!(one("out0 = F:own(x) along=-1"), "proved 0,- > 0");
    // The operator set is that of the function, not of the model.
    let mut old = function("F", "", &["r = Softmax(a) axis=0"], "");
    old.opset_import = model(&[], &[("", 11)], 0).opset_import;
    assert!(with(vec![old], &["y = Transpose(x)", "out0 = F:own(y)"]).starts_with("mixes Softmax"));
    let new = function("F", "", &["r = Softmax(a) axis=0"], "");
    assert_eq!(with(vec![new], &["y = Transpose(x)", "out0 = F:own(y)"]), "proved 0,- > 1");
    // Attributes of the call inside of a branch.
    let mut nested = function("F", "", &[], "");
    let inside = |line: &str| GraphProto { node: vec![of_call(node(line))], ..graph(&[], &[], &["y"]) };
    let mut choice = with_graph("r = If(b)", "then_branch", inside("y = Softmax(a)"));
    choice.attribute.push(AttributeProto {
        name: "else_branch".to_owned(),
        g: Some(inside("y = LogSoftmax(a)")),
        ..AttributeProto::default()
    });
    nested.node = vec![choice];
    assert!(with(vec![nested.clone()], &["out0 = F:own(x, c) along=0"]).starts_with("mixes Softmax"));
    assert_eq!(with(vec![nested], &["out0 = F:own(x, c) along=1"]), "proved 0,- > 0");
    // Two of one name, which the overload tells apart.
    let (first, second) =
        (function("F", "", &["r = Relu(a)"], ""), function("F", "two", &["r = Softmax(a) axis=0"], ""));
    for both in [vec![first.clone(), second.clone()], vec![second, first]] {
        assert_eq!(with(both, &["out0 = F:own(x)"]), "proved 0,- > 0");
    }
    let calls_itself = function("F", "", &["r = F:own(a)"], "");
    assert!(with(vec![calls_itself], &["out0 = F:own(x)"]).starts_with("unknown F 'r': functions call each other"));
    let left_out = function("F", "", &["r = Add(a, b)"], "");
    assert!(with(vec![left_out.clone()], &["out0 = F:own(x)"]).starts_with("unknown Add"));
    assert_eq!(with(vec![left_out], &["out0 = F:own(x, c)"]), "proved 0,- > 0");
    let nothing = function("F", "", &["q = Add(a, b)"], "");
    assert!(with(vec![nothing], &["out0 = F:own(x, c)"]).starts_with("unknown F 'out0': a result of its function"));
    let mut standard = function("Relu", "", &["r = Softmax(a) axis=0"], "");
    standard.domain = "ai.onnx".to_owned();
    assert!(with(vec![standard], &["out0 = Relu(x)"]).starts_with("mixes Softmax"));
}

#[test]
fn large_graphs_take_little_time() {
    let mut lines = vec!["v0 = Relu(x)".to_owned()];
    for index in 0..1000 {
        lines.push(format!("v{} = Add(v{index}, v{index})", index + 1));
    }
    lines.push("out0 = Relu(v1000)".to_owned());
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    of(&[("x", "N,T,8")], &lines, "proved 0 > 0");
}
