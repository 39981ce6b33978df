"""Searches for operators with which one request ends the process of ONNX Runtime, or keeps it for ever.

Each case of the suite is run with dimensions of size 0, and with numbers that are as large, as small or as strange as their dtype
has: in children, since some do not come back. What is found must be what the server guards: `DEADLY` in
`backends/onnxruntime/src/elements.rs`, and the divisions of integers that `backends/onnxruntime/src/divide.rs` is about.

`kill.py [--tenth HASH] [--only OPERATOR …]`
"""

import argparse
import collections
import multiprocessing
import pathlib
import re
import time

import numpy as np
import onnx
from onnx import helper

import elementwise
import empty
import network
import other
import shaping
import strangers
from building import Dim, Suite, digest, model_of

LIMIT = 20
"""Seconds that one run may take: those that come back take far less than one."""
STRANGER = 4
"""Parts of a case of `strangers.py`, which brings its model."""
EACH = 24
"""Cases of one operator and version that are tried."""
CARRIERS = {"Constant", "If", "Loop", "OptionalGetElement", "OptionalHasElement", "SequenceConstruct", "SequenceLength"}
"""Operators that are parts of cases of others, or carry graphs whose nodes are looked at."""
ROOT = pathlib.Path(__file__).parent.parent.parent


def known():
    """The operators that the server guards."""
    source = (ROOT / "backends" / "onnxruntime" / "src" / "elements.rs").read_text()
    listed = re.search(r"const DEADLY: \[&str; \d+\] = \[(.*?)\];", source, re.S).group(1)
    # A Range of billions of numbers is refused by the bound of a run's memory, which a child here has not.
    return {*re.findall(r'"(\w+)"', listed), "Div", "Mod", "Range"}


def survived():
    """The operators that the server trusts."""
    source = (ROOT / "backends" / "onnxruntime" / "src" / "searched.rs").read_text()
    return set(re.findall(r'"(\w+)"', re.search(r"const SURVIVED: \[&str; \d+\] = \[(.*?)\];", source, re.S).group(1)))


def strange(array, kind):
    """The same array with strange numbers in it; None where its dtype has none of that kind."""
    if array.dtype.kind == "f":
        numbers = {"large": np.finfo(array.dtype).max, "small": np.finfo(array.dtype).min, "nan": np.nan, "infinite": np.inf, "minus": -1, "zero": 0}
    elif array.dtype.kind in "iu":
        limits = np.iinfo(array.dtype)
        numbers = {"large": limits.max, "small": limits.min, "minus": -1 if limits.min else None, "zero": 0}
    else:
        return None
    if numbers.get(kind) is None or not array.size:
        return None
    return np.full_like(array, numbers[kind])


def mutations(asked):
    """Requests made of one: a dimension of size 0 wherever it has this size, and each input full of strange numbers."""
    sizes = sorted({size for array in asked.values() for size in array.shape if size})
    for size in sizes:
        cut = {name: array[tuple(slice(0, 0) if length == size else slice(None) for length in array.shape)] for name, array in asked.items()}
        yield f"{size} -> 0", cut
    for name, array in asked.items():
        for axis in range(array.ndim):
            index = tuple(slice(0, 0) if place == axis else slice(None) for place in range(array.ndim))
            yield f"{name} axis {axis} -> 0", {**asked, name: array[index]}
        for kind in ("large", "small", "nan", "infinite", "minus", "zero"):
            changed = strange(array, kind)
            if changed is not None:
                yield f"{name} {kind}", {**asked, name: changed}
        for said, changed in ranks(array):
            yield f"{name} {said}", {**asked, name: changed}


def ranks(array):
    """The same elements, or none, in other numbers of dimensions."""
    yield "a rank more", array[None]
    yield "a rank more behind", array[..., None]
    yield "flat", array.reshape(-1)
    yield "flat and empty", array.reshape(-1)[:0]
    yield "empty", array.reshape(-1)[:0].reshape(0, 0)
    if array.size:
        yield "a number", array.reshape(-1)[0].reshape(())
    if array.ndim and array.shape[0]:
        yield "a rank less", array[0]


