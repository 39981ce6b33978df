"""Operators for `kill.py` alone: those of ONNX Runtime's own domain, and operands that the suite keeps constant."""

import numpy as np
from onnx import helper

MICROSOFT = "com.microsoft"


def floats(*shape):
    return np.random.default_rng(len(shape)).normal(0, 1, shape).astype(np.float32)


def ones(dtype, *shape):
    return np.ones(shape, dtype)


def number(value, dtype=np.int64):
    return np.array(value, dtype)


U8, I32 = np.uint8, np.int32
SCALE, ZERO = number(1, np.float32), number(1, U8)


def operators():
    """Operator, its domain, attributes, operands (None for one that is left out) and the number of results."""
    heads = {"num_heads": 2}
    tokens = floats(2, 5, 8)
    yield "Attention", MICROSOFT, heads, [tokens, floats(8, 24), floats(24)], 1
    yield "MultiHeadAttention", MICROSOFT, heads, [tokens, tokens, tokens], 1
    yield "GroupQueryAttention", MICROSOFT, {**heads, "kv_num_heads": 1}, [floats(1, 1, 32), floats(1, 1, 16), floats(1, 1, 16), floats(1, 1, 4, 16), floats(1, 1, 4, 16), ones(I32, 1) * 4, number(5, I32)], 3
    yield "QAttention", MICROSOFT, heads, [ones(U8, 2, 5, 8), ones(U8, 8, 24), floats(24), SCALE, SCALE, ones(I32, 2) * 5, ZERO, ZERO], 1
    yield "RotaryEmbedding", MICROSOFT, {}, [floats(1, 2, 3, 8), ones(np.int64, 1), floats(6, 4), floats(6, 4)], 1
    yield "RotaryEmbedding", "", {}, [floats(1, 2, 3, 8), floats(6, 4), floats(6, 4), ones(np.int64, 1, 3)], 1
    yield "Attention", "", {}, [floats(1, 2, 3, 4), floats(1, 2, 5, 4), floats(1, 2, 5, 4)], 1
    yield "SkipLayerNormalization", MICROSOFT, {}, [tokens, tokens, floats(8), floats(8)], 1
    yield "SkipSimplifiedLayerNormalization", MICROSOFT, {}, [tokens, tokens, floats(8)], 1
    yield "SimplifiedLayerNormalization", "", {}, [tokens, floats(8)], 1
    yield "BiasGelu", MICROSOFT, {}, [floats(2, 8), floats(8)], 1
    yield "FastGelu", MICROSOFT, {}, [floats(2, 8), floats(8)], 1
    yield "FusedConv", MICROSOFT, {"activation": "Relu"}, [floats(1, 2, 5, 5), floats(3, 2, 3, 3)], 1
    yield "FusedMatMul", MICROSOFT, {"transA": 1}, [floats(3, 2), floats(3, 4)], 1
    yield "FusedGemm", MICROSOFT, {"activation": "Relu"}, [floats(2, 3), floats(3, 4), floats(4)], 1
    yield "ConvTransposeWithDynamicPads", MICROSOFT, {}, [floats(1, 2, 4, 4), floats(2, 2, 3, 3), ones(np.int64, 4)], 1
    yield "MatMulNBits", MICROSOFT, {"K": 32, "N": 8, "bits": 4, "block_size": 32}, [floats(2, 32), ones(U8, 8, 1, 16), floats(8, 1)], 1
    yield "DynamicQuantizeMatMul", MICROSOFT, {}, [floats(2, 8), ones(U8, 8, 3), SCALE.reshape(1)], 1
    yield "MatMulIntegerToFloat", MICROSOFT, {}, [ones(U8, 2, 3), ones(U8, 3, 2), SCALE, SCALE], 1
    yield "QLinearAdd", MICROSOFT, {}, [ones(U8, 2, 3), SCALE, ZERO, ones(U8, 2, 3), SCALE, ZERO, SCALE, ZERO], 1
    yield "QLinearMul", MICROSOFT, {}, [ones(U8, 2, 3), SCALE, ZERO, ones(U8, 2, 3), SCALE, ZERO, SCALE, ZERO], 1
    yield "QLinearSigmoid", MICROSOFT, {}, [ones(U8, 2, 3), SCALE, ZERO, SCALE, ZERO], 1
    yield "QLinearSoftmax", MICROSOFT, {"opset": 13}, [ones(U8, 2, 3), SCALE, ZERO, SCALE, ZERO], 1
    yield "QLinearGlobalAveragePool", MICROSOFT, {}, [ones(U8, 1, 2, 3, 3), SCALE, ZERO, SCALE, ZERO], 1
    yield "QLinearAveragePool", MICROSOFT, {"kernel_shape": [2, 2]}, [ones(U8, 1, 2, 3, 3), SCALE, ZERO, SCALE, ZERO], 1
    yield "QGemm", MICROSOFT, {}, [ones(U8, 2, 3), SCALE, ZERO, ones(U8, 3, 4), SCALE, ZERO], 1
    yield "GatherBlockQuantized", MICROSOFT, {"block_size": 16, "bits": 4}, [ones(U8, 4, 16), number([0, 1]), floats(4, 2)], 1
    yield "CropAndResize", MICROSOFT, {}, [floats(1, 2, 6, 6), floats(3, 4), ones(I32, 3) * 0, ones(I32, 2) * 2], 1
    yield "CDist", MICROSOFT, {"metric": "euclidean"}, [floats(3, 4), floats(2, 4)], 1
    yield "Inverse", MICROSOFT, {}, [np.eye(3, dtype=np.float32)], 1
    yield "NGramRepeatBlock", MICROSOFT, {"ngram_size": 2}, [ones(np.int64, 2, 5), floats(2, 9)], 1
    yield "WordConvEmbedding", MICROSOFT, {}, [ones(I32, 2, 3, 4), floats(5, 1, 2, 4), floats(5), floats(6, 4)], 1
    yield "MoE", MICROSOFT, {"k": 1}, [floats(3, 4), floats(3, 2), floats(2, 4, 8), floats(2, 8), floats(2, 8, 4), floats(2, 4)], 1
    yield "STFT", "", {}, [floats(1, 32, 1), number(4), None, number(8)], 1
    yield "MelWeightMatrix", "", {}, [number(8), number(16), number(8000), number(0, np.float32), number(4000, np.float32)], 1
    yield "HannWindow", "", {}, [number(8)], 1
    yield "DeformConv", "", {"pads": [0, 0, 0, 0]}, [floats(1, 1, 3, 3), floats(1, 1, 2, 2), floats(1, 8, 2, 2)], 1
    yield "MaxRoiPool", "", {"pooled_shape": [2, 2]}, [floats(1, 2, 6, 6), floats(3, 5)], 1
    yield "MaxUnpool", "", {"kernel_shape": [2, 2], "strides": [2, 2]}, [floats(1, 1, 2, 2), number([[[[0, 3], [8, 10]]]])], 1
    yield "NonMaxSuppression", "", {}, [floats(1, 5, 4), floats(1, 2, 5), number([3]), number([0.5], np.float32), number([0.1], np.float32)], 1
    yield "Col2Im", "", {}, [floats(1, 5, 5), number([5, 5]), number([1, 5])], 1
    yield "CenterCropPad", "", {}, [floats(5, 5), number([3, 7])], 1
    yield "AffineGrid", "", {}, [floats(1, 2, 3), number([1, 2, 3, 3])], 1
    yield "ReverseSequence", "", {}, [floats(4, 3), number([1, 2, 3])], 1
    yield "TfIdfVectorizer", "", {"mode": "TF", "min_gram_length": 1, "max_gram_length": 2, "max_skip_count": 1, "ngram_counts": [0, 2], "ngram_indexes": [0, 1, 2], "pool_int64s": [1, 2, 3, 4]}, [number([1, 2, 3, 4])], 1


def cases():
    """A name, the operator, and the model of one node with what it is asked."""
    for operator, domain, attributes, operands, results in operators():
        names = [f"x{place}" if operand is not None else "" for place, operand in enumerate(operands)]
        asked = {name: operand for name, operand in zip(names, operands) if name}
        node = helper.make_node(operator, names, [f"y{place}" for place in range(results)], domain=domain, **attributes)
        inputs = [helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape) for name, array in asked.items()]
        outputs = [helper.make_empty_tensor_value_info(name) for name in node.output]
        graph = helper.make_graph([node], "stranger", inputs, outputs)
        opset = 23 if operator in ("Attention", "RotaryEmbedding") else 22
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset), helper.make_opsetid(MICROSOFT, 1)], ir_version=10)
        yield f"{domain or 'ai.onnx'}.{operator}", operator, model, asked
