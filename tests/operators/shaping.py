"""Operators that move elements, and those that read or make shapes."""

import numpy as np
from onnx import helper, numpy_helper

from building import ALL, DTYPES, FLOATS, INTEGERS, NUMBERS, Dim, ints, scalar, values, versions

COMMON = ("f32", "f16", "f64", "i64", "i32", "i8", "u8", "bool")
"""Those that elements are moved in. What moves them tells them apart by their size alone, so these are tried less."""
FEW = ("f32", "f16", "i64", "i32", "u8", "bool")


def reshapes(suite):
    for opset in versions("Reshape").values():
        for dtype in COMMON:
            x = values(dtype, (2, 3, 4), 1)
            for target in ([6, 4], [-1], [0, -1], [2, 0, 4], [0, 0, 2, -1], [24], [2, 3, 4], [1, 2, 3, 4], [-1, 4], [1, -1]):
                suite.vary("Reshape", [x, ints(*target)], opset=opset, stored=(1,))
            suite.vary("Reshape", [x, ints(6, 4)], opset=opset)
            suite.vary("Reshape", [values(dtype, (1,), 1), np.array([], np.int64)], opset=opset, stored=(1,))
            suite.add("Reshape", [x, Dim(6, 4)], opset=opset)
            suite.add("Reshape", [values(dtype, (0, 3), 1), ints(3, 0) if opset < 14 else ints(0, 3)], opset=opset, const=(1,))
            if opset >= 14:
                for target in ([2, 3, 4], [-1, 4], [6, 4]):
                    suite.vary("Reshape", [x, ints(*target)], {"allowzero": 1}, opset=opset, stored=(1,))
                suite.vary("Reshape", [values(dtype, (0, 3), 1), ints(3, 0)], {"allowzero": 1}, opset=opset, stored=(1,))
    for opset in versions("Flatten").values():
        for dtype in COMMON:
            for shape in [(3,), (2, 3), (2, 3, 4), (2, 3, 4, 5), (1, 2, 3, 2, 2)]:
                for axis in range(-len(shape) if opset >= 11 else 0, len(shape) + 1):
                    suite.vary("Flatten", [values(dtype, shape, 2)], {"axis": axis}, opset=opset)
                suite.vary("Flatten", [values(dtype, shape, 2)], opset=opset)


def squeezes(suite):
    for operator in ("Squeeze", "Unsqueeze"):
        for opset in versions(operator).values():
            for dtype in COMMON:
                shapes = [(1, 3, 1), (1, 3), (3, 1, 2, 1), (1,)] if operator == "Squeeze" else [(), (3,), (2, 3), (2, 3, 4)]
                for shape in shapes:
                    rank = len(shape) + (0 if operator == "Squeeze" else 2)
                    places = [axis for axis in range(rank) if operator == "Unsqueeze" or shape[axis] == 1]
                    single = rank - 1 if operator == "Unsqueeze" else rank
                    chosen = [[axis] for axis in (places if operator == "Squeeze" else range(single))]
                    chosen += [[axis - single] for axis in (places if operator == "Squeeze" else range(single))]
                    if len(places) > 1:
                        chosen += [places[:2], [places[0], places[1] - rank], [places[-1], places[0]]]
                    for axes in chosen:
                        if min(axes) < 0 and opset < 11:
                            continue
                        given = values(dtype, shape, 3)
                        if opset < 13:
                            suite.vary(operator, [given], {"axes": axes}, opset=opset)
                        else:
                            suite.vary(operator, [given, ints(*axes)], opset=opset, stored=(1,))
                    if opset >= 13 and chosen:
                        suite.add(operator, [values(dtype, shape, 3), ints(*chosen[0])], opset=opset)
                    if operator == "Squeeze":
                        suite.vary(operator, [values(dtype, shape, 3)], opset=opset)
            for given, axes in ((Dim(5, scalar=True), [0]), (Dim(5), [0]), (Dim(5), [-1]), (Dim(5, scalar=True), [-1]), (Dim(4, 5), [0])):
                if operator == "Squeeze" and (given.scalar or len(given.sizes) > 1) or (axes[0] < 0 and opset < 11):
                    continue
                if opset < 13:
                    suite.add(operator, [given], {"axes": axes}, opset=opset)
                else:
                    suite.add(operator, [given, ints(*axes)], opset=opset, const=(1,))
            if operator == "Squeeze":
                suite.add(operator, [Dim(5)], opset=opset)


