"""Which models share runs on ONNX Runtime, whether their answers stay those of each request alone, and what it brings."""

import collections
import concurrent.futures
import json
import pathlib
import re
import subprocess
import tempfile
import time

import numpy as np

import compare
import recipes
import server
import wire

ROWS = 8
TURNS, HEAVY_TURNS = 6, 1
MEASURED_SECONDS = 10
LOAD_SECONDS = 6
SIZES = '[batching]\nmax_size = 8\npreferred = [4, 8]\nmax_delay = "5ms"\n'
OFF = "[batching]\nenabled = false\n"
KEYS = ["rows", "rows_node", "rows_advice", "batching"]


def measure(program: pathlib.Path, models: list[recipes.Model]) -> dict:
    rows, timed = [], []
    for model in models:
        reference = compare.Reference(model)
        if reference.largest == 1:
            continue
        row = {"model": model.name, "independent": independent(reference), "right": True}
        for setting, manifest in (("default", ""), ("sizes", SIZES)):
            shared = share(program, reference, manifest)
            row[setting] = shared.pop("requests_per_run")
            row["right"] &= shared.pop("right")
            row.update(shared)
        print(line(row), flush=True)
        rows.append(row)
    summary(rows)
    for model in models:
        if model.throughput:
            timed.append(throughput(program, compare.Reference(model)))
            print(speed(timed[-1]), flush=True)
    return {"models": rows, "throughput": timed}


def line(row: dict) -> str:
    said = "; ".join(f"{key}: {row[key]}" for key in KEYS if row.get(key, "-") != "-")
    verdict = "right" if row["right"] else f"WRONG ({row['wrong']})"
    return (
        f"{row['model']:30} rows independent: {row['independent']:9} requests a run: default {row['default']:.1f}, "
        f"with sizes {row['sizes']:.1f} {verdict} ({said or 'nothing said'})"
    )


def summary(rows: list[dict]) -> None:
    able = [row for row in rows if row["independent"] == "yes"]
    for setting in ("default", "sizes"):
        share_of = sum(row[setting] > 1.0 for row in able)
        others = sum(row[setting] > 1.0 for row in rows) - share_of
        print(f"{setting}: {share_of} of {len(able)} models with independent rows share runs, and {others} others")
    for key in ("rows", "batching"):
        alone = collections.Counter(str(row.get(key, "-")) for row in able if row["sizes"] <= 1.0)
        if alone:
            print(f"those that do not with sizes, by {key}: {dict(alone)}")
    wrong = [row["model"] for row in rows if not row["right"]]
    print(f"{len(rows) - len(wrong)} passed, {len(wrong)} failed")


def independent(reference: compare.Reference) -> str:
    """Whether rows together answer as each alone does, by the reference: 'yes', or the first output that does not.

    A measurement, so a graph that mixes rows for other values only is taken for independent; it says what share of the
    models may share runs, and proves nothing.
    """
    for seed in (300, 400):
        alone = [reference.case(1, seed + row) for row in range(ROWS)]
        try:
            expected = reference.run(_together(reference.model, [case.inputs for case in alone]))
        except Exception:  # noqa: BLE001 - onnxruntime has no common class for what a node fails with.
            return "no"
        for name, together in expected.items():
            parts = [case.expected[name] for case in alone]
            axes = [axis for axis, size in enumerate(parts[0].shape) if together.ndim and together.shape[axis] == ROWS * size]
            joined = [np.concatenate(parts, axis) for axis in axes if len({part.shape for part in parts}) == 1]
            if not any(compare.difference(together, way) <= reference.model.strict for way in joined):
                return "no"
    return "yes"


