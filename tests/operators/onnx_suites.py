"""ONNX's own suites as cases: their answers are right by the specification.

A model of one node is a case about that node. A model of several says something of all of its nodes, which counts where no
case is about a node of that form alone.
"""

import numpy as np

from building import UNDER_TEST, WIRE, digest, tensor
from suites_cases import KINDS, collect


def documents(part=None):
    """The cases that tensors of the protocol can carry; with a hash a tenth of them."""
    for case in collect([kind for kind in KINDS if kind != "light"]):
        if part is not None and digest(f"{part} {case.name}") % 10:
            continue
        for index, (inputs, outputs) in enumerate(case.data):
            values = [*inputs.values(), *outputs.values()]
            if inputs and all(isinstance(value, np.ndarray) and value.dtype in WIRE for value in values):
                yield document(case, index, inputs, outputs)


def draws(model):
    """Whether an answer is drawn at random."""
    nodes = [*model.graph.node, *(node for function in model.functions for node in function.node)]
    kinds = {node.op_type for node in nodes}
    # What drops at a ratio of 0 drops nothing; the ratio is no stored operand in those cases.
    drops = "Dropout" in kinds and "training" in model.graph.name and "zero_ratio" not in model.graph.name
    return drops or bool(kinds & {"Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"})


def document(case, index, inputs, outputs):
    nodes = case.model.graph.node
    name = f"suite {case.name} {index}"
    if len(nodes) == 1:
        nodes[0].name = UNDER_TEST
        name = f"{nodes[0].op_type} {name}"
    return {
        "name": name,
        "model": case.model.SerializeToString().hex(),
        "inputs": [tensor(given, value) for given, value in inputs.items()],
        "outputs": [tensor(given, value) for given, value in outputs.items()],
        "steps": 1 if any(word in case.name for word in ("quantiz", "qlinear", "integer")) else 0,
        "any": draws(case.model),
        "may_fail": any(value.size == 0 for value in inputs.values()),
    }
