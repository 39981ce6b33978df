"""The models of `tests/fixtures/zoo` as cases: whole graphs as exporters write them, with the answers of ONNX Runtime.

They say something of all of their nodes, which counts where no case is about a node of that form alone.
"""

import json
import pathlib

import numpy as np

from building import WIRE, digest, tensor

CASES = pathlib.Path(__file__).parent.parent / "fixtures" / "zoo" / "cases"
KINDS = {name: np.dtype(kind) for kind, name in WIRE.items()}
TOLERANCE = 1e-4
"""Those that may be further off are about rounding, which the runner does not forgive."""


def documents(part=None):
    """The requests that are answered; with a hash a tenth of them."""
    for path in sorted(CASES.glob("*.json")):
        case = json.loads(path.read_text())
        requests = case.get("requests", [])
        # What is known to be wrong is named in the zoo; it says nothing of the forms.
        if case.get("tolerance", 0) > TOLERANCE or "tract" in case.get("wrong", {}) or not path.with_suffix(".onnx").exists():
            continue
        for index, request in enumerate(requests):
            name = f"zoo {path.stem} {index}"
            if "outputs" not in request or "tract" in request.get("fails", []) or (part is not None and digest(f"{part} {name}") % 10):
                continue
            inputs, outputs = request["inputs"], request["outputs"]
            if all(given["datatype"] in KINDS for given in [*inputs, *outputs]):
                yield {
                    "name": name,
                    "model": path.with_suffix(".onnx").read_bytes().hex(),
                    "inputs": [tensor(given["name"], array(given)) for given in inputs],
                    "outputs": [tensor(wanted["name"], array(wanted)) for wanted in outputs],
                    "steps": 0,
                    "any": False,
                    "may_fail": any(0 in given["shape"] for given in inputs),
                }


def array(written):
    kind = KINDS[written["datatype"]]
    numbers = [float(number) if isinstance(number, str) else number for number in written["data"]]
    return np.array(numbers, dtype=kind).reshape(written["shape"])
