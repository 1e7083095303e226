"""Timing that can be believed: warm-up, repeats long enough for the clock, programs in turns, medians with their spread."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

REPEAT_S = 0.02
"""Each repeat lasts at least so long."""
REPEATS = 10
STEADY = 0.05
"""Interquartile range over median above which the repeats are thrown away and taken again."""
ATTEMPTS = 3
QUIET_S = 0.002
QUIET_SHARE = 0.2
LONGEST_PAUSE_S = 0.2
"""A process is at rest when it took less than this share of a processor for so long; it is waited for no longer than the last."""


@dataclass(frozen=True)
class Latency:
    """Seconds of one run over the repeats of the steadiest attempt."""

    samples: tuple[float, ...]
    number: int
    attempts: int = 1

    @property
    def median(self) -> float:
        return float(np.median(self.samples))

    @property
    def spread(self) -> float:
        """Interquartile range."""
        low, high = np.percentile(self.samples, [25, 75])
        return float(high - low)

    @property
    def steady(self) -> bool:
        """Whether the spread is small enough to compare by."""
        return self.spread <= STEADY * self.median


def interleaved(
    runs: Mapping[str, Callable[[], object]], *, repeats: int = REPEATS, repeat_s: float = REPEAT_S, rest: bool = False
) -> dict[str, Latency]:
    """Latency of each program by name, all in turns, so that what disturbs the machine disturbs them all.

    A run must return when its result is ready. At least 10 repeats of at least 20 ms, unless asked for otherwise. Where programs
    bring threads of their own, ask for `rest`: each repeat then begins when those of the last program have gone to sleep, with one
    run that is not counted. (Threads of onnxruntime spin for 50 ms after a run, and halved the speed of what ran meanwhile.)
    """
    if not runs:
        return {}
    numbers = {name: _number(run, repeat_s) for name, run in runs.items()}
    best: dict[str, Latency] = {}
    for attempt in range(1, ATTEMPTS + 1):
        samples: dict[str, list[float]] = {name: [] for name in runs}
        for _ in range(repeats):
            for name in runs:
                if rest:
                    at_rest()
                    runs[name]()
                samples[name].append(_repeat(runs[name], numbers[name]))
        found = {name: Latency(tuple(samples[name]), numbers[name]) for name in runs}
        # All are taken from one attempt: from different ones they would have met different disturbances.
        if not best or _worst(found) < _worst(best):
            best = found
        best = {name: dataclasses.replace(latency, attempts=attempt) for name, latency in best.items()}
        if all(latency.steady for latency in best.values()):
            break
    return best


def at_rest() -> None:
    """Returns when no thread of this process works or spins."""
    end = time.monotonic() + LONGEST_PAUSE_S
    while time.monotonic() < end:
        before, begin = time.process_time(), time.monotonic()
        time.sleep(QUIET_S)
        if time.process_time() - before < QUIET_SHARE * (time.monotonic() - begin):
            return


def _worst(latencies: Mapping[str, Latency]) -> float:
    return max(latency.spread / latency.median for latency in latencies.values())


def _number(run: Callable[[], object], repeat_s: float) -> int:
    """How often to run in a repeat; finding it out warms the program up."""
    run()
    number = 1
    while (seconds := _repeat(run, number) * number) < repeat_s:
        number = max(number + 1, int(number * min(10.0, 1.2 * repeat_s / max(seconds, 1e-9))))
    return number


def settled_number(seconds: float, wanted: float) -> int:
    """How many runs of so many seconds last as long as wanted; one at least."""
    return max(1, int(wanted / max(seconds, 1e-9)))


def _repeat(run: Callable[[], object], number: int) -> float:
    begin = time.perf_counter()
    for _ in range(number):
        run()
    return (time.perf_counter() - begin) / number


def ratio_interval(fast: Sequence[float], slow: Sequence[float], *, seed: int = 0, draws: int = 2000) -> tuple[float, float]:
    """95% bootstrap interval of median(slow) / median(fast), from repeats that were interleaved."""
    rng = np.random.default_rng(seed)
    above, below = np.asarray(slow), np.asarray(fast)
    picks = rng.integers(0, len(above), (draws, len(above)))
    others = rng.integers(0, len(below), (draws, len(below)))
    ratios = np.median(above[picks], axis=1) / np.median(below[others], axis=1)
    low, high = np.percentile(ratios, [2.5, 97.5])
    return float(low), float(high)
