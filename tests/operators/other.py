"""Recurrent layers, attention, quantised operators, resampling, signals and classical models."""

import itertools

import numpy as np
from onnx import helper

from building import DTYPES, FLOATS, Dim, ints, scalar, values, versions


def recurrent(suite):
    gates = {"RNN": 1, "GRU": 3, "LSTM": 4}
    for operator, count in gates.items():
        for opset in versions(operator).values():
            for direction in ({}, {"direction": "bidirectional"}, {"direction": "reverse"}):
                ways = 2 if direction.get("direction") == "bidirectional" else 1
                for dtype in ("f32", "f16"):
                    hidden, steps, batch, size = 4, 5, 2, 3
                    x = values(dtype, (steps, batch, size), 80)
                    w, r = values(dtype, (ways, count * hidden, size), 81), values(dtype, (ways, count * hidden, hidden), 82)
                    b = values(dtype, (ways, 2 * count * hidden), 83)
                    h, c = values(dtype, (ways, batch, hidden), 84), values(dtype, (ways, batch, hidden), 85)
                    p = values(dtype, (ways, 3 * hidden), 86)
                    states = [h, c] if operator == "LSTM" else [h]
                    rests = [[], [b], [b, None, *states], [None, None, *states], [b, np.array([5, 3], np.int32), *states], [b, np.array([5, 5], np.int32)]]
                    if operator == "LSTM":
                        rests += [[b, None, h, c, p], [b, None, None, None, p], [b, None, h], [b, None, None, c]]
                    shared = {"hidden_size": hidden, **direction}
                    extras = [{}, {"clip": 0.3}, {"layout": 1} if opset >= 14 else {}]
                    if operator == "GRU":
                        extras += [{"linear_before_reset": 1}]
                    if operator == "LSTM":
                        extras += [{"input_forget": 1}]
                    usual = {"RNN": ["Tanh"], "GRU": ["Sigmoid", "Tanh"], "LSTM": ["Sigmoid", "Tanh", "Tanh"]}[operator]
                    extras += [{"activations": usual * ways}, {"activations": ["Relu"] * len(usual) * ways}]
                    for extra, rest in itertools.product(extras, rests):
                        one = x.transpose(1, 0, 2).copy() if extra.get("layout") else x
                        swap = lambda array: array.transpose(1, 0, 2).copy() if extra.get("layout") and array is not None and array.ndim == 3 else array  # noqa: E731, B023
                        given = [one, w, r, *[swap(operand) for operand in rest]]
                        names = ["y", "h", "c"] if operator == "LSTM" else ["y", "h"]
                        if dtype == "f16" and extra:
                            continue
                        for outputs in (names, ["y"], ["", *names[1:]], names[:2], ["", "h"]):
                            suite.add(operator, given, {**shared, **extra}, opset=opset, const=(1, 2, 3, 7), outputs=outputs)
                            if not extra and dtype == "f32":
                                suite.add(operator, given, shared, opset=opset, outputs=outputs)
                                suite.add(operator, given, shared, opset=opset, const=(1, 2, 3, 5, 6, 7), outputs=outputs)
                                suite.add(operator, given, {**shared, "activations": usual * ways}, opset=opset, const=(1, 2, 3, 5, 6, 7), outputs=outputs)


