"""What the server says of a graph's rows, checked against ONNX Runtime: rows that are proved independent answer alone as together.

    rows.py target/release/corymb [--assume] [--json FILE] [--kind KIND]... [--case NAME]...

Makes models with an open first axis of ONNX's own suites, asks `models inspect --json` for `rows` and `rows_axes`, and, where that is
`proved`, runs 2, 3 and 7 rows that are all different (NaN, infinities, large numbers and zeros in some) together and alone. Any
difference makes the exit code 1. With `--assume` what is not proved is tried along the first axes too, which shows rules that are missing
or wrong on the careful side; such differences are expected, and only counted. Needs what `suites-requirements.txt` names.
"""

import argparse
import collections
import json
import os
import subprocess
import sys
import tempfile

import numpy as np
import onnx
import onnxruntime
from onnx import numpy_helper
from suites_cases import KINDS, collect

COUNTS = [2, 3, 7]
GROUP = 200
# ONNX Runtime's kernels sum in another order for another number of rows.
NEAR = {"float16": (4e-3, 1e-3), "float32": (1e-4, 1e-5), "float64": (1e-9, 1e-11)}


class Variant:
    """A model of a case whose named inputs have an open first axis; the other inputs are initializers, as exporters write weights."""

    def __init__(self, case, form, opened):
        self.name = f"{case.name}.{form}"
        self.operator = case.model.graph.node[0].op_type if len(case.model.graph.node) == 1 else "graphs of several nodes"
        self.inputs = {name: value for name, value in case.data[0][0].items() if name in opened}
        self.model = onnx.ModelProto()
        self.model.CopyFrom(case.model)
        # Weights are initializers and no inputs since IR 4.
        self.model.ir_version = max(self.model.ir_version, 4)
        graph = self.model.graph
        entries = [entry for entry in graph.input if entry.name in opened]
        for name, value in case.data[0][0].items():
            if name not in opened:
                graph.initializer.append(numpy_helper.from_array(value, name))
        del graph.input[:]
        graph.input.extend(entries)
        for entry in graph.input:
            entry.type.tensor_type.shape.dim[0].dim_param = "N"
        for entry in graph.output:
            entry.type.tensor_type.ClearField("shape")
        del graph.value_info[:]
        self.session = None

    def load(self):
        """Whether ONNX Runtime runs it with another number of rows than the suite has."""
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        options.intra_op_num_threads = 1
        try:
            self.session = onnxruntime.InferenceSession(self.model.SerializeToString(), options, ["CPUExecutionProvider"])
            draw = np.random.default_rng(1)
            for count in (1, 3):
                self.run(joined([row(self, draw, "plain", dict.fromkeys(self.inputs, 0)) for _ in range(count)], self.first_axes()))
        except Exception as error:
            # Every kind of error of the library and of NumPy means the same here.
            self.session = None
            return str(error).splitlines()[0][:200]
        return None

    def first_axes(self):
        """Rows along the first axis of each input."""
        return dict.fromkeys(self.inputs, 0)

    def run(self, inputs):
        """Outputs by name."""
        names = [output.name for output in self.session.get_outputs()]
        with np.errstate(all="ignore"):
            return dict(zip(names, self.session.run(names, inputs), strict=True))


def variants(case):
    """The first input open, then all whose first axes are as long, then all that have an axis."""
    values = case.data[0][0]
    if case.unsendable() or not values or len(case.data) != 1:
        return
    if any(value.dtype.kind not in "biufO" and value.dtype.name != "bfloat16" for value in values.values()):
        return
    declared = {entry.name: len(entry.type.tensor_type.shape.dim) for entry in case.model.graph.input}
    ranked = [name for name, value in values.items() if value.ndim == declared[name] > 0 and value.shape[0] > 0]
    if not ranked:
        return
    length = values[ranked[0]].shape[0]
    forms = {"first": ranked[:1], "alike": [name for name in ranked if values[name].shape[0] == length], "all": ranked}
    made = []
    for form, opened in forms.items():
        if opened not in made:
            made.append(opened)
            yield form, opened


def row(variant, draw, sort, axes):
    """Values of one row for each input that has rows: of the suite's range, so that indices stay valid; floats of a sort."""
    found = {}
    for name, value in variant.inputs.items():
        shape = list(value.shape)
        if axes.get(name) is None:
            found[name] = value
            continue
        shape[axes[name]] = 1
        picked = draw.choice(value.ravel(), size=shape) if value.size else np.zeros(shape, value.dtype)
        if value.dtype.kind == "f":
            picked = picked + draw.normal(size=shape).astype(value.dtype)
            spoil = draw.random(shape) < 0.3
            spoil.ravel()[:1] = True
            special = {"nan": np.nan, "inf": np.inf, "large": 3e4, "zeros": 0.0}.get(sort)
            if sort == "zeros":
                spoil[...] = True
            if special is not None:
                picked = np.where(spoil, value.dtype.type(special), picked)
        found[name] = np.asarray(picked, value.dtype)
    return found


def joined(rows, axes):
    """The request that holds these rows."""
    return {
        name: np.concatenate([one[name] for one in rows], axes[name]) if axes.get(name) is not None else rows[0][name]
        for name in rows[0]
    }


