"""Tensors without elements: what a request of no rows or no steps, or an empty part of one, brings to a node."""

import numpy as np

from building import Dim, allowed, ints, scalar, values, versions

FEW = ("f32", "f16", "i64", "i32", "bool")


def each(operator, operand=0, oldest=9):
    """The versions of the operator, and those dtypes that models compute in."""
    for opset in versions(operator, oldest=oldest).values():
        for dtype in allowed(operator, opset, operand):
            if dtype in FEW:
                yield opset, dtype


def elementwise(suite):
    for operator in ("Add", "Sub", "Mul", "Div", "Equal", "Less", "Greater", "GreaterOrEqual", "LessOrEqual", "And", "Or"):
        for opset, dtype in each(operator):
            for one, two in (((2, 0), (2, 1)), ((2, 0), ()), ((2, 0), (1,)), ((0, 3), (1, 3)), ((0, 3), (1,)), ((2, 1, 0), (4, 1)), ((0,), (0,)), ((2, 0, 3), (2, 0, 3))):
                given = [values(dtype, one, 301), np.abs(values(dtype, two, 302)) + 1 if dtype not in ("bool",) else values(dtype, two, 302)]
                given = [np.asarray(array, dtype=values(dtype, (1,)).dtype) for array in given]
                suite.vary(operator, given, opset=opset)
                suite.vary(operator, given[::-1], opset=opset)
    for operator in ("Max", "Min", "Sum", "Mean"):
        for opset, dtype in each(operator):
            x, y = values(dtype, (2, 0), 303), values(dtype, (2, 1), 304)
            for given in ([x, x.copy()], [x, y], [y, x, y]):
                suite.vary(operator, given, opset=opset)
    for opset, dtype in each("Where", 1):
        for shapes in (((0, 3), (0, 3), (0, 3)), ((0, 3), (3,), (0, 3)), ((2, 0), (2, 1), ()), ((2, 1), (2, 0), ()), ((0, 3), (), ())):
            suite.vary("Where", [values("bool", shapes[0], 305), values(dtype, shapes[1], 306), values(dtype, shapes[2], 307)], opset=opset)
    for opset, dtype in each("Clip"):
        if opset >= 11:
            suite.vary("Clip", [values(dtype, (0, 3), 308), scalar(-1, dtype), scalar(1, dtype)], opset=opset)
    for opset, dtype in each("Cast"):
        for to in (1, 6, 7, 9, 10):
            suite.vary("Cast", [values(dtype, (2, 0), 309)], {"to": to}, opset=opset)
    for opset, dtype in each("Pow"):
        suite.vary("Pow", [values(dtype, (0, 3), 310), scalar(2, dtype)], opset=opset)
    for opset, dtype in each("PRelu"):
        suite.vary("PRelu", [values(dtype, (0, 3, 4), 311), values(dtype, (3, 1), 312)], opset=opset)