def moves(suite):
    for opset in versions("Transpose").values():
        for dtype in ALL:
            for shape in [(3,), (2, 3), (2, 3, 4), (2, 3, 4, 5), (2, 1, 3, 2, 2), (2, 1, 2, 3, 1, 2), (0, 3)]:
                rank = len(shape)
                perms = [None, list(range(rank)), list(range(rank))[::-1], [*range(1, rank), 0]]
                if rank > 2:
                    perms += [[0, *range(2, rank), 1], [0, rank - 1, *range(1, rank - 1)], [*range(rank - 2), rank - 1, rank - 2]]
                for perm in perms:
                    suite.vary("Transpose", [values(dtype, shape, 4)], {} if perm is None else {"perm": perm}, opset=opset)
    for opset in versions("Concat").values():
        for dtype in ALL:
            for count in (1, 2, 3, 5):
                for shape in [(3,), (2, 3), (2, 3, 4), (1, 2, 3, 4), (1, 2, 2, 2, 3)]:
                    for axis in range(-len(shape) if opset >= 11 else 0, len(shape)):
                        given = [values(dtype, tuple(size + (place if at == axis % len(shape) else 0) for at, size in enumerate(shape)), 5 + place)
                                 for place in range(count)]
                        if len(shape) == 1 or (len(shape) == 3 and count < 4):
                            suite.vary("Concat", given, {"axis": axis}, opset=opset)
                        else:
                            suite.add("Concat", given, {"axis": axis}, opset=opset)
        for given in ([Dim(2, 3), ints(4)], [ints(4), Dim(2, 3)], [Dim(2), Dim(3)], [Dim(2), ints(-1), Dim(3)], [ints(1), Dim(2), ints(3)], [Dim(2)],
                      [Dim(2), Dim(3), Dim(4)], [ints(0), Dim(3), Dim(4), ints(-1)]):
            stored = [place for place, operand in enumerate(given) if not isinstance(operand, Dim)]
            for axis in (0, -1):
                if opset >= 11 or axis == 0:
                    suite.add("Concat", given, {"axis": axis}, opset=opset, const=stored)
                    suite.add("Concat", given, {"axis": axis}, opset=opset)
    for opset in versions("Split").values():
        for dtype in COMMON:
            for shape in [(6,), (4, 6), (2, 6, 4), (1, 6, 4, 6)]:
                for axis in range(-len(shape) if opset >= 11 else 0, len(shape)):
                    size, given = shape[axis], values(dtype, shape, 6)
                    for parts in (2, 3, 1):
                        if size % parts == 0 and size >= parts:
                            extra = {"num_outputs": parts} if opset >= 18 else {}
                            suite.vary("Split", [given], {"axis": axis, **extra}, opset=opset, outputs=parts)
                    if size > 3:
                        sizes = [1, size - 3, 2]
                        if opset < 13:
                            suite.vary("Split", [given], {"axis": axis, "split": sizes}, opset=opset, outputs=3)
                        else:
                            suite.vary("Split", [given, ints(*sizes)], {"axis": axis}, opset=opset, outputs=3, stored=(1,))
                            suite.add("Split", [given, ints(*sizes)], {"axis": axis}, opset=opset, outputs=3)
                    if opset >= 18 and size == 4:
                        suite.vary("Split", [given], {"axis": axis, "num_outputs": 3}, opset=opset, outputs=3)
        parts = ints(1, 1, 1)
        if opset < 13:
            suite.add("Split", [Dim(2, 3, 4)], {"split": [1, 1, 1]}, opset=opset, outputs=3)
        else:
            suite.add("Split", [Dim(2, 3, 4), parts], opset=opset, outputs=3, const=(1,))


