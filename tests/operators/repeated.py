"""One value as several operands, which engines compute in ways of their own: a square for a product."""

import numpy as np

from building import FLOATS, Dim, allowed, ints, values, versions
from elementwise import BINARY, operands_of, special


def elementwise(suite):
    for operator in BINARY:
        for opset in versions(operator).values():
            for dtype in allowed(operator, opset, 0):
                kinds = [{"fmod": 1}] if operator == "Mod" and dtype in FLOATS else [{}]
                for attributes in kinds:
                    for shape in ((2, 3), (), (5,)):
                        x = operands_of(operator, dtype, (shape, shape))[1]
                        suite.add(operator, [x, x], attributes, opset=opset, same=True)
                if operator in ("Add", "Sub", "Mul", "Equal", "Greater", "Less", "And", "Or", "Xor"):
                    x = special(dtype)
                    suite.add(operator, [x, x], opset=opset, same=True, unlike=True)
    for operator in ("Max", "Min", "Sum", "Mean"):
        for opset in versions(operator).values():
            for dtype in allowed(operator, opset, 0):
                x, y = values(dtype, (2, 3), 201), values(dtype, (2, 3), 202)
                for given in ([x, x], [x, x, y], [y, x, x], [x, x, x]):
                    suite.add(operator, given, opset=opset, same=True)
    for opset in versions("Where").values():
        for dtype in allowed("Where", opset, 1):
            x = values(dtype, (2, 3), 203)
            suite.add("Where", [values("bool", (2, 3), 204), x, x], opset=opset, same=True)
        condition = values("bool", (2, 3), 204)
        suite.add("Where", [condition, condition, condition], opset=opset, same=True)


def of_sizes(suite):
    """As exporters write them around shapes."""
    size, wide = Dim(5, scalar=True), Dim(5, 3)
    for operator in ("Add", "Sub", "Mul", "Div", "Equal", "Greater", "Less", "Max", "Min"):
        for opset in versions(operator, oldest=9).values():
            for given in (size, wide):
                suite.add(operator, [given, given], opset=opset, same=True)
    for opset in versions("Concat").values():
        one = Dim(4)
        suite.add("Concat", [one, one], {"axis": 0}, opset=opset, same=True)
        suite.add("Concat", [one, ints(3), one], {"axis": 0}, opset=opset, same=True, const=(1,))


def others(suite):
    for opset in versions("Concat").values():
        for dtype in allowed("Concat", opset, 0):
            x, y = values(dtype, (2, 3), 205), values(dtype, (2, 3), 206)
            for axis in (0, 1):
                for given in ([x, x], [x, y, x], [x, x, x]):
                    suite.add("Concat", given, {"axis": axis}, opset=opset, same=True)
    for opset in versions("MatMul").values():
        for dtype in allowed("MatMul", opset, 0):
            for shape in ((3, 3), (2, 3, 3), (2, 2, 3, 3)):
                x = values(dtype, shape, 207)
                suite.add("MatMul", [x, x], opset=opset, same=True)
    for opset in versions("Gemm").values():
        for dtype in allowed("Gemm", opset, 0):
            x, y = values(dtype, (3, 3), 208), values(dtype, (3, 3), 209)
            for attributes in ({}, {"transB": 1}, {"transA": 1}):
                for given in ([x, x], [x, x, y], [x, y, x], [x, x, x]):
                    suite.add("Gemm", given, attributes, opset=opset, same=True)
    for opset in versions("Einsum").values():
        for dtype in ("f32", "f16"):
            x = values(dtype, (3, 3), 210)
            for equation in ("ij,ij->ij", "ij,kj->ik", "ij,jk->ik", "ij,ij->i", "ij,ji->", "ij,ij->"):
                suite.add("Einsum", [x, x], {"equation": equation}, opset=opset, same=True)
    for opset in versions("Attention").values():
        for dtype in FLOATS:
            x, y = values(dtype, (1, 2, 5, 8), 211), values(dtype, (1, 2, 5, 8), 212)
            for given in ([x, x, x], [y, x, x]):
                for attributes in ({}, {"is_causal": 1}):
                    suite.add("Attention", given, attributes, opset=opset, same=True)
            x, y = values(dtype, (1, 5, 16), 211), values(dtype, (1, 5, 16), 212)
            for given in ([x, x, x], [y, x, x]):
                suite.add("Attention", given, {"q_num_heads": 2, "kv_num_heads": 2}, opset=opset, same=True)
    for opset in versions("LSTM").values():
        hidden, steps, batch, size = 4, 5, 2, 3
        x, state = values("f32", (steps, batch, size), 213), values("f32", (1, batch, hidden), 216)
        w, r = values("f32", (1, 4 * hidden, size), 214), values("f32", (1, 4 * hidden, hidden), 215)
        b = values("f32", (1, 8 * hidden), 217)
        for bias in (b, None):
            for outputs in (["y", "h", "c"], ["y"], ["y", "h"], ["", "h"]):
                suite.add("LSTM", [x, w, r, bias, None, state, state], {"hidden_size": hidden}, opset=opset, same=True, const=(1, 2, 3), outputs=outputs)
    for opset in versions("GridSample").values():
        grid = np.clip(values("f32", (1, 2, 2, 2), 218), -1, 1)
        suite.add("GridSample", [grid, grid], opset=opset, same=True)
    for opset in versions("Expand").values():
        size = Dim(2, 3)
        suite.add("Expand", [size, size], opset=opset, same=True)


def all_of(suite):
    for family in (of_sizes, others):
        family(suite)