def moves(suite):
    for opset, dtype in each("Concat"):
        for shapes, axis in (([(0, 3), (2, 3)], 0), ([(2, 0), (2, 3)], 1), ([(2, 0), (2, 3)], -1), ([(0, 3), (0, 3)], 0), ([(0, 3), (0, 4)], 1), ([(1, 2, 0, 4), (1, 2, 3, 4)], 2), ([(1, 2, 0, 4), (1, 2, 3, 4)], -2), ([(2, 3), (0, 3), (1, 3)], 0)):
            suite.vary("Concat", [values(dtype, shape, 320 + place) for place, shape in enumerate(shapes)], {"axis": axis}, opset=opset)
    for opset, dtype in each("Transpose"):
        for shape in ((0, 3), (2, 0, 4), (1, 0, 3, 4)):
            for order in ([1, 0, 2, 3], [0, 2, 1, 3], [2, 0, 1, 3]):
                chosen = [axis for axis in order if axis < len(shape)]
                suite.vary("Transpose", [values(dtype, shape, 321)], {"perm": chosen}, opset=opset)
    for opset, dtype in each("Reshape"):
        for shape, target in (((0, 4), [0, 2, 2]), ((0, 4), [-1, 2, 2]), ((2, 0, 3), [0, 0, 3]), ((2, 0, 3), [0, -1]), ((0,), [0, 1]), ((1, 0, 8), [1, -1, 2, 4]), ((1, 0, 8), [0, 0, 2, 4])):
            suite.vary("Reshape", [values(dtype, shape, 322), ints(*target)], opset=opset, stored=(1,))
        suite.add("Reshape", [values(dtype, (0, 4), 322), Dim(0, 2, 2)], opset=opset)
        suite.add("Reshape", [values(dtype, (2, 0, 3), 322), Dim(2, 0, 3)], opset=opset)
    for opset, dtype in each("Flatten"):
        for shape in ((0, 3, 4), (2, 0, 4)):
            for axis in (0, 1, 2):
                suite.vary("Flatten", [values(dtype, shape, 323)], {"axis": axis}, opset=opset)
    for operator, shape in (("Unsqueeze", (0, 3)), ("Squeeze", (0, 1, 3))):
        for opset, dtype in each(operator):
            x = values(dtype, shape, 324)
            if opset < 13:
                suite.vary(operator, [x], {"axes": [1]}, opset=opset)
            else:
                suite.vary(operator, [x, ints(1)], opset=opset, stored=(1,))
    for opset, dtype in each("Slice", oldest=10):
        for shape, starts, ends, axes, steps in (
            ((0, 4), [1], [3], [1], None), ((2, 0), [0], [1], [0], None), ((4, 3), [2], [2], [0], None), ((4, 3), [0], [0], [1], [1]), ((4, 0), [0], [2**63 - 1], [1], [1]),
            ((0, 3), [0], [1], [0], None), ((0, 3), [-1], [2**63 - 1], [0], None), ((3, 4), [5], [9], [1], None), ((3, 4), [-1], [0], [1], None), ((4, 3), [1], [1], [0], [2]),
            ((1, 4), [-2], [-(2**63)], [0], [-1]), ((1, 4), [-3], [-(2**63)], [0], [-1]), ((0, 4), [-1], [-(2**63)], [0], [-1]), ((4, 3), [0], [2], [0], [-1]),
        ):
            given = [values(dtype, shape, 325), ints(*starts), ints(*ends), ints(*axes)] + ([ints(*steps)] if steps else [])
            # Stepping back, it is from where that decides, and each is tried.
            suite.vary("Slice", given, opset=opset, stored=tuple(range(1, len(given))), unlike=steps == [-1])
        for start in (0, 1):
            suite.add("Slice", [values(dtype, (3, 4), 325), ints(start), Dim(start), ints(0)], opset=opset, const=(1, 3))
    for opset, dtype in each("Split"):
        for shape, axis, sizes in (((0, 4), 1, [2, 2]), ((4, 0), 0, [1, 3]), ((4, 3), 0, [0, 4]), ((4, 3), 0, [4, 0])):
            x, names = values(dtype, shape, 326), ["a", "b"]
            if opset < 13:
                suite.vary("Split", [x], {"axis": axis, "split": sizes}, opset=opset, outputs=names)
            else:
                suite.vary("Split", [x, ints(*sizes)], {"axis": axis}, opset=opset, stored=(1,), outputs=names)
    for opset, dtype in each("Gather"):
        for shape, places, axis in (((4, 3), (0,), 0), ((4, 3), (2, 0), 0), ((4, 3), (0,), 1), ((0, 3), (0,), 0), ((0, 3), (2,), 1), ((4, 0), (2,), 0), ((2, 0, 4), (1,), 2), ((2, 0, 4), (), 2)):
            where = np.zeros(places, dtype=np.int64)
            suite.vary("Gather", [values(dtype, shape, 327), where], {"axis": axis}, opset=opset)
    for operator in ("GatherElements", "ScatterElements"):
        for opset, dtype in each(operator, oldest=11):
            for shape, places in (((3, 4), (0, 4)), ((0, 4), (0, 4)), ((3, 4), (3, 0))):
                where = np.zeros(places, dtype=np.int64)
                given = [values(dtype, shape, 328), where] + ([values(dtype, places, 329)] if operator == "ScatterElements" else [])
                suite.vary(operator, given, {"axis": 0 if places[0] == 0 else 1}, opset=opset)
    for operator in ("GatherND", "ScatterND"):
        for opset, dtype in each(operator, oldest=11):
            where = np.zeros((0, 1), dtype=np.int64)
            given = [values(dtype, (3, 4), 330), where] + ([values(dtype, (0, 4), 331)] if operator == "ScatterND" else [])
            suite.vary(operator, given, opset=opset)
    for opset, dtype in each("Expand"):
        for shape, target in (((0, 3), [0, 3]), ((0, 3), [2, 0, 3]), ((1, 3), [0, 3]), ((2, 1), [2, 0]), ((0, 1), [0, 4])):
            suite.vary("Expand", [values(dtype, shape, 332), ints(*target)], opset=opset, stored=(1,))
            suite.add("Expand", [values(dtype, shape, 332), Dim(*target)], opset=opset)
    for opset, dtype in each("Tile"):
        for shape, times in (((0, 3), [2, 1]), ((2, 3), [0, 1]), ((2, 0), [1, 3])):
            suite.vary("Tile", [values(dtype, shape, 333), ints(*times)], opset=opset, stored=(1,))
    for opset, dtype in each("Pad", oldest=11):
        for shape, pads in (((0, 3), [1, 0, 1, 0]), ((0, 3), [0, 1, 0, 1]), ((2, 0), [0, 0, 0, 2]), ((0, 3), [0, 0, 0, 0])):
            suite.vary("Pad", [values(dtype, shape, 334), ints(*pads)], opset=opset, stored=(1,))
    for opset, dtype in each("Compress"):
        suite.vary("Compress", [values(dtype, (3, 4), 335), np.zeros(3, dtype=bool)], {"axis": 0}, opset=opset)
    for operator in ("Shape", "Size", "NonZero", "Identity"):
        for opset, dtype in each(operator):
            for shape in ((0, 3), (2, 0, 4), (0,)):
                suite.vary(operator, [values(dtype, shape, 336)], opset=opset)
            if operator == "NonZero":
                suite.add(operator, [np.zeros_like(values(dtype, (2, 3)))], opset=opset)
    for opset in versions("Range").values():
        for dtype in ("i64", "f32"):
            for start, end, step in ((0, 0, 1), (3, 1, 1), (2, 2, -1)):
                suite.vary("Range", [scalar(start, dtype), scalar(end, dtype), scalar(step, dtype)], opset=opset)
        suite.add("Range", [scalar(0), Dim(0, scalar=True), scalar(1)], opset=opset, const=(0, 2))
    for opset in versions("ConstantOfShape").values():
        suite.add("ConstantOfShape", [ints(0, 3)], opset=opset, const=(0,))
        suite.add("ConstantOfShape", [Dim(0, 3)], opset=opset)
    for opset in versions("OneHot").values():
        for axis in (-1, 0):
            suite.vary("OneHot", [np.zeros((0,), dtype=np.int64), scalar(3), values("f32", (2,), 337)], {"axis": axis}, opset=opset, stored=(1,))


