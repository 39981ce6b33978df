"""Operators that work element by element: unary, binary, of many operands, and conversions."""

import numpy as np

from building import ALL, DTYPES, FLOATS, NUMBERS, UNSIGNED, Dim, allowed, ints, scalar, values, versions

UNARY = {
    **dict.fromkeys(
        "Abs Acos Acosh Asin Asinh Atan Atanh Ceil Cos Cosh Erf Exp Floor HardSwish Identity IsNaN Log Mish Neg Not Reciprocal Relu "
        "Round Sigmoid Sign Sin Sinh Softplus Softsign Sqrt Tan Tanh BitwiseNot".split(),
        [{}],
    ),
    "Celu": [{}, {"alpha": 2.0}],
    "Elu": [{}, {"alpha": 2.0}],
    "Gelu": [{}, {"approximate": "tanh"}],
    "HardSigmoid": [{}, {"alpha": 0.3}, {"beta": 0.4}, {"alpha": 0.3, "beta": 0.4}, {"alpha": -0.3}, {"beta": 0.0}],
    "IsInf": [{}, {"detect_negative": 0}, {"detect_positive": 0}],
    "LeakyRelu": [{}, {"alpha": 0.3}, {"alpha": -0.3}, {"alpha": 0.0}],
    "Selu": [{}, {"alpha": 1.5, "gamma": 1.2}, {"alpha": 1.5}, {"gamma": 1.2}],
    "Shrink": [{}, {"lambd": 0.3}, {"bias": 0.1}, {"lambd": 0.3, "bias": 0.1}, {"lambd": 1.5, "bias": 0.0}],
    "Swish": [{}, {"alpha": 2.0}],
    "ThresholdedRelu": [{}, {"alpha": 0.3}, {"alpha": 0.0}],
}
BINARY = "Add Sub Mul Div Pow Mod And Or Xor Equal Greater Less GreaterOrEqual LessOrEqual BitwiseAnd BitwiseOr BitwiseXor PRelu".split()
PAIRS = [
    ((2, 3), (2, 3)), ((3,), (3,)), ((), ()), ((2, 3), (3,)), ((2, 3), ()), ((2, 3), (1,)), ((2, 3), (2, 1)), ((2, 3, 4), (3, 1)),
    ((1, 3), (2, 3)), ((3,), (2, 3)), ((), (2, 3)), ((2, 1), (1, 3)), ((2, 1), (3,)), ((4, 1, 3), (2, 1)), ((0, 3), (0, 3)), ((0, 3), (3,)),
]
SPECIAL = [np.inf, -np.inf, 0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 1.5, 2.5, -2.5, 100.0, -100.0, 1e-4, 60000.0]

"""NaN is not among them: what an activation makes of it is no promise, and tract's do not keep it."""


def special(dtype):
    kind = np.dtype(DTYPES[dtype][0])
    if kind.kind == "f":
        return np.array(SPECIAL, dtype=kind)
    if kind == np.bool_:
        return np.array([True, False])
    limits = np.iinfo(kind)
    return np.array([limits.min, limits.max, 0, 1, limits.max - 1, limits.min + 1, 7], dtype=kind)


def unary(suite):
    for operator, kinds in UNARY.items():
        for since, opset in versions(operator).items():
            for dtype in allowed(operator, opset, 0):
                for attributes in kinds:
                    for shape in [(2, 3), (), (0, 3), (2, 3, 4, 5), (40,)]:
                        x = values(dtype, shape, seed=1)
                        if operator in ("Acos", "Asin", "Atanh"):
                            x = np.clip(x, -1, 1)
                        if operator in ("Acosh", "Log", "Sqrt"):
                            x = np.abs(x) + np.array(1, dtype=x.dtype)
                        suite.vary(operator, [x], attributes, opset=opset)
                    tame = special(dtype)
                    if operator in ("IsNaN", "IsInf", "Identity", "Neg", "Abs") and dtype in FLOATS:
                        suite.add(operator, [np.array([np.nan, 1, -np.inf], dtype=DTYPES[dtype][0])], attributes, opset=opset, unlike=True)
                    if operator in ("Sin", "Cos", "Tan"):
                        tame = tame[np.abs(tame) <= 100] if tame.dtype.kind == "f" else tame
                    if "approximate" in attributes:
                        # The formula says infinity times nothing, its limit nothing: engines differ.
                        # Of -100 it leaves 100 times the rounding of 1.
                        tame = tame[tame > -100]
                    suite.add(operator, [tame], attributes, opset=opset, unlike=True)


