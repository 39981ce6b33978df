"""Operators for `kill.py` alone: those of ONNX Runtime's own domain, and operands that the suite keeps constant."""

import numpy as np
from onnx import helper

MICROSOFT = "com.microsoft"
LEARNING = "ai.onnx.ml"
OPSETS = {"Attention": 24, "RotaryEmbedding": 24, "TensorScatter": 24, "DeformConv": 19, "AffineGrid": 20, "DFT": 20, "StringConcat": 20, "StringSplit": 20, "RegexFullMatch": 20}
"""Operator sets; 18 otherwise."""


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
    yield "DecoderMaskedMultiHeadAttention", MICROSOFT, {**heads, "past_present_share_buffer": 1}, [floats(1, 1, 4), floats(1, 1, 4), floats(1, 1, 4), ones(I32, 1, 4), floats(1, 2, 1, 4), floats(1, 2, 6, 2), floats(1, 2, 6, 2), ones(I32, 1) * 3, ones(I32, 1), 0 * ones(I32, 1, 1, 6)], 3
    yield "QLinearConcat", MICROSOFT, {"axis": 1}, [SCALE, ZERO, ones(U8, 2, 3), SCALE, ZERO, ones(U8, 2, 3), SCALE, ZERO], 1
    yield "QLinearWhere", MICROSOFT, {}, [ones(np.bool_, 2, 3), ones(U8, 2, 3), SCALE, ZERO, ones(U8, 2, 3), SCALE, ZERO, SCALE, ZERO], 1
    yield "QLinearLeakyRelu", MICROSOFT, {"alpha": 0.1}, [ones(U8, 2, 3), SCALE, ZERO, SCALE, ZERO], 1
    yield "EmbedLayerNormalization", MICROSOFT, {}, [ones(I32, 1, 2), ones(I32, 1, 2), floats(5, 4), floats(4, 4), floats(2, 4), floats(4), floats(4), ones(I32, 1, 2)], 2
    yield "QuickGelu", MICROSOFT, {}, [floats(2, 4)], 1
    yield "TransposeMatMul", MICROSOFT, {}, [floats(2, 3), floats(3, 2)], 1
    yield "MatMulBnb4", MICROSOFT, {"K": 64, "N": 4, "block_size": 64, "quant_type": 1}, [floats(2, 64), ones(U8, 128), floats(4)], 1
    yield "NhwcMaxPool", MICROSOFT, {"kernel_shape": [2, 2]}, [ones(U8, 1, 4, 4, 2)], 1
    yield "ExpandDims", MICROSOFT, {}, [floats(2, 3), number(1, I32)], 1
    yield "UnfoldTensor", MICROSOFT, {"size": 3, "step": 1, "dim": 1}, [floats(2, 6)], 1
    yield "MurmurHash3", MICROSOFT, {}, [ones(I32, 2, 3)], 1
    yield "MoE", MICROSOFT, {"k": 1}, [floats(3, 4), floats(3, 2), floats(2, 4, 8), floats(2, 8), floats(2, 8, 4), floats(2, 4)], 1
    yield "STFT", "", {}, [floats(1, 32, 1), number(4), None, number(8)], 1
    yield "MelWeightMatrix", "", {}, [number(8), number(16), number(8000), number(0, np.float32), number(4000, np.float32)], 1
    yield "HannWindow", "", {}, [number(8)], 1
    yield "DeformConv", "", {"pads": [0, 0, 0, 0]}, [floats(1, 1, 3, 3), floats(1, 1, 2, 2), floats(1, 8, 2, 2)], 1
    yield "MaxRoiPool", "", {"pooled_shape": [2, 2]}, [floats(1, 2, 6, 6), np.array([[0, 0, 0, 3, 3]], np.float32)], 1
    yield "RoiAlign", "", {"output_height": 2, "output_width": 2}, [floats(1, 1, 6, 6), floats(2, 4), ones(np.int64, 2) * 0], 1
    yield "Bernoulli", "", {}, [floats(2, 3)], 1
    yield "StringNormalizer", "", {"case_change_action": "LOWER", "locale": "C"}, [np.array(["A", "b"])], 1
    yield "StringConcat", "", {}, [np.array(["A", "b"]), np.array(["c", "d"])], 1
    yield "StringSplit", "", {}, [np.array(["A b", "c"])], 2
    yield "RegexFullMatch", "", {"pattern": "a.*"}, [np.array(["ab", "b"])], 1
    yield "LpPool", "", {"kernel_shape": [2, 2]}, [floats(1, 1, 4, 4)], 1
    yield "Det", "", {}, [floats(2, 3, 3)], 1
    yield "Unique", "", {"axis": 0}, [floats(3, 4)], 4
    yield "TensorScatter", "", {}, [floats(1, 2, 4, 3), floats(1, 2, 1, 3), ones(np.int64, 1)], 1
    yield "DFT", "", {}, [floats(1, 8, 2), number(8), number(1)], 1
    yield "Dropout", "", {}, [floats(2, 3), number(0.5, np.float32), number(True, np.bool_)], 1
    yield "Multinomial", "", {"sample_size": 3}, [floats(2, 5)], 1
    yield "BatchNormalization", "", {"training_mode": 1}, [floats(2, 3, 4), floats(3), floats(3), floats(3), ones(np.float32, 3)], 3
    yield "NegativeLogLikelihoodLoss", "", {}, [floats(2, 3), ones(np.int64, 2)], 1
    yield "SoftmaxCrossEntropyLoss", "", {}, [floats(2, 3), ones(np.int64, 2)], 1
    yield "Scaler", LEARNING, {"offset": [0.0], "scale": [1.0]}, [floats(2, 3)], 1
    yield "Imputer", LEARNING, {"imputed_value_floats": [1.0], "replaced_value_float": 0.0}, [floats(2, 3)], 1
    yield "Binarizer", LEARNING, {"threshold": 0.0}, [floats(2, 3)], 1
    yield "OneHotEncoder", LEARNING, {"cats_int64s": [0, 1, 2], "zeros": 1}, [ones(np.int64, 2)], 1
    yield "LabelEncoder", LEARNING, {"keys_int64s": [0, 1], "values_int64s": [1, 2]}, [ones(np.int64, 2)], 1
    yield "FeatureVectorizer", LEARNING, {"inputdimensions": [3, 2]}, [floats(2, 3), floats(2, 2)], 1
    yield "SVMRegressor", LEARNING, {"coefficients": [1.0, 1.0], "kernel_params": [0.1, 0.0, 3.0], "kernel_type": "RBF", "n_supports": 2, "rho": [0.0], "support_vectors": [1.0, 2.0, 3.0, 4.0]}, [floats(2, 2)], 1
    yield "SVMClassifier", LEARNING, {"classlabels_ints": [0, 1], "coefficients": [1.0, -1.0], "kernel_params": [0.1, 0.0, 3.0], "kernel_type": "RBF", "rho": [0.0], "support_vectors": [1.0, 2.0, 3.0, 4.0], "vectors_per_class": [1, 1]}, [floats(2, 2)], 2
    yield "MaxUnpool", "", {"kernel_shape": [2, 2], "strides": [2, 2]}, [floats(1, 1, 2, 2), number([[[[0, 3], [8, 10]]]])], 1
    yield "NonMaxSuppression", "", {}, [floats(1, 5, 4), floats(1, 2, 5), number([3]), number([0.5], np.float32), number([0.1], np.float32)], 1
    yield "Col2Im", "", {}, [floats(1, 5, 5), number([5, 5]), number([1, 5])], 1
    yield "CenterCropPad", "", {}, [floats(5, 5), number([3, 7])], 1
    yield "AffineGrid", "", {}, [floats(1, 2, 3), number([1, 2, 3, 3])], 1
    yield "ReverseSequence", "", {}, [floats(4, 3), number([1, 2, 3])], 1
    yield "TfIdfVectorizer", "", {"mode": "TF", "min_gram_length": 1, "max_gram_length": 2, "max_skip_count": 1, "ngram_counts": [0, 2], "ngram_indexes": [0, 1, 2], "pool_int64s": [1, 2, 3, 4]}, [number([1, 2, 3, 4])], 1