def slices(suite):
    large = np.iinfo(np.int64).max
    chosen = [
        ([0], [2], [0], None), ([1], [large], [1], None), ([-2], [large], [-1], None), ([0, 1], [2, 3], [0, 1], None), ([0], [-1], [1], None),
        ([0], [2], [0], [1]), ([0], [5], [-1], [2]), ([-1], [-large], [0], [-1]), ([4], [0], [1], [-2]), ([1, 0], [3, -1], [0, 1], [2, 1]),
        ([0], [1000], [-1], None), ([1], [1], [0], None), ([-3], [-1], [1], [1]), ([0, 0, 0], [1, 2, 3], [0, 1, 2], [1, 1, 1]), ([0], [-2], [-1], [1]),
        ([0], [large], [1], [2]), ([-1], [-1000], [1], [-1]), ([1], [-1], [0], None), ([1], [-1], [0], [1]), ([0], [large], [-1], [1]),
        ([0], [large], [0], [1]), ([1], [1000], [1], [1]), ([-2], [large], [0], [1]), ([0, 1], [large, -1], [0, 1], [1, 1]), ([0], [3], [-2], None),
        ([0], [3], [-2], [1]), ([0, 1], [2, 3], [-2, -1], [1, 1]), ([-3], [large], [-1], [1]), ([-3], [3], [-1], None), ([-3], [3], [0], None),
        ([-3], [-1], [0], None), ([0], [-1], [-1], None), ([0], [large], [0], [2]), ([-4], [large], [0], [2]), ([-4], [-1], [-1], [2]),
        ([-1], [-(2**31)], [1], [-1]), ([-1], [-(2**31)], [0], [-1]), ([0], [2**31], [1], [1]), ([0], [2**40], [0], [2]), ([-1], [-(2**40)], [0], [-2]),
    ]
    for opset in versions("Slice").values():
        for dtype in COMMON:
            for shape in [(5,), (5, 6), (4, 5, 6), (3, 4, 5, 6)]:
                given = values(dtype, shape, 7)
                for starts, ends, axes, steps in chosen:
                    if max(axes) >= len(shape) or min(axes) < -len(shape):
                        continue
                    if opset < 10:
                        if steps is None:
                            suite.vary("Slice", [given], {"starts": starts, "ends": ends, "axes": axes}, opset=opset)
                            if axes == list(range(len(axes))):
                                suite.vary("Slice", [given], {"starts": starts, "ends": ends}, opset=opset)
                        continue
                    for kind in (np.int64, np.int32):
                        limit = np.iinfo(kind).max
                        fit = lambda numbers: np.array([max(min(number, limit), -limit) for number in numbers], dtype=kind)  # noqa: E731
                        operands = [given, fit(starts), fit(ends), fit(axes)] + ([fit(steps)] if steps else [])
                        suite.vary("Slice", operands, opset=opset, stored=tuple(range(1, len(operands))))
                        if axes == list(range(len(axes))):
                            operands = [given, fit(starts), fit(ends), None, fit(steps)] if steps else [given, fit(starts), fit(ends)]
                            suite.vary("Slice", operands, opset=opset, stored=tuple(place for place in (1, 2, 4) if place < len(operands)))
                if opset >= 10 and dtype in FEW:
                    for operands in ([given, ints(1), ints(4), ints(0)], [given, ints(1), ints(4)], [given, ints(1), ints(4), ints(0), ints(1)]):
                        suite.add("Slice", operands, opset=opset)
                        suite.add("Slice", operands, opset=opset, const=tuple(place for place in (1, 3, 4) if place < len(operands)))
                        suite.add("Slice", operands, opset=opset, const=tuple(place for place in (2, 3, 4) if place < len(operands)))
                    for extra in ([], [ints(0)], [ints(0), ints(1)], [ints(-1)], [ints(-1), ints(1)]):
                        stored = tuple(range(1, 3 + len(extra)))
                        suite.add("Slice", [given, ints(0), Dim(3), *extra], opset=opset, const=stored)
                        suite.add("Slice", [given, Dim(1), Dim(3), *extra], opset=opset, const=stored)
                        suite.add("Slice", [given, Dim(1), ints(large), *extra], opset=opset, const=stored)
                        suite.add("Slice", [given, Dim(1), ints(4), *extra], opset=opset, const=stored)
        sizes = Dim(2, 3, 4, 5)
        for starts, ends in ([0], [1]), ([1], [3]), ([-1], [large]), ([-2], [large]), ([1], [large]), ([0], [-1]), ([0], [-2]), ([2], [4]), ([-2], [-1]):
            if opset < 10:
                suite.add("Slice", [sizes], {"starts": starts, "ends": ends, "axes": [0]}, opset=opset)
                suite.add("Slice", [sizes], {"starts": starts, "ends": ends}, opset=opset)
                continue
            for extra in ([], [ints(0)], [ints(0), ints(1)]):
                suite.add("Slice", [sizes, ints(*starts), ints(*ends), *extra], opset=opset, const=(1, 2, 3, 4))


