"""Keeps the inputs that cover most of a target: `minimise.py COVERED FOLDER`.

COVERED is the control file of libFuzzer's set cover merge, which lists what each input covers. Of all inputs, those with a
speaking name stay; others are added while they cover more and the bounds of tests/replay.rs allow it.
"""

import hashlib
import pathlib
import re
import sys

FILES, TOTAL, LARGEST = 64, 256 * 1024, 8 * 1024
# libFuzzer counts how often an edge is taken in eight steps, each a feature of its own.
STEPS = 8


def read(control):
    """Each input's path and features, in libFuzzer's order."""
    lines = control.read_text().splitlines()
    count = int(lines[0])
    paths = [pathlib.Path(line) for line in lines[2 : 2 + count]]
    features = {}
    for line in lines[2 + count :]:
        kind, index, *values = line.split()
        if kind == "FT":
            features[int(index)] = {int(value) for value in values}
    return [(path, features[index]) for index, path in enumerate(paths) if index in features]


def edges(features):
    return {feature // STEPS for feature in features}


def main():
    control, folder = map(pathlib.Path, sys.argv[1:])
    inputs = [(path, path.read_bytes(), features) for path, features in read(control)]
    named = {path for path in folder.iterdir() if not re.fullmatch("[0-9a-f]{16}", path.name)}
    kept, covered, total = [], set(), 0
    for path, data, features in inputs:
        if path in named:
            covered |= features
            total += len(data)
    candidates = {data: features for _, data, features in inputs if len(data) <= LARGEST}
    for path in named:
        candidates.pop(path.read_bytes(), None)
    while len(named) + len(kept) < FILES:
        candidates = {data: features for data, features in candidates.items() if features - covered}
        known = edges(covered)
        fitting = [item for item in candidates.items() if total + len(item[0]) <= TOTAL]
        # New edges count first, then new counts of known ones, then fewer bytes.
        best = max(
            fitting,
            key=lambda item: (len(edges(item[1]) - known), len(item[1] - covered), -len(item[0]), item[0]),
            default=None,
        )
        if best is None:
            break
        kept.append(best[0])
        covered |= best[1]
        total += len(best[0])
    everything = set().union(*(features for _, _, features in inputs))
    for path in set(folder.iterdir()) - named:
        path.unlink()
    for data in kept:
        (folder / hashlib.sha1(data).hexdigest()[:16]).write_bytes(data)
    print(
        f"{folder.name}: {len(named)} named and {len(kept)} other files of {total} bytes cover"
        f" {len(edges(covered))} of {len(edges(everything))} edges,"
        f" {len(covered)} of {len(everything)} features of {len(inputs)} inputs"
    )


main()
