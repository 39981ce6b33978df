//! Operators that work element by element, and arithmetic that follows sizes.

use super::language::{Case, check};

/// Those of one operand.
pub(super) const UNARY: &[&str] = &[
    "Abs",
    "Acos",
    "Acosh",
    "Asin",
    "Asinh",
    "Atan",
    "Atanh",
    "BitwiseNot",
    "Cast",
    "Ceil",
    "Celu",
    "Cos",
    "Cosh",
    "Elu",
    "Erf",
    "Exp",
    "Floor",
    "Gelu",
    "HardSigmoid",
    "HardSwish",
    "Identity",
    "IsInf",
    "IsNaN",
    "LeakyRelu",
    "Log",
    "Mish",
    "Neg",
    "Not",
    "Reciprocal",
    "RegexFullMatch",
    "Relu",
    "Round",
    "Selu",
    "Shrink",
    "Sigmoid",
    "Sign",
    "Sin",
    "Sinh",
    "Softplus",
    "Softsign",
    "Sqrt",
    "Swish",
    "Tan",
    "Tanh",
    "ThresholdedRelu",
    "BitCast",
    "ms.Gelu",
    "ms.QuickGelu",
];

/// Those of several operands, which are broadcast as numpy does.
pub(super) const SEVERAL: &[&str] = &[
    "Add",
    "And",
    "BitShift",
    "BitwiseAnd",
    "BitwiseOr",
    "BitwiseXor",
    "Clip",
    "Div",
    "Equal",
    "Greater",
    "GreaterOrEqual",
    "Less",
    "LessOrEqual",
    "Max",
    "Mean",
    "Min",
    "Mod",
    "Mul",
    "Or",
    "PRelu",
    "Pow",
    "StringConcat",
    "Sub",
    "Sum",
    "Where",
    "Xor",
    "ms.FastGelu",
    "ms.BiasGelu",
];

