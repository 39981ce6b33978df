"""Layers of networks: products, convolutions, pools, normalisations, reductions."""

import itertools

import numpy as np

from building import DTYPES, FLOATS, INTEGERS, Dim, allowed, ints, scalar, values, versions

REDUCTIONS = "ReduceMax ReduceMin ReduceMean ReduceSum ReduceProd ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceSumSquare".split()


def reductions(suite):
    for operator in REDUCTIONS:
        for since, opset in versions(operator).items():
            operand = opset >= (13 if operator == "ReduceSum" else 18)
            for dtype in allowed(operator, opset, 0):
                if dtype not in FLOATS + ("i32", "i64", "i8", "u8", "bool"):
                    continue
                for shape, axes in [((5,), None), ((5,), [0]), ((5,), [-1]), ((3, 4), None), ((3, 4), [0]), ((3, 4), [1]), ((3, 4), [-1]), ((3, 4), [0, 1]),
                                    ((3, 4), [-2, -1]), ((2, 3, 4), [1]), ((2, 3, 4), [-1]), ((2, 3, 4), [0, 2]), ((2, 3, 4), [-1, -2]), ((2, 3, 4, 5), [2, 3]),
                                    ((2, 3, 4, 5), [-2, -1]), ((2, 3, 4, 5), [1]), ((2, 3, 4, 5), [0, 1, 2, 3]), ((2, 3, 4), [0, -1]), ((1, 3), [0]), ((), None)]:
                    given = values(dtype, shape, 30, low=0 if operator == "ReduceLogSum" else -3)
                    if operator == "ReduceLogSum":
                        given = np.abs(given) + np.array(1, given.dtype)
                    if any(axis < 0 for axis in axes or []) and opset < 11:
                        continue
                    for keep in ({}, {"keepdims": 0}):
                        if not operand:
                            suite.vary(operator, [given], {**keep, **({} if axes is None else {"axes": axes})}, opset=opset)
                            continue
                        if axes is None:
                            suite.vary(operator, [given], keep, opset=opset)
                            for noop in ({}, {"noop_with_empty_axes": 1}):
                                suite.vary(operator, [given], {**keep, **noop}, opset=opset)
                                suite.vary(operator, [given, np.array([], np.int64)], {**keep, **noop}, opset=opset, stored=(1,))
                            continue
                        suite.vary(operator, [given, ints(*axes)], keep, opset=opset, stored=(1,))
                        suite.vary(operator, [given, ints(*axes)], {**keep, "noop_with_empty_axes": 1}, opset=opset, stored=(1,))
                        suite.add(operator, [given, ints(*axes)], keep, opset=opset)
                if not operand:
                    suite.vary(operator, [values(dtype, (2, 3), 30, low=1)], {"axes": []}, opset=opset)
                for keep in ({}, {"keepdims": 0}):
                    given = [np.full((1, 2, 64, 64), 20, DTYPES[dtype][0])] if dtype == "f16" else [np.full((2, 3, 4), 3, DTYPES[dtype][0])]
                    axes, attributes = ([ints(2, 3) if dtype == "f16" else ints(1, 2)], keep) if operand else ([], {**keep, "axes": [2, 3] if dtype == "f16" else [1, 2]})
                    suite.vary(operator, given + axes, attributes, opset=opset, stored=(1,) if operand else ())
                    flat = [given[0].reshape(-1)[:4096]] if dtype == "f16" else [given[0].reshape(-1)]
                    suite.vary(operator, flat, keep, opset=opset)
                    if dtype in ("i32", "i64", "f32"):
                        wide = np.array([[2**30, 2**30, 2**30], [7, -2**30, -(2**30)]]).astype(DTYPES[dtype][0])
                        if operator in ("ReduceMax", "ReduceMin", "ReduceSum", "ReduceL1"):
                            axes, attributes = ([ints(1)], keep) if operand else ([], {**keep, "axes": [1]})
                            suite.vary(operator, [wide], attributes, opset=opset) if not axes else suite.vary(operator, [wide, *axes], attributes, opset=opset, stored=(1,))
                    if dtype in FLOATS:
                        strange = np.array([[-np.inf, -np.inf, -np.inf], [np.inf, 1, 2], [-np.inf, 3, 1]], DTYPES[dtype][0])
                        axes, attributes = ([ints(1)], keep) if operand else ([], {**keep, "axes": [1]})
                        suite.add(operator, [strange, *axes], attributes, opset=opset, const=(1,) if axes else (), unlike=True)
                    if operator == "ReduceLogSumExp" and dtype in FLOATS:
                        steep = np.array([[0, 200, 3], [1, -150, 90], [-300, -310, -290]], DTYPES[dtype][0]) * (5 if dtype == "f64" else 1)
                        for rows in (axes, [ints(0)] if axes else []):
                            suite.add(operator, [steep, *rows], attributes, opset=opset, const=(1,) if rows else (), unlike=True)
                    empty = values(dtype, (0, 3), 1)
                    axes, attributes = ([ints(1)], keep) if operand else ([], {**keep, "axes": [1]})
                    suite.add(operator, [empty, *axes], attributes, opset=opset, const=(1,) if axes else ())
    for operator in ("ReduceProd", "ReduceSum", "ReduceMax", "ReduceMin"):
        for opset in versions(operator).values():
            for keep in ({}, {"keepdims": 0}):
                suite.add(operator, [Dim(3, 4)], keep, opset=opset)
                if opset >= (13 if operator == "ReduceSum" else 18):
                    suite.add(operator, [Dim(3, 4), ints(0)], keep, opset=opset, const=(1,))
                else:
                    suite.add(operator, [Dim(3, 4)], {**keep, "axes": [0]}, opset=opset)


