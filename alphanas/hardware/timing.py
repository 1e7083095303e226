"""Timing that can be believed: warm-up, repeats long enough for the clock, programs in turns, medians with their spread.

Two levels. `interleaved` is the search's: at least 10 repeats of at least 20 ms each. `at_length` is a report's: every run timed by
itself, at least 1,024 runs and 60 s of each program, so that the slowest runs are known too. Both take their turn on the device.
"""

from __future__ import annotations

import dataclasses
import time
from array import array
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
REPORT_RUNS, REPORT_S = 1024, 60.0
"""Runs, and seconds of running, that a report wants of each program."""
LONGEST = 3.0
"""A program so slow that its runs are not done in this many times the seconds asked for has fewer."""
BLOCK_S = 0.1
"""A turn in a report."""

Runs = Mapping[str, Callable[[], object]]


@dataclass(frozen=True)
class Latency:
    """Seconds of one run over the repeats of the steadiest attempt.

    `runs` are the single runs, sorted, where each was timed by itself; `samples` are then medians of runs that followed each other.
    `cores` is the processor time over the wall time: how many cores were busy.
    """

    samples: tuple[float, ...]
    number: int
    attempts: int = 1
    cores: float | None = None
    runs: np.ndarray = dataclasses.field(default_factory=lambda: np.empty(0), repr=False)

    @property
    def median(self) -> float:
        return float(np.median(self.runs if len(self.runs) else self.samples))

    @property
    def quartiles(self) -> tuple[float, float]:
        """Between these lies the middle half of the samples."""
        low, high = np.percentile(self.samples, [25, 75])
        return float(low), float(high)

    @property
    def spread(self) -> float:
        """Interquartile range."""
        low, high = self.quartiles
        return high - low

    @property
    def steady(self) -> bool:
        """Whether the spread is small enough to compare by."""
        return self.spread <= STEADY * self.median

    def percentile(self, percent: float) -> float | None:
        """Seconds that so many percent of the runs take at most; None where runs were not timed by themselves."""
        return float(np.percentile(self.runs, percent)) if len(self.runs) else None

    @property
    def shortfall(self) -> str:
        """What this is less than a report wants; empty where it is not."""
        count, seconds = len(self.runs), float(np.sum(self.runs))
        if not count:
            return f"search level: {len(self.samples)} repeats of {self.number} runs"
        if count >= REPORT_RUNS and seconds >= REPORT_S:
            return ""
        return f"less than a report: {count:,} runs in {seconds:.3g} s, wanted {REPORT_RUNS:,} in {REPORT_S:g} s"


def interleaved(runs: Runs, *, repeats: int = REPEATS, repeat_s: float = REPEAT_S, rest: bool = False) -> dict[str, Latency]:
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
        busy = dict.fromkeys(runs, 0.0)
        for _ in range(repeats):
            for name, run in runs.items():
                _settle(run, rest=rest)
                processor = time.process_time()
                samples[name].append(_repeat(run, numbers[name]))
                busy[name] += (time.process_time() - processor) / numbers[name]
        found = {name: Latency(tuple(samples[name]), numbers[name], cores=busy[name] / sum(samples[name])) for name in runs}
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


def at_length(
    runs: Runs, *, seconds: float = REPORT_S, count: int = REPORT_RUNS, block_s: float = BLOCK_S, rest: bool = False, seed: int = 0
) -> dict[str, Latency]:
    """Latency of each program by name with every run timed by itself: at least `count` runs and `seconds` of each.

    Programs take turns in blocks of `block_s`, in another order each time. No program runs longer than three times `seconds`:
    what is slower has fewer runs, and `shortfall` says so.
    """
    rng = np.random.default_rng(seed)
    names = list(runs)
    taken = {name: array("d") for name in names}
    blocks: dict[str, list[float]] = {name: [] for name in names}
    spent, busy = dict.fromkeys(names, 0.0), dict.fromkeys(names, 0.0)

    def wanting(name: str) -> bool:
        return spent[name] < seconds or (len(taken[name]) < count and spent[name] < LONGEST * seconds)

    while any(map(wanting, names)):
        for name in rng.permutation(names):
            _settle(runs[name], rest=rest)
            processor, block = time.process_time(), _block(runs[name], block_s)
            busy[name] += time.process_time() - processor
            spent[name] += sum(block)
            blocks[name].append(float(np.median(block)))
            taken[name].extend(block)
    return {
        name: Latency(tuple(blocks[name]), 1, cores=busy[name] / spent[name], runs=np.sort(np.frombuffer(taken[name])))
        for name in names
    }


def _block(run: Callable[[], object], block_s: float) -> list[float]:
    times: list[float] = []
    end = time.perf_counter() + block_s
    while (begin := time.perf_counter()) < end or not times:
        run()
        times.append(time.perf_counter() - begin)
    return times


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


def _settle(run: Callable[[], object], *, rest: bool) -> None:
    """Waits for the threads of the program before, where there are such, and wakes those of this one."""
    if rest:
        at_rest()
        run()


def _repeat(run: Callable[[], object], number: int) -> float:
    begin = time.perf_counter()
    for _ in range(number):
        run()
    return (time.perf_counter() - begin) / number


@dataclass(frozen=True)
class Ratio:
    """How many times the reference's latency is that of a program, with its 95% bootstrap interval: above 1 it is faster."""

    value: float
    low: float
    high: float

    @property
    def verdict(self) -> str:
        """ "faster" or "slower" only where the interval excludes 1."""
        if self.low > 1.0:
            return "faster"
        return "slower" if self.high < 1.0 else "no difference shown"


def ratio(latency: Latency, reference: Latency) -> Ratio:
    """The reference's median over a program's, of samples taken in turns."""
    low, high = ratio_interval(latency.samples, reference.samples)
    return Ratio(reference.median / latency.median, low, high)


GROUPS = 100


def ratio_interval(fast: Sequence[float], slow: Sequence[float], *, seed: int = 0, draws: int = 2000) -> tuple[float, float]:
    """95% bootstrap interval of median(slow) / median(fast), from repeats that were taken in turns.

    Repeats of one round are drawn together, since what slows the machine slows both; of many repeats, those that follow each other
    are drawn as one, since they are alike.
    """
    rounds = min(len(fast), len(slow))
    groups = np.array_split(np.arange(rounds), min(rounds, GROUPS))
    above, below = (np.array([np.median(np.asarray(samples)[group]) for group in groups]) for samples in (slow, fast))
    picks = np.random.default_rng(seed).integers(0, len(groups), (draws, len(groups)))
    low, high = np.percentile(np.median(above[picks], axis=1) / np.median(below[picks], axis=1), [2.5, 97.5])
    return float(low), float(high)
