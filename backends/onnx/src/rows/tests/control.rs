//! Branches, loops and scans: what is carried from turn to turn, and what is one or the other.

use super::graphs::{graph, node, nodes, of_nodes, verdict, with_graph};
use super::language::model;
use crate::proto::{AttributeProto, NodeProto};

fn branches(condition: &str, yes: &[&str], no: &[&str]) -> Vec<NodeProto> {
    let mut node = with_graph(&format!("out0 = If({condition})"), "then_branch", graph(&[], yes, &["y"]));
    node.attribute.push(AttributeProto {
        name: "else_branch".to_owned(),
        g: Some(graph(&[], no, &["y"])),
        ..AttributeProto::default()
    });
    [nodes(&["one = Constant() value_int=1", "none = Constant() value_int=0"]), vec![node]].concat()
}

#[test]
fn branches_are_followed() {
    let (apart, mixed) = (["y = Relu(x)"], ["y = Softmax(x) axis=0"]);
    let inputs = [("x", "N,3"), ("c", "1"), ("d", "N")];
    of_nodes(&branches("one", &apart, &mixed), &inputs, "proved 0,-,0 > 0");
    of_nodes(&branches("none", &apart, &mixed), &inputs, "mixes Softmax");
    of_nodes(&branches("c", &apart, &mixed), &inputs, "mixes Softmax");
    of_nodes(&branches("c", &mixed, &apart), &inputs, "mixes Softmax");
    of_nodes(&branches("c", &apart, &["y = Neg(x)"]), &inputs, "proved 0,-,0 > 0");
    of_nodes(&branches("d", &apart, &apart), &inputs, "mixes If 'out0': one branch is taken for all rows");
    of_nodes(&branches("c", &apart, &["y = Transpose(x)"]), &inputs, "unknown If 'out0': its rows are now here");
    of_nodes(
        &branches("c", &apart, &["y = Constant() value_int=1"]),
        &inputs,
        "unknown If 'out0': its rows are now here",
    );
    of_nodes(
        &branches("c", &apart, &["a = Constant() value_ints=[-1,1,3]", "y = Reshape(x, a)"]),
        &inputs,
        "unknown If 'out0': its shape is now",
    );
    of_nodes(
        &branches("c", &apart, &["a = Constant() value_ints=[-1,1]", "y = Reshape(x, a)"]),
        &inputs,
        "unknown If 'out0': its rows are now wider",
    );
    of_nodes(&branches("c", &["y = Shape(x)"], &["y = Constant() value_ints=[1,2]"]), &inputs, "unknown If");
    // What is wide in one branch and narrow in the other has a size of its own.
    let wide = branches("c", &["y = Concat(x, x) axis=1"], &apart);
    of_nodes(&wide, &inputs, "proved 0,-,0 > 0");
    let mut chosen = wide;
    chosen[2].output = vec!["e".to_owned()];
    let sizes = ["s = Shape(e)", "a = Constant() value_ints=[-1,3]", "out0 = Reshape(e, a)"];
    of_nodes(&[chosen, nodes(&sizes)].concat(), &inputs, "unknown Reshape");
}

fn repeated(line: &str, lines: &[&str], outputs: &[&str], behind: &[&str]) -> Vec<NodeProto> {
    let body = graph(&["i", "go", "v"], lines, outputs);
    let before =
        nodes(&["m = Constant() value_int=3", "yes = Constant() value_int=1", "zero = Constant() value_ints=[0]"]);
    [before, vec![with_graph(line, "body", body)], nodes(behind)].concat()
}

