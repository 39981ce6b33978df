"""A gRPC client made from the project's own .proto: ADDRESS PICTURE PROTO_FOLDER."""

import importlib
import struct
import sys
import tempfile

import grpc
from grpc_tools import protoc


def main(address: str, picture: str, proto: str) -> None:
    with tempfile.TemporaryDirectory() as out:
        arguments = ["protoc", f"-I{proto}", f"--python_out={out}", f"--grpc_python_out={out}", "inference.proto"]
        assert protoc.main(arguments) == 0, "protoc failed"
        sys.path.insert(0, out)
        messages = importlib.import_module("inference_pb2")
        services = importlib.import_module("inference_pb2_grpc")

    with open(picture, "rb") as file:
        image = file.read()
    with grpc.insecure_channel(address) as channel:
        stub = services.GRPCInferenceServiceStub(channel)
        assert stub.ServerLive(messages.ServerLiveRequest(), timeout=10).live
        assert stub.ServerReady(messages.ServerReadyRequest(), timeout=10).ready
        assert stub.ModelReady(messages.ModelReadyRequest(name="flowers-sample"), timeout=10).ready
        metadata = stub.ModelMetadata(messages.ModelMetadataRequest(name="flowers-sample"), timeout=10)
        assert [tensor.name for tensor in metadata.inputs] == ["image_bytes", "key"], metadata
        assert [list(tensor.shape) for tensor in metadata.outputs] == [[-1, 6], [-1], [-1]], metadata

        request = messages.ModelInferRequest(model_name="flowers-sample", id="7")
        tensor = request.inputs.add(name="image_bytes", datatype="BYTES", shape=[1])
        tensor.contents.bytes_contents.append(image)
        answer = stub.ModelInfer(request, timeout=30)
        assert answer.id == "7"
        by_name = dict(zip([output.name for output in answer.outputs], answer.raw_output_contents))
        scores = struct.unpack("<6f", by_name["scores"])
        assert abs(sum(scores) - 1) < 1e-5, scores
        (prediction,) = struct.unpack("<q", by_name["prediction"])
        assert scores[prediction] == max(scores)

        try:
            stub.ModelInfer(messages.ModelInferRequest(model_name="other"), timeout=10)
        except grpc.RpcError as error:
            assert error.code() == grpc.StatusCode.NOT_FOUND, error
        else:
            raise AssertionError("an unknown model was answered")


main(*sys.argv[1:])
