#!/usr/bin/env python3
"""convert.py against TensorFlow: small models are made, converted, and asked the same before and after.

    pip install -r deploy/models/flowers/convert-requirements.txt
    python tests/converter/check.py
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "2"

import numpy as np
import onnxruntime
import tensorflow as tf

ROOT = Path(__file__).resolve().parents[2]
FLOWERS = ROOT / "deploy/models/flowers"
SIZE = 64


def network():
    layers = tf.keras.layers
    return tf.keras.Sequential([
        layers.Input((SIZE, SIZE, 3)),
        layers.Conv2D(8, 3, strides=2, activation="relu"),
        layers.BatchNormalization(),
        layers.DepthwiseConv2D(3),
        layers.GlobalAveragePooling2D(),
        layers.Dense(6, activation="softmax"),
    ])


class Several(tf.Module):
    """Inputs and outputs whose order by name is not the order they are written in."""

    def __init__(self):
        self.weights = tf.Variable(tf.random.normal([4, 3]))

    @tf.function(input_signature=[tf.TensorSpec([None, 4], tf.float32), tf.TensorSpec([None], tf.int64)])
    def serve(self, zebra, ant):
        return {"z_out": zebra @ self.weights + tf.cast(ant, tf.float32)[:, None], "a_out": ant + 1}


class Flowers(tf.Module):
    """The serving graph of the original flowers model around a small network: pictures are decoded in a map."""

    def __init__(self, network, size=SIZE):
        self.network = network
        self.size = size

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string), tf.TensorSpec([None], tf.string)])
    def serve(self, key, image_bytes):
        def one(data):
            picture = tf.io.decode_jpeg(data, channels=3)
            picture = tf.compat.v1.image.resize_bilinear(picture[None], [self.size, self.size], align_corners=False)[0]
            return tf.cast(picture, tf.uint8)

        pictures = tf.map_fn(one, image_bytes, fn_output_signature=tf.TensorSpec([self.size, self.size, 3], tf.uint8))
        pixels = (tf.image.convert_image_dtype(pictures, tf.float32) - 0.5) * 2.0
        scores = self.network(pixels, training=False)
        return {"key": tf.identity(key), "prediction": tf.argmax(scores, 1), "scores": scores}


def convert(*arguments, fails=None):
    command = [sys.executable, FLOWERS / "convert.py", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    if fails:
        assert done.returncode == 1 and fails in done.stderr, (done.returncode, done.stderr[-2000:])
        assert not Path(arguments[1]).exists(), "something was written"
    else:
        assert done.returncode == 0, done.stderr[-2000:]
        print(done.stdout, end="")


def agree(folder, feeds, expected):
    session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    assert sorted(value.name for value in session.get_inputs()) == sorted(feeds)
    assert all(value.shape[0] == "batch" for value in [*session.get_inputs(), *session.get_outputs()])
    for name, value in zip(expected, session.run(list(expected), feeds)):
        np.testing.assert_allclose(value, expected[name], rtol=1e-4, atol=1e-4, err_msg=name)


def main():
    tf.random.set_seed(1)
    random = np.random.default_rng(2)
    pictures = random.uniform(-1, 1, (5, SIZE, SIZE, 3)).astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        net = network()
        scores = net(pictures).numpy()

        net.save(folder / "net.keras")
        convert(folder / "net.keras", folder / "of-keras")
        agree(folder / "of-keras", {"input_layer": pictures}, {"output_0": scores})

        several = Several()
        tf.saved_model.save(several, folder / "several", signatures=several.serve)
        convert(folder / "several", folder / "of-several")
        feeds = {"zebra": random.normal(size=(5, 4)).astype(np.float32), "ant": np.arange(5)}
        expected = {name: value.numpy() for name, value in several.serve(feeds["zebra"], feeds["ant"]).items()}
        agree(folder / "of-several", feeds, expected)

        flowers = Flowers(net)
        tf.saved_model.save(flowers, folder / "flowers", signatures=flowers.serve)
        convert(folder / "flowers", folder / "refused", fails="StatefulPartitionedCall/mul:0")
        convert(folder / "flowers", folder / "refused", "--input", "nothing", fails="no tensor 'nothing'")
        convert(folder / "several", folder / "refused", "--tolerance", -1, fails="nothing was written")
        behind = ["--input", "StatefulPartitionedCall/mul:0", "--output", "scores"]
        convert(folder / "flowers", folder / "of-flowers", *behind)
        agree(folder / "of-flowers", {"mul": pictures}, {"scores": scores})
        convert(folder / "flowers", folder / "with-plugin", *behind, "--plugin", FLOWERS / "flowers.wasm")
        agree(folder / "with-plugin", {"mul": pictures.transpose(0, 3, 1, 2)}, {"scores": scores})
        assert (folder / "with-plugin/flowers.wasm").exists()
        assert f"size = {SIZE}" in (folder / "with-plugin/model.toml").read_text()
    print("all agree")


if __name__ == "__main__":
    main()
