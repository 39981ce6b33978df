#!/usr/bin/env python3
"""Measures models on demand: 1,000 models of which 50 fit, asked for by Zipf's law.

`zipf.py BINARY [--seconds N] [--picture FILE.svg]`: makes the models in a temporary folder, serves them, and prints the share of
requests whose model was loaded, their latency with and without loads beside them, and what the process took.
"""

import argparse
import bisect
import datetime
import http.client
import itertools
import json
import pathlib
import random
import subprocess
import tempfile
import threading
import time

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

MODELS = 1000
FIT = 50
SIDE = 720
"""A model multiplies by so many rows and columns of FP32: 2 MiB."""
CLIENTS = 4


def models(folder):
    weights = np.random.default_rng(0).normal(0, 0.02, (SIDE, SIDE)).astype(np.float32)
    for index in range(MODELS):
        graph = helper.make_graph(
            [helper.make_node("MatMul", ["x", "w"], ["y"])],
            "g",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, SIDE])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, SIDE])],
            [numpy_helper.from_array(weights + index, "w")],
        )
        place = folder / f"m{index:04}"
        place.mkdir()
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), place / "model.onnx")


def percentile(numbers, part):
    return sorted(numbers)[min(int(len(numbers) * part), len(numbers) - 1)] * 1000 if numbers else float("nan")


def resident(pid):
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    return 0.0


def picture(path, memory, budget):
    """What the process took over time, in MiB, and what models may take."""
    width, height, left = 720, 240, 60
    end, most = max(at for at, _ in memory), max(max(size for _, size in memory), budget) * 1.1
    spot = lambda at, size: f"{left + at / end * (width - left - 10):.1f},{height - 30 - size / most * (height - 50):.1f}"
    line = " ".join(spot(at, size) for at, size in memory)
    limit = f"{spot(0, budget)} {spot(end, budget)}"
    path.write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" font-family="sans-serif" font-size="12">\n'
        f'<rect width="{width}" height="{height}" fill="white"/>\n'
        f'<polyline points="{limit}" fill="none" stroke="#c33" stroke-dasharray="4"/>\n'
        f'<polyline points="{line}" fill="none" stroke="#236"/>\n'
        f'<text x="{left}" y="{height - 8}">0 s</text><text x="{width - 60}" y="{height - 8}">{end:.0f} s</text>\n'
        f'<text x="4" y="20">{most / 1.1:.0f} MiB</text><text x="{left + 8}" y="16" fill="#c33">--model-memory</text>'
        f'<text x="{left + 140}" y="16" fill="#236">resident set</text>\n</svg>\n'
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("binary", type=pathlib.Path)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--picture", type=pathlib.Path)
    chosen = parser.parse_args()
    place = tempfile.TemporaryDirectory()
    folder = pathlib.Path(place.name) / "models"
    folder.mkdir()
    models(folder)
    size = (folder / "m0000/model.onnx").stat().st_size
    budget = size * FIT * 11 // 10
    log = pathlib.Path(place.name) / "log"
    command = [chosen.binary, "serve", "--host", "127.0.0.1", "--port", "0", "--model-dir", folder, "--load-on-demand", "--backend", "tract"]
    command += ["--model-memory", str(budget), "--cache", pathlib.Path(place.name) / "cache", "--log-format", "json"]
    server = subprocess.Popen(list(map(str, command)), stderr=log.open("w"), stdout=subprocess.DEVNULL)
    try:
        address, begun = None, time.time()
        while address is None and time.time() - begun < 60:
            time.sleep(0.05)
            events = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
            address = next((event["address"] for event in events if event.get("message") == "serving"), None)
        print(f"{MODELS} models of {size / 2**20:.1f} MiB, ready after {time.time() - begun:.2f} s; {FIT} fit")
        shares = list(itertools.accumulate(1 / rank for rank in range(1, MODELS + 1)))
        body = json.dumps({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, SIDE], "data": [0.5] * SIDE}]})
        stop, asked, memory = time.time() + chosen.seconds, [], []

        def client(seed):
            draw, link = random.Random(seed), http.client.HTTPConnection(address)
            while time.time() < stop:
                model = f"m{bisect.bisect(shares, draw.random() * shares[-1]):04}"
                at = time.time()
                link.request("POST", f"/v2/models/{model}/infer", body, {"Content-Type": "application/json"})
                answer = link.getresponse()
                text = answer.read()
                asked.append((at, time.time(), model, answer.status))
                if answer.status not in (200, 429):
                    raise SystemExit(f"{model}: {answer.status} {text[:200]}")

        clients = [threading.Thread(target=client, args=(seed,)) for seed in range(CLIENTS)]
        [thread.start() for thread in clients]
        first = time.time()
        while time.time() < stop:
            memory.append((time.time() - first, resident(server.pid)))
            time.sleep(min(1.0, max(0.05, chosen.seconds / 300)))
        [thread.join() for thread in clients]
    finally:
        server.terminate()
        server.wait(30)
    loads = []
    for line in log.read_text().splitlines():
        event = json.loads(line) if line.startswith("{") else {}
        if event.get("message") == "model loaded on demand":
            loads.append((datetime.datetime.fromisoformat(event["timestamp"]).timestamp(), event["model"]))
    by_model = {}
    for at, model in loads:
        by_model.setdefault(model, []).append(at)
    ends = sorted(at for at, _ in loads)
    within = lambda times, start, end: bisect.bisect_left(times, start) < bisect.bisect_right(times, end)
    hits = [(start, end) for start, end, model, status in asked if status == 200 and not within(by_model.get(model, []), start, end)]
    misses = [end - start for start, end, model, status in asked if status == 200 and within(by_model.get(model, []), start, end)]
    # A load takes a few milliseconds, and ends with its line.
    busy = [end - start for start, end in hits if within(ends, start - 0.002, end + 0.01)]
    quiet = [end - start for start, end in hits if not within(ends, start - 0.002, end + 0.01)]
    refused = sum(status == 429 for *_, status in asked)
    print(f"{len(asked)} requests in {chosen.seconds:.0f} s, {refused} answered by 429; {len(loads)} loads")
    print(f"hit rate {len(hits) / max(len(hits) + len(misses), 1):.1%}")
    for word, times in (("hits", busy + quiet), ("hits without loads beside them", quiet), ("hits with loads beside them", busy), ("misses", misses)):
        print(f"{word}: {len(times)}, p50 {percentile(times, 0.5):.2f} ms, p99 {percentile(times, 0.99):.2f} ms")
    print(f"resident set: {memory[0][1]:.0f} MiB at first, at most {max(size for _, size in memory):.0f} MiB, {memory[-1][1]:.0f} MiB at the end; models may take {budget / 2**20:.0f} MiB")
    if chosen.picture:
        picture(chosen.picture, memory, budget / 2**20)


if __name__ == "__main__":
    main()
