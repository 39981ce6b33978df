"""ONNX's own suites as cases: a model, named inputs and the outputs that the suite expects."""

import glob
import hashlib
import json
import os
import warnings
from dataclasses import dataclass

import ml_dtypes
import numpy as np
import onnx
from onnx import numpy_helper

# V2 has no name for the other element types (4-bit integers, 8-bit floats, complex numbers).
DATATYPES = {
    np.dtype(np.bool_): "BOOL",
    np.dtype(np.uint8): "UINT8",
    np.dtype(np.uint16): "UINT16",
    np.dtype(np.uint32): "UINT32",
    np.dtype(np.uint64): "UINT64",
    np.dtype(np.int8): "INT8",
    np.dtype(np.int16): "INT16",
    np.dtype(np.int32): "INT32",
    np.dtype(np.int64): "INT64",
    np.dtype(np.float16): "FP16",
    np.dtype(ml_dtypes.bfloat16): "BF16",
    np.dtype(np.float32): "FP32",
    np.dtype(np.float64): "FP64",
    np.dtype(object): "BYTES",
}
KINDS = ["node", "simple", "pytorch-operator", "pytorch-converted", "light"]


@dataclass
class Case:
    """One model of a suite and what it must answer."""

    name: str
    kind: str
    model: onnx.ModelProto
    # Each data set: named inputs, named outputs. A value that is no array (a sequence, an absent optional) stays what it is.
    data: list
    rtol: float
    atol: float

    def unsendable(self):
        """Why V2 cannot carry the case; None where it can."""
        for inputs, outputs in self.data:
            for name, value in [*inputs.items(), *outputs.items()]:
                if not isinstance(value, np.ndarray):
                    return f"'{name}' is a {type(value).__name__}, no tensor"
                if value.dtype not in DATATYPES:
                    return f"'{name}' is {value.dtype}"
        return None

    def digest(self, salt):
        """A number that depends on the name and the salt alone."""
        return int.from_bytes(hashlib.sha256(f"{salt} {self.name}".encode()).digest()[:8], "big")


def value_of(value):
    """An array, where the suite's value is a tensor in any of the forms that it uses."""
    if isinstance(value, onnx.TensorProto):
        value = numpy_helper.to_array(value)
    if isinstance(value, np.generic):
        value = np.asarray(value)
    if isinstance(value, (int, float, str, bytes)):
        value = np.asarray(value)
    if isinstance(value, np.ndarray) and value.dtype.kind in "US":
        value = value.astype(object)
    return value


def named(model, inputs, outputs):
    """The values by the names of the graph; files of IR 3 list initializers among the inputs."""
    known = {initializer.name for initializer in model.graph.initializer}
    names = [entry.name for entry in model.graph.input]
    if len(names) != len(inputs):
        names = [name for name in names if name not in known]
    return (
        dict(zip(names, map(value_of, inputs), strict=True)),
        dict(zip((entry.name for entry in model.graph.output), map(value_of, outputs), strict=True)),
    )


def read_value(path, kind):
    """A file of a data set: the graph says which message it holds."""
    with open(path, "rb") as file:
        content = file.read()
    which = kind.WhichOneof("value")
    if which == "sequence_type":
        return numpy_helper.to_list(onnx.SequenceProto.FromString(content))
    if which == "optional_type":
        return numpy_helper.to_optional(onnx.OptionalProto.FromString(content))
    return numpy_helper.to_array(onnx.TensorProto.FromString(content))


def read_folder(model, folder):
    """One `test_data_set_*`."""
    known = {initializer.name for initializer in model.graph.initializer}
    count = len(glob.glob(os.path.join(folder, "input_*.pb")))
    entries = list(model.graph.input)
    if len(entries) != count:
        entries = [entry for entry in entries if entry.name not in known]
    inputs = [read_value(f"{folder}/input_{i}.pb", entry.type) for i, entry in enumerate(entries)]
    outputs = [read_value(f"{folder}/output_{i}.pb", entry.type) for i, entry in enumerate(model.graph.output)]
    return named(model, inputs, outputs)


def node_cases():
    """The cases that the package makes, one or two for each example of each operator."""
    from onnx.backend.test.case.node import collect_testcases

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = collect_testcases(None)
    for case in found:
        data = [named(case.model, inputs, outputs) for inputs, outputs in case.data_sets]
        yield Case(case.name, "node", case.model, data, case.rtol, case.atol)


def stored_cases(kind):
    """The cases whose files lie in the package."""
    from onnx.backend.test.loader import load_model_tests

    for case in load_model_tests(kind=kind):
        model = onnx.load(f"{case.model_dir}/model.onnx")
        folders = sorted(glob.glob(f"{case.model_dir}/test_data_set_*"))
        yield Case(case.name, kind, model, [read_folder(model, folder) for folder in folders], case.rtol, case.atol)


def light_cases():
    """Whole networks whose weights are made by nodes; the inputs are those of ONNX's own runner."""
    from onnx.backend.test.loader import DATA_DIR
    from onnx.backend.test.runner import Runner

    for path in sorted(glob.glob(f"{DATA_DIR}/light/*.onnx")):
        model = onnx.load(path)
        name = os.path.basename(path).removesuffix(".onnx")
        known = {initializer.name for initializer in model.graph.initializer}
        entries = [entry for entry in model.graph.input if entry.name not in known]
        short = name.removeprefix("light_")
        inputs = [Runner.generate_dummy_data(entry, seed=0, name=short, random=False) for entry in entries]
        prefix = path.removesuffix(".onnx")
        with open(f"{DATA_DIR}/real/test_{short}/data.json") as file:
            said = json.load(file)
        outputs = [
            read_value(f"{prefix}_output_{i}.pb", entry.type) for i, entry in enumerate(model.graph.output)
        ]
        yield Case(name, "light", model, [named(model, inputs, outputs)], said["rtol"], said["atol"])


def collect(kinds, salt=None, only=None):
    """The cases of these suites; a tenth of them, drawn by the salt, where there is one; or those with these names."""
    cases = []
    for kind in kinds:
        cases += node_cases() if kind == "node" else light_cases() if kind == "light" else stored_cases(kind)
    if only:
        cases = [case for case in cases if case.name in only]
    if salt is not None:
        # A whole network says little about one change and takes as long as a hundred operators.
        cases = [case for case in cases if case.kind != "light" and case.digest(salt) % 10 == 0]
    return cases
