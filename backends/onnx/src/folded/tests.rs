//! Graphs that are as long to load as their files say, and others.

use super::*;
use crate::proto::{TensorProto, TensorShapeProto, TypeProto, elem, tensor_shape_proto, type_proto as kinds};
use crate::rows::tests::graphs::{graph, nodes, with_graph};

/// A model whose input `x` declares these sizes, none for one that requests give. Of what it stores, whole numbers have a value.
fn model(x: &[Option<i64>], stored: &[(&str, &[i64], &[i64])], lines: &[&str]) -> ModelProto {
    let mut graph = graph(&["x"], lines, &["y"]);
    let dims = x.iter().map(|size| tensor_shape_proto::Dimension {
        value: size.map(tensor_shape_proto::dimension::Value::DimValue),
        ..Default::default()
    });
    let shape = TensorShapeProto { dim: dims.collect() };
    let tensor = kinds::Tensor { elem_type: elem::FLOAT, shape: Some(shape) };
    graph.input[0].r#type = Some(TypeProto { value: Some(kinds::Value::TensorType(tensor)), ..TypeProto::default() });
    graph.initializer = stored
        .iter()
        .map(|(name, dims, numbers)| TensorProto {
            name: (*name).to_owned(),
            dims: dims.to_vec(),
            data_type: if numbers.is_empty() { elem::FLOAT16 } else { elem::INT64 },
            int64_data: numbers.to_vec(),
            ..TensorProto::default()
        })
        .collect();
    ModelProto { graph: Some(graph), ..ModelProto::default() }
}

fn costly(x: &[Option<i64>], stored: &[(&str, &[i64], &[i64])], lines: &[&str]) -> Option<String> {
    costly_load(&model(x, stored, lines))
}

/// Weights and sizes as exporters write them.
#[test]
fn what_files_say_is_bounded() {
    let weights: &[(&str, &[i64], &[i64])] = &[
        ("w", &[512, 512], &[]),
        ("s", &[512, 1], &[]),
        ("axes", &[1], &[0]),
        ("first", &[], &[0]),
        ("minus", &[1], &[-1]),
        ("one", &[], &[1]),
        ("width", &[1], &[512]),
    ];
    let fine = |x: &[Option<i64>], lines: &[&str]| assert_eq!(costly(x, weights, lines), None, "{lines:?}");
    fine(&[None, Some(512)], &["n = Mul(w, s)", "t = Transpose(n) perm=[1,0]", "p = MatMul(w, t)", "y = MatMul(x, p)"]);
    // Sizes that requests give are no matter of the load, whatever is made of them.
    let of_rows = [
        "shape = Shape(x)",
        "n = Gather(shape, first) axis=0",
        "row = Unsqueeze(n, axes)",
        "both = Concat(row, width) axis=0",
        "fill = ConstantOfShape(both)",
        "made = MatMul(fill, w)",
        "count = Range(first, n, one)",
        "column = Unsqueeze(count, minus)",
        "where = Where(column, fill, made)",
        "y = Add(x, where)",
    ];
    fine(&[None, Some(512)], &of_rows);
    // Those that are declared count.
    fine(&[Some(64), Some(512)], &of_rows);
    let what = costly(&[Some(1 << 40), Some(512)], weights, &of_rows);
    assert_eq!(what, Some("'fill' (ConstantOfShape)".to_owned()));
}

