"""V2 in its three forms over one server: JSON, binary tensors, gRPC. Each takes and gives numpy arrays by name."""

import http.client
import json
import threading

import numpy as np
import tritonclient.grpc as triton_grpc
from tritonclient.utils import InferenceServerException, np_to_triton_dtype, triton_to_np_dtype

SECONDS = 60


class Failed(Exception):
    """An answer that is an error: its status and what it says."""


class Http:
    """V2 REST, with JSON or with binary tensors. Each thread has a connection of its own."""

    def __init__(self, address: str, model: str, binary: bool):
        self.address, self.path, self.binary = address, f"/v2/models/{model}/infer", binary
        self.local = threading.local()

    def encode(self, inputs: dict[str, np.ndarray]):
        tensors, payloads = [], []
        for name, array in inputs.items():
            tensor = {"name": name, "shape": list(array.shape), "datatype": np_to_triton_dtype(array.dtype)}
            if self.binary:
                payloads.append(array.tobytes())
                tensor["parameters"] = {"binary_data_size": len(payloads[-1])}
            else:
                tensor["data"] = array.ravel().tolist()
            tensors.append(tensor)
        request = {"inputs": tensors}
        if self.binary:
            request["parameters"] = {"binary_data_output": True}
        head = json.dumps(request).encode()
        headers = {"Content-Type": "application/json"}
        if self.binary:
            headers = {"Content-Type": "application/octet-stream", "Inference-Header-Content-Length": str(len(head))}
        return b"".join([head, *payloads]), headers

    def send(self, encoded) -> dict[str, np.ndarray]:
        body, headers = encoded
        if not hasattr(self.local, "connection"):
            self.local.connection = http.client.HTTPConnection(self.address, timeout=SECONDS)
        connection = self.local.connection
        try:
            connection.request("POST", self.path, body, headers)
            answer = connection.getresponse()
            content = answer.read()
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise Failed(f"connection: {error!r}") from error
        if answer.status != 200:
            raise Failed(f"{answer.status}: {content.decode(errors='replace')}")
        length = int(answer.headers.get("Inference-Header-Content-Length") or len(content))
        return _decode(content[:length], content[length:])


def _decode(head: bytes, binary: bytes) -> dict[str, np.ndarray]:
    outputs, start = {}, 0
    for tensor in json.loads(head)["outputs"]:
        dtype = np.dtype(triton_to_np_dtype(tensor["datatype"]))
        size = tensor.get("parameters", {}).get("binary_data_size")
        if size is None:
            array = np.array(tensor["data"], dtype=dtype)
        else:
            array = np.frombuffer(binary, dtype, offset=start, count=size // dtype.itemsize)
            start += size
        outputs[tensor["name"]] = array.reshape(tensor["shape"])
    return outputs


class Grpc:
    """The unmodified tritonclient, which sends raw tensors."""

    def __init__(self, address: str, model: str):
        self.client, self.model = triton_grpc.InferenceServerClient(address), model

    def encode(self, inputs: dict[str, np.ndarray]):
        tensors = []
        for name, array in inputs.items():
            tensor = triton_grpc.InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
            tensor.set_data_from_numpy(array)
            tensors.append(tensor)
        return tensors

    def send(self, encoded) -> dict[str, np.ndarray]:
        try:
            answer = self.client.infer(self.model, encoded, client_timeout=SECONDS)
        except InferenceServerException as error:
            raise Failed(f"gRPC {error.status()}: {error.message()}") from error
        return {output.name: answer.as_numpy(output.name) for output in answer.get_response().outputs}


def protocols(address: str, model: str) -> dict:
    return {"json": Http(address, model, False), "binary": Http(address, model, True), "grpc": Grpc(address, model)}


def get(address: str, path: str) -> str:
    connection = http.client.HTTPConnection(address, timeout=SECONDS)
    try:
        connection.request("GET", path)
        return connection.getresponse().read().decode()
    finally:
        connection.close()