def operands_of(operator, dtype, shapes):
    one, two = values(dtype, shapes[0], seed=2, low=-5, high=5), values(dtype, shapes[1], seed=3, low=-5, high=5)
    if operator == "Pow":
        one = np.abs(one) + np.array(1, dtype=one.dtype)
        two = np.clip(two, 0, 3) if two.dtype.kind in "iu" else two
    if operator in ("Div", "Mod"):
        two = np.where(two == 0, np.array(2, dtype=two.dtype), two).astype(two.dtype)
        if two.dtype.kind == "f":
            two = (two + np.sign(two) * np.array(0.5, dtype=two.dtype)).astype(two.dtype)
    return one, two


def binary(suite):
    for operator in BINARY:
        for since, opset in versions(operator).items():
            for dtype in allowed(operator, opset, 0):
                floats = dtype in FLOATS
                kinds = [{"fmod": 1}] if operator == "Mod" and floats else [{}, {"fmod": 1}] if operator == "Mod" else [{}]
                for attributes in kinds:
                    for shapes in PAIRS:
                        if operator == "PRelu" and (shapes[0] != (2, 3) and shapes[0] != (2, 3, 4)) and shapes[0] != shapes[1]:
                            continue
                        one, two = operands_of(operator, dtype, shapes)
                        suite.vary(operator, [one, two], attributes, opset=opset)
                    limits = special(dtype)
                    if operator in ("Equal", "Greater", "Less", "GreaterOrEqual", "LessOrEqual", "Add", "Sub", "Mul", "And", "Or", "Xor"):
                        suite.vary(operator, [limits, limits[::-1].copy()], attributes, opset=opset, unlike=True)
                    if operator in ("Div", "Mod") and not floats:
                        dividend = np.array([-7, 7, -7, 7, -8, 8], dtype=np.int64).astype(DTYPES[dtype][0])
                        divisor = np.array([3, 3, -3, -3, 2, 5], dtype=np.int64).astype(DTYPES[dtype][0])
                        if dtype in UNSIGNED:
                            dividend, divisor = np.array([7, 8, 250], DTYPES[dtype][0]), np.array([3, 9, 7], DTYPES[dtype][0])
                        suite.vary(operator, [dividend, divisor], attributes, opset=opset)
                        for number in (1, 2, 3, 4, 8):
                            suite.vary(operator, [dividend, scalar(number, dtype)], attributes, opset=opset)


def broken_powers(suite):
    """Integers to negative exponents: fractions, which are cut off."""
    for opset in versions("Pow", oldest=12).values():
        for dtype in ("i32", "i64"):
            for other in ("i32", "i64"):
                bases, exponents = np.array([-3, -2, -1, 1, 2, 3, -1, 1], DTYPES[dtype][0]), np.array([-3, -2, -1, -1, 2, -1, -2, -4], DTYPES[other][0])
                suite.vary("Pow", [bases, exponents], opset=opset, unlike=True)
                for exponent in (-1, -2, -3):
                    suite.vary("Pow", [bases, scalar(exponent, other)], opset=opset, unlike=True)


def uniform(suite):
    """Arithmetic with a constant whose elements are all alike, which engines leave out or replace."""
    for operator in ("Add", "Sub", "Mul", "Div"):
        for opset in versions(operator).values():
            for dtype in allowed(operator, opset, 0):
                for number in (0, 1, 2, 4):
                    for shape in ((), (1,), (3,), (2, 3), (2, 1)):
                        constant = np.full(shape, number, DTYPES[dtype][0])
                        x = operands_of("Div", dtype, ((2, 3), (2, 3)))[1]
                        if operator != "Div" or number or dtype in FLOATS:
                            suite.add(operator, [x, constant], opset=opset, const=(1,), stored=(1,))
                        suite.add(operator, [constant, x], opset=opset, const=(0,), stored=(0,))
                    if operator != "Div" or dtype in FLOATS:
                        strange = special(dtype)
                        for shape in ((), (1,), strange.shape):
                            constant = np.full(shape, number, DTYPES[dtype][0])
                            suite.add(operator, [strange, constant], opset=opset, const=(1,), stored=(1,), unlike=True)
                            if operator != "Div":
                                suite.add(operator, [constant, strange], opset=opset, const=(0,), stored=(0,), unlike=True)


def powers(suite):
    """Pow by constants, and of another dtype than the base."""
    for since, opset in versions("Pow").items():
        for dtype in allowed("Pow", opset, 0):
            bases = values(dtype, (2, 3), seed=4, low=1, high=4)
            for number in (-1, -0.5, 0, 0.5, 1, 2, 3, 1.7, 4):
                for other in allowed("Pow", opset, 1):
                    if other not in ("f32", "f64", "f16", "i32", "i64") or (number != int(number) and other not in FLOATS):
                        continue
                    if number < 0 and dtype not in FLOATS:
                        continue
                    base = np.abs(bases) + np.array(1, bases.dtype) if number != int(number) or number < 0 else bases
                    for shape in ((), (1,), (2, 3)):
                        exponent = np.full(shape, number, dtype=DTYPES[other][0])
                        suite.vary("Pow", [base, exponent], opset=opset)