#[test]
fn little_that_asks_for_much_is_named() {
    let sizes: &[(&str, &[i64], &[i64])] =
        &[("side", &[2], &[2500, 2500]), ("large", &[1], &[1 << 40]), ("seven", &[1], &[7]), ("w", &[3, 1, 3], &[])];
    let named = |lines: &[&str]| costly(&[None, Some(2)], sizes, lines);
    let is = |node: &str| Some(node.to_owned());
    assert_eq!(named(&["m = ConstantOfShape(side)", "p = MatMul(m, m)", "y = Add(x, p)"]), is("'p' (MatMul)"));
    assert_eq!(named(&["m = ConstantOfShape(large)", "y = Add(x, m)"]), is("'m' (ConstantOfShape)"));
    assert_eq!(named(&["m = Tile(seven, large)", "y = Add(x, m)"]), is("'m' (Tile)"));
    assert_eq!(named(&["m = Expand(seven, large)", "y = Add(x, m)"]), is("'m' (Expand)"));
    // An operator of which nobody says what it costs.
    assert_eq!(named(&["c = Conv(w, w)", "y = Add(x, c)"]), is("'c' (Conv)"));
    assert_eq!(named(&["c = Attention:com.microsoft(w, w)", "y = Add(x, c)"]), is("'c' (Attention)"));
    // Of what a request gives it may be any.
    assert_eq!(named(&["c = Conv(x, w)", "y = Attention:com.microsoft(c, w)"]), None);
    // Sizes by way of values whose shape nobody declares.
    assert_eq!(
        named(&["h = Relu(x)", "s = Shape(h)", "m = ConstantOfShape(s)", "y = Add(x, m)"]),
        is("'m' (ConstantOfShape)")
    );

    // Twice as many each time.
    let lines: Vec<String> = (0..40).map(|step| format!("c{} = Concat(c{step}, c{step}) axis=0", step + 1)).collect();
    let lines: Vec<&str> = ["c0 = Identity(seven)"]
        .into_iter()
        .chain(lines.iter().map(String::as_str))
        .chain(["y = Add(x, c40)"])
        .collect();
    assert_eq!(named(&lines), is("'c40' (Concat)"));
    // Each is as large as any may be, and there are many.
    let lines: Vec<String> = (0..20).map(|step| format!("c{} = Exp(c{step})", step + 1)).collect();
    let lines: Vec<&str> = ["c0 = ConstantOfShape(half)"]
        .into_iter()
        .chain(lines.iter().map(String::as_str))
        .chain(["y = Add(x, c20)"])
        .collect();
    assert_eq!(costly(&[None, Some(2)], &[("half", &[1], &[1 << 23])], &lines), is("'c0' (ConstantOfShape)"));
}

/// What would hide how much there is.
#[test]
fn numbers_that_types_do_not_hold_and_shapes_without_content_are_not_believed() {
    let stored: &[(&str, &[i64], &[i64])] =
        &[("minus", &[1], &[-1]), ("one", &[1], &[1]), ("empty", &[1 << 40], &[]), ("many", &[2], &[2000, 5000])];
    let named = |lines: &[&str]| costly(&[None, Some(2)], stored, lines);
    let is = |node: &str| Some(node.to_owned());
    // 255 to the engine.
    let wrapped =
        ["b = Cast(minus) to=2", "w = Cast(b) to=7", "n = Max(w, one)", "m = ConstantOfShape(n)", "y = Add(x, m)"];
    assert_eq!(named(&wrapped), is("'m' (ConstantOfShape)"));
    // An operator of sequences by its name alone.
    let reversed = ["m = ConstantOfShape(many)", "r = ReverseSequence(m, one)", "p = MatMul(r, r)", "y = Add(x, p)"];
    assert_eq!(named(&reversed), is("'r' (ReverseSequence)"));
    // Ten million numbers twice, in a file that holds none, whatever it says of another tensor.
    let twice = ["m = ConstantOfShape(many)", "k = Exp(m)", "y = Add(x, k)"];
    assert_eq!(named(&twice), is("'m' (ConstantOfShape)"));
    // As many dimensions as a value has elements.
    let high = ["shape = ConstantOfShape(many)", "h = Reshape(x, shape)", "y = Neg(h)"];
    assert!(named(&high).is_some());
    let axes: &[(&str, &[i64], &[i64])] = &[("axes", &[100], &[])];
    assert_eq!(costly(&[None, Some(2)], axes, &["h = Unsqueeze(x, axes)", "y = Neg(h)"]), is("'h' (Unsqueeze)"));
}

#[test]
fn bodies_and_functions_are_followed() {
    let inner = &["m = ConstantOfShape(side)", "p = MatMul(m, m)"];
    let body = graph(&["turn"], inner, &["p"]);
    let mut whole = model(&[None], &[("side", &[2], &[2500, 2500])], &["y = Relu(x)"]);
    let outer = whole.graph.as_mut().expect("a graph");
    outer.node.insert(0, with_graph("z = Loop(x)", "body", body));
    assert_eq!(costly_load(&whole), Some("'p' (MatMul)".to_owned()));

    let mut whole = model(&[None], &[("side", &[2], &[2500, 2500])], &["y = Square:own(side)"]);
    let function = FunctionProto {
        name: "Square".to_owned(),
        domain: "own".to_owned(),
        input: vec!["side".to_owned()],
        output: vec!["p".to_owned()],
        node: nodes(inner),
        ..FunctionProto::default()
    };
    whole.functions = vec![function];
    assert_eq!(costly_load(&whole), Some("'p' (MatMul)".to_owned()));
}