pub(super) const CASES: &[Case] = &[
    ("Where", "N,1;N,3;T", "", "N,3"),
    ("Where", "N,1;3,1;N,3", "", "unknown an operand without rows has a size other than 1"),
    ("Add", "N,T;T", "", "N,T"),
    ("Add", "T,N;T,1", "", "T,N"),
    ("Add", "2*N,T@2;1,T", "", "2*N,T@2"),
    ("Add", "2*N,T@2;2*N,T", "", "mixes"),
    ("Add", "2*N,T;N,T", "", "unknown operands have different numbers of elements"),
    ("Add", "N,S;N,T", "", "N,?"),
    ("Add", "N,1;N,T", "", "N,T"),
    ("Add", "N,4;N,T", "", "N,4"),
    ("Add", "N,T;N,4", "", "N,4"),
    ("Add", "N,1;1,N", "", "mixes"),
    ("Add", "3,T;T", "", "3,T"),
    ("Add", "3,T;2,3,1", "", "2,3,T"),
    ("Add", "N,T;[3,N]", "", "mixes"),
    // Before operator set 7 an attribute says how operands are broadcast.
    ("Add:6", "N,3,T;3", "broadcast=1 axis=1", "N,3,T"),
    ("Add:6", "N,3,T;3,T", "broadcast=1", "N,3,T"),
    ("Add:6", "T,3,4;T", "broadcast=1 axis=0", "T,3,4"),
    ("Add:6", "T,N,4;T", "broadcast=1 axis=0", "T,N,4"),
    ("Add:6", "N,3,T;2", "broadcast=1 axis=0", "unknown"),
    ("Add:6", "N,3,T;2,2", "broadcast=1 axis=2", "unknown its operands do not fit"),
    ("Add:6", "3,T;N,3,T", "broadcast=1", "unknown"),
    ("ai.onnx.Add:6", "T,N,4;T", "broadcast=1 axis=0", "T,N,4"),
    ("Add:7", "T,N,4;4", "broadcast=1 axis=0", "T,N,4"),
    ("PRelu", "N,3,T;3,1", "", "N,3,T"),
    ("PRelu", "T,N,4;2,1", "", "unknown"),
    ("PRelu:6", "N,3,T;3", "", "N,3,T"),
    ("PRelu:6", "2,N,T;3", "", "unknown it has several slopes"),
    ("PRelu:6", "2,N,T;1", "", "2,N,T"),
    ("PRelu:6", "N,3,T;N,3,T", "", "mixes its slope"),
    ("CastLike", "N,3;scalar", "", "N,3"),
    ("CastLike", "N,3;N,4", "", "N,3"),
    ("CastLike", "[N];(1)", "", "mixes"),
    ("Dropout", "N,3", "results=2", "N,3;N,3"),
    ("Dropout", "N,3;f(0.5);(0)", "", "N,3"),
    ("Dropout", "N,3;f(0.5);(1)", "", "mixes draws"),
    ("Dropout", "N,3;f(0.5);scalar", "", "mixes draws"),
    ("Dropout", "3,T;f(0.5);(1)", "", "mixes draws"),
    ("Dropout:6", "N,3", "", "mixes draws"),
    ("Dropout:6", "N,3", "is_test=1", "N,3"),
    ("Dropout:7", "N,3", "", "N,3"),
    ("Constant", "", "value_int=5", "(5)"),
    ("Constant", "", "value_ints=[2,3]", "[2,3]"),
    ("Constant", "", "value_float=2.0", "f(2)"),
    ("Constant", "", "value_floats=[2.0,0.5]", "f[2,0.5]"),
    ("Constant", "", "value_string=x", "?"),
    ("QuantizeLinear", "N,3;scalar;scalar", "", "N,3"),
    ("QuantizeLinear", "N,3;3;3", "axis=1", "N,3"),
    ("QuantizeLinear", "N,3;3;3", "", "N,3"),
    ("QuantizeLinear", "T,N;4", "axis=1", "unknown its scale"),
    ("QuantizeLinear", "T,N;4", "axis=-1", "unknown its scale"),
    ("QuantizeLinear", "T,N;1;4", "axis=1", "unknown its zero point"),
    ("QuantizeLinear", "N,4;N", "", "mixes its scale"),
    ("QuantizeLinear", "N,4;2,2", "axis=1 block_size=2", "unknown its scale"),
    ("QuantizeLinear", "N,4;2,1", "axis=1", "unknown its scale"),
    ("QuantizeLinear", "N,4;2", "axis=1 block_size=2", "unknown its scale"),
    ("QuantizeLinear", "[N];scalar", "", "mixes"),
    ("DequantizeLinear", "N,3;3", "", "N,3"),
    ("DequantizeLinear", "2,N;3", "", "unknown"),
    ("DequantizeLinear", "2,8;2,4", "axis=1 block_size=2", "2,8"),
    ("ms.DequantizeLinear", "N,3;3", "", "N,3"),
    ("ms.QuantizeLinear", "2,N;3", "", "unknown"),
];

/// What each operator of one operand does.
pub(super) fn of_one(operator: &'static str) -> Vec<Case> {
    let attribute = if operator == "Cast" { "to=1" } else { "" };
    // The number of a row stays what it is, or is no row's own.
    let kept = if operator == "Identity" { "#N,1" } else { "~N,1" };
    vec![
        (operator, "N,3,T", attribute, "N,3,T"),
        (operator, "T,N", attribute, "T,N"),
        (operator, "#N,1", attribute, kept),
    ]
}

/// What each operator of several operands does.
pub(super) fn of_several(operator: &'static str) -> Vec<Case> {
    vec![
        (operator, "N,3,T;N,3,T", "", "N,3,T"),
        (operator, "N,3,T;3,1", "", "N,3,T"),
        (operator, "N,3;N,N1,3", "", "mixes"),
        (operator, "N,3;2,3", "", "unknown"),
    ]
}

#[test]
fn rows_stay_where_they_are() {
    check(CASES);
}

#[test]
fn operators_of_one_operand_keep_rows() {
    UNARY.iter().for_each(|operator| check(&of_one(operator)));
    check(&[("Cast", "#N,1", "to=7", "#N,1"), ("Cast", "&N,2", "to=6", "&N,2"), ("Identity", "&N,2", "", "&N,2")]);
    check(&[("Cast", "#N,1", "to=3", "~N,1"), ("Relu", "[N]", "", "mixes computes with the number of rows")]);
}

