"""The real server with many models, and V2 requests to it as bytes or as JSON."""

import http.client
import json
import os
import shutil
import signal
import struct
import subprocess
import tempfile
import time

import ml_dtypes
import numpy as np
import onnx
from suites_cases import DATATYPES

# Loading a group of models, or answering one request, takes no longer on a machine that works.
START_LIMIT = 300
REQUEST_LIMIT = 60
DTYPES = {name: dtype for dtype, name in DATATYPES.items()}


class Died(Exception):
    """The server's process ended, or it answers no more."""


class Server:
    """`corymb serve` with a folder for each model."""

    def __init__(self, binary, engine, models, manifest=""):
        self.folder = tempfile.mkdtemp(prefix="corymb-suites-")
        for name, model in models.items():
            os.makedirs(f"{self.folder}/models/{name}")
            onnx.save(model, f"{self.folder}/models/{name}/model.onnx")
            if manifest:
                with open(f"{self.folder}/models/{name}/model.toml", "w") as file:
                    file.write(manifest)
        command = [binary, "serve", "--host", "127.0.0.1", "--port", "0", "--log-format", "json", "--keep-going"]
        command += ["--backend", engine, "--cache", f"{self.folder}/cache"]
        # Each by its name: a folder that holds one folder would be that model itself.
        for name in models:
            command += ["--model", f"{name}={self.folder}/models/{name}"]
        if engine == "tract":
            command += ["--onnxruntime", "none"]
        self.log_path = f"{self.folder}/log"
        self.connection = None
        with open(self.log_path, "wb") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.connection:
            self.connection.close()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def events(self):
        """The log's lines; what is no JSON (an engine's own words before an abort) as a bare message."""
        with open(self.log_path, errors="replace") as file:
            for line in file:
                try:
                    yield json.loads(line)
                except ValueError:
                    yield {"message": line.strip()}

    def last_words(self):
        """Why the process ended, as far as the log says."""
        lines = [event for event in self.events() if event.get("level") not in ("INFO", "WARN")]
        said = " ".join(str(event.get("error") or event.get("message", "")) for event in lines[-3:])
        return f"exit {self.process.poll()}: {said}"[:400]

    def failed(self):
        """Why models were refused, by name, as far as the log says it yet; and the address, once the server listens."""
        refused, address = {}, None
        for event in self.events():
            if event.get("message") == "model failed to load":
                refused[event["model"]] = event.get("error", "")
            elif event.get("message") == "serving":
                address = event["address"]
        return refused, address

    def wait_until_ready(self):
        """Answers why models were refused, by name."""
        deadline = time.monotonic() + START_LIMIT
        address = None
        while not address:
            ended = self.process.poll() is not None
            _, address = self.failed()
            if not address and (ended or time.monotonic() > deadline):
                raise Died(self.last_words())
            time.sleep(0.02)
        self.connection = http.client.HTTPConnection(address, timeout=REQUEST_LIMIT)
        _, _, body = self.post("/v2/repository/index", b"", {})
        unavailable = {entry["name"] for entry in json.loads(body) if entry["state"] != "READY"}
        # The line that says why may come after the one that says that the server listens.
        while True:
            refused, _ = self.failed()
            if unavailable <= refused.keys():
                return refused
            if time.monotonic() > deadline:
                raise Died(f"no line of the log says why {sorted(unavailable - refused.keys())} were refused")
            time.sleep(0.02)

    def post(self, path, body, headers):
        """One request; answers the status, the headers and the body."""
        try:
            self.connection.request("POST", path, body, headers)
            answer = self.connection.getresponse()
            return answer.status, answer.headers, answer.read()
        except (OSError, http.client.HTTPException) as error:
            self.connection.close()
            if isinstance(error, TimeoutError):
                raise Died(f"no answer in {REQUEST_LIMIT} s") from error
            # The exit status is there a moment after the connection broke.
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                raise Died(f"the connection broke: {error}") from error
            raise Died(self.last_words()) from error

    def infer(self, model, inputs, binary):
        """Arrays in; the status, and arrays by name or the text of the error out."""
        document = {"inputs": [], "parameters": {"binary_data_output": binary}}
        tail = b""
        for name, array in inputs.items():
            entry = {"name": name, "shape": list(array.shape), "datatype": DATATYPES[array.dtype]}
            if binary:
                data = raw(array)
                entry["parameters"] = {"binary_data_size": len(data)}
                tail += data
            else:
                entry["data"] = plain(array)
            document["inputs"].append(entry)
        head = json.dumps(document).encode()
        headers = {"content-type": "application/octet-stream" if binary else "application/json"}
        if binary:
            headers["inference-header-content-length"] = str(len(head))
        status, headers, body = self.post(f"/v2/models/{model}/infer", head + tail, headers)
        if status != 200:
            return status, text_of(body)
        length = headers.get("inference-header-content-length")
        head, tail = (body[: int(length)], body[int(length) :]) if length else (body, b"")
        return status, tensors(json.loads(head), tail)


def text_of(body):
    """The server's own message, where there is one."""
    try:
        return json.loads(body)["error"]
    except (ValueError, KeyError, TypeError):
        return body.decode(errors="replace")


def octets(element):
    """One element of a BYTES tensor."""
    return element if isinstance(element, bytes) else str(element).encode()


def raw(array):
    """The bytes of V2's binary data."""
    if array.dtype != object:
        return np.ascontiguousarray(array).tobytes()
    return b"".join(struct.pack("<I", len(data)) + data for data in map(octets, array.ravel()))


def plain(array):
    """The numbers or texts of V2's JSON."""
    if array.dtype == object:
        return [octets(element).decode() for element in array.ravel()]
    if array.dtype in (np.float16, ml_dtypes.bfloat16):
        array = array.astype(np.float32)
    return array.ravel().tolist()


def tensors(document, tail):
    """The outputs of an answer, by name."""
    found = {}
    for output in document["outputs"]:
        dtype, shape = DTYPES[output["datatype"]], output["shape"]
        size = output.get("parameters", {}).get("binary_data_size")
        if size is None:
            flat = output["data"]
        else:
            flat, tail = tail[:size], tail[size:]
        found[output["name"]] = (elements(flat, dtype) if isinstance(flat, bytes) else listed(flat, dtype)).reshape(shape)
    return found


def elements(data, dtype):
    """An array of binary data."""
    if dtype != object:
        return np.frombuffer(data, dtype)
    found = []
    while data:
        (length,) = struct.unpack("<I", data[:4])
        found.append(data[4 : 4 + length].decode())
        data = data[4 + length :]
    return np.array(found, dtype=object)


def listed(data, dtype):
    """An array of JSON's numbers or texts."""
    if dtype == ml_dtypes.bfloat16:
        return np.array(data, dtype=np.float32).astype(dtype)
    return np.array(data, dtype=dtype)
