"""Compares what the server answers with what Python's onnxruntime answers in this process."""

import concurrent.futures
import dataclasses

import numpy as np

import recipes
import server
import wire

ROUNDS = 3
LARGEST_BATCH = 5
CALLERS = 16
# A model whose single row takes a fifth of a second would take ten minutes otherwise.
HEAVY_BATCH, HEAVY_CALLERS = 2, 4
# The reference's engine; its answers have to be the reference's but for the order of sums.
SAME = "onnxruntime"
# An output whose largest magnitude is below this is compared as if it were this: a probability of 1e-6 that is 0 elsewhere
# is no other answer.
SMALLEST = 0.01


@dataclasses.dataclass
class Verdict:
    """How one model did on one engine. `kind` is right, refused, WRONG or error."""

    kind: str
    detail: str = ""
    error: float = 0.0
    requests: int = 0


@dataclasses.dataclass
class Case:
    """A request, what it is called, and its answer by the reference."""

    label: str
    inputs: dict[str, np.ndarray]
    expected: dict[str, np.ndarray]


class Reference:
    """A model in this process, and the cases made with it."""

    def __init__(self, model: recipes.Model):
        self.session = recipes.session(model)
        self.maker = recipes.Maker(model, self.session)
        self.names = [output.name for output in self.session.get_outputs()]
        self.model = model
        self.callers = HEAVY_CALLERS if model.heavy else CALLERS
        self.largest = self._largest_batch()

    def run(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return dict(zip(self.names, self.session.run(None, inputs)))

    def case(self, rows: int, seed: int, variant: int = 0) -> Case:
        inputs = self.maker.make(rows, seed, variant)
        return Case(f"{rows} rows, seed {seed}", inputs, self.run(inputs))

    def _largest_batch(self) -> int:
        """Some graphs declare an open batch and can run one row only."""
        if not self.model.open_batch:
            return 1
        largest = HEAVY_BATCH if self.model.heavy else LARGEST_BATCH
        try:
            self.run(self.maker.make(largest, 0))
        except Exception:  # noqa: BLE001 - onnxruntime has no common class for what a node fails with.
            return 1
        return largest

    def one_by_one(self) -> list[Case]:
        return [self.case(rows, 100 + rows) for rows in range(1, self.largest + 1)]

    def at_once(self) -> list[Case]:
        """Different callers: of different rows, and with other axes of different sizes where there are any."""
        rows = [2 if self.largest > 1 and caller % 4 == 3 else 1 for caller in range(self.callers)]
        return [self.case(rows[caller], 200 + caller, caller // 4) for caller in range(self.callers)]


def difference(got: np.ndarray, want: np.ndarray) -> float:
    """The largest difference, divided by the largest magnitude that is expected; infinite where the form differs.

    Of integers and truth values it is the share of elements that differ.
    """
    if got is None or got.shape != want.shape or got.dtype != want.dtype:
        return float("inf")
    if want.size == 0:
        return 0.0
    if want.dtype.kind != "f":
        return float(np.mean(got != want))
    got, want = got.astype(np.float64), want.astype(np.float64)
    finite = np.isfinite(want)
    if not np.array_equal(got[~finite], want[~finite], equal_nan=True) or not np.isfinite(got[finite]).all():
        return float("inf")
    if not finite.any():
        return 0.0
    scale = max(float(np.abs(want[finite]).max()), SMALLEST)
    return float(np.abs(got[finite] - want[finite]).max()) / scale


def worst(got: dict[str, np.ndarray], want: dict[str, np.ndarray]) -> float:
    if set(got) != set(want):
        return float("inf")
    return max(difference(got[name], want[name]) for name in want)


class Comparison:
    """All requests of one model to one running server."""

    def __init__(self, reference: Reference, running: server.Server, tolerance: float):
        self.reference, self.running, self.tolerance = reference, running, tolerance
        self.protocols = wire.protocols(running.address, server.NAME)
        self.error, self.requests, self.wrong, self.failed = 0.0, 0, [], []

    def verdict(self) -> Verdict:
        self._one_by_one()
        self._at_once()
        self.running.check_alive()
        if self.wrong:
            detail = f"{len(self.wrong)} of {self.requests}, first: {self.wrong[0]}"
            return Verdict("WRONG", detail, self.error, self.requests)
        if self.failed:
            detail = f"{len(self.failed)} of {self.requests}, first: {self.failed[0]}"
            return Verdict("error", detail, self.error, self.requests)
        return Verdict("right", "", self.error, self.requests)

    def _one_by_one(self) -> None:
        prepared = [
            (case, name, protocol, protocol.encode(case.inputs))
            for case in self.reference.one_by_one()
            for name, protocol in self.protocols.items()
        ]
        for turn in range(ROUNDS):
            for case, name, protocol, encoded in prepared:
                self._record(case, f"{name}, time {turn + 1}", protocol, encoded)
                # A process that ended answers nothing more: each further request would wait for its time limit.
                self.running.check_alive()

    def _at_once(self) -> None:
        names = list(self.protocols)
        cases = self.reference.at_once()
        callers = self.reference.callers

        def caller(number: int) -> None:
            for turn in range(ROUNDS):
                name = names[(number + turn) % len(names)]
                protocol = self.protocols[name]
                encoded = protocol.encode(cases[number].inputs)
                self._record(cases[number], f"{name}, time {turn + 1}, {callers} at once", protocol, encoded)

        with concurrent.futures.ThreadPoolExecutor(callers) as pool:
            list(pool.map(caller, range(callers)))

    def _record(self, case: Case, how: str, protocol, encoded) -> None:
        # Called by several threads; each statement here is one step under Python's lock, and the worst error may
        # only be read after they ended.
        self.requests += 1
        try:
            error = worst(protocol.send(encoded), case.expected)
        except wire.Failed as failure:
            self.failed.append(f"{case.label}, {how}: {failure}")
            return
        self.error = max(self.error, error)
        if error > self.tolerance:
            self.wrong.append(f"{case.label}, {how}: error {error:.2g}")


def check(program, reference: Reference, engine: str) -> Verdict:
    """Serves the model on this engine and compares; every outcome is a verdict."""
    model = reference.model
    try:
        with server.Server(program, model.folder, engine) as running:
            tolerance = model.strict if engine == SAME else model.tolerance
            return Comparison(reference, running, tolerance).verdict()
    except server.Refused as reason:
        # The reference runs every model of the table, so its own engine has no reason to refuse one.
        return Verdict("error" if engine == SAME else "refused", str(reason))
    except server.Died as death:
        return Verdict("error", str(death))
