"""Writes the cases of the suite to a file, one a line; beside it those that no engine answers, and those that are disputed.

`generate.py FILE [--tenth HASH]`: with a hash a tenth of the cases, drawn by it.
"""

import argparse
import itertools
import json
import multiprocessing
import pathlib
import time

import elementwise
import empty
import extremes
import network
import onnx_suites
import other
import repeated
import shaping
import zoo_cases
from building import Suite, finish


MOST_LEFT_OUT = 0.02
"""The share of cases that no engine answers: of more the generator or an engine is to blame."""


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=pathlib.Path)
    parser.add_argument("--tenth", metavar="HASH")
    parser.add_argument("--only", nargs="*", metavar="OPERATOR", help="for whoever works on the suite")
    chosen = parser.parse_args()
    began = time.monotonic()
    suite = Suite(chosen.tenth)
    for family in (elementwise.all_of, repeated.elementwise, shaping.all_of, network.all_of, other.all_of, repeated.all_of, extremes.all_of, empty.all_of):
        suite.elementwise = family in (elementwise.all_of, repeated.elementwise)
        suite.group = "empty" if family is empty.all_of else ""
        family(suite)
    cases = [case for case in suite.cases() if not chosen.only or case[1] in chosen.only]
    left_out, disputed = [], []
    written = 0
    chosen.file.parent.mkdir(parents=True, exist_ok=True)
    with multiprocessing.Pool(2) as pool, chosen.file.open("w") as file:
        for document, why in pool.imap(finish, cases, chunksize=50):
            if why is not None:
                (left_out if document is None else disputed).append(why)
            if document is not None:
                file.write(json.dumps(document) + "\n")
                written += 1
        for document in itertools.chain(onnx_suites.documents(chosen.tenth), zoo_cases.documents(chosen.tenth)):
            file.write(json.dumps(document) + "\n")
            written += 1
    chosen.file.with_name("left-out.txt").write_text("".join(f"{line}\n" for line in left_out))
    chosen.file.with_name("disputed.txt").write_text("".join(f"{line}\n" for line in disputed))
    if not chosen.only and len(left_out) > MOST_LEFT_OUT * len(cases):
        raise SystemExit(f"{len(left_out)} of {len(cases)} cases are answered by no engine: {left_out[0]}")
    print(f"{written} cases, of {len(disputed)} of which the engines disagree; {len(left_out)} that no engine answers; {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
