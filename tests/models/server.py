"""Runs `corymb serve` with one model on a port that the system picks, and stops it."""

import json
import os
import pathlib
import subprocess
import tempfile
import threading

import onnxruntime

NAME = "public"
START_SECONDS = 180
STOP_SECONDS = 15


class Refused(Exception):
    """The server said by name why it does not load the model."""


class Died(Exception):
    """The process ended by itself where it should not."""


def binary(named: str | None) -> pathlib.Path:
    """What is named, else `CORYMB_BINARY`, else below cargo's target folder."""
    root = pathlib.Path(__file__).resolve().parents[2]
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR") or root / "target")
    found = pathlib.Path(named or os.environ.get("CORYMB_BINARY") or target / "release/corymb").resolve()
    if not found.is_file():
        raise SystemExit(f"{found} is no file; build it, or name it by --binary or CORYMB_BINARY")
    return found


class Server:
    """A running server; `with` stops it. Its cache is empty, so that nothing measured earlier counts."""

    def __init__(self, program: pathlib.Path, model: pathlib.Path, backend: str):
        self.cache = tempfile.TemporaryDirectory(prefix="corymb-models-")
        # The same library as the reference's, so that only the server can differ.
        library = pathlib.Path(onnxruntime.__file__).parent / "capi"
        command = [str(program), "serve", "--host", "127.0.0.1", "--port", "0", "--log-format", "json"]
        command += ["--backend", backend, "--device", "cpu", "--model", f"{NAME}={model}"]
        command += ["--onnxruntime", str(library), "--cache", self.cache.name, "--drain-timeout", "5s"]
        environment = {"PATH": os.environ.get("PATH", ""), "XDG_CACHE_HOME": self.cache.name}
        self.process = subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        self.log, self.address, self.started = [], "", threading.Event()
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self) -> None:
        for line in self.process.stderr:
            text = line.decode(errors="replace").rstrip()
            self.log.append(text)
            if text.startswith("{"):
                event = json.loads(text)
                if event.get("message") == "serving":
                    self.address = event["address"]
                    self.started.set()
        self.started.set()

    def __enter__(self) -> "Server":
        if not self.started.wait(START_SECONDS):
            self._stop()
            raise Died(f"not ready within {START_SECONDS} s")
        if not self.address:
            status = self.process.wait(STOP_SECONDS)
            self._stop()
            reason = self.log[-1] if self.log else "no word"
            if status == 1 and reason.startswith("error: "):
                raise Refused(reason.removeprefix(f"error: load model '{NAME}': "))
            raise Died(f"exit status {status} while loading: {reason}")
        return self

    def __exit__(self, *_) -> None:
        self._stop()

    def check_alive(self) -> None:
        """A request that ends the process is worse than one that it answers by an error."""
        if self.process.poll() is not None:
            raise Died(f"exit status {self.process.returncode} while serving: {self.log[-1]}")

    def event(self, message: str) -> dict:
        """The newest line of the log with this message."""
        for line in reversed(self.log):
            if line.startswith("{") and json.loads(line).get("message") == message:
                return json.loads(line)
        return {}

    def _stop(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.reader.join(STOP_SECONDS)
        self.process.stderr.close()
        self.cache.cleanup()