def sums(suite):
    for operator in ("ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2", "ReduceLogSumExp", "ReduceSumSquare"):
        for opset, dtype in each(operator):
            for shape, axes in (((0, 3), [1]), ((0, 3), [0]), ((2, 0), [1]), ((2, 0), [-1]), ((2, 0, 4), [2]), ((2, 0, 4), [1]), ((0, 3, 4), [1, 2])):
                for keep in (0, 1):
                    x, attributes = values(dtype, shape, 340), {"keepdims": keep}
                    if opset >= (13 if operator == "ReduceSum" else 18):
                        suite.vary(operator, [x, ints(*axes)], attributes, opset=opset, stored=(1,))
                    else:
                        suite.vary(operator, [x], {**attributes, "axes": axes}, opset=opset)
    for operator in ("Softmax", "LogSoftmax", "Hardmax", "LpNormalization", "CumSum", "ArgMax", "ArgMin"):
        for opset, dtype in each(operator):
            for shape in ((0, 3), (2, 0), (2, 0, 4), (0, 3, 4)):
                for axis in (0, 1, -1):
                    x = values(dtype, shape, 341)
                    if operator == "CumSum":
                        suite.vary(operator, [x, scalar(axis)], opset=opset, stored=(1,))
                    else:
                        suite.vary(operator, [x], {"axis": axis}, opset=opset)
    for opset, dtype in each("TopK", oldest=10):
        for shape, count, axis in (((0, 4), 2, 1), ((2, 4), 0, 1)):
            suite.vary("TopK", [values(dtype, shape, 342), ints(count)], {"axis": axis}, opset=opset, stored=(1,), outputs=["v", "i"])


