"""Measures a flowers model on the pictures kept for measuring: a model file, or a running server.

    python evaluate.py --data DIR --model model.onnx
    python evaluate.py --data DIR --url http://HOST:PORT/v1/models/NAME:predict

DIR holds photos.tar, others.tar and their lists (README.md says how to get them). Prints top-1 on
test.txt (the five flowers) and on others-test.txt (none of them), how each class was answered, and
the expected calibration error over both. `--check metrics.json` fails when a top-1 differs by more
than one point from what the file says; `--sample FILE` also asks about one daisy in several
encodings and about pictures that show no flower.

The server route needs the standard library alone (Pillow for `--sample`).
"""

import argparse
import base64
import io
import json
import random
import sys
import tarfile
import urllib.request
from pathlib import Path

CLASSES = ["daisy", "dandelion", "roses", "sunflowers", "tulips", "none of these"]
# The folders inside the archives, in the order of CLASSES.
FOLDERS = ["daisy", "dandelion", "rose", "sunflower", "tulip", "others"]
# What the plugin does to a pixel: value = (pixel - MEAN) / STD.
MEAN, STD = 127.0, 128.0
MEASURED = {"test": "test.txt", "others_test": "others-test.txt"}
TOLERANCE = 0.01
SAMPLE_SCORE = 0.8


def read_list(data, name):
    """The pictures a list names, each once, as (path in the archive, class)."""
    paths = dict.fromkeys((Path(data) / name).read_text().split())
    return [(path, FOLDERS.index(path.split("/")[0])) for path in paths]


def read_archives(data, paths):
    """The bytes of the named pictures, by path."""
    wanted, found = set(paths), {}
    for archive in ("photos.tar", "others.tar"):
        with tarfile.open(Path(data) / archive) as tar:
            for member in tar:
                if member.name in wanted:
                    found[member.name] = tar.extractfile(member).read()
    if missing := wanted - found.keys():
        raise SystemExit(f"{len(missing)} pictures are in no archive, {min(missing)} among them")
    return found


def to_pixels(image, size):
    """The model's input for one RGB Pillow image, [3, size, size]: what the plugin's plan says."""
    import numpy
    from PIL import Image

    stretched = image.resize((size, size), Image.Resampling.BILINEAR)
    return ((numpy.asarray(stretched, dtype=numpy.float32) - MEAN) / STD).transpose(2, 0, 1)


def file_scorer(model):
    """Scores by ONNX Runtime: JPEG bytes in, six scores out."""
    import numpy
    import onnxruntime
    from PIL import Image

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    size = session.get_inputs()[0].shape[2]

    def score(pictures):
        decoded = [Image.open(io.BytesIO(picture)).convert("RGB") for picture in pictures]
        pixels = numpy.stack([to_pixels(image, size) for image in decoded])
        return session.run(["scores"], {"pixels": pixels})[0].tolist()

    return score


