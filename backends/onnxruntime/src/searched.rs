//! Operators that a search has found nothing of: `tests/operators/kill.py` gave each tensors without elements, strange numbers and
//! other numbers of dimensions than it takes, and every run came back.

use corymb_onnx::is_standard;

/// The domains that the search is about. Operators of others come from libraries that somebody has chosen to load.
const DOMAINS: [&str; 2] = ["ai.onnx.ml", "com.microsoft"];

/// Of all domains.
#[rustfmt::skip]
const SURVIVED: [&str; 215] = [
    "Abs", "Acos", "Acosh", "Add", "AffineGrid", "And", "ArgMax", "ArgMin", "ArrayFeatureExtractor", "Asin", "Asinh", "Atan",
    "Atanh", "AveragePool", "BatchNormalization", "Bernoulli", "BiasGelu", "Binarizer", "BitShift", "BitwiseAnd", "BitwiseNot",
    "BitwiseOr", "BitwiseXor", "BlackmanWindow", "CDist", "Cast", "CastLike", "Ceil", "Celu", "CenterCropPad", "Clip", "Col2Im",
    "Compress", "Concat", "Constant", "ConstantOfShape", "ConvInteger", "ConvTransposeWithDynamicPads", "Cos", "Cosh",
    "CropAndResize", "CumSum", "DeformConv", "DepthToSpace", "DequantizeLinear", "Det", "Div", "DynamicQuantizeLinear",
    "DynamicQuantizeMatMul", "Elu", "EmbedLayerNormalization", "Equal", "Erf", "Exp", "Expand", "ExpandDims", "EyeLike",
    "FastGelu", "Flatten", "Floor", "FusedGemm", "FusedMatMul", "Gather", "GatherBlockQuantized", "GatherElements", "GatherND",
    "Gelu", "Gemm", "GlobalAveragePool", "GlobalLpPool", "GlobalMaxPool", "Greater", "GreaterOrEqual", "GridSample",
    "GroupNormalization", "GroupQueryAttention", "HammingWindow", "HannWindow", "HardSigmoid", "HardSwish", "Hardmax", "Identity",
    "If", "Imputer", "IsInf", "IsNaN", "LRN", "LabelEncoder", "LayerNormalization", "LeakyRelu", "Less", "LessOrEqual",
    "LinearClassifier", "LinearRegressor", "Log", "LogSoftmax", "Loop", "LpNormalization", "LpPool", "MatMul", "MatMulBnb4",
    "MatMulInteger", "MatMulIntegerToFloat", "MatMulNBits", "Max", "MaxPool", "MaxUnpool", "Mean", "MeanVarianceNormalization",
    "MelWeightMatrix", "Min", "Mish", "MoE", "Mod", "Mul", "MurmurHash3", "NGramRepeatBlock", "Neg", "NegativeLogLikelihoodLoss",
    "NhwcMaxPool", "NonZero", "Normalizer", "Not", "OneHot", "OneHotEncoder", "Optional", "OptionalGetElement",
    "OptionalHasElement", "Or", "PRelu", "Pad", "Pow", "QGemm", "QLinearAdd", "QLinearAveragePool", "QLinearConv",
    "QLinearGlobalAveragePool", "QLinearLeakyRelu", "QLinearMatMul", "QLinearMul", "QLinearSigmoid", "QLinearSoftmax",
    "QuantizeLinear", "QuickGelu", "RMSNormalization", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike",
    "Range", "Reciprocal", "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin",
    "ReduceProd", "ReduceSum", "ReduceSumSquare", "RegexFullMatch", "Relu", "Reshape", "Round", "SVMClassifier", "SVMRegressor",
    "Scaler", "Scatter", "ScatterElements", "ScatterND", "Selu", "SequenceAt", "SequenceConstruct", "SequenceErase",
    "SequenceInsert", "SequenceLength", "Shape", "Shrink", "Sigmoid", "Sign", "SimplifiedLayerNormalization", "Sin", "Sinh",
    "Size", "Slice", "Softmax", "SoftmaxCrossEntropyLoss", "Softplus", "Softsign", "SpaceToDepth", "Split", "SplitToSequence",
    "Sqrt", "Squeeze", "StringConcat", "StringNormalizer", "StringSplit", "Sub", "Sum", "Swish", "Tan", "Tanh", "TensorScatter",
    "TfIdfVectorizer", "ThresholdedRelu", "Tile", "TopK", "Transpose", "TransposeMatMul", "Trilu", "UnfoldTensor",
    "Unsqueeze", "Where", "Xor",
];

/// Whether nobody knows what a node does when it is given something strange, and `guarded` are the operators of which it is known.
pub(crate) fn is_unknown(domain: &str, operator: &str, guarded: &[&str]) -> bool {
    (is_standard(domain) || DOMAINS.contains(&domain))
        && SURVIVED.binary_search(&operator).is_err()
        && !guarded.contains(&operator)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operators_are_in_order_and_those_of_other_domains_are_their_libraries() {
        assert!(SURVIVED.is_sorted_by(|one, two| one < two));
        assert!(!is_unknown("", "Add", &[]) && !is_unknown("ai.onnx", "Add", &[]));
        assert!(is_unknown("com.microsoft", "BeamSearch", &[]) && !is_unknown("", "GRU", &["GRU"]));
        assert!(!is_unknown("ai.onnx.contrib", "BpeDecoder", &[]));
    }
}