def shifts(suite):
    for dtype in UNSIGNED:
        for direction in ("LEFT", "RIGHT"):
            for shapes in PAIRS[:-2]:
                one, two = values(dtype, shapes[0], seed=5, high=200), values(dtype, shapes[1], seed=6, high=7)
                suite.vary("BitShift", [one, two], {"direction": direction}, opset=11)
            wide = np.array([8, 16, 32, 64, 3], dtype=DTYPES[dtype][0])
            suite.vary("BitShift", [np.array([5, 9, 200, 7, 1], DTYPES[dtype][0]), wide], {"direction": direction}, opset=11)


def many(suite):
    for operator in ("Max", "Min", "Sum", "Mean"):
        for since, opset in versions(operator).items():
            for dtype in allowed(operator, opset, 0):
                for shapes in [[(2, 3)], [(2, 3)] * 2, [(2, 3)] * 3, [(2, 3)] * 4, [(2, 3), (3,)], [(3,), (2, 3)], [(2, 1), (1, 3)], [(2, 3), ()],
                               [(2, 3), (3,), (2, 1)], [(), (2, 3), (3,)], [(), (2, 3)]]:
                    given = [values(dtype, shape, seed=7 + place) for place, shape in enumerate(shapes)]
                    suite.vary(operator, given, opset=opset)
                if dtype in FLOATS and operator != "Mean":
                    strange = special(dtype)
                    suite.vary(operator, [strange, strange[::-1].copy()], opset=opset, unlike=True)


def where(suite):
    for since, opset in versions("Where").items():
        for dtype in ALL:
            for shapes in [((2, 3),) * 3, ((3,), (2, 3), (2, 3)), ((2, 3), (), (2, 3)), ((2, 3), (2, 3), ()), ((2, 3), (), ()), ((2, 1), (3,), (1,)),
                           ((), (2, 3), (2, 3)), ((2, 1), (2, 3), (1, 3)), ((2, 3), (1, 3), (2, 3)), ((1, 3), (2, 3), ()), ((2, 3), (2, 3), (3,)),
                           ((1,), (), (2, 3)), ((2, 1), (1, 3), (2, 3))]:
                given = [values("bool", shapes[0], 8), values(dtype, shapes[1], 9), values(dtype, shapes[2], 10)]
                suite.vary("Where", given, opset=opset)


def clip(suite):
    for since, opset in versions("Clip").items():
        for dtype in allowed("Clip", opset, 0):
            low, high = np.array(-1, DTYPES["i64"][0]), np.array(1, DTYPES["i64"][0])
            kind = DTYPES[dtype][0]
            low, high = (np.array(1, kind), np.array(2, kind)) if dtype in UNSIGNED else (low.astype(kind), high.astype(kind))
            for shape in [(2, 3), (), (2, 3, 4, 5), (0, 2)]:
                x = values(dtype, shape, 11, high=5)
                if opset < 11:
                    for attributes in ({}, {"min": -0.5}, {"max": 0.5}, {"min": -0.5, "max": 0.5}, {"min": 0.0, "max": 6.0}, {"max": 6.0, "min": 1.0},
                                       {"min": 0.0}, {"max": -0.5}, {"min": -2.0, "max": -0.5}, {"min": -1.0, "max": 0.0}):
                        suite.vary("Clip", [x], attributes, opset=opset)
                    continue
                for bounds in ([], [low], [None, high], [low, high], [high, low]):
                    suite.vary("Clip", [x, *bounds], opset=opset)
            if dtype in FLOATS and opset >= 11:
                suite.vary("Clip", [special(dtype), low, high], opset=opset, unlike=True)