#[test]
fn loops_are_followed_until_nothing_changes() {
    let inputs = [("x", "N,3"), ("t", "N")];
    let step = ["w = Relu(v)"];
    of_nodes(&repeated("out0 = Loop(m, yes, x)", &step, &["go", "w"], &[]), &inputs, "proved 0,0 > 0");
    of_nodes(
        &repeated("out0 = Loop(m, yes, x)", &["w = Softmax(v) axis=0"], &["go", "w"], &[]),
        &inputs,
        "mixes Softmax",
    );
    of_nodes(&repeated("out0 = Loop(t, yes, x)", &step, &["go", "w"], &[]), &inputs, "mixes Loop 'out0': how often");
    of_nodes(&repeated("out0 = Loop(m, t, x)", &step, &["go", "w"], &[]), &inputs, "mixes Loop 'out0': how often");
    of_nodes(
        &repeated("out0 = Loop(m, yes, x)", &["w = Relu(v)", "g = ReduceSum(v, zero)"], &["g", "w"], &[]),
        &inputs,
        "mixes Loop",
    );
    of_nodes(
        &repeated("out0 = Loop(m, yes, x)", &["w = Relu(v)", "g = Cast(t) to=9"], &["g", "w"], &[]),
        &inputs,
        "mixes Loop 'out0': how often",
    );
    of_nodes(
        &repeated("out0 = Loop(m, yes, x)", &["w = Transpose(v)"], &["go", "w"], &[]),
        &inputs,
        "unknown Loop 'out0': its rows",
    );
    of_nodes(
        &repeated("f, out0 = Loop(m, yes, x)", &["w = Relu(v)"], &["go", "w", "w"], &[]),
        &inputs,
        "proved 0,0 > 1",
    );
    of_nodes(
        &repeated("f, out0 = Loop(m, yes, x)", &["w = Relu(v)", "s = Shape(v)"], &["go", "w", "s"], &[]),
        &inputs,
        "mixes Loop",
    );
    of_nodes(
        &repeated("f, out0 = Loop(m, yes, x)", &["w = Relu(v)"], &["go"], &[]),
        &inputs,
        "unknown Loop 'f': its body has other",
    );
    of_nodes(&repeated("out0 = Loop(m, yes, )", &step, &["go", "w"], &[]), &inputs, "unknown Loop");
    of_nodes(&[node("out0 = Loop(m, m, x)")], &[("x", "N,3"), ("m", "1")], "unknown Loop 'out0': its body is missing");
    // What grows in each turn is, at the end, longer than it was in any turn before.
    let grows = ["w = Concat(v, v) axis=1"];
    of_nodes(&repeated("out0 = Loop(m, yes, x)", &grows, &["go", "w"], &[]), &inputs, "proved 0,0 > 0");
    let back = ["s = Shape(f)", "out0 = Reshape(f, s)"];
    of_nodes(&repeated("f = Loop(m, yes, x)", &grows, &["go", "w"], &back), &inputs, "proved 0,0 > 0");
    let other = [
        "k = Constant() value_ints=[0]",
        "e = Constant() value_ints=[1]",
        "q = Gather(c, k)",
        "p = Squeeze(q, zero)",
        "s = Shape(p)",
        "out0 = Reshape(f, s)",
    ];
    // A reshape to the size of the first turn fails when the model runs, for one row as for many.
    of_nodes(&repeated("f, c = Loop(m, yes, x)", &grows, &["go", "w", "v"], &other), &inputs, "proved 0,0 > 0");
    // A number that each turn changes is not the number that it was at first.
    let counts = ["w = Add(v, v)"];
    let reads = ["a = Constant() value_ints=[-1]", "s = Concat(a, f) axis=0", "out0 = Reshape(x, s)"];
    of_nodes(
        &[nodes(&["x1 = Constant() value_ints=[3]"]), repeated("f = Loop(m, yes, x1)", &counts, &["go", "w"], &reads)]
            .concat(),
        &inputs,
        "unknown Reshape",
    );
}

fn scanned(line: &str, lines: &[&str], inputs: &[&str], outputs: &[&str]) -> Vec<NodeProto> {
    vec![with_graph(line, "body", graph(inputs, lines, outputs))]
}

#[test]
fn scans_go_along_an_axis() {
    let inputs = [("h", "N,4"), ("x", "N,T,4")];
    let body = (["w = Add(v, e)"], ["v", "e"], ["w", "w"]);
    let scan = |line: &str| scanned(line, &body.0, &body.1, &body.2);
    of_nodes(&scan("f, out0 = Scan(h, x) num_scan_inputs=1 scan_input_axes=[1]"), &inputs, "proved 0,0 > 1");
    of_nodes(
        &scan("f, out0 = Scan(h, x) num_scan_inputs=1 scan_input_axes=[1] scan_output_axes=[1]"),
        &inputs,
        "proved 0,0 > 0",
    );
    of_nodes(&scan("out0, f = Scan(h, x) num_scan_inputs=1 scan_input_axes=[-2]"), &inputs, "proved 0,0 > 0");
    of_nodes(&scan("out0, f = Scan(h, x) num_scan_inputs=1"), &inputs, "mixes Scan 'out0': goes through the rows");
    of_nodes(&scan("out0, f = Scan(h, x) num_scan_inputs=3"), &inputs, "unknown Scan 'out0': it has fewer operands");
    of_nodes(&scan("out0, f = Scan(, x) num_scan_inputs=1"), &inputs, "unknown Scan");
    of_nodes(&[node("out0 = Scan(h, x) num_scan_inputs=1")], &inputs, "unknown Scan 'out0': its body is missing");
    let old = model(&scan("f, out0 = Scan(h, x) num_scan_inputs=1 scan_input_axes=[1]"), &[("", 8)], 1);
    assert!(verdict(&old, &inputs).starts_with("unknown Scan 'f': is a scan of an old operator set"));
    let counted = ["s = Shape(x)"];
    let list = [
        nodes(&counted),
        scanned("out0, f = Scan(h, s) num_scan_inputs=1", &["w = Relu(v)"], &["v", "e"], &["w", "w"]),
    ]
    .concat();
    of_nodes(&list, &inputs, "mixes Scan 'out0': goes through the number of rows");
}
