"""ONNX's own suites through the real server, every case three times, on tract and on ONNX Runtime.

    suites.py target/release/corymb [--engine tract|onnxruntime]... [--tenth HASH] [--json FILE]

A case is right, refused when it is loaded, refused when it is sent (4xx), wrong, failed (5xx), or it ended the server. The last
three make the exit code 1. `suites_known.py` lists where something else than the suite's values is right. The server looks for ONNX
Runtime's library itself: run this with the Python that has the package. Needs what `suites-requirements.txt` names.
"""

import argparse
import collections
import json
import os
import re
import sys
import time

import numpy as np
from suites_cases import KINDS, collect
from suites_known import expected_of, known
from suites_server import Died, Server

ENGINES = ["tract", "onnxruntime"]
CLASSES = ["right", "right as known", "refused at load", "refused request", "wrong", "failed", "died"]
GOOD = {"right", "right as known"}
BAD = {"wrong", "failed", "died"}
ROUNDS = 3
GROUP = 150


def difference(found, expected, rtol, atol):
    """What tells an answer from the suite's, by the rules of ONNX's own runner; None where nothing does.

    Without an absolute tolerance values are not compared.
    """
    if list(found) != list(expected):
        return f"outputs {list(found)} instead of {list(expected)}"
    for name, wanted in expected.items():
        got = found[name]
        if got.dtype != wanted.dtype or got.shape != wanted.shape:
            return f"'{name}' is {got.dtype} {list(got.shape)} instead of {wanted.dtype} {list(wanted.shape)}"
        if wanted.dtype == object:
            texts = [text.decode() if isinstance(text, bytes) else str(text) for text in wanted.ravel()]
            if got.ravel().tolist() != texts:
                return f"'{name}' is {got.ravel().tolist()[:4]} instead of {texts[:4]}"
            continue
        if atol is None:
            continue
        # NumPy compares bfloat16 with nothing else; two of its steps are what the runner allows.
        if wanted.dtype.name == "bfloat16":
            got, wanted, rtol = got.astype(np.float32), wanted.astype(np.float32), max(rtol, 2**-6)
        near = np.isclose(got, wanted, rtol=rtol, atol=atol, equal_nan=True)
        if not near.all():
            first = int(np.flatnonzero(~near.ravel())[0])
            count = int((~near).sum())
            return f"'{name}': {count} of {near.size} differ, element {first} is {got.ravel()[first]} instead of {wanted.ravel()[first]}"
    return None


def ask(server, engine, case, round_number):
    """One round of one case; answers its class and what is to be said of it."""
    verdict = ("right", "")
    for inputs, expected in case.data:
        # The second round is JSON, so that both forms carry each type.
        status, answer = server.infer(case.name, inputs, binary=round_number != 1)
        if status != 200:
            # The suites' values are what their models take: what tract cannot compute it must not have been trusted with.
            failed = status >= 500 or "tract cannot compute" in str(answer)
            return ("failed" if failed else "refused request"), f"{status}: {answer}"
        said = difference(answer, expected, case.rtol, case.atol)
        entry = known(engine, case.name)
        if said and entry:
            verdict = ("right as known", f"{entry.reason}: {said}")
            said = difference(answer, *expected_of(entry, case, inputs, expected))
        if said:
            return "wrong", f"round {round_number + 1}: {said}"
    return verdict


def run_group(options, engine, cases):
    """Answers class and text by name. A group that ends the server is halved until the case is alone."""
    found = {}
    try:
        with Server(options.binary, engine, {case.name: case.model for case in cases}) as server:
            for name, reason in server.wait_until_ready().items():
                found[name] = ("refused at load", reason)
            loaded = [case for case in cases if case.name not in found]
            for case in loaded:
                if case.unsendable():
                    found[case.name] = ("refused request", f"V2 cannot carry it: {case.unsendable()}")
            # Round by round, so that the measurement that follows a model's first answers is done before its last.
            for round_number in range(ROUNDS):
                for case in loaded:
                    if found.get(case.name, ("right",))[0] in GOOD:
                        found[case.name] = ask(server, engine, case, round_number)
    except Died as death:
        if len(cases) == 1:
            return {cases[0].name: ("died", str(death))}
        half = len(cases) // 2
        found = run_group(options, engine, cases[:half]) | run_group(options, engine, cases[half:])
        if not any(verdict[0] == "died" for verdict in found.values()):
            # None of them alone: what remains is that these together end it.
            found[cases[0].name] = ("died", f"with {len(cases) - 1} others, in none of two halves: {death}")
    return found


def groups_of(cases):
    """Whole networks take memory: few at a time."""
    light = [case for case in cases if case.kind == "light"]
    small = [case for case in cases if case.kind != "light"]
    yield from (light[i : i + 1] for i in range(0, len(light)))
    yield from (small[i : i + GROUP] for i in range(0, len(small), GROUP))


def run_engine(options, engine, cases):
    """Every case on one engine; prints the counts and what is bad, and answers both."""
    begin = time.monotonic()
    found = {}
    for group in groups_of(cases):
        found |= run_group(options, engine, group)
    counts = collections.Counter(verdict for verdict, _ in found.values())
    print(f"{engine}: {len(cases)} cases in {time.monotonic() - begin:.0f} s: " + ", ".join(f"{counts[c]} {c}" for c in CLASSES))
    for case in cases:
        verdict, said = found[case.name]
        if verdict in BAD:
            print(f"  {verdict}: {case.kind} {case.name}: {said}")
    kinds = {case.name: case.kind for case in cases}
    lists = {c: {name: [kinds[name], said] for name, (v, said) in sorted(found.items()) if v == c} for c in CLASSES}
    return {"counts": {c: counts[c] for c in CLASSES}, "reasons": reasons(lists["refused at load"]), "lists": lists}


def reasons(refused):
    """How often each reason for a refusal occurs: names of nodes and numbers left out."""
    texts = (re.sub(r"'[^']*'|\d+", "_", said) for _, said in refused.values())
    return dict(collections.Counter(texts).most_common())


def main():
    """Reads the arguments, runs, and ends by 1 where something is bad."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("binary", help="the server's binary")
    parser.add_argument("--engine", action="append", choices=ENGINES, help="may be repeated; both where none is named")
    parser.add_argument("--kind", action="append", choices=KINDS, help="one suite; may be repeated")
    parser.add_argument("--case", action="append", help="one case by its name; may be repeated")
    parser.add_argument("--tenth", metavar="HASH", help="a tenth of the cases, drawn by this text")
    parser.add_argument("--json", metavar="FILE", help="write counts and lists there")
    options = parser.parse_args()
    # The server looks for the library in the environment that is active.
    os.environ.setdefault("VIRTUAL_ENV", sys.prefix)
    cases = collect(options.kind or KINDS, options.tenth, options.case)
    results = {engine: run_engine(options, engine, cases) for engine in options.engine or ENGINES}
    if options.json:
        with open(options.json, "w") as file:
            json.dump(results, file, indent=1)
    sys.exit(any(results[engine]["counts"][c] for engine in results for c in BAD))


main()
