"""Serves public models and compares the answers with Python's onnxruntime: public.py [NAME...].

    python3 -m venv .venv && .venv/bin/pip install -r tests/models/requirements.txt
    .venv/bin/python tests/models/public.py                       # the models of models.toml, on both engines
    .venv/bin/python tests/models/public.py --ci                  # three small ones
    .venv/bin/python tests/models/public.py --batching            # which share runs, and what that brings
    .venv/bin/python tests/models/public.py magika silero-vad --engine tract

The models come from PyPI and npm (the latter needs npm) and are kept in $CORYMB_TEST_CACHE, else below the user's cache.
Each model is asked by V2 JSON, binary tensors and gRPC, with 1 to 5 rows where its batch is open, and by 16 callers at
once with different inputs, each three times. Refused is fine on tract, by a reason; wrong and failing are not.
"""

import argparse
import collections
import json
import pathlib
import sys
import time

import batching
import compare
import packages
import recipes
import server

ENGINES = [compare.SAME, "tract"]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="models of models.toml; all by default")
    parser.add_argument("--ci", action="store_true", help="three small models")
    parser.add_argument("--heavy", action="store_true", help="those too that take minutes each")
    parser.add_argument("--engine", action="append", choices=ENGINES, help="both by default")
    parser.add_argument("--batching", action="store_true", help="which models share runs on ONNX Runtime")
    parser.add_argument("--binary", metavar="FILE", help="corymb; by default $CORYMB_BINARY, else cargo's target folder")
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="where to write the results too")
    return parser.parse_args()


def chosen(asked: argparse.Namespace) -> list[recipes.Model]:
    models = recipes.table()
    unknown = set(asked.names) - {model.name for model in models}
    if unknown:
        raise SystemExit(f"models.toml has no {', '.join(sorted(unknown))}")
    if asked.names:
        return [model for model in models if model.name in asked.names]
    if asked.ci:
        return [model for model in models if model.ci]
    return [model for model in models if asked.heavy or not model.heavy]


def compare_all(program: pathlib.Path, models: list[recipes.Model], engines: list[str]) -> list[dict]:
    results = []
    for model in models:
        reference = compare.Reference(model)
        for engine in engines:
            started = time.monotonic()
            verdict = compare.check(program, reference, engine)
            seconds = time.monotonic() - started
            print(line(model.name, engine, verdict), f"[{seconds:.1f} s]", flush=True)
            results.append({"model": model.name, "engine": engine, "seconds": round(seconds, 1), **vars(verdict)})
    return results


def line(name: str, engine: str, verdict: compare.Verdict) -> str:
    said = {
        "right": f"({verdict.requests} requests, error {verdict.error:.1g})",
        "refused": f"({verdict.detail})",
        "WRONG": f"(max error {verdict.error:.2g}; {verdict.detail})",
        "error": f"({verdict.detail})",
    }
    return f"{name:30} {engine:11} {verdict.kind:7} {said[verdict.kind]}"


def totals(results: list[dict], engines: list[str]) -> bool:
    """Prints them; true where nothing was wrong or failed."""
    bad = 0
    for engine in engines:
        kinds = collections.Counter(result["kind"] for result in results if result["engine"] == engine)
        bad += kinds["WRONG"] + kinds["error"]
        counts = ", ".join(f"{kinds[kind]} {kind}" for kind in ("right", "refused", "WRONG", "error"))
        print(f"{engine}: {counts}, of {kinds.total()}")
    print(f"{len(results) - bad} passed, {bad} failed")
    return bad == 0


def main() -> int:
    asked = arguments()
    program, models = server.binary(asked.binary), chosen(asked)
    try:
        packages.fetch(models)
    except packages.Unavailable as reason:
        print(f"error: {reason}", file=sys.stderr)
        return 1
    if asked.batching:
        results = batching.measure(program, models)
        good = all(row["right"] for row in results["models"])
    else:
        engines = asked.engine or ENGINES
        results = compare_all(program, models, engines)
        good = totals(results, engines)
    if asked.json:
        asked.json.write_text(json.dumps(results, indent=1, default=str) + "\n")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
