"""Time limits hold, by a clock that counts calls of functions: no timing, and the same on every machine.

A call counts as a microsecond, which is about what it takes. What a piece of work takes beyond its limit is bounded by what lies
between two looks at the clock, whatever was known before.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from types import FrameType
from typing import Any

import numpy as np
import pytest

from alphanas.models import zoo
from synth import Budget, Graph, Interval, Problem, Region, regions, resize, synthesize, widths_up_to
from synth.procedures import METHODS, SEVERAL_ENDS
from synth.result import Found

CALL = 1e-6
FIRST = 0.4
"""The longest stretch without a look at the clock: JAX's first trace of one op (about 270,000 calls were seen)."""
NETWORKS = {"resnet8": (8, 8, 1), "mobilenet_nano": (16, 16, 3), "vit_nano": (16, 16, 3), "mlp": (8, 8, 1)}


def counted(work: Callable[[], Any], monkeypatch: pytest.MonkeyPatch) -> tuple[Any, float]:
    """What some work gives, and its seconds by the clock of calls, which it sees as the time."""
    calls = 0

    def tick(frame: FrameType, event: str, argument: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    with monkeypatch.context() as patched:
        patched.setattr(time, "monotonic", lambda: calls * CALL)
        sys.setprofile(tick)
        try:
            found = work()
        finally:
            sys.setprofile(None)
    return found, calls * CALL


def holds(seconds: float, limit: float) -> bool:
    return seconds <= max(1.2 * limit, limit + FIRST)


def drawn(name: str, several: bool) -> Region:
    graph = zoo.build(name, input_shape=NETWORKS[name], num_classes=10)
    ends = 2 if several else 1
    found = [region for region in regions(graph, largest=6, inputs=ends, outputs=ends) if region.subgraph().params]
    return found[int(np.random.default_rng(len(name)).choice(len(found)))]


def cases(firsts: Sequence[Any]) -> list[Any]:
    """Every pair, of which one network for each runs by default."""
    pairs = [(first, name) for first in firsts for name in NETWORKS]
    quick = {(first, list(NETWORKS)[place % len(NETWORKS)]) for place, first in enumerate(firsts)}
    return [pytest.param(*pair, marks=[] if pair in quick else [pytest.mark.slow]) for pair in pairs]


@pytest.mark.parametrize("limit", [0.0, 0.3])
@pytest.mark.parametrize(("method", "name"), cases(sorted(METHODS)))
def test_synthesis_keeps_its_limit(method: str, name: str, limit: float, monkeypatch: pytest.MonkeyPatch) -> None:
    region = drawn(name, method in SEVERAL_ENDS)
    problem = Problem.of(region)
    budget = Budget(Interval(0, max(1, region.subgraph().params // 3)))
    asked = replace(problem, target=problem.target.within(budget), widths=widths_up_to(max(problem.sizes)))
    rng = np.random.default_rng(0)
    result, seconds = counted(lambda: synthesize(asked, method, rng=rng, time_limit=limit), monkeypatch)
    assert holds(seconds, limit), (str(region), type(result).__name__, seconds)


@pytest.mark.parametrize("limit", [0.0, 0.5])
@pytest.mark.parametrize(("keep_rank", "name"), cases([0.5]))
def test_sizing_keeps_its_limit(keep_rank: float, name: str, limit: float, monkeypatch: pytest.MonkeyPatch) -> None:
    graph: Graph = zoo.build(name, input_shape=NETWORKS[name], num_classes=10)
    budget = Budget(Interval(0, 0.5 * graph.params))
    result, seconds = counted(lambda: resize(graph, budget, keep_rank=keep_rank, time_limit=limit), monkeypatch)
    assert holds(seconds, limit), (type(result).__name__, seconds)
    assert not isinstance(result, Found) or budget.params.holds(result.graph.params)