def chains():
    """Operators on what only other operators make: the one that is meant, the nodes, and what they are given."""
    node, pair = helper.make_node, [floats(2, 3), floats(4, 3)]
    made = node("SequenceConstruct", ["x0", "x1"], ["s"])
    yield "SplitToSequence", [node("SplitToSequence", ["x0", "x1"], ["s"], axis=0), node("ConcatFromSequence", ["s"], ["y0"], axis=0)], [floats(4, 3), number([1, 3])], 1
    yield "ConcatFromSequence", [made, node("ConcatFromSequence", ["s"], ["y0"], axis=0, new_axis=1)], [floats(2, 3), floats(2, 3)], 1
    yield "SequenceAt", [made, node("SequenceAt", ["s", "x2"], ["y0"])], [*pair, number(1)], 1
    yield "SequenceErase", [made, node("SequenceErase", ["s", "x2"], ["t"]), node("SequenceLength", ["t"], ["y0"])], [*pair, number(1)], 1
    yield "SequenceInsert", [made, node("SequenceInsert", ["s", "x1", "x2"], ["t"]), node("ConcatFromSequence", ["t"], ["y0"], axis=0)], [*pair, number(1)], 1
    yield "Optional", [node("Optional", ["x0"], ["o"]), node("OptionalHasElement", ["o"], ["y0"]), node("OptionalGetElement", ["o"], ["y1"])], pair[:1], 2


def single():
    """The same of those that need no others."""
    for operator, domain, attributes, operands, results in operators():
        names = [f"x{place}" if operand is not None else "" for place, operand in enumerate(operands)]
        node = helper.make_node(operator, names, [f"y{place}" for place in range(results)], domain=domain, **attributes)
        yield operator, [node], operands, results


def cases():
    """A name, the operator, and the model with what it is asked."""
    for operator, nodes, operands, results in [*single(), *chains()]:
        asked = {f"x{place}": operand for place, operand in enumerate(operands) if operand is not None}
        inputs = [helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape) for name, array in asked.items()]
        outputs = [helper.make_empty_tensor_value_info(f"y{place}") for place in range(results)]
        graph = helper.make_graph(nodes, "stranger", inputs, outputs)
        opset = OPSETS.get(operator, 18)
        opsets = [helper.make_opsetid("", opset), helper.make_opsetid(MICROSOFT, 1), helper.make_opsetid(LEARNING, 3)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
        yield f"{nodes[-1].domain or 'ai.onnx'}.{operator}", operator, model, asked