#[test]
fn operators_of_several_operands_are_broadcast() {
    SEVERAL.iter().for_each(|operator| check(&of_several(operator)));
}

/// Arithmetic with the sizes that `Shape` says.
const NUMBERS: &[Case] = &[
    ("Add", "[N,T];(1)", "", "[N+1,T+1]"),
    ("Sub", "[N,T];[0,2]", "", "[N,T+-2]"),
    ("Mul", "[N,T];(2)", "", "[2*N,2*T]"),
    ("Div", "[2*N,4*T];(2)", "", "[N,2*T]"),
    ("Div", "[7,-7];(2)", "", "[3,-3]"),
    ("Div", "[N];(2)", "", "mixes"),
    ("Div", "(1);(0)", "", "scalar"),
    ("Neg", "[N]", "", "[-1*N]"),
    ("Identity", "[N]", "", "[N]"),
    ("Cast", "[N]", "to=7", "[N]"),
    ("Cast", "[N]", "to=6", "[N]"),
    ("Cast", "[N,T]", "to=1", "f[N,T]"),
    ("Cast", "f[N,T]", "to=7", "[N,T]"),
    ("Cast", "f[0.5,T]", "to=11", "f[0.5,T]"),
    // Types that do not hold every size.
    ("Cast", "[N]", "to=3", "mixes"),
    ("Cast", "[N]", "to=10", "mixes"),
    ("Cast", "[N]", "to=9", "mixes"),
    ("Cast", "[5,0]", "to=9", "[1,0]"),
    ("Abs", "[N]", "", "[N]"),
    ("Abs", "[-1]", "", "1"),
    ("Abs", "[N+-2]", "", "mixes"),
    ("Floor", "f[N]", "", "f[N]"),
    ("Ceil", "f[3]", "", "f[3]"),
    ("Max", "[3];[5]", "", "[5]"),
    ("Max", "[N];[N]", "", "[N]"),
    ("Min", "[3];[5]", "", "[3]"),
    ("Max", "[N];[5]", "", "mixes"),
    ("Mod", "[7];[4]", "", "[3]"),
    ("Mod", "[N];[4]", "", "mixes"),
    ("Where", "[1,0];[N,N];[2,2]", "", "[N,2]"),
    ("Where", "[T];[N];[N]", "", "[N]"),
    ("Where", "[T];[N];[2]", "", "mixes"),
    ("Equal", "[N];[-1]", "", "[0]"),
    ("Equal", "[-1];[N]", "", "[0]"),
    ("Equal", "[N];[N]", "", "[1]"),
    ("Equal", "[2];[3]", "", "[0]"),
    ("Equal", "[N];[1]", "", "mixes"),
    ("Equal", "[N+-3];[-1]", "", "mixes"),
    ("Greater", "[N];[-1]", "", "[1]"),
    ("Greater", "[N];[0]", "", "mixes"),
    ("Greater", "[2];[2]", "", "[0]"),
    ("Greater", "[3];[2]", "", "[1]"),
    ("GreaterOrEqual", "[2];[2]", "", "[1]"),
    ("Less", "[N];[0]", "", "[0]"),
    ("Less", "[N];[1]", "", "mixes"),
    ("Less", "[2];[2]", "", "[0]"),
    ("LessOrEqual", "[2];[2]", "", "[1]"),
    ("Not", "[0,1]", "", "[1,0]"),
    ("And", "[1,1];[0,1]", "", "[0,1]"),
    ("Or", "[0,1];[0,0]", "", "[0,1]"),
    // Fractions are rounded: what goes up by a tenth need not come down by it.
    ("Mul", "f[N];f[0.1]", "", "mixes"),
    ("Div", "f[N];f[0.1]", "", "mixes"),
    ("Mul", "f[N];f[2]", "", "f[2*N]"),
    // Matrices and long lists are no shapes.
    ("Add", "[];[1]", "", "0"),
];

#[test]
fn sizes_are_computed_with() {
    check(NUMBERS);
}
