#!/usr/bin/env python3
"""A SavedModel in the form of KFServing's flowers sample: `image_bytes` and `key` in, `scores`, `prediction` and `key` out,
pictures decoded inside the graph. Nobody gives the sample's weights away, so those of this MobileNetV2 are drawn: its
scores mean nothing, and take the time that those of a trained one would.

    pip install -r deploy/models/flowers/convert-requirements.txt
    python tests/cluster/savedmodel.py OUT
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "converter"))

import tensorflow as tf
from check import Flowers

SIZE = 160

if len(sys.argv) != 2:
    sys.exit(__doc__)
tf.keras.utils.set_random_seed(1)
network = tf.keras.applications.MobileNetV2(input_shape=(SIZE, SIZE, 3), weights=None, classes=6)
# Without statistics that fit its weights the network would say the same of every picture.
for layer in network.layers:
    if isinstance(layer, tf.keras.layers.BatchNormalization):
        layer.momentum = 0.0
network(tf.random.uniform([32, SIZE, SIZE, 3], -1, 1), training=True)
flowers = Flowers(network, SIZE)
tf.saved_model.save(flowers, sys.argv[1], signatures=flowers.serve)
