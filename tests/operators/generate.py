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
import network
import onnx_suites
import other
import shaping
import zoo_cases
from building import Suite, finish


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=pathlib.Path)
    parser.add_argument("--tenth", metavar="HASH")
    parser.add_argument("--only", nargs="*", metavar="OPERATOR", help="for whoever works on the suite")
    chosen = parser.parse_args()
    began = time.monotonic()
    suite = Suite(chosen.tenth)
    for family in (elementwise, shaping, network, other):
        family.all_of(suite)
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
    print(f"{written} cases, of {len(disputed)} of which the engines disagree; {len(left_out)} that no engine answers; {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
