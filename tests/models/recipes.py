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
    """A line of the table. `inputs` has a shape and a recipe for each input, `axes` sizes for the letters of shapes."""

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
    optional = {"axes": {}, "tolerance": tolerance, "ci": False, "throughput": False}
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
    raise ValueError(f"no such recipe: {words}")


def _wave(dims: list[int], random: np.random.Generator) -> np.ndarray:
    """Sound along the axis that is the longest: a note with overtones, and some noise."""
    axis = int(np.argmax(dims))
    time = np.arange(dims[axis]) / 16000.0
    rows = [size for place, size in enumerate(dims) if place != axis]
    pitch = random.uniform(90.0, 400.0, rows)[..., np.newaxis]
    sound = sum(np.sin(2.0 * np.pi * pitch * overtone * time) / overtone for overtone in (1, 2, 3)) * 0.2
    sound = sound + random.normal(0.0, 0.02, sound.shape)
    return np.moveaxis(sound, -1, axis)