def apart(together, alone, axes):
    """What tells the answer to all rows from those to each, by output; None where nothing does."""
    for name, got in together.items():
        parts = [answer[name] for answer in alone]
        axis = axes.get(name)
        # An output without rows is the same for any rows.
        wanted = parts if axis is None else [np.concatenate(parts, axis)]
        for one in wanted:
            if got.shape != one.shape:
                return f"'{name}' has the shape {list(got.shape)} together and {list(one.shape)} alone"
            near = got == one
            if got.dtype.name in NEAR:
                rtol, atol = NEAR[got.dtype.name]
                sizes = np.abs(one[np.isfinite(one)])
                with np.errstate(all="ignore"):
                    near = np.isclose(got, one, rtol=rtol, atol=atol * max(1.0, sizes.max(initial=0.0)), equal_nan=True)
            if not np.all(near):
                at = int(np.flatnonzero(~near.ravel())[0])
                return f"element {at} of '{name}' is {got.ravel()[at]} together and {one.ravel()[at]} alone"
    return None


def mixed(variant, axes_in, axes_out):
    """The first difference between rows together and alone; None where there is none."""
    draw = np.random.default_rng(7)
    sorts = ["plain", "nan", "zeros", "large", "inf", "plain", "plain"]
    for count in COUNTS:
        for start in (0, 1):
            rows = []
            answers = []
            for sort in (sorts[start:] + sorts[:start])[:count]:
                one = row(variant, draw, sort, axes_in)
                try:
                    answers.append(variant.run(one))
                except Exception:
                    # A value that no request may hold (a size, say): an ordinary row in its place.
                    one = row(variant, draw, "plain", axes_in)
                    answers.append(variant.run(one))
                rows.append(one)
            try:
                together = variant.run(joined(rows, axes_in))
            except Exception as error:
                return f"{count} rows together fail: {str(error).splitlines()[0][:160]}"
            said = apart(together, answers, axes_out)
            if said:
                return f"{count} rows: {said}"
    return None


def inspected(binary, variants_):
    """What the server says of each, by name."""
    with tempfile.TemporaryDirectory(prefix="corymb-rows-") as folder:
        for index, variant in enumerate(variants_):
            os.makedirs(f"{folder}/m{index}")
            onnx.save(variant.model, f"{folder}/m{index}/model.onnx")
        # A folder that holds one folder would be that model itself.
        os.makedirs(f"{folder}/spare", exist_ok=True)
        onnx.save(variants_[0].model, f"{folder}/spare/model.onnx")
        command = [binary, "models", "inspect", "--json", "--model-dir", folder]
        # It fails where nothing runs one of them, which is said of that one.
        answer = subprocess.run(command, capture_output=True, check=False, stdin=subprocess.DEVNULL)
        said = {entry["name"]: entry for entry in json.loads(answer.stdout)}
        return [said[f"m{index}"] for index in range(len(variants_))]


def judge(variant, said, assume):
    """The word that is counted, and what is to be said: a failure where the word is `proved`."""
    word = said.get("rows", "not said")
    axes = said.get("rows_axes") or {}
    if word == "proved":
        try:
            return word, mixed(variant, axes.get("inputs", {}), axes.get("outputs", {}))
        except Exception as error:
            return word, f"cannot be run along {axes}: {str(error).splitlines()[0][:160]}"
    if not assume:
        return word, None
    outputs = {output.name: 0 for output in variant.session.get_outputs()}
    try:
        difference = mixed(variant, variant.first_axes(), outputs)
    except Exception as error:
        difference = str(error).splitlines()[0]
    return (word if difference else f"{word}, samples show no mixing"), None


def main():
    """Reads the arguments, checks, prints the counts per operator, and ends by 1 where a proof is refuted."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("binary", help="the server's binary")
    parser.add_argument("--assume", action="store_true", help="try rows along the first axes where they are not proved")
    parser.add_argument("--kind", action="append", choices=KINDS, help="one suite; may be repeated")
    parser.add_argument("--case", action="append", help="one case by its name; may be repeated")
    parser.add_argument("--json", metavar="FILE", help="write what was found of each model there")
    options = parser.parse_args()
    os.environ.setdefault("VIRTUAL_ENV", sys.prefix)
    cases = collect(options.kind or [kind for kind in KINDS if kind != "light"], only=options.case)
    counts = collections.defaultdict(collections.Counter)
    open_models, found, refuted = [], {}, []
    for case in cases:
        for form, opened in variants(case):
            variant = Variant(case, form, opened)
            reason = variant.load()
            if reason is None:
                open_models.append(variant)
            else:
                counts[variant.operator]["could not be made symbolic"] += 1
    for begin in range(0, len(open_models), GROUP):
        group = open_models[begin : begin + GROUP]
        for variant, said in zip(group, inspected(options.binary, group), strict=True):
            word, difference = judge(variant, said, options.assume)
            counts[variant.operator][word] += 1
            found[variant.name] = {"rows": word, "node": said.get("rows_node"), "difference": difference}
            if difference:
                refuted.append(f"{variant.name} ({variant.operator}, rows along {said.get('rows_axes')}): {difference}")
    words = sorted({word for counter in counts.values() for word in counter})
    for operator, counter in sorted(counts.items()):
        print(f"{operator}: " + ", ".join(f"{counter[word]} {word}" for word in words if counter[word]))
    total = sum(counts.values(), collections.Counter())
    print(f"all {sum(total.values())} models: " + ", ".join(f"{total[word]} {word}" for word in words))
    for line in refuted:
        print(f"REFUTED {line}")
    if options.json:
        with open(options.json, "w") as file:
            json.dump(found, file, indent=1)
    sys.exit(bool(refuted))


main()