def opened(model):
    """The model with open shapes, so that each request's are its own: a graph may make any, of any rank."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for value in [*copy.graph.input, *copy.graph.output]:
        if value.type.HasField("tensor_type"):
            value.type.tensor_type.ClearField("shape")
    return copy


def work(connection, cases):
    """Runs cases from the number that is sent on, and says where it is before each run."""
    import onnxruntime

    onnxruntime.set_default_logger_severity(4)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    start, skipped = connection.recv()
    for number in range(start, len(cases)):
        try:
            if len(cases[number]) == STRANGER:
                _, _, model, asked = cases[number]
            else:
                _, operator, operands, attributes, opset, const, outputs, given = cases[number]
                model, asked = model_of(operator, operands, attributes, opset, const, outputs, given)
            session = onnxruntime.InferenceSession(opened(model).SerializeToString(), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # noqa: BLE001
            # Of the suite some are of no such model; here each must be tried.
            if len(cases[number]) == STRANGER:
                connection.send((number, -1, f"cannot be loaded: {error}"))
            continue
        for place, (said, request) in enumerate(mutations(asked)):
            if (number, place) in skipped:
                continue
            connection.send((number, place, said))
            try:
                session.run(None, request)
            except Exception:  # noqa: BLE001  refused, which is right
                pass
    connection.send(None)


def search(cases):
    """For each operator what ended or kept a child."""
    found = collections.defaultdict(list)
    start, skipped, runs = 0, set(), 0
    while True:
        ours, theirs = multiprocessing.Pipe()
        child = multiprocessing.Process(target=work, args=(theirs, cases), daemon=True)
        child.start()
        theirs.close()
        ours.send((start, skipped))
        at = None
        try:
            while True:
                if not ours.poll(LIMIT):
                    raise TimeoutError
                said = ours.recv()
                if said is None:
                    child.join()
                    return found, runs
                if said[1] < 0:
                    raise SystemExit(f"{cases[said[0]][0]} {said[2]}")
                at, runs = said, runs + 1
        except (EOFError, TimeoutError, ConnectionResetError) as error:
            how = "does not come back" if isinstance(error, TimeoutError) else "ends the process"
            child.kill()
            child.join()
            if at is None:
                raise SystemExit(f"a model ends the process when it is loaded: after case {cases[start][0]}") from error
            number, place, said = at
            found[cases[number][1]].append(f"{cases[number][0]}: {said}: {how}")
            if len(found[cases[number][1]]) == 1:
                print(f"{cases[number][1]}: {found[cases[number][1]][0]}", flush=True)
            start = number
            skipped = {pair for pair in skipped if pair[0] == number} | {(number, earlier) for earlier in range(place + 1)}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tenth", metavar="HASH", help="a tenth of the cases, drawn by this text")
    parser.add_argument("--only", nargs="*", metavar="OPERATOR")
    chosen = parser.parse_args()
    begin = time.monotonic()
    suite = Suite(chosen.tenth)
    for family in (elementwise.all_of, shaping.all_of, network.all_of, other.all_of, empty.all_of):
        suite.group = family.__module__
        family(suite)
    tried, cases = collections.Counter(), []
    for case in sorted(suite.cases(), key=lambda case: digest(case[0])):
        _, operator, operands, _, opset, _, _, _ = case
        if chosen.only and operator not in chosen.only or any(isinstance(operand, Dim) for operand in operands):
            continue
        tried[operator, opset] += 1
        if tried[operator, opset] <= EACH:
            cases.append(case)
    for case in strangers.cases():
        if not chosen.only or case[1] in chosen.only:
            cases.append(case)
    found, runs = search(cases)
    guarded = known()
    for operator, ways in sorted(found.items()):
        print(f"{operator}: {len(ways)} ways{'' if operator in guarded else ', NOT GUARDED'}")
        for way in ways if chosen.only else ():
            print(f"    {way}")
    print(f"{runs} runs of {len(cases)} models, {len(found)} operators in {time.monotonic() - begin:.0f} s")
    if not chosen.only and not chosen.tenth:
        untried = survived() - {case[1] for case in cases} - CARRIERS
        if untried:
            raise SystemExit(f"listed as survived and never tried: {', '.join(sorted(untried))}")
    missing = set(found) - guarded
    raise SystemExit(f"not guarded: {', '.join(sorted(missing))}" if missing else 0)


if __name__ == "__main__":
    main()