def url_scorer(url):
    """Scores by a server that speaks the V1 protocol, pictures sent as they are."""

    def score(pictures):
        instances = [
            {"image_bytes": {"b64": base64.b64encode(picture).decode()}, "key": str(index)}
            for index, picture in enumerate(pictures)
        ]
        body = json.dumps({"instances": instances}).encode()
        request = urllib.request.Request(url, body, {"content-type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as answer:
            predictions = json.load(answer)["predictions"]
        for index, row in enumerate(predictions):
            if row["key"] != str(index) or row["prediction"] != argmax(row["scores"]):
                raise SystemExit(f"instance {index} was answered {row}")
        return [row["scores"] for row in predictions]

    return score


def argmax(scores):
    return max(range(len(scores)), key=scores.__getitem__)


def confusion(labels, scores):
    """How often a picture of the row's class was answered with the column's."""
    table = [[0] * len(CLASSES) for _ in CLASSES]
    for label, row in zip(labels, scores, strict=True):
        table[label][argmax(row)] += 1
    return table


def calibration_error(labels, scores, bins=15):
    """Expected calibration error of the top score: bins of equal width, weighted by their share."""
    sums = [[0, 0.0, 0.0] for _ in range(bins)]
    for label, row in zip(labels, scores, strict=True):
        best = argmax(row)
        cell = sums[min(int(row[best] * bins), bins - 1)]
        cell[0] += 1
        cell[1] += row[best]
        cell[2] += best == label
    return sum(abs(confidence - right) for _, confidence, right in sums) / len(labels)


def figures(labels, scores):
    """Top-1 over all and per class, and the table they come from."""
    table = confusion(labels, scores)
    present = [index for index, row in enumerate(table) if sum(row)]
    return {
        "pictures": len(labels),
        "top1": round(sum(table[index][index] for index in present) / len(labels), 4),
        "per_class": {CLASSES[i]: round(table[i][i] / sum(table[i]), 4) for i in present},
        "confusion": {CLASSES[i]: table[i] for i in present},
    }


def measure(data, score, chunk=4):
    """The figures of both lists and the calibration error over the two together."""
    measured, all_labels, all_scores = {}, [], []
    for name, listing in MEASURED.items():
        listed = read_list(data, listing)
        pictures = read_archives(data, [path for path, _ in listed])
        labels = [label for _, label in listed]
        scores = []
        for start in range(0, len(listed), chunk):
            scores += score([pictures[path] for path, _ in listed[start : start + chunk]])
        measured[name] = figures(labels, scores)
        all_labels += labels
        all_scores += scores
    measured["ece"] = round(calibration_error(all_labels, all_scores), 4)
    return measured


def sample_bytes(path):
    """The picture in a file: a JPEG, or a V1 request whose first instance holds one."""
    content = Path(path).read_bytes()
    if content.lstrip()[:1] != b"{":
        return content
    return base64.b64decode(json.loads(content)["instances"][0]["image_bytes"]["b64"])


def jpeg(image, quality=95):
    out = io.BytesIO()
    image.save(out, "JPEG", quality=quality)
    return out.getvalue()


def sample_variants(sample):
    """The daisy again: mirrored, compressed harder, smaller and larger."""
    from PIL import Image, ImageOps

    image = Image.open(io.BytesIO(sample)).convert("RGB")
    larger = {side: image.resize((side, side), Image.Resampling.BICUBIC) for side in (320, 1280)}
    return {
        "as it is": sample,
        "mirrored": jpeg(ImageOps.mirror(image)),
        "JPEG quality 60": jpeg(image, 60),
        "320 px": jpeg(larger[320]),
        "1280 px": jpeg(larger[1280]),
    }


def pictures_of_nothing():
    """What has to be answered with class 5, drawn here and not as the training draws."""
    from PIL import Image, ImageDraw, ImageFont

    dice = random.Random(5)
    text = "The quick brown fox jumps over the lazy dog 0123456789 {} ();".split()
    drawn = {
        "grey": Image.new("RGB", (300, 300), (128, 128, 128)),
        "noise": Image.frombytes("RGB", (256, 256), dice.randbytes(256 * 256 * 3)),
    }
    for name, paper, ink in (("text", "white", "black"), ("terminal", (30, 30, 36), (200, 210, 200))):
        page = Image.new("RGB", (800, 600), paper)
        draw = ImageDraw.Draw(page)
        for line in range(24):
            words = " ".join(dice.choices(text, k=12))
            draw.text((20, 12 + 24 * line), words, ink, font=ImageFont.load_default(16))
        drawn[name] = page
    return {name: jpeg(image) for name, image in drawn.items()}


def check_sample(path, score):
    """Prints what the sample and the pictures of nothing were answered; whether all were right."""
    try:
        variants, nothing = sample_variants(sample_bytes(path)), pictures_of_nothing()
    except ImportError:
        print("Pillow is not here: the sample is asked about as it is, and nothing else")
        variants, nothing = {"as it is": sample_bytes(path)}, {}
    right = True
    for name, picture in (variants | nothing).items():
        row = score([picture])[0]
        best = argmax(row)
        wanted = len(CLASSES) - 1 if name in nothing else 0
        good = best == wanted and (name in nothing or row[best] >= SAMPLE_SCORE)
        print(f"  {name:16} {CLASSES[best]} {row[best]:.3f}{'' if good else '   WRONG'}")
        right = right and good
    return right


def print_figures(measured):
    for name, listing in MEASURED.items():
        part = measured[name]
        print(f"{listing}: top-1 {part['top1']:.4f} of {part['pictures']} pictures")
        for label, row in part["confusion"].items():
            print(f"  {label:14} {part['per_class'][label]:.3f}  " + " ".join(f"{n:4}" for n in row))
    print(f"expected calibration error {measured['ece']:.4f}")


def differs(measured, stated):
    """Whether a top-1 is further from the stated one than a point; says which."""
    wrong = False
    for name, listing in MEASURED.items():
        gap = abs(measured[name]["top1"] - stated[name]["top1"])
        if gap > TOLERANCE:
            print(f"{listing}: {measured[name]['top1']} measured, {stated[name]['top1']} stated")
            wrong = True
    return wrong


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="folder of photos.tar, others.tar and the lists")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--model", help="an ONNX file")
    source.add_argument("--url", help="a server's V1 address, …/v1/models/NAME:predict")
    parser.add_argument("--check", metavar="FILE", help="the metrics.json to agree with")
    parser.add_argument("--sample", metavar="FILE", help="a daisy: a JPEG or a V1 request")
    options = parser.parse_args()

    score = file_scorer(options.model) if options.model else url_scorer(options.url)
    measured = measure(options.data, score)
    print_figures(measured)
    failed = bool(options.check) and differs(measured, json.loads(Path(options.check).read_text()))
    if options.sample:
        failed = not check_sample(options.sample, score) or failed
    sys.exit(failed)


if __name__ == "__main__":
    main()
