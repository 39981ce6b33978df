"""Reads the table of models, and makes inputs for them: always the same ones for the same seed."""

import dataclasses
import pathlib
import tomllib

import numpy as np
import onnxruntime

import packages

TABLE = pathlib.Path(__file__).with_name("models.toml")
TYPES = {
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
    "tensor(float16)": np.float16,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(uint8)": np.uint8,
    "tensor(bool)": np.bool_,
}


@dataclasses.dataclass(frozen=True)
class Model:
    """A line of the table. `inputs` has a shape and a recipe for each input, `axes` sizes for the letters of shapes.

    `tolerance` is for another engine than the reference's, `strict` for the same one.
    """

    name: str
    registry: str
    package: str
    version: str
    files: list[str]
    sha256: str
    licence: str
    inputs: dict[str, list[str]]
    axes: dict[str, list[int]]
    tolerance: float
    strict: float
    heavy: bool
    ci: bool
    throughput: bool

    @property
    def folder(self) -> pathlib.Path:
        return packages.cache_folder() / f"{self.name}-{self.version}"

    @property
    def file(self) -> pathlib.Path:
        return self.folder / pathlib.PurePosixPath(self.files[0]).name

    @property
    def open_batch(self) -> bool:
        return any("N" in shape.split(",") for shape, _ in self.inputs.values())


def table() -> list[Model]:
    with TABLE.open("rb") as file:
        content = tomllib.load(file)
    return [_model(entry, content["tolerance"]) for entry in content["model"]]


def _model(entry: dict, tolerance: float) -> Model:
    entry = dict(entry)
    # A wider tolerance needs its reason, and a reason without one would say nothing.
    assert ("tolerance" in entry) == ("because" in entry), entry["name"]
    entry.pop("because", None)
    files = [entry.pop("path"), *entry.pop("beside", [])]
    optional = {"axes": {}, "tolerance": tolerance, "strict": tolerance}
    optional |= {"heavy": False, "ci": False, "throughput": False}
    return Model(files=files, **{**optional, **entry})


def session(model: Model) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(str(model.file), options, providers=["CPUExecutionProvider"])


class Maker:
    """Makes a model's inputs."""

    def __init__(self, model: Model, running: onnxruntime.InferenceSession):
        self.model = model
        self.types = {node.name: TYPES[node.type] for node in running.get_inputs()}
        assert set(self.types) == set(model.inputs), (model.name, sorted(self.types), sorted(model.inputs))

    def make(self, rows: int, seed: int, variant: int = 0) -> dict[str, np.ndarray]:
        """`variant` chooses among the sizes of the axes that are open besides the batch."""
        sizes = {letter: choices[variant % len(choices)] for letter, choices in self.model.axes.items()}
        sizes["N"] = rows
        random = np.random.default_rng([seed, rows])
        made = {}
        for name, (shape, recipe) in self.model.inputs.items():
            dims = [sizes[part] if part in sizes else int(part) for part in shape.split(",") if part]
            made[name] = np.asarray(_values(recipe.split(), dims, sizes, random)).astype(self.types[name])
        return made


def _values(words: list[str], dims: list[int], sizes: dict[str, int], random: np.random.Generator) -> np.ndarray:
    match words:
        case ["normal", scale]:
            return random.normal(0.0, float(scale), dims)
        case ["uniform", low, high]:
            return random.uniform(float(low), float(high), dims)
        case ["ids", count]:
            return random.integers(0, int(count), dims)
        case ["span", count]:
            # Each row from a part of the vocabulary of its own: texts differ in that, and models answer them differently.
            ends = np.sort(random.integers(0, int(count), [dims[0], 2]), axis=1).reshape([2 * dims[0], *[1] * (len(dims) - 1)])
            return random.integers(ends[0::2], ends[1::2] + 1, dims)
        case ["const", value]:
            return np.full(dims, float(value))
        case ["size", letter]:
            return np.full(dims, sizes[letter])
        case ["mask"]:
            # Ones up to a length of its own in each row: padding as tokenizers make it.
            lengths = random.integers(1, dims[-1] + 1, dims[:-1])
            return np.arange(dims[-1]) < lengths[..., np.newaxis]
        case ["wave"]:
            return _wave(dims, random)
        case ["picture", low, high]:
            return _picture(dims, random) * (float(high) - float(low)) + float(low)
        case ["spectrum", low, high]:
            # A level and a slope of its own in each row, as the recordings of a microphone have.
            level, slope = random.uniform(float(low), float(high), [2, dims[0], *[1] * (len(dims) - 1)])
            return level + (slope - level) * np.linspace(0.0, 1.0, dims[-1]) + random.normal(0.0, 0.1, dims)
    raise ValueError(f"no such recipe: {words}")


def _wave(dims: list[int], random: np.random.Generator) -> np.ndarray:
    """Sound along the axis that is the longest: a note with overtones, and some noise."""
    axis = int(np.argmax(dims))
    time = np.arange(dims[axis]) / 16000.0
    rows = [size for place, size in enumerate(dims) if place != axis]
    pitch = random.uniform(90.0, 400.0, rows)[..., np.newaxis]
    sound = sum(np.sin(2.0 * np.pi * pitch * overtone * time) / overtone for overtone in (1, 2, 3)) * 0.2
    sound = sound + random.normal(0.0, 0.02, sound.shape)
    loudness = random.uniform(0.1, 1.0, rows)[..., np.newaxis]
    return np.moveaxis(sound * loudness, -1, axis)


def _picture(dims: list[int], random: np.random.Generator) -> np.ndarray:
    """Lines of dark strokes on a ground that fades, between 0 and 1; colours are where the dimension of 1 or 3 is."""
    colours = 1 if dims[1] in (1, 3) else 3
    rows, channels = dims[0], dims[colours]
    height, width = [size for place, size in enumerate(dims) if place not in (0, colours)]
    made = np.empty([rows, channels, height, width])
    for picture in made:
        corner, opposite = random.uniform(0.5, 1.0, [2, channels, 1, 1])
        fade = (np.linspace(0.0, 1.0, height)[:, np.newaxis] + np.linspace(0.0, 1.0, width)) / 2.0
        picture[:] = corner + (opposite - corner) * fade
        ink = random.uniform(0.0, 0.3, [channels, 1, 1])
        line = max(8, height // int(random.integers(2, 5)))
        for top in range(line // 4, height - line // 2, line):
            for left in range(4, width - 8, 6):
                if random.random() < 0.8:
                    # A letter: an upright stroke, and a level one at a height of its own.
                    bar = top + int(random.integers(0, line // 2))
                    picture[:, top : top + line // 2, left : left + 2] = ink
                    picture[:, bar : bar + 2, left : left + 5] = ink
    return np.moveaxis(made, 1, colours)
