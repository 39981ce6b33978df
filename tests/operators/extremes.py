"""Numbers at the ends of their types, and what is none: one rule for all operators that compute, not what the author of each thought of."""

import itertools

import numpy as np

from building import DTYPES, FLOATS, INTEGERS, allowed, ints, scalar, versions
from elementwise import UNARY
from network import REDUCTIONS


def ends(dtype, none=False):
    """The numbers from which the arrays are drawn; with `none` NaN is among them."""
    kind = np.dtype(DTYPES[dtype][0])
    if kind.kind != "f":
        limits = np.iinfo(kind)
        return np.array([limits.min, limits.max, limits.max - 1, limits.min + 1, limits.max // 2, 0, 1, 2, 3], kind)
    limits = np.finfo(kind)
    found = [np.inf, -np.inf, limits.max, limits.min, limits.tiny, -limits.tiny, 0.0, -0.0, 1.0, -1.0, 2.5, -2.5, 88.8, -88.8, 300.0, -300.0, 3e4, -3e4]
    return np.array(found + ([np.nan] * 3 if none else []), kind)


def draw(dtype, shape, seed, *, none=False, tame=False, most=None):
    """With `tame` none so large that a sum of two would be no number: their order would decide. `most` bounds what is finite."""
    pool = ends(dtype, none)
    if most is not None:
        pool = pool[~(np.isfinite(pool) & (np.abs(pool) > most))]
    if tame and pool.dtype.kind == "f":
        pool = pool[~(np.abs(pool) == np.finfo(pool.dtype).max)]
    return np.random.default_rng(seed).choice(pool, shape)


UNDEFINED = ("Acos", "Acosh", "Asin", "Atanh")
"""Most of the numbers are outside of what they are defined for."""


def pairs(suite, operator, dtype, shapes, tails, attributes, opset, *, tame=False, most=None, **options):
    """Arrays of the shapes with infinities, and with what is no number: that may be answered by an error."""
    for seed, shape in enumerate(shapes):
        for none in (False, True):
            given = draw(dtype, shape, 300 + seed, none=none, tame=tame, most=most)
            tail = [operand(given) if callable(operand) else operand for operand in tails]
            const = [place + 1 for place, operand in enumerate(tail) if operand is not None and operand.dtype == np.int64]
            suite.add(operator, [given, *tail], attributes, opset=opset, const=const, unlike=True, may_fail=none, **options)


def each(suite):
    for operator, kinds in UNARY.items():
        for opset in versions(operator).values():
            for dtype in set(allowed(operator, opset, 0)) & set(FLOATS):
                for attributes in kinds:
                    if operator not in UNDEFINED and "approximate" not in attributes:
                        pairs(suite, operator, dtype, [(40,), (5, 9)], [], attributes, opset)
    for operator in ("Max", "Min", "Sum", "Mean"):
        for opset in versions(operator).values():
            for dtype in set(allowed(operator, opset, 0)) & set(FLOATS):
                one, two = draw(dtype, (40,), 310, tame=True), draw(dtype, (40,), 311, tame=True)
                suite.add(operator, [one, two], opset=opset, unlike=True)
    for opset in versions("Clip", oldest=11).values():
        for dtype in set(allowed("Clip", opset, 0)) & set(FLOATS):
            low, high = scalar(-2.0, dtype), scalar(88.0, dtype)
            for bounds in ([low], [None, high], [low, high], []):
                pairs(suite, "Clip", dtype, [(40,)], bounds, {}, opset)
    for opset in versions("Clip").values():
        if opset < 11:
            for attributes in ({}, {"min": -2.0}, {"max": 88.0}, {"min": 0.0, "max": 6.0}):
                pairs(suite, "Clip", "f32", [(40,)], [], attributes, opset)
    for opset in versions("Cast").values():
        # Of what an integer does not hold nothing is promised.
        for source, target in itertools.product(FLOATS, (*FLOATS, "bool")):
            if opset >= 9 or "f16" not in (source, target):
                to = {"f32": 1, "f16": 10, "f64": 11, "bool": 9}[target]
                suite.add("Cast", [draw(source, (40,), 312, none=target != "bool")], {"to": to}, opset=opset, unlike=True)
        for source, target in itertools.product(INTEGERS, (*INTEGERS, "f32", "f64", "bool")):
            to = {"f32": 1, "f64": 11, "bool": 9, "i8": 3, "i16": 5, "i32": 6, "i64": 7, "u8": 2, "u16": 4, "u32": 12, "u64": 13}[target]
            suite.add("Cast", [draw(source, (40,), 313)], {"to": to}, opset=opset, unlike=True)


def along(suite):
    for operator in ("Softmax", "LogSoftmax", "Hardmax"):
        for opset in versions(operator).values():
            for dtype in FLOATS:
                for axis in (0, 1):
                    pairs(suite, operator, dtype, [(6, 7), (3, 4), (2, 2)], [], {"axis": axis}, opset)
    for operator in ("ArgMax", "ArgMin"):
        for opset in versions(operator).values():
            for dtype in set(allowed(operator, opset, 0)) & {*FLOATS, "i32", "i64", "i8", "u8"}:
                for last, axis in itertools.product(({}, {"select_last_index": 1}) if opset >= 12 else ({},), (0, 1)):
                    pairs(suite, operator, dtype, [(6, 7), (3, 4), (2, 2), (7, 2)], [], {"axis": axis, **last}, opset)
                    if dtype in FLOATS:
                        least = np.random.default_rng(314).choice(np.sort(ends(dtype))[:2], (4, 4))
                        for given in (least, -least):
                            suite.add(operator, [given], {"axis": axis, **last}, opset=opset, unlike=True)
    for opset in versions("TopK", oldest=10).values():
        for dtype in FLOATS:
            for attributes in ({}, {"largest": 0}) if opset >= 11 else ({},):
                pairs(suite, "TopK", dtype, [(6, 7), (3, 4), (40,)], [ints(3)], {"axis": -1, **attributes}, opset, outputs=2)
    for operator in REDUCTIONS:
        for opset in versions(operator).values():
            operand = opset >= (13 if operator == "ReduceSum" else 18)
            for dtype in set(allowed(operator, opset, 0)) & {*FLOATS}:
                for keep, axis in itertools.product(({}, {"keepdims": 0}), (0, 1)):
                    axes, said = ([ints(axis)], keep) if operand else ([], {**keep, "axes": [axis]})
                    # Where ONNX Runtime has no kernel it takes the function that the operator is defined by, whose exponential overflows.
                    most = 80 if operator == "ReduceLogSumExp" else None
                    pairs(suite, operator, dtype, [(6, 7), (2, 40), (3, 2), (2, 2)], axes, said, opset, tame=True, most=most)
    for opset in versions("CumSum").values():
        for dtype in FLOATS:
            for attributes in ({}, {"reverse": 1}, {"exclusive": 1}):
                pairs(suite, "CumSum", dtype, [(3, 4)], [ints(1)], attributes, opset, tame=True)


def layers(suite):
    window = {"kernel_shape": [2, 2], "strides": [2, 2]}
    for operator, attributes in (("MaxPool", window), ("MaxPool", {**window, "pads": [1, 1, 1, 1]}), ("AveragePool", window), ("GlobalMaxPool", {}), ("GlobalAveragePool", {})):
        for opset in versions(operator).values():
            for dtype in set(allowed(operator, opset, 0)) & set(FLOATS):
                pairs(suite, operator, dtype, [(1, 2, 6, 6), (2, 1, 3, 2)], [], attributes, opset, tame=True)
    for opset in versions("Where").values():
        for dtype in FLOATS:
            condition = np.random.default_rng(320).integers(0, 2, (40,)).astype(bool)
            suite.add("Where", [condition, draw(dtype, (40,), 321, none=True), draw(dtype, (40,), 322, none=True)], opset=opset, unlike=True)
    for operator in ("Equal", "Greater", "Less", "GreaterOrEqual", "LessOrEqual"):
        for opset in versions(operator).values():
            for dtype in set(allowed(operator, opset, 0)) & set(FLOATS):
                suite.add(operator, [draw(dtype, (40,), 323, none=True), draw(dtype, (40,), 324, none=True)], opset=opset, unlike=True, may_fail=True)
    for operator in ("Add", "Sub", "Mul", "Div"):
        for opset in versions(operator).values():
            for dtype in set(allowed(operator, opset, 0)) & set(FLOATS):
                suite.add(operator, [draw(dtype, (40,), 325, none=True), draw(dtype, (40,), 326, none=True)], opset=opset, unlike=True, may_fail=True)
    for opset in versions("PRelu").values():
        for dtype in set(allowed("PRelu", opset, 0)) & set(FLOATS):
            suite.add("PRelu", [draw(dtype, (40,), 327), draw(dtype, (40,), 328)], opset=opset, unlike=True)


def all_of(suite):
    for family in (each, along, layers):
        family(suite)