def gathers(suite):
    for opset in versions("Gather").values():
        for dtype in COMMON:
            for shape in [(5,), (5, 4), (5, 4, 3), (5, 4, 3, 2)]:
                data = values(dtype, shape, 8)
                for axis in range(-len(shape), len(shape)):
                    for indices in (scalar(1), ints(0, 2, 1), np.array([[0, 1], [1, 0]]), np.array([[[0, 1]]])):
                        suite.vary("Gather", [data, indices], {"axis": axis}, opset=opset)
                    suite.vary("Gather", [data, scalar(1, "i32")], {"axis": axis}, opset=opset)
                    suite.vary("Gather", [data, np.array([[0, 1]], np.int32)], {"axis": axis}, opset=opset)
                    suite.vary("Gather", [data, np.array([0, 1], np.int32)], {"axis": axis}, opset=opset)
                    if opset >= 11:
                        for indices in (scalar(-1), ints(0, -2), np.array([[-1, 1]]), scalar(-1, "i32"), np.array([[-1, 1]], np.int32), np.array([-1, 0], np.int32)):
                            suite.vary("Gather", [data, indices], {"axis": axis}, opset=opset)
                suite.vary("Gather", [data, ints(0, 2)], opset=opset)
        for indices in (scalar(0), scalar(1), ints(0), ints(0, 1), ints(1), scalar(0, "i32"), ints(0, 2, 1)):
            for axis in ({}, {"axis": 0}, {"axis": -1}):
                suite.add("Gather", [Dim(4, 5, 6), indices], axis, opset=opset, const=(1,))
        if opset >= 11:
            for indices in (scalar(-1), ints(-1), ints(-2, 0), scalar(-2)):
                suite.add("Gather", [Dim(4, 5, 6), indices], opset=opset, const=(1,))
    for opset in versions("GatherElements").values():
        for dtype in COMMON:
            for shape in [(4,), (3, 4), (2, 3, 4), (2, 2, 3, 4)]:
                for axis in range(-len(shape), len(shape)):
                    for kind in (np.int64, np.int32):
                        data, size = values(dtype, shape, 9), shape[axis]
                        indices = np.random.default_rng(1).integers(0, size, shape).astype(kind)
                        suite.vary("GatherElements", [data, indices], {"axis": axis}, opset=opset)
                        suite.vary("GatherElements", [data, (indices - size).astype(kind)], {"axis": axis}, opset=opset)
    for opset in versions("GatherND").values():
        for dtype in COMMON:
            for shape, indices in [((4,), [[1], [3]]), ((3, 4), [[0, 1], [2, 3]]), ((3, 4), [[1], [2]]), ((3, 4, 2), [[[0, 1]], [[2, 3]]]), ((3, 4, 2), [[0, 1, 1]]),
                                   ((2, 3, 4, 2), [[0, 1], [1, 2]]), ((3, 4), [2, 1]), ((3, 4, 2), [[1, 2]])]:
                places, shift = np.array(indices), np.array(shape[: np.array(indices).shape[-1]])
                suite.vary("GatherND", [values(dtype, shape, 10), places], opset=opset)
                suite.vary("GatherND", [values(dtype, shape, 10), places - shift], opset=opset)
                if opset >= 12:
                    suite.vary("GatherND", [values(dtype, shape, 10), places], {"batch_dims": 0}, opset=opset)
            if opset >= 12:
                for indices in (np.array([[0], [1]]), np.array([[0], [-1]])):
                    suite.vary("GatherND", [values(dtype, (2, 3, 4), 10), indices], {"batch_dims": 1}, opset=opset)
                    suite.vary("GatherND", [values(dtype, (2, 3), 10), indices], {"batch_dims": 1}, opset=opset)


def scatters(suite):
    for operator in ("ScatterElements", "Scatter"):
        for opset in versions(operator).values():
            if operator == "Scatter" and opset > 10:
                continue
            for dtype in COMMON:
                for shape in [(4,), (3, 4), (2, 3, 4)]:
                    for axis in range(-len(shape) if opset > 10 else 0, len(shape)):
                        size, data = shape[axis], values(dtype, shape, 11)
                        for kind in (np.int64, np.int32):
                            order = np.argsort(np.random.default_rng(2).random(shape), axis=axis).astype(kind)
                            updates = values(dtype, shape, 12)
                            given = [data, order, updates]
                            suite.vary(operator, given, {"axis": axis}, opset=opset)
                            suite.vary(operator, [data, (order - size).astype(kind), updates], {"axis": axis}, opset=opset)
                        for reduction in ("add", "mul", "max", "min", "none"):
                            if opset >= (18 if reduction in ("max", "min") else 16) and dtype != "bool":
                                repeated = np.zeros_like(order)
                                for places in (order, repeated):
                                    suite.add(operator, [data, places.astype(np.int64), updates], {"axis": axis, "reduction": reduction}, opset=opset)
                                    suite.add(operator, [data, places.astype(np.int64), updates], {"axis": axis, "reduction": reduction}, opset=opset, const=(1,))
    for opset in versions("ScatterND").values():
        for dtype in COMMON:
            for shape, indices, tail in [((5,), [[1], [3]], (2,)), ((3, 4), [[0, 1], [2, 3]], (2,)), ((3, 4), [[1], [2]], (2, 4)), ((3, 4, 2), [[0, 1]], (1, 2)),
                                         ((3, 4, 2), [[[0, 1, 1]], [[2, 3, 0]]], (2, 1)), ((2, 3, 4, 2), [[0, 1], [1, 2]], (2, 4, 2))]:
                places, shift = np.array(indices), np.array(shape[: np.array(indices).shape[-1]])
                for chosen in (places, places - shift):
                    given = [values(dtype, shape, 13), chosen, values(dtype, tail, 14)]
                    suite.vary("ScatterND", given, opset=opset)
                    for reduction in ("add", "mul", "max", "min", "none"):
                        if opset >= (18 if reduction in ("max", "min") else 16) and dtype != "bool":
                            suite.add("ScatterND", given, {"reduction": reduction}, opset=opset)
                            suite.add("ScatterND", given, {"reduction": reduction}, opset=opset, const=(1,))
            if opset >= 16 and dtype in ("f32", "i64"):
                given = [values(dtype, (5,), 13), np.array([[1], [1]]), values(dtype, (2,), 14)]
                for reduction in ("add", "mul"):
                    suite.vary("ScatterND", given, {"reduction": reduction}, opset=opset)