def casts(suite):
    from onnx import helper

    for since, opset in versions("Cast").items():
        for source in allowed("Cast", opset, 0):
            for target in ALL:
                to = helper.np_dtype_to_tensor_dtype(np.dtype(DTYPES[target][0]))
                x = values(source, (2, 3), 12, low=-5, high=100)
                if x.dtype.kind == "f":
                    x = (np.abs(x) if target in UNSIGNED else x) * np.array(20, x.dtype)
                elif target in UNSIGNED:
                    x = np.abs(x)
                suite.vary("Cast", [x], {"to": to}, opset=opset)
                suite.add("Cast", [x.reshape(6, 1)[:0]], {"to": to}, opset=opset)
                if source in FLOATS and target in FLOATS + ("bool",):
                    suite.add("Cast", [special(source)[:14]], {"to": to}, opset=opset)
                if source in FLOATS and target in ("i8", "i16", "i32", "i64"):
                    halves = np.array([0.5, 1.5, -0.5, -1.5, 2.9, -2.9], dtype=DTYPES[source][0])
                    suite.add("Cast", [halves], {"to": to}, opset=opset)
                if source in ("f32", "f64") and target == "i64":
                    suite.add("Cast", [np.array([1.7e12, -3e9, 2.0**40, 4294967296.0, -(2.0**33)], dtype=DTYPES[source][0])], {"to": to}, opset=opset)
    for since, opset in versions("CastLike").items():
        for source in ("f32", "f16", "i64", "i32", "bool", "u8", "f64"):
            for target in ("f32", "f16", "i64", "i32", "bool", "u8", "f64"):
                suite.vary("CastLike", [values(source, (2, 3), 13, low=0, high=9), values(target, (1,), 14)], opset=opset)


def of_sizes(suite):
    """Arithmetic on sizes, as exporters write it around shapes."""
    size, wide = Dim(5, scalar=True), Dim(5, 3)
    for operator in ("Add", "Sub", "Mul", "Div", "Mod", "Equal", "Greater", "Less", "GreaterOrEqual", "LessOrEqual", "Max", "Min", "Pow"):
        for since, opset in versions(operator).items():
            if opset < 9:
                continue
            for number in (0, 1, 2, 3, 4, 5, 7, -2):
                if operator == "Pow" and number < 0 or operator in ("Div", "Mod") and not number:
                    continue
                for given in ([size, scalar(number)], [scalar(number), size], [wide, scalar(number)], [wide, ints(number, 2)], [size, ints(number)],
                              [ints(number), size], [ints(number, 2), wide], [ints(number), wide], [wide, ints(number)]):
                    stored = [place for place, operand in enumerate(given) if not isinstance(operand, Dim)]
                    suite.add(operator, given, opset=opset, const=stored)
            for given in ([size, Dim(3, scalar=True)], [wide, Dim(2, 4)], [wide, size], [size, wide]):
                suite.add(operator, given, opset=opset)
            if operator in ("Div", "Mod"):
                for given in ([scalar(-3), size], [ints(-3, 7), wide], [ints(-7), wide], [wide, ints(-2, -3)], [size, scalar(-3)]):
                    stored = [place for place, operand in enumerate(given) if not isinstance(operand, Dim)]
                    suite.add(operator, given, opset=opset, const=stored, unlike=True)
    for operator in ("Neg", "Abs", "Identity", "Sign", "Relu"):
        for since, opset in versions(operator).items():
            for given in (size, wide):
                suite.add(operator, [given], opset=opset)
    for since, opset in versions("Cast").items():
        for to in (1, 6, 7, 9, 10, 11):
            for given in (size, wide):
                suite.add("Cast", [given], {"to": to}, opset=opset)
    for since, opset in versions("Where").items():
        for given in ([np.array([True, False]), wide, ints(1, 2)], [np.array([True, False]), ints(1, 2), wide], [np.array([False, True]), wide, Dim(7, 8)],
                      [np.array([True]), wide, Dim(7, 8)], [np.array([False, True]), wide, ints(1)], [np.array([False, True]), ints(1), wide]):
            stored = [place for place, operand in enumerate(given) if not isinstance(operand, Dim)]
            suite.add("Where", given, opset=opset, const=stored)


def random(suite):
    from onnx import helper

    for operator in ("RandomNormal", "RandomUniform"):
        for opset in versions(operator).values():
            for attributes in ({"shape": [2, 3]}, {"shape": [2, 3], "seed": 3.0}, {"shape": [4], "dtype": 11}, {"shape": [4], "dtype": 10}):
                suite.add(operator, [], attributes, opset=opset, any=True)
        for opset in versions(operator + "Like").values():
            for dtype in FLOATS:
                for attributes in ({}, {"seed": 3.0}, {"dtype": helper.np_dtype_to_tensor_dtype(np.dtype(np.float32))}):
                    suite.add(operator + "Like", [values(dtype, (2, 3), 1)], attributes, opset=opset, any=True)
    for opset in versions("Multinomial").values():
        for attributes in ({}, {"sample_size": 3}, {"sample_size": 3, "seed": 1.0}, {"dtype": 7}):
            suite.add("Multinomial", [values("f32", (2, 3), 1)], attributes, opset=opset, any=True)


def all_of(suite):
    for family in (unary, binary, uniform, powers, broken_powers, shifts, many, where, clip, casts, of_sizes, random):
        family(suite)
