"""The unmodified tritonclient, HTTP and gRPC: ADDRESS PICTURE."""

import sys

import numpy as np
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton_http
from tritonclient.utils import InferenceServerException

MODEL = "flowers-sample"


def scores(module, client, image: bytes, **options) -> np.ndarray:
    tensor = module.InferInput("image_bytes", [1], "BYTES")
    tensor.set_data_from_numpy(np.array([image], dtype=np.object_))
    answer = client.infer(MODEL, [tensor], request_id="7", **options)
    assert answer.as_numpy("key").tolist() == [b""], answer.as_numpy("key")
    result = answer.as_numpy("scores")
    assert result.shape == (1, 6) and result.dtype == np.float32, result
    assert answer.as_numpy("prediction").tolist() == [int(result.argmax())]
    return result


def check(module, address: str, image: bytes) -> np.ndarray:
    client = module.InferenceServerClient(address)
    assert client.is_server_live() and client.is_server_ready() and client.is_model_ready(MODEL)
    assert not client.is_model_ready("other")
    try:
        client.get_model_metadata("other")
    except InferenceServerException:
        pass
    else:
        raise AssertionError("an unknown model was described")
    client.get_server_metadata()
    client.get_model_metadata(MODEL)
    return scores(module, client, image)


def main(address: str, picture: str, *_: str) -> None:
    with open(picture, "rb") as file:
        image = file.read()
    by_http = check(triton_http, address, image)
    by_grpc = check(triton_grpc, address, image)
    assert np.array_equal(by_http, by_grpc), (by_http, by_grpc)

    # JSON instead of binary tensors, and one output by name.
    client = triton_http.InferenceServerClient(address)
    tensor = triton_http.InferInput("image_bytes", [1], "BYTES")
    tensor.set_data_from_numpy(np.array([image], dtype=np.object_))
    wanted = triton_http.InferRequestedOutput("scores", binary_data=False)
    answer = client.infer(MODEL, [tensor], outputs=[wanted])
    assert np.array_equal(answer.as_numpy("scores"), by_http)
    assert answer.as_numpy("key") is None


main(*sys.argv[1:])