def growths(suite):
    for opset in versions("Expand").values():
        for dtype in COMMON:
            for shape, target in [((3,), (2, 3)), ((2, 1), (2, 4)), ((1, 3), (2, 1, 3)), ((2, 3), (1, 1)), ((), (2, 2)), ((2, 3), (2, 3)), ((3, 1), (3,)), ((1,), (4,))]:
                suite.vary("Expand", [values(dtype, shape, 15), ints(*target)], opset=opset, stored=(1,))
            suite.vary("Expand", [values(dtype, (3,), 15), ints(0, 3)], opset=opset, stored=(1,), may_fail=True)
            suite.add("Expand", [values(dtype, (1, 3), 15), ints(2, 3)], opset=opset)
            for shape, target in [((3,), Dim(2, 3)), ((2, 1), Dim(2, 4)), ((), Dim(2, 2)), ((1, 1), Dim(2, 3)), ((1,), Dim(2, 3)), ((1, 3), Dim(2, 3))]:
                suite.vary("Expand", [values(dtype, shape, 15), target], opset=opset)
        suite.add("Expand", [Dim(7), ints(3)], opset=opset, const=(1,))
    for opset in versions("Tile").values():
        for dtype in COMMON:
            for shape, repeats in [((3,), (2,)), ((2, 3), (1, 2)), ((2, 3), (2, 2)), ((2, 3), (1, 1)), ((1, 2, 3), (2, 1, 3))]:
                suite.vary("Tile", [values(dtype, shape, 16), ints(*repeats)], opset=opset, stored=(1,))
            suite.add("Tile", [values(dtype, (2, 3), 16), ints(2, 0)], opset=opset, const=(1,), may_fail=True)
            suite.add("Tile", [values(dtype, (2, 3), 16), ints(2, 2)], opset=opset)
            suite.vary("Tile", [values(dtype, (2, 3), 16), Dim(2, 3)], opset=opset)
    for opset in versions("Pad").values():
        modes = ["constant", "reflect", "edge"] + (["wrap"] if opset >= 19 else [])
        for dtype in FEW:
            for mode in modes:
                for shape, pads in [((4,), [1, 2]), ((4, 5), [0, 1, 0, 1]), ((4, 5), [1, 0, 2, 1]), ((4, 5), [0, 0, 0, 0]), ((1, 2, 4, 5), [0, 0, 1, 1, 0, 0, 1, 1]),
                                    ((1, 2, 4, 5), [0, 0, 1, 2, 0, 0, 0, 1]), ((4, 5), [-1, 0, 0, 1]), ((4, 5), [0, -1, 0, -1]), ((2, 3, 4), [0, 0, 3, 0, 0, 3])]:
                    given = values(dtype, shape, 17)
                    for said in ({"mode": mode}, {}) if mode == "constant" else ({"mode": mode},):
                        if opset < 11:
                            for value in ({}, {"value": 1.5}, {"value": -1.5}):
                                suite.vary("Pad", [given], {"pads": pads, **said, **value}, opset=opset)
                            continue
                        stored = (1,)
                        suite.vary("Pad", [given, ints(*pads)], said, opset=opset, stored=stored)
                        if mode == "constant":
                            suite.vary("Pad", [given, ints(*pads), np.array(1, DTYPES[dtype][0])], said, opset=opset, stored=stored)
                            suite.add("Pad", [given, Dim(*[abs(pad) for pad in pads])], said, opset=opset)
                        suite.add("Pad", [given, ints(*pads)], said, opset=opset)
            if opset >= 18:
                for axes, pads in (([1], [1, 2]), ([-1], [1, 1]), ([0, 1], [1, 0, 1, 0])):
                    for value in (None, np.array(1, DTYPES[dtype][0])):
                        for kind in (np.int64, np.int32):
                            given = [values(dtype, (4, 5), 17), ints(*pads), value, np.array(axes, kind)]
                            for mode in ("constant", "edge", "reflect"):
                                suite.vary("Pad", given, {"mode": mode} if mode != "constant" else {}, opset=opset, stored=(1, 2, 3))
    for opset in versions("CenterCropPad").values():
        suite.vary("CenterCropPad", [values("f32", (4, 5), 1), ints(2, 7)], opset=opset, stored=(1,))


