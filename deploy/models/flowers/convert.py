#!/usr/bin/env python3
"""Turns a TensorFlow SavedModel, or a Keras model, into a model folder that Corymb serves.

    pip install tensorflow-cpu tf2onnx onnxruntime
    python convert.py SAVED_MODEL OUT

OUT gets model.onnx, model.toml and, without a plugin, a sample in warmup/. Inputs and outputs keep the names of the signature. Both models are
asked the same before anything is written: where their answers differ by more than the tolerance, nothing is.

A model that decodes pictures or text inside its graph takes strings, and ONNX has no such operators. Cut it behind that:
`--input TENSOR` names the tensor that becomes the input, and a plugin does what came before it. For a classifier of pictures
that is the flowers plugin (`--plugin flowers.wasm`): clients go on sending `image_bytes` and `key`. It resizes as Pillow does
and makes (pixel - 127) / 128 of them, so where the graph did it otherwise the scores are near, not equal.
"""

import argparse
import hashlib
import logging
import os
import shutil
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import onnx
import onnxruntime
import tensorflow as tf
import tf2onnx
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

# They advise on each other's functions.
tf.get_logger().setLevel("ERROR")
logging.getLogger("tf2onnx").setLevel(logging.ERROR)

OPSET = 17
ROWS = (1, 3)


def frozen(path: Path, signature: str):
    """The signature as one function of constants, and the names of what it takes and gives."""
    loaded = tf.saved_model.load(str(path))
    if signature not in loaded.signatures:
        sys.exit(f"{path} has no signature '{signature}'; it has {sorted(loaded.signatures)}: name one by --signature")
    function = loaded.signatures[signature]
    # A tensor that is captured, such as a variable, is an input of the graph too, but not of the signature.
    own = function.inputs[: len(function.inputs) - len(function.captured_inputs)]
    constant = convert_variables_to_constants_v2(function)
    names = {f"{tensor.op.name}:0": tensor.op.name for tensor in own}
    for tensor in own:
        given = tensor.op.get_attr("_user_specified_name") if "_user_specified_name" in tensor.op.node_def.attr else None
        if given:
            names[tensor.name] = given.decode()
    inputs = {names.get(tensor.name, tensor.op.name): tensor for tensor in constant.inputs}
    # Outputs of both are flat, in the order of the names.
    outputs = dict(zip(sorted(function.structured_outputs), constant.outputs, strict=True))
    return constant, inputs, outputs


def cut(function, names: list[str]):
    """The tensors that are named, as inputs."""
    found = {}
    for name in names:
        try:
            tensor = function.graph.get_tensor_by_name(name if ":" in name else f"{name}:0")
        except (KeyError, ValueError):
            sys.exit(f"the graph has no tensor '{name}'; of those with pictures it has:\n{candidates(function.graph)}")
        found[tensor.op.name.rsplit("/", 1)[-1]] = tensor
    return found


def candidates(graph) -> str:
    tensors = [
        tensor
        for operation in graph.get_operations()
        for tensor in operation.outputs
        if tensor.dtype == tf.float32 and tensor.shape.rank == 4 and operation.type not in ("Const", "Identity")
    ]
    return "\n".join(f"  {tensor.name}  {tensor.shape}" for tensor in tensors[:12]) or "  none of rank 4"


def rename(graph: onnx.GraphProto, names: dict[str, str]):
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
        for attribute in node.attribute:
            for inner in [attribute.g, *attribute.graphs] if attribute.type in (5, 10) else []:
                rename(inner, names)
    for value in [*graph.input, *graph.output, *graph.value_info]:
        value.name = names.get(value.name, value.name)