def attention(suite):
    for opset in versions("Attention").values():
        for dtype in FLOATS:
            for rank, (query, key) in itertools.product((4, 3), ((2, 2), (4, 2))):
                q4, k4 = (1, query, 3, 8), (1, key, 5, 8)
                shape = lambda full: full if rank == 4 else (full[0], full[2], full[1] * full[3])  # noqa: E731, B023
                q, k, v = values(dtype, shape(q4), 90), values(dtype, shape(k4), 91), values(dtype, shape(k4), 92)
                heads = {} if rank == 4 else {"q_num_heads": query, "kv_num_heads": key}
                mask, boolean = values(dtype, (3, 5), 93), np.array([[True, False, True, True, False]] * 3)
                whole = boolean.copy()
                whole[1] = False
                past = [values(dtype, (1, key, 2, 8), 94), values(dtype, (1, key, 2, 8), 95)]
                long = values(dtype, (3, 7), 96)
                options = [{}, {"is_causal": 1}, {"scale": 0.3}, {"softcap": 2.0}, {"softmax_precision": 1}]
                for attributes in options:
                    said = {**heads, **attributes}
                    for rest in ([], [mask], [boolean], [whole], [mask[None, None]], [boolean[None, None]]):
                        suite.add("Attention", [q, k, v, *rest], said, opset=opset)
                    suite.add("Attention", [q, k, v, mask], said, opset=opset, const=(3,))
                    suite.add("Attention", [q, k, v, None, *past], said, opset=opset, outputs=3)
                    suite.add("Attention", [q, k, v, long, *past], said, opset=opset, outputs=3)
                for mode in (1, 2, 3):
                    suite.add("Attention", [q, k, v], {**heads, "qk_matmul_output_mode": mode}, opset=opset, outputs=["y", "", "", "qk"])
                if opset >= 24:
                    suite.add("Attention", [q, k, v, None, None, None, ints(4)], heads, opset=opset)
    for opset in versions("RotaryEmbedding").values():
        for dtype in FLOATS:
            for interleaved in ({}, {"interleaved": 1}):
                x = values(dtype, (2, 3, 4, 8), 97)
                cos, sin = values(dtype, (10, 4), 98), values(dtype, (10, 4), 99)
                places = np.arange(8).reshape(2, 4)
                suite.vary("RotaryEmbedding", [x, cos, sin, places], interleaved, opset=opset)
                flat = values(dtype, (2, 4, 24), 97)
                suite.vary("RotaryEmbedding", [flat, cos, sin, places], {"num_heads": 3, **interleaved}, opset=opset)
                suite.vary("RotaryEmbedding", [x, values(dtype, (2, 4, 4), 98), values(dtype, (2, 4, 4), 99)], interleaved, opset=opset)
                half = values(dtype, (10, 2), 98), values(dtype, (10, 2), 99)
                suite.vary("RotaryEmbedding", [x, *half, places], {"rotary_embedding_dim": 4, **interleaved}, opset=opset)


