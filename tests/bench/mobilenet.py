"""Writes MobileNetV2-224 with seeded random weights as target/bench/mobilenet/model.onnx, for `corymb-tests-bench engines`.

Needs the packages onnx and numpy. The graph is that of Sandler et al., "MobileNetV2: Inverted Residuals and Linear
Bottlenecks" (2018), table 2, with batch normalisation folded into the convolutions; input x FP32[N,3,224,224], output y
FP32[N,1000].
"""

import pathlib
import sys

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

# Expansion, channels, repeats, stride.
BLOCKS = [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)]
CLASSES = 1000


class Graph:
    """Nodes and weights, in the order in which they are made."""

    def __init__(self):
        self.nodes, self.weights = [], []
        self.random = np.random.default_rng(20180113)

    def weight(self, shape, fan_in):
        name = f"w{len(self.weights)}"
        values = self.random.normal(0.0, np.sqrt(2.0 / fan_in), shape).astype(np.float32)
        self.weights.append(numpy_helper.from_array(values, name))
        return name

    def constant(self, value):
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.float32(value), name))
        return name

    def node(self, operator, inputs, output=None, **attributes):
        output = output or f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [output], **attributes))
        return output

    def convolution(self, x, channels_in, channels_out, kernel, stride=1, groups=1, relu=True):
        fan_in = channels_in // groups * kernel * kernel
        weight = self.weight((channels_out, channels_in // groups, kernel, kernel), fan_in)
        bias = self.weight((channels_out,), 100 * channels_out)
        pad = kernel // 2
        y = self.node(
            "Conv", [x, weight, bias], kernel_shape=[kernel] * 2, strides=[stride] * 2, pads=[pad] * 4, group=groups
        )
        return self.node("Clip", [y, self.zero, self.six]) if relu else y

    def bottleneck(self, x, channels_in, channels_out, expansion, stride):
        hidden = channels_in * expansion
        y = self.convolution(x, channels_in, hidden, 1) if expansion > 1 else x
        y = self.convolution(y, hidden, hidden, 3, stride, groups=hidden)
        y = self.convolution(y, hidden, channels_out, 1, relu=False)
        return self.node("Add", [x, y]) if stride == 1 and channels_in == channels_out else y


def model():
    graph = Graph()
    graph.zero, graph.six = graph.constant(0.0), graph.constant(6.0)
    y = graph.convolution("x", 3, 32, 3, 2)
    channels = 32
    for expansion, out, repeats, stride in BLOCKS:
        for index in range(repeats):
            y = graph.bottleneck(y, channels, out, expansion, stride if index == 0 else 1)
            channels = out
    y = graph.convolution(y, channels, 1280, 1)
    y = graph.node("GlobalAveragePool", [y])
    y = graph.node("Flatten", [y])
    graph.node("Gemm", [y, graph.weight((CLASSES, 1280), 1280), graph.weight((CLASSES,), 1280)], "y", transB=1)
    made = helper.make_graph(
        graph.nodes,
        "mobilenetv2",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, 224, 224])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", CLASSES])],
        graph.weights,
    )
    return helper.make_model(made, ir_version=8, opset_imports=[helper.make_opsetid("", 13)])


def main():
    default = pathlib.Path(__file__).resolve().parents[2] / "target" / "bench" / "mobilenet"
    folder = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else default
    folder.mkdir(parents=True, exist_ok=True)
    made = model()
    onnx.checker.check_model(made)
    onnx.save(made, folder / "model.onnx")
    print(folder / "model.onnx")


if __name__ == "__main__":
    main()
