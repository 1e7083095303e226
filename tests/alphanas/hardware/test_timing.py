"""Laws of timing: repeats are long enough, programs take turns, ratios come with an interval."""

from __future__ import annotations

import itertools
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


def test_a_ratio_is_called_faster_only_if_its_interval_excludes_one() -> None:
    def verdict(values: list[float]) -> str:
        return timing.ratio(timing.Latency(tuple(values), 1), timing.Latency((1.0,) * len(values), 1)).verdict

    assert verdict([0.5] * 10) == "faster"
    assert verdict([2.0] * 10) == "slower"
    assert verdict([0.9, 1.1] * 5) == "no difference shown"


def test_equal_programs_under_common_drift_are_seldom_told_apart() -> None:
    rng = np.random.default_rng(2)
    wrong = 0
    for _ in range(200):
        drift = 1 + 0.05 * np.cumsum(rng.normal(size=10)) / np.sqrt(10)
        samples = [timing.Latency(tuple(drift * rng.normal(1, 0.01, 10)), 1) for _ in range(2)]
        wrong += timing.ratio(*samples).verdict != "no difference shown"
    assert wrong <= 20


def test_at_length_every_run_counts_and_turns_are_taken() -> None:
    order: list[str] = []

    def run(name: str) -> None:
        order.append(name)
        time.sleep(0.0005)

    found = timing.at_length({"a": lambda: run("a"), "b": lambda: run("b")}, seconds=0.1, count=30, block_s=0.002)
    for name, latency in found.items():
        assert 30 <= len(latency.runs) <= order.count(name)
        assert sum(latency.runs) >= 0.1
        fifty, ninety, most = (latency.percentile(percent) or 0.0 for percent in (50, 90, 99))
        assert 0.0005 <= fifty == latency.median <= ninety <= most
        assert latency.shortfall.startswith(f"less than a report: {len(latency.runs)} runs in 0.")
    assert sum(one != other for one, other in itertools.pairwise(order)) > 4


def test_at_length_a_slow_program_has_fewer_runs_and_says_so() -> None:
    latency = timing.at_length({"slow": lambda: time.sleep(0.02)}, seconds=0.02, count=1000, block_s=0.002)["slow"]
    assert len(latency.runs) <= 4
    assert "wanted 1,024" in latency.shortfall


def test_only_a_whole_report_has_no_shortfall() -> None:
    whole = timing.Latency((0.06,), 1, runs=np.full(1024, 0.06))
    assert whole.shortfall == ""
    assert timing.Latency((0.06,), 1, runs=np.full(1000, 0.06)).shortfall
    assert timing.Latency((0.05,), 1, runs=np.full(1024, 0.05)).shortfall
    assert timing.Latency((0.05,), 1).percentile(50) is None