def softmaxes(suite):
    for operator in ("Softmax", "LogSoftmax", "Hardmax"):
        for opset in versions(operator).values():
            for dtype in FLOATS:
                for shape in [(5,), (3, 4), (2, 3, 4), (2, 3, 4, 5), (1, 2, 2, 3, 4)]:
                    given = values(dtype, shape, 31)
                    for axis in (None, *range(-len(shape) if opset >= 11 else 0, len(shape))):
                        suite.vary(operator, [given], {} if axis is None else {"axis": axis}, opset=opset)
                for large in ([[1000.0, 999.0, -1000.0], [-60000.0, -60000.0, -60000.0]], [[-np.inf, 0.0, 1.0], [1.0, 2.0, -np.inf]], [[20.0, 20.0, 20.0], [11.0, 12.0, 0.0]]):
                    given = np.array(large, DTYPES[dtype][0])
                    suite.add(operator, [given], {"axis": 1}, opset=opset, unlike=True)
                    suite.add(operator, [given], {"axis": -1} if opset >= 11 else {}, opset=opset, unlike=True)
                steep = values(dtype, (2, 3, 4, 5), 33) * np.array(80, DTYPES[dtype][0])
                for axis in (None, *range(-4 if opset >= 11 else 0, 4)):
                    suite.add(operator, [steep], {} if axis is None else {"axis": axis}, opset=opset, unlike=True)
                wide = values(dtype, (1, 3000), 32)
                suite.add(operator, [wide], {"axis": 1}, opset=opset)