def shapes(suite):
    for opset in versions("Shape").values():
        for dtype in ALL:
            for shape in [(), (3,), (2, 3, 4), (0, 3)]:
                given = values(dtype, shape, 18)
                suite.vary("Shape", [given], opset=opset)
                if opset >= 15 and dtype in ("f32", "i64"):
                    for attributes in ({"start": 1}, {"end": 1}, {"start": -1}, {"end": -1}, {"start": 0, "end": 2}, {"start": 1, "end": -1}, {"start": -2, "end": -1},
                                       {"start": 2}, {"start": -2}, {"end": -2}, {"start": 0}, {"start": 1, "end": 2}, {"start": 2, "end": 3}, {"start": 0, "end": 1},
                                       {"start": -2, "end": 3}, {"start": -3, "end": -2}, {"start": 3}, {"end": 2}, {"start": 2, "end": 100}, {"start": 0, "end": -1}):
                        suite.vary("Shape", [given], attributes, opset=opset)
    for opset in versions("Size").values():
        for dtype in ALL:
            for shape in [(), (3,), (2, 3, 4), (0, 3)]:
                suite.vary("Size", [values(dtype, shape, 18)], opset=opset)
    for opset in versions("ConstantOfShape").values():
        for dtype in (None, *ALL):
            for number in (0, 1, 5):
                attributes = {} if dtype is None else {"value": numpy_helper.from_array(np.array([number]).astype(DTYPES[dtype][0]))}
                for target in (ints(2, 3), np.array([], np.int64), ints(4), ints(2, 0)):
                    suite.vary("ConstantOfShape", [target], attributes, opset=opset)
                suite.add("ConstantOfShape", [Dim(2, 3)], attributes, opset=opset)
                suite.add("ConstantOfShape", [Dim(2)], attributes, opset=opset)
    # Sizes are values like others.
    for operator in ("Shape", "Size"):
        for opset in versions(operator).values():
            for given in (Dim(5, scalar=True), Dim(5), Dim(5, 3)):
                suite.add(operator, [given], opset=opset)
    for opset in versions("Reshape").values():
        for given in (Dim(5, scalar=True), Dim(5)):
            for shape in (ints(), ints(1), ints(-1), ints(1, 1), ints(1, -1), ints(-1, 1)):
                suite.add("Reshape", [given, shape], opset=opset, const=(1,))
        for shape in (ints(2), ints(-1), ints(2, 1), ints(1, 2), ints(1, -1)):
            suite.add("Reshape", [Dim(5, 3), shape], opset=opset, const=(1,))
        if opset >= 14:
            for dtype, sizes in (("f32", (2, 3)), ("f32", (0, 3)), ("i64", (2, 3)), ("f32", (3, 0))):
                for attributes in ({"allowzero": 1}, {"allowzero": 0}):
                    suite.add("Reshape", [values(dtype, sizes, 32), Dim(*sizes)], attributes, opset=opset)
                    suite.add("Reshape", [values(dtype, sizes, 32), Dim(*reversed(sizes))], attributes, opset=opset)
    for opset in versions("TopK").values():
        for outputs in (["y", "i"], ["y", ""]):
            if opset >= 10:
                suite.add("TopK", [Dim(5, 3), ints(1)], {"axis": 0}, opset=opset, const=(1,), outputs=outputs)
    for opset in versions("Shape").values():
        for dtype in ("bool", "f32", "i64"):
            for attributes in ({"end": 1}, {"start": 1, "end": 2}, {"start": 1}, {"end": 2}, {"start": -1}, {"end": -1}):
                if opset >= 15:
                    suite.add("Shape", [values(dtype, (2, 3, 4), 30)], attributes, opset=opset)
    for opset in versions("Gather").values():
        for given in (values("f32", (6, 3), 31), values("i64", (6,), 31), values("i8", (6, 3), 31), values("u8", (6, 3), 31), values("f16", (6, 3), 31)):
            suite.add("Gather", [given, Dim(3, 2)], opset=opset)
            suite.add("Gather", [given, Dim(3, scalar=True)], opset=opset)
            if opset >= 11:
                suite.add("Gather", [given, Dim(3, 2, row=True)], opset=opset)
    for operator in ("Flatten", "Transpose", "Squeeze"):
        for opset in versions(operator).values():
            for given in (Dim(5), Dim(5, 3)):
                if operator != "Squeeze" or given.sizes == (5,):
                    suite.add(operator, [given], opset=opset)
    for operator in ("ReduceProd", "ReduceSum", "ReduceMax", "ReduceMin"):
        for opset in versions(operator).values():
            for keep in ({}, {"keepdims": 0}):
                suite.add(operator, [Dim(5, 3)], keep, opset=opset)
    for opset in versions("Range").values():
        for dtype in ("f32", "f64", "i64", "i32", "i16"):
            for start, limit, delta in ((0, 5, 1), (1, 10, 3), (5, 0, -1), (0, 5, 2), (-3, 3, 1), (-3, -1, 1), (0, -4, -2), (4, 4, 1), (1, 6, 1), (5, -1, -2)):
                given = [scalar(start, dtype), scalar(limit, dtype), scalar(delta, dtype)]
                suite.add("Range", given, opset=opset, const=(0, 1, 2))
                suite.add("Range", given, opset=opset)
                suite.add("Range", given, opset=opset, const=(0, 2))
            if dtype in FLOATS:
                suite.add("Range", [scalar(0, dtype), scalar(2.2, dtype), scalar(0.5, dtype)], opset=opset, const=(0, 1, 2))
        for start, delta in ((0, 1), (1, 1), (0, 2), (1, 2), (-1, 1)):
            suite.add("Range", [scalar(start), Dim(6, scalar=True), scalar(delta)], opset=opset, const=(0, 2))
        suite.add("Range", [Dim(2, scalar=True), Dim(6, scalar=True), scalar(1)], opset=opset, const=(2,))
        suite.add("Range", [Dim(6, scalar=True), scalar(0), scalar(-1)], opset=opset, const=(1, 2))


