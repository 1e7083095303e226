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