def _together(model: recipes.Model, requests: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    joined = {}
    for name, (shape, _) in model.inputs.items():
        parts = [request[name] for request in requests]
        letters = shape.split(",")
        joined[name] = np.concatenate(parts, letters.index("N")) if "N" in letters else parts[0]
    return joined


def _folder(model: recipes.Model, manifest: str, parent: str) -> pathlib.Path:
    folder = pathlib.Path(parent) / "model"
    folder.mkdir()
    for file in model.folder.iterdir():
        (folder / file.name).symlink_to(file)
    if manifest:
        (folder / "model.toml").write_text(manifest)
    return folder


def share(program: pathlib.Path, reference: compare.Reference, manifest: str) -> dict:
    """16 callers with a row each, all different, for some turns; what the server's own metric says of the runs."""
    cases = [reference.case(1, 500 + caller) for caller in range(compare.CALLERS)]
    # What all callers have to agree on is the first one's: a sampling rate, a state that is not by row.
    common = [name for name, (shape, _) in reference.model.inputs.items() if "N" not in shape.split(",")]
    for case in cases:
        case.inputs.update({name: cases[0].inputs[name] for name in common})
        case.expected = reference.run(case.inputs)
    with tempfile.TemporaryDirectory() as parent:
        folder = _folder(reference.model, manifest, parent)
        try:
            with server.Server(program, folder, compare.SAME) as running:
                return _share(running, cases, reference.model)
        except (server.Refused, server.Died) as reason:
            return {"requests_per_run": 0.0, "right": False, "wrong": str(reason)}


def _share(running: server.Server, cases: list[compare.Case], model: recipes.Model) -> dict:
    protocol = wire.protocols(running.address, server.NAME)["binary"]
    encoded = [protocol.encode(case.inputs) for case in cases]
    wrong, turns = [], HEAVY_TURNS if model.heavy else TURNS

    def ask(caller: int) -> None:
        try:
            error = compare.worst(protocol.send(encoded[caller]), cases[caller].expected)
        except wire.Failed as failure:
            wrong.append(str(failure))
            return
        if error > model.strict:
            wrong.append(f"error {error:.2g}")

    # What was not known at the start is measured after the first requests.
    for _ in range(3):
        ask(0)
    parameters = _settled(running)
    before = runs(running)
    with concurrent.futures.ThreadPoolExecutor(len(cases)) as pool:
        for _ in range(turns):
            list(pool.map(ask, range(len(cases))))
    running.check_alive()
    requests, count = (after - earlier for after, earlier in zip(runs(running), before))
    found = {key: parameters.get(key) or "-" for key in KEYS}
    return {
        "requests_per_run": requests / max(count, 1.0),
        "right": not wrong,
        "wrong": f"{len(wrong)} of {turns * len(cases) + 3}, first: {wrong[0]}" if wrong else "",
        **found,
    }


def _settled(running: server.Server) -> dict:
    """The model's parameters, when they no longer say that something is to be measured."""
    deadline = time.monotonic() + MEASURED_SECONDS
    while True:
        time.sleep(0.5)
        parameters = json.loads(wire.get(running.address, f"/v2/models/{server.NAME}")).get("parameters", {})
        if "not measured yet" not in parameters.get("batching", "") or time.monotonic() > deadline:
            return parameters


def runs(running: server.Server) -> tuple[float, float]:
    """Requests and runs so far."""
    metrics = wire.get(running.address, "/metrics")

    def total(suffix: str) -> float:
        return sum(float(value) for value in re.findall(rf"^corymb_batch_size_{suffix}\S* (\S+)$", metrics, re.MULTILINE))

    return total("sum"), total("count")


def throughput(program: pathlib.Path, reference: compare.Reference) -> dict:
    """Requests a second at 16 in flight, with shared runs and without; the load is `corymb bench`, on the same cores."""
    result = {"model": reference.model.name}
    for setting, manifest in (("off", OFF), ("sizes", SIZES)):
        with tempfile.TemporaryDirectory() as parent:
            folder = _folder(reference.model, manifest, parent)
            files = []
            for number in range(compare.CALLERS):
                file = pathlib.Path(parent) / f"{number}.json"
                protocol = wire.Http("", server.NAME, binary=False)
                file.write_bytes(protocol.encode(reference.maker.make(1, 600 + number))[0])
                files += ["--data", str(file)]
            with server.Server(program, folder, compare.SAME) as running:
                result[setting] = _load(program, running, files)
    return result


def _load(program: pathlib.Path, running: server.Server, files: list[str]) -> dict:
    command = [str(program), "bench", f"http://{running.address}", "--model-name", server.NAME, "--json", *files]
    command += ["--concurrency", str(compare.CALLERS), "--warm-up", "3s", "--duration", f"{LOAD_SECONDS}s"]
    command += ["--server-pid", str(running.process.pid)]
    before = runs(running)
    done = subprocess.run(command, capture_output=True, text=True, timeout=LOAD_SECONDS + 60)
    if done.returncode != 0:
        raise SystemExit(f"corymb bench: {done.stderr.strip()}")
    requests, count = (after - earlier for after, earlier in zip(runs(running), before))
    said = json.loads(done.stdout)
    report, latency = said["report"], said["report"]["latency"]
    return {
        "rps": report["rps"],
        "p50_ms": latency["p50_ms"],
        "p99_ms": latency["p99_ms"],
        "server_ms": said["cpu"]["server_ms_per_request"],
        "failed": report["failed"],
        "requests_per_run": requests / max(count, 1.0),
    }


def speed(timed: dict) -> str:
    cells = [
        f"{setting}: {way['rps']:.0f} a second, p50 {way['p50_ms']:.1f} ms, p99 {way['p99_ms']:.1f} ms, "
        f"{way['server_ms']:.2f} ms of processor each, {way['requests_per_run']:.1f} a run"
        for setting, way in timed.items()
        if setting != "model"
    ]
    failed = " FAILED REQUESTS" if any(way["failed"] for name, way in timed.items() if name != "model") else ""
    return f"{timed['model']:24} " + " | ".join(cells) + failed