def sample(name: str, tensor, rows: int, shapes: dict[str, list[int]]) -> np.ndarray:
    """Values of no meaning, the same in every run."""
    if tensor.shape.rank is None and name not in shapes:
        sys.exit(f"input '{name}' may have any shape; say one by --shape {name}=ROWS,…")
    shape = shapes.get(name) or list(tensor.shape)
    if shape and (tensor.shape.rank is None or tensor.shape[0] is None):
        shape = [rows, *shape[1:]]
    if None in shape:
        sys.exit(f"input '{name}' has the shape {tensor.shape}; say one by --shape {name}=" + ",".join(str(s or 8) for s in shape))
    random = np.random.default_rng(1)
    kind = tensor.dtype.as_numpy_dtype
    if tensor.dtype.is_floating:
        return random.uniform(-1, 1, shape).astype(kind)
    return random.integers(0, 2, shape).astype(kind)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="a folder with saved_model.pb, a .keras or an .h5")
    parser.add_argument("out", type=Path)
    parser.add_argument("--signature", default="serving_default")
    parser.add_argument("--input", action="append", default=[], metavar="TENSOR", help="what becomes the input instead; may be repeated")
    parser.add_argument("--output", action="append", default=[], metavar="NAME", help="keep these outputs only; may be repeated")
    parser.add_argument("--plugin", type=Path, metavar="WASM", help="the flowers plugin, which makes the one input of pictures")
    parser.add_argument("--shape", action="append", default=[], metavar="NAME=DIMS", help="of an input, where the model does not say")
    parser.add_argument("--tolerance", type=float, default=1e-4, help="of answers up to 1, else relative (default: 1e-4)")
    options = parser.parse_args()
    shapes = {name: [int(size) for size in dims.split(",")] for name, dims in (text.split("=") for text in options.shape)}

    with tempfile.TemporaryDirectory() as exported:
        path = options.model
        if path.is_file():
            tf.keras.models.load_model(path).export(exported, verbose=False)
            path = Path(exported)
        elif not (path / "saved_model.pb").exists():
            sys.exit(f"{path}: expected a folder with saved_model.pb, a .keras or an .h5")
        function, inputs, outputs = frozen(path, options.signature)
    if options.input:
        inputs = cut(function, options.input)
    strings = [name for name, tensor in inputs.items() if tensor.dtype == tf.string]
    if strings:
        sys.exit(
            f"input {strings} takes strings, and ONNX cannot decode them; cut the graph behind that by --input TENSOR, e.g. at "
            f"the last of these that is the model's input:\n{candidates(function.graph)}"
        )
    if options.output:
        unknown = set(options.output) - set(outputs)
        if unknown:
            sys.exit(f"there is no output {sorted(unknown)}; there are {sorted(outputs)}")
        outputs = {name: outputs[name] for name in options.output}
    # What only passes strings through, as the key of the flowers sample, is the plugin's.
    dropped = [name for name, tensor in outputs.items() if tensor.dtype == tf.string]
    outputs = {name: tensor for name, tensor in outputs.items() if name not in dropped}
    if not outputs:
        sys.exit("every output is a string; there is nothing to convert")

    (picture, tensor), *others = inputs.items()
    if options.plugin and (others or tensor.shape.rank != 4 or tensor.shape[1] != tensor.shape[2] or tensor.shape[3] != 3 or len(outputs) > 1):
        sys.exit(
            "the plugin wants one input [rows, size, size, 3] and one output of scores; "
            f"inputs are {[f'{name} {tensor.shape}' for name, tensor in inputs.items()]}, outputs {sorted(outputs)}"
        )

    wanted = function.prune(list(inputs.values()), list(outputs.values()))
    takes = [tensor.name for tensor in wanted.inputs[: len(inputs)]]
    gives = [tensor.name for tensor in wanted.outputs]
    model, _ = tf2onnx.convert.from_graph_def(
        wanted.graph.as_graph_def(), input_names=takes, output_names=gives, opset=OPSET,
        # The plugin gives channels first.
        inputs_as_nchw=takes if options.plugin else None,
    )
    rename(model.graph, {**dict(zip(gives, outputs)), **dict(zip(takes, inputs))})

    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    worst, by_rows = 0.0, True
    for rows in ROWS:
        feeds = {name: sample(name, tensor, rows, shapes) for name, tensor in inputs.items()}
        before = wanted(*[tf.constant(value) for value in feeds.values()])
        before = before if isinstance(before, (list, tuple)) else [before]
        if options.plugin:
            feeds[picture] = feeds[picture].transpose(0, 3, 1, 2)
        after = session.run(list(outputs), feeds)
        for name, old, new in zip(outputs, before, after):
            old = old.numpy()
            if old.shape != new.shape:
                sys.exit(f"output '{name}' has the shape {new.shape} after, {old.shape} before: nothing was written")
            by_rows &= bool(old.shape) and old.shape[0] == rows
            if old.size:
                old, new = old.astype(np.float64), new.astype(np.float64)
                worst = max(worst, float(np.max(np.abs(old - new) / np.maximum(1, np.abs(old)))))
    # Not `worst > tolerance`: a NaN is no agreement.
    if not worst <= options.tolerance:
        sys.exit(f"answers differ by {worst:g}, more than {options.tolerance:g}: nothing was written")
    by_rows &= all(tensor.shape.rank and tensor.shape[0] is None for tensor in inputs.values())
    if by_rows:
        # One name for the rows of all, seen to hold: requests may share a run.
        for value in [*model.graph.input, *model.graph.output]:
            if value.type.tensor_type.shape.dim:
                value.type.tensor_type.shape.dim[0].dim_param = "batch"
    onnx.checker.check_model(model)

    options.out.mkdir(parents=True, exist_ok=True)
    content = model.SerializeToString()
    (options.out / "model.onnx").write_bytes(content)
    manifest = f'file = "model.onnx"\nsha256 = "{hashlib.sha256(content).hexdigest()}"\n'
    if options.plugin:
        shutil.copyfile(options.plugin, options.out / options.plugin.name)
        manifest += f'[plugin]\nfile = "{options.plugin.name}"\nconfig = {{ size = {tensor.shape[1]} }}\n'
    else:
        # Behind a plugin a sample is a picture, which is not ours to make.
        (options.out / "warmup").mkdir(exist_ok=True)
        for name, tensor in inputs.items():
            np.save(options.out / "warmup" / f"{name}.npy", sample(name, tensor, 1, shapes))
    (options.out / "model.toml").write_text(manifest)
    print(f"{options.model} is {options.out}/model.onnx, {len(content):,} bytes, opset {OPSET}")
    for word, tensors in (("takes", inputs), ("gives", outputs)):
        for name, tensor in tensors.items():
            print(f"  {word} {name}: {tensor.dtype.name} {tensor.shape}")
    if dropped:
        print(f"  without {dropped}: strings")
    rows = "any number of rows" if by_rows else "as many rows as the model was made for"
    print(f"  {rows}; answers differ by {worst:.2g} at most, of {options.tolerance:g} allowed")


if __name__ == "__main__":
    main()