def networks(suite):
    for opset, dtype in each("MatMul"):
        for one, two in (((0, 4), (4, 3)), ((2, 4), (4, 0)), ((2, 0), (0, 3)), ((0, 5, 4), (4, 3)), ((2, 0, 4), (4, 3)), ((2, 0, 4), (2, 4, 3)), ((1, 2, 3, 0), (1, 2, 0, 4)), ((1, 2, 0, 4), (1, 2, 4, 5)), ((1, 2, 3, 4), (1, 2, 4, 0)), ((0, 2, 3, 4), (0, 2, 4, 3))):
            suite.vary("MatMul", [values(dtype, one, 350), values(dtype, two, 351)], opset=opset)
    for opset, dtype in each("Gemm"):
        for one, two, attributes in (((0, 4), (4, 3), {}), ((0, 4), (3, 4), {"transB": 1}), ((2, 0), (0, 3), {})):
            x, w, b = values(dtype, one, 352), values(dtype, two, 353), values(dtype, (3,), 354)
            suite.vary("Gemm", [x, w], attributes, opset=opset)
            suite.vary("Gemm", [x, w, b], attributes, opset=opset)
    for opset, dtype in each("Conv"):
        if dtype == "f32":
            for shape, kernel in (((0, 1, 6), (2, 1, 3)), ((0, 3, 8, 8), (4, 3, 3, 3)), ((0, 3, 8, 8), (4, 3, 1, 1))):
                suite.vary("Conv", [values(dtype, shape, 355), values(dtype, kernel, 356)], opset=opset, stored=(1,))
    for operator in ("MaxPool", "AveragePool"):
        for opset, dtype in each(operator):
            for shape, kernel in (((0, 1, 6), [2]), ((0, 3, 8, 8), [2, 2]), ((2, 1, 1), [2]), ((1, 3, 2, 8), [3, 3]), ((2, 1, 2), [3])):
                for attributes in ({}, {"strides": [2] * len(kernel)}, {"pads": [1] * (2 * len(kernel))}):
                    suite.vary(operator, [values(dtype, shape, 357)], {"kernel_shape": kernel, **attributes}, opset=opset)
    for operator in ("GlobalAveragePool", "GlobalMaxPool"):
        for opset, dtype in each(operator):
            for shape in ((0, 3, 4), (0, 3, 4, 4), (1, 3, 0)):
                suite.vary(operator, [values(dtype, shape, 358)], opset=opset)
    for opset, dtype in each("BatchNormalization"):
        if dtype == "f32":
            scale, bias, mean, variance = (values("f32", (3,), seed) for seed in (359, 360, 361, 362))
            for shape in ((0, 3), (0, 3, 4), (2, 3, 0)):
                suite.vary("BatchNormalization", [values(dtype, shape, 363), scale, bias, mean, np.abs(variance)], opset=opset, stored=(1, 2, 3, 4))
    for opset, dtype in each("LayerNormalization"):
        for shape in ((0, 4), (2, 0, 4)):
            suite.vary("LayerNormalization", [values(dtype, shape, 364), values(dtype, (4,), 365), values(dtype, (4,), 366)], opset=opset, stored=(1, 2))
    for opset in versions("Einsum").values():
        for equation, one, two in (("ij,jk->ik", (0, 4), (4, 3)), ("bij,bjk->bik", (2, 0, 4), (2, 4, 3))):
            suite.add("Einsum", [values("f32", one, 367), values("f32", two, 368)], {"equation": equation}, opset=opset)
    for opset in versions("DequantizeLinear", oldest=10).values():
        suite.vary("DequantizeLinear", [values("u8", (0, 3), 369), scalar(0.5, "f32"), scalar(3, "u8")], opset=opset, stored=(1, 2))
    for opset in versions("QuantizeLinear", oldest=10).values():
        suite.vary("QuantizeLinear", [values("f32", (0, 3), 370), scalar(0.5, "f32"), scalar(3, "u8")], opset=opset, stored=(1, 2))


def all_of(suite):
    for family in (elementwise, moves, sums, networks):
        family(suite)