def products(suite):
    pairs = [((3,), (3,)), ((2, 3), (3,)), ((3,), (3, 4)), ((2, 3), (3, 4)), ((5, 2, 3), (3, 4)), ((2, 3), (5, 3, 4)), ((5, 2, 3), (5, 3, 4)), ((1, 2, 3), (5, 3, 4)),
             ((5, 2, 3), (1, 3, 4)), ((2, 5, 2, 3), (2, 5, 3, 4)), ((2, 1, 2, 3), (1, 5, 3, 4)), ((2, 5, 2, 3), (3, 4)), ((2, 5, 2, 3), (5, 3, 4)), ((2, 3), (2, 5, 3, 4)),
             ((2, 5, 2, 3), (3,)), ((5, 2, 3), (3,)), ((3,), (5, 3, 4)), ((2, 5, 2, 3), (2, 1, 3, 4)), ((2, 1, 2, 3), (2, 5, 3, 4)), ((2, 2, 2, 2, 3), (2, 2, 2, 3, 2)),
             ((1, 5, 2, 3), (1, 5, 3, 4)), ((1, 2, 3), (1, 3, 4)), ((16, 70), (70, 33)), ((5, 3, 4), (2, 5, 4, 3)), ((1, 3), (3, 4)), ((5, 1, 3), (5, 3, 1)), ((2, 2, 2, 2, 3), (3, 2)), ((0, 3), (3, 2))]
    for opset in versions("MatMul").values():
        for dtype in allowed("MatMul", opset, 0):
            for one, two in pairs:
                suite.vary("MatMul", [values(dtype, one, 33), values(dtype, two, 34)], opset=opset)
    for opset in versions("MatMul").values():
        suite.vary("MatMul", [np.full((2, 2048), 20, np.float16), np.full((2048, 2), 1, np.float16)], opset=opset)
    for opset in versions("Gemm").values():
        for dtype in allowed("Gemm", opset, 0):
            for trans_a, trans_b in itertools.product(({}, {"transA": 1}), ({}, {"transB": 1})):
                for alpha, beta in itertools.product(({}, {"alpha": 2.0}), ({}, {"beta": 2.0}, {"beta": 0.0})):
                    a = values(dtype, (3, 2) if trans_a else (2, 3), 35)
                    b = values(dtype, (4, 3) if trans_b else (3, 4), 36)
                    for c in (None, (4,), (2, 4), (1, 4), (2, 1), ()):
                        if c is None and opset < 11 or dtype in INTEGERS or (dtype != "f32" or opset < 11) and (alpha or beta):
                            continue
                        attributes = {**trans_a, **trans_b, **alpha, **beta}
                        given = [a, b] + ([] if c is None else [values(dtype, c, 37)])
                        for stored in ((), (1,), (1, 2), (2,), (0,)):
                            suite.add("Gemm", given, attributes, opset=opset, const=stored)
    equations = [("ij,jk->ik", [(2, 3), (3, 4)]), ("bij,bjk->bik", [(2, 3, 4), (2, 4, 5)]), ("bhqd,bhkd->bhqk", [(2, 3, 4, 5), (2, 3, 6, 5)]), ("ij->ji", [(2, 3)]), ("ij->", [(2, 3)]),
                 ("ij->i", [(2, 3)]), ("ij->j", [(2, 3)]), ("ii->i", [(3, 3)]), ("ii->", [(3, 3)]), ("i,i->", [(3,), (3,)]), ("ij,ij->", [(2, 3), (2, 3)]), ("i,j->ij", [(2,), (3,)]),
                 ("ij,ij->ij", [(2, 3), (2, 3)]), ("bhqk,bhkd->bhqd", [(2, 3, 4, 5), (2, 3, 5, 6)]), ("bqhd,bkhd->bhqk", [(2, 4, 3, 5), (2, 6, 3, 5)]), ("ij,kj->ik", [(2, 3), (4, 3)]),
                 ("bhqk,bkhd->bqhd", [(2, 3, 4, 5), (2, 5, 3, 6)]), ("...ij,...jk->...ik", [(2, 3, 4), (2, 4, 5)]), ("abc,cd->abd", [(2, 3, 4), (4, 5)]), ("abcd,cde->abe", [(2, 3, 4, 5), (4, 5, 6)]),
                 ("bsd,hd->bsh", [(2, 3, 4), (5, 4)]), ("ij,jk,kl->il", [(2, 3), (3, 4), (4, 2)]), ("ij,jk", [(2, 3), (3, 4)]), ("bij,bj->bi", [(2, 3, 4), (2, 4)]), ("ab,b->a", [(2, 3), (3,)]),
                 ("i->", [(4,)]), ("ijk->", [(2, 3, 4)]), ("ij,j->i", [(2, 3), (3,)]), ("bcd->bdc", [(2, 3, 4)]), ("nchw,cd->ndhw", [(2, 3, 4, 5), (3, 2)]), ("bid,bjd->bij", [(2, 3, 4), (2, 5, 4)]),
                 ("nkctv,kvw->nctw", [(2, 3, 2, 4, 5), (3, 5, 5)]), ("bhij,bhjd->bhid", [(1, 2, 3, 4), (1, 2, 4, 5)]), ("bhid,bhjd->bhij", [(1, 2, 3, 4), (1, 2, 5, 4)]), ("i,d->id", [(3,), (4,)]), ("bthd,bshd->bhts", [(2, 3, 2, 4), (2, 5, 2, 4)])]
    for opset in versions("Einsum").values():
        for equation, shapes in equations:
            for dtype in ("f32", "f16", "f64", "i64", "i32"):
                suite.vary("Einsum", [values(dtype, shape, 38 + place) for place, shape in enumerate(shapes)], {"equation": equation}, opset=opset)