def quantised(suite):
    for opset in versions("QuantizeLinear").values():
        for dtype, target in itertools.product(("f32", "f16"), (None, "u8", "i8")):
            if dtype == "f16" and opset < 19:
                continue
            x = np.concatenate([values(dtype, (2, 3, 4), 100).ravel() * np.array(3, DTYPES[dtype][0]), np.array([1000, -1000, 0, 0.25], DTYPES[dtype][0])]).reshape(4, 7)
            for shape in ((), (1,), (7,)):
                scale = np.full(shape, 0.5, DTYPES[dtype][0]) + np.array(0.1, DTYPES[dtype][0])
                for zero in (0, 3):
                    point = [] if target is None else [np.full(shape, zero, DTYPES[target][0])]
                    for axis in ({}, {"axis": 1}, {"axis": -1}) if opset >= 13 else ({},):
                        if shape == (7,) and opset < 13:
                            continue
                        suite.vary("QuantizeLinear", [x, scale, *point], axis, opset=opset)
                        suite.vary("QuantizeLinear", [x.reshape(2, 2, 7), scale, *point], {"axis": 2} if shape == (7,) and opset >= 13 else {}, opset=opset)
                if shape == (7,) and opset >= 13:
                    suite.vary("QuantizeLinear", [x.T.copy(), scale, *point], {"axis": 0}, opset=opset)
                    suite.vary("QuantizeLinear", [x.T.reshape(1, 7, 2, 2).copy(), scale, *point], {"axis": 1}, opset=opset)
    for opset in versions("DequantizeLinear").values():
        for target, source in itertools.product(("f32", "f16"), ("u8", "i8", "i32")):
            if target == "f16" and opset < 19:
                continue
            x = values(source, (4, 7), 101, low=-100, high=100)
            for shape in ((), (1,), (7,)):
                scale = np.full(shape, 0.5, DTYPES[target][0]) + np.array(0.1, DTYPES[target][0])
                for zero in (None, 0, 3):
                    point = [] if zero is None else [np.full(shape, zero if source != "i32" else 0, DTYPES[source][0])]
                    if shape == (7,) and opset < 13:
                        continue
                    for axis in ({}, {"axis": 1}, {"axis": -1}) if opset >= 13 else ({},):
                        suite.vary("DequantizeLinear", [x, scale, *point], axis, opset=opset)
                    if shape != (7,):
                        suite.vary("DequantizeLinear", [x.reshape(2, 2, 7), scale, *point], opset=opset)
                        suite.vary("DequantizeLinear", [x.reshape(2, 2, 1, 7), scale, *point], opset=opset)
                    if shape == (7,):
                        suite.vary("DequantizeLinear", [x.T.copy(), scale, *point], {"axis": 0}, opset=opset)
                        suite.vary("DequantizeLinear", [x.T.reshape(1, 7, 2, 2).copy(), scale, *point], {"axis": 1}, opset=opset)
                        suite.vary("DequantizeLinear", [x.T.reshape(7, 1, 2, 2).copy(), scale, *point], {"axis": 0}, opset=opset)
    for opset in versions("DynamicQuantizeLinear").values():
        for seed in range(4):
            suite.vary("DynamicQuantizeLinear", [values("f32", (3, 5), 102 + seed) * np.float32(seed + 0.5)], opset=opset, outputs=3, steps=1)
        suite.vary("DynamicQuantizeLinear", [np.abs(values("f32", (3, 5), 102)) + np.float32(1)], opset=opset, outputs=3, steps=1)
        suite.vary("DynamicQuantizeLinear", [np.zeros((2, 3), np.float32)], opset=opset, outputs=3, steps=1)
    for opset in versions("MatMulInteger").values():
        for one, two in itertools.product(("u8", "i8"), repeat=2):
            for shapes in (((3, 4), (4, 5)), ((2, 3, 4), (4, 5)), ((2, 3, 4), (2, 4, 5)), ((2, 2, 3, 4), (2, 2, 4, 5)), ((2, 2, 3, 4), (4, 5))):
                a, b = values(one, shapes[0], 110, low=-90, high=90), values(two, shapes[1], 111, low=-90, high=90)
                for zeros in ([], [scalar(5, one)], [scalar(5, one), scalar(3, two)], [scalar(0, one), scalar(0, two)]):
                    suite.add("MatMulInteger", [a, b, *zeros], opset=opset)
                    suite.add("MatMulInteger", [a, b, *zeros], opset=opset, const=(1, 2, 3))
                    suite.add("MatMulInteger", [a, b, *zeros], opset=opset, const=(1, 3))
    for opset in versions("ConvInteger").values():
        for one, two in itertools.product(("u8", "i8"), repeat=2):
            x, w = values(one, (1, 2, 5, 5), 112, low=-90, high=90), values(two, (3, 2, 3, 3), 113, low=-90, high=90)
            for zeros in ([], [scalar(5, one)], [scalar(5, one), scalar(3, two)]):
                for attributes in ({}, {"pads": [1] * 4}, {"strides": [2, 2]}, {"kernel_shape": [3, 3]}, {"kernel_shape": [3, 3], "pads": [1] * 4}, {"auto_pad": "SAME_UPPER"}):
                    suite.add("ConvInteger", [x, w, *zeros], attributes, opset=opset)
                    suite.add("ConvInteger", [x, w, *zeros], attributes, opset=opset, const=(1, 2, 3))
                    suite.add("ConvInteger", [x, w, *zeros], attributes, opset=opset, const=(1, 3))
    for opset in versions("QLinearMatMul").values():
        if opset >= 21:
            continue
        for one, two, three in itertools.product(("u8", "i8"), repeat=3):
            for shapes in (((3, 4), (4, 5)), ((2, 3, 4), (4, 5)), ((2, 3, 4), (2, 4, 5))):
                for form in ((), (1,)):
                    full = lambda number, dtype: np.full(form, number, DTYPES[dtype][0])  # noqa: E731, B023
                    given = [values(one, shapes[0], 114, high=90), full(0.1, "f32"), full(3, one), values(two, shapes[1], 115, high=90), full(0.2, "f32"), full(2, two), full(0.4, "f32"), full(5, three)]
                    # Half of every second number is left over, and is rounded to what is even.
                    halves = [values(one, shapes[0], 118), full(0.5, "f32"), full(1, one), values(two, shapes[1], 119), full(1, "f32"), full(0, two), full(1, "f32"), full(100 if three == "u8" else 5, three)]
                    for given in (given, halves):
                        suite.add("QLinearMatMul", given, opset=opset, const=(1, 2, 3, 4, 5, 6, 7), unlike=True)
                        suite.add("QLinearMatMul", given, opset=opset, const=(1, 2, 4, 5, 6, 7), unlike=True)
    for opset in versions("QLinearConv").values():
        for one, two, three in itertools.product(("u8", "i8"), repeat=3):
            for groups, inside, outside in ((1, 2, 3), (3, 3, 3)):
                x, w = values(one, (1, inside, 5, 5), 116, high=90), values(two, (outside, inside // groups, 3, 3), 117, high=90)
                for form in ((), (outside,), (1,)):
                    full = lambda number, dtype, shape=(): np.full(shape, number, DTYPES[dtype][0])  # noqa: E731
                    given = [x, full(0.1, "f32"), full(3, one), w, full(0.2, "f32", form), full(0 if form else 2, two, form), full(0.4, "f32"), full(5, three)]
                    for bias in ([], [values("i32", (outside,), 118, low=-50, high=50)]):
                        for padding in ({}, {"pads": [1] * 4}, {"strides": [2, 2]}, {"strides": [2, 2], "pads": [1] * 4}, {"auto_pad": "SAME_UPPER"}, {"pads": [0, 0, 1, 1], "strides": [2, 2]}):
                            for kernel in ({}, {"kernel_shape": [3, 3]}):
                                said = {**padding, **kernel, **({"group": groups} if groups > 1 else {})}
                                suite.add("QLinearConv", [*given, *bias], said, opset=opset, steps=1, const=range(1, 9))


def resampling(suite):
    sizes = {(1, 2, 4, 5): [(1, 2, 8, 10), (1, 2, 7, 3), (1, 2, 2, 3), (1, 2, 12, 5)], (1, 2, 6): [(1, 2, 12), (1, 2, 4)]}
    # Between integers engines round otherwise, now and then: of many some are met.
    many = {(1, 2, 16, 17): [(1, 2, 35, 22)], (1, 2, 40): [(1, 2, 93)]}
    for opset in versions("Resize").values():
        coordinates = [None] if opset < 11 else ["half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel"] + (["half_pixel_symmetric"] if opset >= 19 else [])
        for dtype, mode in itertools.product(("f32", "f16", "u8"), ("nearest", "linear", "cubic")):
            if mode == "cubic" and opset < 11 or dtype != "f32" and (opset < 13 or mode == "cubic"):
                continue
            nearest = [None] if mode != "nearest" or opset < 11 else ["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"]
            for coordinate, rounding in itertools.product(coordinates, nearest):
                said = {"mode": mode, **({"coordinate_transformation_mode": coordinate} if coordinate else {}), **({"nearest_mode": rounding} if rounding else {})}
                extras = [{}]
                if mode == "cubic":
                    extras += [{"cubic_coeff_a": -0.5}, {"exclude_outside": 1}]
                if opset >= 18 and mode != "nearest" and dtype == "f32":
                    extras += [{"antialias": 1}]
                for shape, targets in {**sizes, **(many if dtype == "u8" and mode == "linear" else {})}.items():
                    unlike = shape in many
                    x = values(dtype, shape, 120, high=255 if unlike else 90)
                    for target, extra in itertools.product(targets, extras):
                        if mode == "cubic" and len(shape) == 3:
                            continue
                        ratios = np.array([new / old for new, old in zip(target, shape, strict=True)], np.float32)
                        attributes = {**said, **extra}
                        if opset < 11:
                            suite.add("Resize", [x, ratios], attributes, opset=opset, const=(1,), unlike=True)
                            continue
                        none = np.array([], np.float32)
                        suite.add("Resize", [x, none, ratios], attributes, opset=opset, const=(1, 2), unlike=unlike)
                        suite.add("Resize", [x, none, none, ints(*target)], attributes, opset=opset, const=(1, 2, 3), unlike=unlike)
                        if opset >= 13:
                            suite.add("Resize", [x, None, ratios], attributes, opset=opset, const=(1, 2), unlike=unlike)
                            suite.add("Resize", [x, None, None, ints(*target)], attributes, opset=opset, const=(1, 2, 3), unlike=unlike)
                            if dtype == "f32":
                                suite.add("Resize", [x, None, None, Dim(*target)], attributes, opset=opset)
                                suite.add("Resize", [x, none, None, ints(*target)], attributes, opset=opset, const=(1, 3))
                        if dtype == "f32":
                            suite.add("Resize", [x, none, none, Dim(*target)], attributes, opset=opset, const=(1, 2))
                            suite.add("Resize", [x, none, ratios], attributes, opset=opset, const=(1,))
                        if opset >= 18 and dtype == "f32" and len(shape) == 4:
                            suite.add("Resize", [x, None, ratios[2:].copy()], {**attributes, "axes": [2, 3]}, opset=opset, const=(2,))
                            suite.add("Resize", [x, None, None, ints(*target[2:])], {**attributes, "axes": [2, 3]}, opset=opset, const=(3,))
                            for policy in ("not_larger", "not_smaller"):
                                suite.add("Resize", [x, None, None, ints(*target)], {**attributes, "keep_aspect_ratio_policy": policy}, opset=opset, const=(3,))
    for opset in versions("GridSample").values():
        modes = ("bilinear", "nearest", "bicubic") if opset < 20 else ("linear", "nearest", "cubic")
        for dtype, mode, padding, corners in itertools.product(("f32", "f64", "f16"), modes, ("zeros", "border", "reflection"), (0, 1)):
            x, grid = values(dtype, (1, 2, 5, 6), 121), np.clip(values(dtype, (1, 3, 4, 2), 122), -1.3, 1.3)
            attributes = {"mode": mode, "padding_mode": padding, **({"align_corners": 1} if corners else {})}
            suite.vary("GridSample", [x, grid.astype(x.dtype)], attributes, opset=opset)


def signals(suite):
    for operator in ("HannWindow", "HammingWindow", "BlackmanWindow"):
        for opset in versions(operator).values():
            for attributes in ({}, {"periodic": 0}, {"output_datatype": 11}, {"output_datatype": 1}):
                for kind in ("i64", "i32"):
                    suite.add(operator, [scalar(8, kind)], attributes, opset=opset, const=(0,))
    for opset in versions("DFT").values():
        for dtype, inverse, onesided in itertools.product(("f32", "f64"), ({}, {"inverse": 1}), ({}, {"onesided": 1})):
            for shape in ((2, 8, 1), (2, 8, 2), (2, 6, 8, 1)):
                if opset < 20:
                    for axis in (None, 1):
                        suite.vary("DFT", [values(dtype, shape, 123)], {**inverse, **onesided, **({} if axis is None else {"axis": axis})}, opset=opset)
                else:
                    for rest in ([], [None, scalar(1)], [None, scalar(-2)]):
                        suite.vary("DFT", [values(dtype, shape, 123), *rest], {**inverse, **onesided}, opset=opset, stored=(2,) if rest else ())
    for opset in versions("STFT").values():
        for dtype, onesided in itertools.product(("f32", "f64"), ({}, {"onesided": 0})):
            x, window = values(dtype, (1, 32, 1), 124), np.hanning(8).astype(DTYPES[dtype][0])
            for given in ([x, scalar(4), window], [x, scalar(4), window, scalar(8)], [x, scalar(4), None, scalar(8)]):
                suite.vary("STFT", given, onesided, opset=opset, stored=tuple(place for place in (1, 3) if place < len(given)))
    for opset in versions("MelWeightMatrix").values():
        suite.add("MelWeightMatrix", [scalar(8), scalar(16), scalar(8000), scalar(0.0, "f32"), scalar(4000.0, "f32")], opset=opset, const=range(5))
    for opset in versions("NonMaxSuppression").values():
        boxes = np.array([[[0, 0, 1, 1], [0, 0.1, 1, 1.1], [0, 10, 1, 11], [0, 10.1, 1, 11.1]]], np.float32)
        scores = np.array([[[0.9, 0.75, 0.6, 0.95]]], np.float32)
        for center in ({}, {"center_point_box": 1}):
            for rest in ([ints(3)], [ints(3), np.array([0.5], np.float32)], [ints(3), np.array([0.5], np.float32), np.array([0.0], np.float32)], [scalar(3), scalar(0.5, "f32"), scalar(0.7, "f32")],
                         [ints(1), np.array([0.5], np.float32), np.array([0.7], np.float32)], [],
                         [ints(0), np.array([0.5], np.float32)], [ints(-1)], [ints(3), np.array([1], np.float32)], [ints(3), np.array([0], np.float32), np.array([0.8], np.float32)], [None, np.array([0.5], np.float32)],
                         [None, None, np.array([0.5], np.float32)], [ints(3), None, np.array([0.7], np.float32)], [None, np.array([0.5], np.float32), np.array([0.7], np.float32)]):
                suite.add("NonMaxSuppression", [boxes, scores, *rest], center, opset=opset, const=range(2, 2 + len(rest)))
                suite.add("NonMaxSuppression", [boxes, scores, *rest], center, opset=opset)


def classical(suite):
    # Every leaf of the trees below is reached in each mode: above, below and at both thresholds.
    x = np.array([[row, column, 0.3] for row in (1.1, 0.1, -0.7) for column in (0.8, -0.2, -1.4)], np.float32)
    ml = {"domain": "ai.onnx.ml", "unlike": True}
    for dtype in ("f32", "f64", "i64", "i32"):
        given = values(dtype, (4, 3), 131)
        for post in ("NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO", "PROBIT"):
            for targets in (1, 2, 3):
                weights = [float(number) for number in values("f32", (targets * 3,), 132)]
                for extra in ({}, {"intercepts": [0.1, -0.2, 0.3][:targets]}):
                    suite.add("LinearRegressor", [given], {"coefficients": weights, "targets": targets, "post_transform": post, **extra}, opset=1, **ml)
                    if targets > 1:
                        for multi in ({}, {"multi_class": 1}):
                            said = {"coefficients": weights, "classlabels_ints": [5, 7, 9][:targets], "post_transform": post, "intercepts": [0.1, -0.2, 0.3][:targets], **multi}
                            suite.add("LinearClassifier", [given], said, opset=1, outputs=2, **ml)
                            # Two classes by one row, as scikit-learn's converters write them.
                            one = {**said, "coefficients": weights[:3], "intercepts": [0.1], "classlabels_ints": [5, 7]}
                            suite.add("LinearClassifier", [given], one, opset=1, outputs=2, **ml)
        for norm in ("MAX", "L1", "L2"):
            suite.add("Normalizer", [given], {"norm": norm}, opset=1, **ml)
    for classes in (2, 3):
        for post in ("NONE", "SOFTMAX", "LOGISTIC"):
            for mode in ("BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ"):
                tree = {
                    "nodes_treeids": [0] * 5, "nodes_nodeids": [0, 1, 2, 3, 4], "nodes_featureids": [0, 1, 0, 0, 0], "nodes_values": [0.1, -0.2, 0.0, 0.0, 0.0],
                    "nodes_modes": [mode, mode, "LEAF", "LEAF", "LEAF"], "nodes_truenodeids": [1, 3, 0, 0, 0], "nodes_falsenodeids": [2, 4, 0, 0, 0],
                    "class_treeids": [0, 0, 0, 0, 0, 0], "class_nodeids": [2, 2, 3, 3, 4, 4], "class_ids": [0, 1, 0, classes - 1, 1, 0], "class_weights": [0.7, 0.3, 0.2, 0.8, 0.55, 0.45],
                    "classlabels_int64s": [0, 1, 2][:classes], "post_transform": post,
                }
                for opset in (1, 3):
                    suite.add("TreeEnsembleClassifier", [x], tree, opset=opset, outputs=2, **ml)
                leaves = {"base_values": [0.1, -0.1, 0.2][:classes]}
                kept = {"nodes_hitrates": [1.0] * 5, "nodes_missing_value_tracks_true": [0] * 5}
                for extra in (leaves, kept, {**leaves, **kept}):
                    suite.add("TreeEnsembleClassifier", [x], {**tree, **extra}, opset=3, outputs=2, **ml)
                targets = {name.replace("class_", "target_"): value for name, value in tree.items() if not name.startswith("classlabels")}
                suite.add("TreeEnsembleRegressor", [x], {**targets, **kept, "n_targets": classes}, opset=3, **ml)
    for dtype in ("f32", "i64", "f64", "i32"):
        suite.add("ArrayFeatureExtractor", [values(dtype, (4, 3), 133), ints(0, 2)], opset=1, const=(1,), **ml)


def all_of(suite):
    for family in (recurrent, attention, quantised, resampling, signals, classical):
        family(suite)