def choices(suite):
    for opset in versions("OneHot").values():
        for indices in ("i64", "i32", "f32"):
            for dtype in ("f32", "i64", "bool", "i32", "f16"):
                for shape in [(3,), (2, 3), ()]:
                    given = values(indices, shape, 19, low=0, high=4)
                    given = np.abs(np.round(given))
                    for axis in (-1, 0, 1):
                        if axis > len(shape):
                            continue
                        for depth in ("i64", "i32"):
                            off_on = np.array([0, 1]).astype(DTYPES[dtype][0])
                            if dtype not in ("f32", "i64") and indices != "i64":
                                continue
                            for length in (scalar(5, depth), np.array([5], DTYPES[depth][0])):
                                suite.vary("OneHot", [given, length, off_on], {"axis": axis}, opset=opset, stored=(1,))
                                suite.vary("OneHot", [(-given).astype(given.dtype), length, off_on], {"axis": axis}, opset=opset, stored=(1,))
                                for beyond in (given * 3, given * -3):
                                    suite.vary("OneHot", [beyond.astype(given.dtype), length, off_on], {"axis": axis}, opset=opset, stored=(1,), label="beyond", unlike=dtype == "f32" and not shape)
    for opset in versions("TopK").values():
        for dtype in ("f32", "f16", "i64", "i32", "f64"):
            for shape in [(6,), (3, 6), (2, 4, 6)]:
                for axis in range(-len(shape), len(shape)):
                    given = np.random.default_rng(3).permutation(int(np.prod(shape))).reshape(shape).astype(DTYPES[dtype][0])
                    if opset < 10:
                        suite.vary("TopK", [given], {"axis": axis, "k": 2}, opset=opset, outputs=2)
                        continue
                    for attributes in ({}, {"largest": 0}, {"sorted": 0}, {"largest": 0, "sorted": 0}) if opset >= 11 else ({},):
                        for outputs in (["y", "i"], ["y", ""], ["", "i"]):
                            suite.vary("TopK", [given, ints(2)], {"axis": axis, **attributes}, opset=opset, outputs=outputs, stored=(1,))
                        suite.vary("TopK", [given, ints(1)], {"axis": axis, **attributes}, opset=opset, outputs=2, stored=(1,))
                        equal = np.array([1, 2, 2, 1, 2, 0]).astype(DTYPES[dtype][0])
                        if len(shape) == 1:
                            suite.vary("TopK", [equal, ints(3)], {"axis": axis, **attributes}, opset=opset, outputs=2, stored=(1,))
                    suite.add("TopK", [given, ints(2)], {"axis": axis}, opset=opset, outputs=2)
    for operator in ("ArgMax", "ArgMin"):
        for opset in versions(operator).values():
            for dtype in ("f32", "f16", "i64", "i32", "f64", "u8", "i8"):
                for shape in [(5,), (3, 4), (2, 3, 4), (2, 3, 4, 5)]:
                    for axis in (None, *range(-len(shape) if opset >= 11 else 0, len(shape))):
                        for keep in ({}, {"keepdims": 0}):
                            for last in ({}, {"select_last_index": 1}) if opset >= 12 else ({},):
                                said = {} if axis is None else {"axis": axis}
                                for given in (values(dtype, shape, 20), values("i64", shape, 20, low=0, high=1).astype(DTYPES[dtype][0])):
                                    suite.vary(operator, [given], {**said, **keep, **last}, opset=opset)
    for opset in versions("NonZero").values():
        for dtype in ("f32", "i64", "bool", "i32", "u8"):
            for shape in [(5,), (3, 4), (2, 3, 4)]:
                suite.vary("NonZero", [values(dtype, shape, 21)], opset=opset)
    for opset in versions("Compress").values():
        for dtype in COMMON:
            for shape in [(4,), (3, 4), (2, 3, 4)]:
                for axis in (None, *range(-len(shape) if opset >= 11 else 0, len(shape))):
                    size = int(np.prod(shape)) if axis is None else shape[axis]
                    for condition in (values("bool", (size,), 22), np.array([True]), np.zeros(size, bool)):
                        suite.vary("Compress", [values(dtype, shape, 23), condition], {} if axis is None else {"axis": axis}, opset=opset)
    for opset in versions("Trilu").values():
        for dtype in COMMON:
            for shape in [(3, 4), (2, 4, 3), (2, 2, 3, 3)]:
                for upper in ({}, {"upper": 0}):
                    suite.vary("Trilu", [values(dtype, shape, 24)], upper, opset=opset)
                    for k in (0, 1, -1, 3):
                        suite.vary("Trilu", [values(dtype, shape, 24), scalar(k)], upper, opset=opset)
    for opset in versions("EyeLike").values():
        for dtype in ("f32", "i64", "i32", "f64", "bool", "u8"):
            for attributes in ({}, {"k": 1}, {"k": -1}, {"dtype": 1}, {"dtype": 7}, {"k": 1, "dtype": 6}):
                suite.vary("EyeLike", [values(dtype, (3, 4), 25)], attributes, opset=opset)
    for operator in ("DepthToSpace", "SpaceToDepth"):
        for opset in versions(operator).values():
            for dtype in ("f32", "f16", "u8", "f64", "i32"):
                shape = (2, 8, 2, 3) if operator == "DepthToSpace" else (2, 3, 4, 6)
                kinds = [{}]
                if operator == "DepthToSpace" and opset >= 11:
                    kinds = [{}, {"mode": "CRD"}, {"mode": "DCR"}]
                if operator == "SpaceToDepth" and opset >= 26:
                    kinds = [{}, {"mode": "CRD"}, {"mode": "DCR"}]
                for attributes in kinds:
                    suite.vary(operator, [values(dtype, shape, 26)], {"blocksize": 2, **attributes}, opset=opset)
    for opset in versions("CumSum").values():
        for dtype in ("f32", "f64", "i64", "i32", "f16"):
            for shape in [(5,), (3, 4), (2, 3, 4)]:
                for axis in range(-len(shape), len(shape)):
                    for attributes in ({}, {"exclusive": 1}, {"reverse": 1}, {"exclusive": 1, "reverse": 1}):
                        for kind in ("i64", "i32"):
                            suite.vary("CumSum", [values(dtype, shape, 27), scalar(axis, kind)], attributes, opset=opset)


