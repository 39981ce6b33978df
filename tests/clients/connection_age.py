"""Real clients on connections that age: HTTP/1.1 and gRPC under load, and a gRPC stream: ADDRESS PICTURE PROTO SECONDS.

The server runs with --max-connection-age. Prints one line per kind and fails where a request was lost or where a client
stayed on its first connection.
"""

import http.client
import json
import multiprocessing
import os
import sys
import threading
import time

MODEL = "flowers-sample"
PATH = f"/v2/models/{MODEL}/infer"


def local_ports(port: int) -> set[int]:
    """The local ports of this process's connections to `port`."""
    inodes = set()
    for name in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{name}")
        except OSError:
            continue
        if target.startswith("socket:["):
            inodes.add(target[8:-1])
    ports = set()
    for table in ("/proc/self/net/tcp", "/proc/self/net/tcp6"):
        try:
            with open(table) as file:
                lines = file.readlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            if fields[9] in inodes and int(fields[2].rsplit(":", 1)[1], 16) == port:
                ports.add(int(fields[1].rsplit(":", 1)[1], 16))
    return ports


class Watch(threading.Thread):
    """Collects the local ports that are used over time."""

    def __init__(self, port: int) -> None:
        super().__init__(daemon=True)
        self.port, self.seen, self.done = port, set(), threading.Event()

    def run(self) -> None:
        while not self.done.wait(0.02):
            self.seen |= local_ports(self.port)


def http1(address: str, picture: bytes, seconds: float) -> dict:
    host, port = address.rsplit(":", 1)
    end, answered, told = time.monotonic() + seconds, 0, 0
    connection, connections = None, 0
    while time.monotonic() < end:
        if connection is None:
            connection, connections = http.client.HTTPConnection(host, int(port), timeout=60), connections + 1
        connection.request("POST", PATH, picture, {"Content-Type": "image/jpeg"})
        answer = connection.getresponse()
        answer.read()
        assert answer.status == 200, answer.status
        answered += 1
        # A client that is told so makes another connection; one that is not told keeps this one.
        if answer.getheader("Connection") == "close":
            connection, told = None, told + 1
        elif answered % 20 == 0:
            # A pause, so that some connections are idle when their time comes.
            time.sleep(0.2)
    return {"answered": answered, "connections": connections, "told": told}


def grpc_unary(address: str, picture: bytes, seconds: float) -> dict:
    import numpy as np
    import tritonclient.grpc as triton

    watch = Watch(int(address.rsplit(":", 1)[1]))
    watch.start()
    client = triton.InferenceServerClient(address)
    tensor = triton.InferInput("image_bytes", [1], "BYTES")
    tensor.set_data_from_numpy(np.array([picture], dtype=np.object_))
    end, answered, failures = time.monotonic() + seconds, [0, 0, 0, 0], []

    def load(index: int) -> None:
        while time.monotonic() < end:
            try:
                client.infer(MODEL, [tensor])
                answered[index] += 1
            except Exception as error:  # noqa: BLE001: whatever it is, a request was lost
                failures.append(repr(error))
                return

    threads = [threading.Thread(target=load, args=(index,)) for index in range(len(answered))]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    watch.done.set()
    assert not failures, failures
    return {"answered": sum(answered), "connections": len(watch.seen)}


def grpc_stream(address: str, picture: bytes, seconds: float) -> dict:
    import queue

    import grpc
    from tritonclient.grpc import service_pb2, service_pb2_grpc

    request = service_pb2.ModelInferRequest(model_name=MODEL)
    request.inputs.add(name="image_bytes", datatype="BYTES", shape=[1])
    request.raw_input_contents.append(len(picture).to_bytes(4, "little") + picture)
    end, answered, streams, ended = time.monotonic() + seconds, 0, 0, 0
    with grpc.insecure_channel(address) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        while time.monotonic() < end:
            requests = queue.Queue()
            answers = stub.ModelStreamInfer(iter(requests.get, None))
            streams += 1
            try:
                while time.monotonic() < end:
                    requests.put(request)
                    answer = next(answers)
                    assert not answer.error_message, answer.error_message
                    answered += 1
                    time.sleep(0.05)
                requests.put(None)
            except grpc.RpcError as error:
                # Between two messages: the request that may be on its way was not begun.
                assert error.code() == grpc.StatusCode.UNAVAILABLE, error
                assert "open another stream" in error.details(), error
                ended += 1
                requests.put(None)
    return {"answered": answered, "connections": streams, "ended": ended}


KINDS = {"http1": http1, "grpc": grpc_unary, "stream": grpc_stream}


def run(kind: str, address: str, picture: bytes, seconds: float, results) -> None:
    try:
        results.put((kind, KINDS[kind](address, picture, seconds), None))
    except BaseException as error:  # noqa: BLE001: told to the parent, whatever it is
        results.put((kind, {}, repr(error)))


def main(address: str, picture_path: str, _: str, seconds: str = "6") -> None:
    with open(picture_path, "rb") as file:
        picture = file.read()
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    workers = [
        context.Process(target=run, args=(kind, address, picture, float(seconds), results)) for kind in KINDS
    ]
    [worker.start() for worker in workers]
    told = [results.get(timeout=float(seconds) + 120) for _ in workers]
    [worker.join() for worker in workers]
    wrong = []
    for kind, result, error in sorted(told):
        print(kind, json.dumps(result), error or "")
        if error or result["answered"] == 0 or result["connections"] < 2:
            wrong.append(kind)
    assert not wrong, wrong


if __name__ == "__main__":
    main(*sys.argv[1:])