def convolutions(suite):
    for opset in versions("Conv").values():
        for rank, dtype in itertools.product((4, 3, 5), ("f32", "f16", "f64")):
            axes = rank - 2
            size = (7, 6, 5)[:axes]
            for group in ("1", "c", "m", "n"):
                groups, inside, outside = {"1": (1, 3, 4), "c": (4, 4, 4), "m": (4, 4, 8), "n": (2, 4, 6)}[group]
                for kernel, stride, dilation in itertools.product((3, 1, 2), (1, 2), (1, 2)):
                    if rank == 5 and (dilation == 2 or kernel == 2) or kernel == 1 and dilation == 2:
                        continue
                    if dtype != "f32" and (rank == 5 or dilation == 2 or kernel == 2) or dtype == "f64" and group in "mn":
                        continue
                    half = kernel // 2
                    for padding in ({}, {"pads": [half] * axes * 2}, {"pads": [0] * axes + [1] * axes}, {"auto_pad": "SAME_UPPER"}, {"auto_pad": "SAME_LOWER"}, {"auto_pad": "VALID"},
                                    {"pads": [0] * axes * 2, "auto_pad": "NOTSET"}):
                        if dilation == 2 and padding.get("auto_pad", "V")[0] == "S" and stride == 2:
                            continue
                        x, w = values(dtype, (2, inside, *size), 40), values(dtype, (outside, inside // groups, *[kernel] * axes), 41)
                        attributes = {**padding}
                        if groups > 1:
                            attributes["group"] = groups
                        if stride > 1:
                            attributes["strides"] = [stride] * axes
                        if dilation > 1:
                            attributes["dilations"] = [dilation] * axes
                        for said in ({"kernel_shape": [kernel] * axes}, {}):
                            for bias in ([], [values(dtype, (outside,), 42)]):
                                stored = (1, 2) if bias else (1,)
                                suite.add("Conv", [x, w, *bias], {**attributes, **said}, opset=opset, const=stored)
                                if rank == 4 and dtype == "f32" and dilation == 1 and group != "m":
                                    suite.add("Conv", [x, w, *bias], {**attributes, **said}, opset=opset)
            wide = values(dtype, (1, 1, *(9, 9, 9)[:axes]), 43), values(dtype, (1, 1, *(3, 2, 1)[:axes]), 44)
            suite.add("Conv", list(wide), {"kernel_shape": [3, 2, 1][:axes], "pads": [1, 0, 0][:axes] * 2, "strides": [2, 1, 1][:axes]}, opset=opset, const=(1,))
        one = values("f32", (1, 3, 16, 16), 45), values("f32", (8, 3, 3, 3), 46), values("f32", (8,), 47)
        suite.add("Conv", list(one), {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [0, 0, 1, 1]}, opset=opset, const=(1, 2))
    for opset in versions("ConvTranspose").values():
        for rank, dtype in itertools.product((4, 3, 5), ("f32", "f16", "f64")):
            axes = rank - 2
            if dtype == "f64" or dtype == "f16" and rank != 4:
                continue
            for groups, inside, outside in ((1, 3, 4), (2, 4, 3), (4, 4, 1), (4, 4, 2)):
                for kernel, stride in ((3, 1), (3, 2), (2, 2), (1, 1)):
                    for padding in ({}, {"pads": [1] * axes * 2}, {"output_padding": [1] * axes}, {"pads": [1] * axes * 2, "output_padding": [1] * axes}, {"auto_pad": "SAME_UPPER"},
                                    {"auto_pad": "SAME_LOWER"}, {"auto_pad": "VALID"}, {"dilations": [2] * axes}, {"pads": [0] * axes + [1] * axes}, {"output_shape": [9] * axes}):
                        if "output_padding" in padding and stride == 1 or ("pads" in padding and kernel == 1):
                            continue
                        x, w = values(dtype, (2, inside, *(4, 5, 3)[:axes]), 48), values(dtype, (inside, outside, *[kernel] * axes), 49)
                        attributes = {"kernel_shape": [kernel] * axes, **padding, **({"group": groups} if groups > 1 else {}), **({"strides": [stride] * axes} if stride > 1 else {})}
                        for bias in ([], [values(dtype, (outside * groups,), 50)]):
                            suite.add("ConvTranspose", [x, w, *bias], attributes, opset=opset, const=(1, 2) if bias else (1,))
                            if rank == 4 and dtype == "f32":
                                suite.add("ConvTranspose", [x, w, *bias], attributes, opset=opset)


def pools(suite):
    for operator in ("MaxPool", "AveragePool"):
        for opset in versions(operator).values():
            for rank, dtype in itertools.product((4, 3, 5), ("f32", "f16", "f64", "u8", "i8")):
                if dtype in ("u8", "i8") and (operator != "MaxPool" or opset < 12):
                    continue
                if dtype != "f32" and rank == 5:
                    continue
                axes = rank - 2
                x = values(dtype, (2, 3, *(7, 6, 5)[:axes]), 51)
                for kernel, stride in itertools.product((3, 2, 1), (1, 2)):
                    for padding in ({}, {"pads": [kernel // 2] * axes * 2}, {"pads": [0] * axes + [kernel // 2] * axes}, {"auto_pad": "SAME_UPPER"}, {"auto_pad": "SAME_LOWER"}, {"auto_pad": "VALID"}):
                        for ceil in ({}, {"ceil_mode": 1}) if opset >= (19 if operator == "AveragePool" else 10) or (operator == "AveragePool" and opset >= 10) else ({},):
                            for dilations in ({}, {"dilations": [2] * axes}) if operator == "MaxPool" and opset >= 10 or operator == "AveragePool" and opset >= 19 else ({},):
                                if dilations and ("auto_pad" in padding or kernel == 1):
                                    continue
                                attributes = {"kernel_shape": [kernel] * axes, **padding, **ceil, **dilations, **({"strides": [stride] * axes} if stride > 1 else {})}
                                for count in ({}, {"count_include_pad": 1}) if operator == "AveragePool" else ({},):
                                    suite.add(operator, [x], {**attributes, **count}, opset=opset)
                                if operator == "MaxPool" and rank == 4 and dtype == "f32":
                                    suite.add(operator, [x], attributes, opset=opset, outputs=2)
    for operator in ("GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool"):
        for opset in versions(operator).values():
            for dtype in FLOATS:
                for shape in [(2, 3, 4), (2, 3, 4, 5), (1, 2, 3, 4, 2), (1, 2, 1, 1)]:
                    for attributes in ({}, {"p": 1}, {"p": 3}, {"p": 2}) if operator == "GlobalLpPool" else ({},):
                        suite.vary(operator, [values(dtype, shape, 52)], attributes, opset=opset)
                for shape in [(1, 2, 64, 64), (1, 2, 4096), (1, 1, 16, 16, 16)]:
                    suite.add(operator, [np.full(shape, 20, DTYPES[dtype][0])], opset=opset)


def normalisations(suite):
    for opset in versions("BatchNormalization").values():
        for dtype in FLOATS:
            for shape in [(4, 3), (2, 3, 4), (2, 3, 4, 5), (1, 3, 2, 3, 4)]:
                rest = [values(dtype, (3,), 53 + place) for place in range(3)] + [np.abs(values(dtype, (3,), 56)) + np.array(0.5, DTYPES[dtype][0])]
                for attributes in ({}, {"epsilon": 1e-3}, {"momentum": 0.8}, {"epsilon": 1e-3, "momentum": 0.99}):
                    for stored in ((1, 2, 3, 4), (), (0, 1, 2, 3, 4)):
                        suite.add("BatchNormalization", [values(dtype, shape, 52), *rest], attributes, opset=opset, const=stored)
    for opset in versions("InstanceNormalization").values():
        for dtype in FLOATS:
            for shape in [(2, 3, 4), (2, 3, 4, 5), (1, 3, 2, 3, 4)]:
                for attributes in ({}, {"epsilon": 1e-3}):
                    suite.vary("InstanceNormalization", [values(dtype, shape, 57), values(dtype, (3,), 58), values(dtype, (3,), 59)], attributes, opset=opset)
            for shape in [(1, 2, 64, 64), (1, 2, 4096), (1, 2, 16, 16, 16)]:
                x = (values(dtype, shape, 60) + np.array(20, DTYPES[dtype][0])).astype(DTYPES[dtype][0])
                for attributes in ({}, {"epsilon": 1e-3}):
                    suite.vary("InstanceNormalization", [x, np.ones(2, x.dtype), np.zeros(2, x.dtype)], attributes, opset=opset)
    for opset in versions("LayerNormalization").values():
        for dtype in FLOATS:
            for shape in [(4,), (3, 4), (2, 3, 4), (2, 3, 4, 5)]:
                for axis in (None, *range(-len(shape), len(shape))):
                    tail = shape[-1:] if axis is None else shape[axis:]
                    for epsilon in ({}, {"epsilon": 1e-3}):
                        said = {**epsilon, **({} if axis is None else {"axis": axis})}
                        for bias in ([], [values(dtype, tail, 62)]):
                            given = [values(dtype, shape, 60), values(dtype, tail, 61), *bias]
                            suite.vary("LayerNormalization", given, said, opset=opset)
                            suite.add("LayerNormalization", given, said, opset=opset, outputs=3, const=(1, 2) if bias else (1,))
                            if dtype == "f16":
                                suite.add("LayerNormalization", given, {**said, "stash_type": 1}, opset=opset, const=(1, 2) if bias else (1,))
            large = (values(dtype, (2, 4096), 63) * np.array(4, DTYPES[dtype][0]) + np.array(20, DTYPES[dtype][0])).astype(DTYPES[dtype][0])
            for bias in ([], [np.zeros(4096, large.dtype)]):
                suite.vary("LayerNormalization", [large, np.ones(4096, large.dtype), *bias], {"axis": -1}, opset=opset)
    for opset in versions("RMSNormalization").values():
        for dtype in FLOATS:
            for shape in [(3, 4), (2, 3, 4), (2, 3, 4, 5)]:
                for axis in (None, *range(-len(shape), len(shape))):
                    tail = shape[-1:] if axis is None else shape[axis:]
                    for epsilon in ({}, {"epsilon": 1e-3}):
                        suite.vary("RMSNormalization", [values(dtype, shape, 64), values(dtype, tail, 65)], {**epsilon, **({} if axis is None else {"axis": axis})}, opset=opset)
            suite.vary("RMSNormalization", [np.full((2, 4096), 20, DTYPES[dtype][0]), np.ones(4096, DTYPES[dtype][0])], opset=opset)
    for opset in versions("GroupNormalization").values():
        for dtype in FLOATS:
            for shape in [(2, 4, 5), (2, 4, 3, 5), (1, 4, 2, 3, 2)]:
                channels = 2 if opset < 21 else 4
                for epsilon in ({}, {"epsilon": 1e-3}):
                    suite.vary("GroupNormalization", [values(dtype, shape, 66), values(dtype, (channels,), 67), values(dtype, (channels,), 68)], {"num_groups": 2, **epsilon}, opset=opset)
            x = np.full((1, 4, 64, 64), 20, DTYPES[dtype][0]) + values(dtype, (1, 4, 64, 64), 69)
            suite.vary("GroupNormalization", [x, np.ones(channels, x.dtype), np.zeros(channels, x.dtype)], {"num_groups": 2}, opset=opset)
    for opset in versions("LRN").values():
        for dtype in FLOATS:
            for shape in [(2, 5, 4), (2, 5, 3, 4)]:
                for attributes in ({}, {"alpha": 2e-4}, {"beta": 0.5}, {"bias": 2.0}, {"alpha": 2e-4, "beta": 0.5, "bias": 2.0}, {"alpha": 2e-4, "beta": 0.5}):
                    for size in (3, 5, 2):
                        suite.vary("LRN", [values(dtype, shape, 70)], {"size": size, **attributes}, opset=opset)
    for opset in versions("LpNormalization").values():
        for dtype in FLOATS:
            for shape in [(5,), (3, 4), (2, 3, 4)]:
                for axis in range(-len(shape), len(shape)):
                    for p in ({}, {"p": 1}, {"p": 2}):
                        suite.vary("LpNormalization", [values(dtype, shape, 71)], {"axis": axis, **p}, opset=opset)
            suite.add("LpNormalization", [np.full((2, 4096), 20, DTYPES[dtype][0])], {"axis": -1}, opset=opset)
    for opset in versions("MeanVarianceNormalization").values():
        for dtype in FLOATS:
            for attributes in ({}, {"axes": [0, 2, 3]}, {"axes": [1]}, {"axes": [0, 1, 2, 3]}):
                suite.vary("MeanVarianceNormalization", [values(dtype, (2, 3, 4, 5), 72)], attributes, opset=opset)
    for opset in versions("Dropout").values():
        for dtype in FLOATS:
            x = values(dtype, (2, 3), 73)
            for outputs in (1, 2):
                if opset < 12:
                    for attributes in ({}, {"ratio": 0.3}):
                        suite.vary("Dropout", [x], attributes, opset=opset, outputs=outputs)
                    continue
                for rest in ([], [scalar(0.3, dtype)], [scalar(0.3, "f32")], [scalar(0.3, dtype), np.array(False)], [None, np.array(False)], [scalar(0.0, dtype), np.array(True)]):
                    suite.add("Dropout", [x, *rest], opset=opset, outputs=outputs, const=(1, 2))
                    suite.add("Dropout", [x, *rest], {"seed": 3}, opset=opset, outputs=outputs, const=(1, 2))


def all_of(suite):
    for family in (reductions, softmaxes, products, convolutions, pools, normalisations):
        family(suite)