def branches(suite):
    """If and Scan, with bodies of one operator."""
    def graph(name, nodes, outputs, inputs=()):
        infos = [helper.make_tensor_value_info(given, 1, shape) for given, shape in inputs]
        return helper.make_graph(nodes, name, infos, [helper.make_tensor_value_info(made, 1, None) for made in outputs])

    table = numpy_helper.from_array(np.arange(6, dtype=np.float32).reshape(2, 3))
    for opset in versions("If").values():
        then = graph("then", [helper.make_node("Constant", [], ["a"], value=table)], ["a"])
        other = graph("else", [helper.make_node("Constant", [], ["b"], value=table), helper.make_node("Neg", ["b"], ["c"], name="inner")], ["c"])
        for condition in (True, False):
            suite.vary("If", [np.array(condition)], {"then_branch": then, "else_branch": other}, opset=opset)
            suite.vary("If", [np.array([condition])], {"then_branch": then, "else_branch": other}, opset=opset)
        # Several values, as a layer and its state have them.
        for count in (2, 3):
            names = ["a", "b", "c"][:count]
            some = graph("then", [helper.make_node("Constant", [], [name], value=table) for name in names], names)
            doubled = [helper.make_node("Add", [name, name], [f"{name}{name}"], name=f"inner_{name}") for name in names]
            others = graph("else", [helper.make_node("Constant", [], [name], value=table) for name in names] + doubled, [f"{name}{name}" for name in names])
            for condition in (True, False):
                for shape in ((), (1,)):
                    suite.vary("If", [np.full(shape, condition)], {"then_branch": some, "else_branch": others}, opset=opset, outputs=count)
    for opset in versions("Scan").values():
        if opset < 9:
            continue
        body = graph("body", [helper.make_node("Add", ["s", "x"], ["t"]), helper.make_node("Identity", ["t"], ["o"])], ["t", "o"], [("s", [3]), ("x", [3])])
        given = [values("f32", (3,), 28), values("f32", (4, 3), 29)]
        for attributes in ({}, {"scan_input_directions": [1]}, {"scan_output_directions": [1]}, {"scan_input_axes": [0]}, {"scan_input_axes": [0], "scan_output_axes": [0]}):
            suite.vary("Scan", given, {"body": body, "num_scan_inputs": 1, **attributes}, opset=opset, outputs=2)
        swapped = [given[0], given[1].T.copy()]
        suite.vary("Scan", swapped, {"body": body, "num_scan_inputs": 1, "scan_input_axes": [1]}, opset=opset, outputs=2)


def all_of(suite):
    for family in (reshapes, squeezes, moves, slices, gathers, scatters, growths, shapes, choices, branches):
        family(suite)
