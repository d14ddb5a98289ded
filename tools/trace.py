"""How an estimator does in the course of a run: its estimates, within limits of time and memory."""

import os
import signal
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from tools.estimators import BudgetSpent

FEW = 20  # the most extreme players, of which it is counted how many are found


class NotFinite(ValueError):
    """An estimate that is not finite."""


@dataclass
class Point:
    """An estimate, the checkpoint that it belongs to, and what it took."""

    checkpoint: int
    evaluations: float
    seconds: float
    estimate: np.ndarray  # (n,) float64

    def costs(self):
        """All but the estimate, a dict."""
        names = ("checkpoint", "evaluations", "seconds")
        return {name: getattr(self, name) for name in names}


def trace(estimator, open_game, task, checkpoints, clock, on_spent=None):
    """The points of a run: for each checkpoint the last estimate up to it, if there is a new one.

    Args:
        estimator: Estimator.
        open_game: function (budget) -> MeteredGame.
        task: Task.
        checkpoints: increasing numbers of evaluations.
        clock: function without arguments -> seconds.
        on_spent: function of the evaluations so far, called after each estimate.

    Raises:
        NotFinite: an estimate is not finite; of an estimator that runs anew for each checkpoint,
            those of all checkpoints.
    """
    if estimator.anytime:
        yield from _trace_run(estimator, open_game, task, checkpoints, clock, on_spent)
        return
    failures = []
    for budget in checkpoints:
        try:
            yield from _trace_run(estimator, open_game, task, [budget], clock, on_spent)
        except NotFinite as failure:  # a larger budget may do
            failures.append(failure)
    if len(failures) == len(checkpoints):
        raise failures[0]


def _trace_run(estimator, open_game, task, checkpoints, clock, on_spent):
    game = open_game(checkpoints[-1])
    estimates, ahead = estimator.run(game, task), list(checkpoints)
    seconds, latest = 0.0, None
    while True:
        before = clock()
        try:
            estimate = next(estimates)
        except (StopIteration, BudgetSpent):
            break
        seconds += clock() - before
        if not np.isfinite(estimate).all():
            raise NotFinite("its estimate is not finite")
        while game.spent > ahead[0]:
            passed = ahead.pop(0)
            if latest:
                yield Point(passed, *latest)
            latest = None
        latest = game.spent, seconds, estimate
        if on_spent:
            on_spent(game.spent)
    if latest:
        yield Point(ahead[0], *latest)


@dataclass
class Reference:
    """The values to compare with: the mean of independent runs, and its squared error."""

    values: np.ndarray  # (n,) float64
    squared_error: np.ndarray  # (n,) float64, of the mean
    which: str  # the end of the values that is sought: "lowest" or "highest"
    k: int  # players there whose error is scored

    @classmethod
    def from_runs(cls, runs, which, k):
        """The mean of independent runs (R, n), whose spread says how precise it is."""
        return cls(np.mean(runs, 0), np.var(runs, 0, ddof=1) / len(runs), which, k)

    def extreme(self, values, number):
        """The players at the end that is sought, the most extreme first: (number,) int."""
        sign = 1 if self.which == "highest" else -1
        return np.argsort(-sign * values, kind="stable")[:number]

    def summary(self):
        """Mean squared error and mean square of the values, of all and of the k extreme: a dict.

        The square is what an estimate of 0 everywhere is off, so it is less the error.
        """
        top, square = self.extreme(self.values, self.k), self.values**2 - self.squared_error
        return {
            "error_all": float(self.squared_error.mean()),
            "error_top": float(self.squared_error[top].mean()),
            "square_all": float(square.mean()),
            "square_top": float(square[top].mean()),
        }

    def score(self, estimate):
        """Mean squared errors of an estimate, less the reference's own, and shares found: a dict.

        error_all: over all players. error_top: over the k most extreme of the reference. found_few,
        found_top: share of its FEW and of its k most extreme that are the estimate's too.
        """
        error = (estimate - self.values) ** 2 - self.squared_error
        top = self.extreme(self.values, self.k)
        scores = {"error_all": float(error.mean()), "error_top": float(error[top].mean())}
        for name, number in (("found_few", min(FEW, self.k)), ("found_top", self.k)):
            common = np.intersect1d(top[:number], self.extreme(estimate, number))
            scores[name] = len(common) / number
        return scores


# ----------------------------------------------------------------------------- limits


class OutOfTime(Exception):
    """A run has computed for longer than it may without an evaluation of V."""


@contextmanager
def limit_run(seconds, memory_gib=None):
    """End what runs inside with OutOfTime or MemoryError; on Linux, in the main thread.

    Args:
        seconds: float, of wall time since the start or the last call of what this yields, a
            function without arguments.
        memory_gib: float, beyond what is in use; None: no limit. Not for CUDA, which reserves
            addresses that it does not use.
    """

    def stop(number, frame):
        raise OutOfTime(f"{seconds} s without an evaluation of V")

    def restart():
        signal.setitimer(signal.ITIMER_REAL, seconds)

    handler = signal.signal(signal.SIGALRM, stop)
    restart()
    try:
        with _limit_memory(memory_gib):
            yield restart
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)


@contextmanager
def _limit_memory(memory_gib):
    if memory_gib is None or not os.path.exists("/proc/self/statm"):
        yield
        return
    import resource

    with open("/proc/self/statm") as file:
        in_use = int(file.read().split()[0]) * resource.getpagesize()
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (in_use + int(memory_gib * 2**30), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def restart_peak_memory():
    """Let peak_memory_gib count from now on."""
    if os.path.exists("/proc/self/clear_refs"):
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")


def peak_memory_gib():
    """Peak memory of this process since restart_peak_memory, in GiB; None where unknown."""
    if not os.path.exists("/proc/self/status"):
        return None
    with open("/proc/self/status") as file:
        line = next((line for line in file if line.startswith("VmHWM")), None)
    return round(int(line.split()[1]) / 2**20, 2) if line else None
