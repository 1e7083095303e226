"""Laws of timing: repeats are long enough, programs take turns, ratios come with an interval."""

from __future__ import annotations

import time

import numpy as np
import pytest

from alphanas.hardware import timing


def test_a_repeat_lasts_long_enough_and_the_median_is_of_one_run() -> None:
    latency = timing.interleaved({"sleep": lambda: time.sleep(0.001)}, repeats=4, repeat_s=0.01)["sleep"]
    assert len(latency.samples) == 4
    assert latency.median * latency.number >= 0.009
    assert latency.median >= 0.001


def test_programs_take_turns() -> None:
    order: list[str] = []

    def run(name: str) -> None:
        order.append(name)
        time.sleep(0.002)

    timing.interleaved({"a": lambda: run("a"), "b": lambda: run("b")}, repeats=3, repeat_s=0.001)
    turns = "".join(order)
    assert "ababab" in turns.replace("aa", "a").replace("bb", "b")


class FakeClock:
    """Time that passes by sleeping alone; a thread of the process works until `busy_until`."""

    def __init__(self, busy_until: float) -> None:
        self.now, self.busy_until = 0.0, busy_until

    def monotonic(self) -> float:
        return self.now

    def process_time(self) -> float:
        return min(self.now, self.busy_until)

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.mark.parametrize("busy", [0.0, 0.05, 100.0])
def test_other_threads_are_waited_for_but_not_for_ever(monkeypatch: pytest.MonkeyPatch, busy: float) -> None:
    clock = FakeClock(busy)
    monkeypatch.setattr(timing, "time", clock)
    timing.at_rest()
    longest = min(busy, timing.LONGEST_PAUSE_S)
    assert longest <= clock.now <= longest + 2 * timing.QUIET_S


def test_an_unsteady_program_is_tried_again_and_says_so() -> None:
    rng = np.random.default_rng(0)
    latency = timing.interleaved({"odd": lambda: time.sleep(rng.uniform(0, 0.004))}, repeats=5, repeat_s=0.001)["odd"]
    assert latency.attempts == timing.ATTEMPTS
    assert not latency.steady


@pytest.mark.parametrize("factor", [1.0, 1.5, 0.7])
def test_the_interval_of_a_ratio_holds_the_ratio(factor: float) -> None:
    rng = np.random.default_rng(1)
    fast = rng.normal(1.0, 0.02, 40)
    low, high = timing.ratio_interval(fast.tolist(), (factor * rng.normal(1.0, 0.02, 40)).tolist())
    assert low <= factor <= high
    assert high - low < 0.1
