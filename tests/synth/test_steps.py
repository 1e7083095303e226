"""Limits in steps: answers hang on the question, the generator and the limit, not on the machine or on what was known before."""

from __future__ import annotations

import functools
import gc
import itertools
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from alphanas.models import zoo
from synth import Budget, Graph, Interval, Problem, Region, Value, regions, resize, sizes, synthesize, widths_up_to
from synth.clock import ENDLESS, Clock, TimeIsUp
from synth.memo import Memo
from synth.ops import Conv, Relu
from synth.procedures import METHODS, SEVERAL_ENDS
from synth.result import Found, GaveUp, Infeasible

LIMITS = (30, 300, 3_000)


def asked(several: bool, seed: int = 0) -> Problem:
    graph = zoo.build("resnet8", input_shape=(8, 8, 1), num_classes=10)
    ends = 2 if several else 1
    found: list[Region] = [each for each in regions(graph, largest=5, inputs=ends, outputs=ends) if each.subgraph().params]
    region = found[int(np.random.default_rng(seed).choice(len(found)))]
    problem = Problem.of(region)
    budget = Budget(Interval(0, max(1, region.subgraph().params // 3)))
    return replace(problem, target=problem.target.within(budget), widths=widths_up_to(max(problem.sizes)))


def forget() -> None:
    """Makes the process new: what `synth` remembers in memory is gone."""
    for each in gc.get_objects():
        if isinstance(each, Memo):
            each.clear()
        if isinstance(each, functools._lru_cache_wrapper) and each.__module__.startswith("synth.") and each.__name__ != "shelf":
            each.cache_clear()


def said(result: Any) -> object:
    """What an answer says, its seconds aside."""
    match result:
        case Found():
            return [graph.hash for graph in result.graphs], result.optimal
        case Infeasible() | GaveUp():
            return replace(result, seconds=0.0)


def answers(method: str, steps: int) -> object:
    """What a method says to one question with branches or without; of random programs and of the cheapest ones."""
    problem = asked(method in SEVERAL_ENDS)
    drawn = synthesize(problem, method, rng=np.random.default_rng(1), count=2, steps=steps)
    return said(drawn), said(synthesize(problem, method, steps=min(steps, 300)))


QUESTIONS: dict[str, Callable[[int], object]] = {
    **{method: functools.partial(answers, method) for method in METHODS},
    "resize": lambda steps: said(
        resize(resnet8(), Budget(Interval(0, 20_000)), multiple=4, keep_rank=0.5, time_limit=1e9, steps=steps)
    ),
}


def resnet8() -> Graph:
    return zoo.build("resnet8", input_shape=(8, 8, 1), num_classes=10)


def hard_sizes(steps: int) -> object:
    """More sizes than are enumerated, under a budget that is hard to keep, so that Z3 is asked."""
    value, ops = Value((None, 8, 8, 16)), [each for _ in range(5) for each in (Conv(features=64), Relu())]
    result = sizes.solve(
        value,
        [*ops, Conv(features=16)],
        value,
        widths=range(8, 140, 4),
        budget=Budget(Interval(99_990, 100_000)),
        rng=np.random.default_rng(0),
        time_limit=1e9,
        steps=steps,
    )
    return result if isinstance(result, tuple) else said(result)


@pytest.mark.parametrize(("question", "steps"), [*itertools.product(QUESTIONS, LIMITS), ("sizes", 300)])
def test_answers_hang_neither_on_the_machine_nor_on_what_was_known(
    question: str, steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask = QUESTIONS.get(question, hard_sizes)
    if question == "resize":
        monkeypatch.setattr("synth.resizing._seconds_to_prove", lambda graph: 0.0)
    monkeypatch.setattr(time, "monotonic", lambda: 0.0)
    forget()
    new = ask(steps)
    assert ask(steps) == new, "what is remembered takes as many steps as when it was made"
    slow = itertools.count()
    monkeypatch.setattr(time, "monotonic", lambda: float(next(slow)))
    assert ask(steps) == new, "a slow machine takes as many steps as a fast one"


@pytest.mark.parametrize("method", METHODS)
def test_too_few_steps_are_said(method: str) -> None:
    result = synthesize(asked(method in SEVERAL_ENDS), method, rng=np.random.default_rng(0), steps=0)
    assert isinstance(result, GaveUp) and "the limit of 0 steps was reached" in str(result)


@pytest.mark.parametrize("method", METHODS)
def test_enough_steps_change_nothing(method: str) -> None:
    problem = asked(method in SEVERAL_ENDS)
    limited, free = (synthesize(problem, method, rng=np.random.default_rng(2), steps=steps) for steps in (10**7, None))
    assert isinstance(free, Found) and said(limited) == said(free)


def test_parts_count_for_the_whole() -> None:
    clock = Clock.of(steps=10)
    part = clock.part(steps=3)
    part.check(3)
    with pytest.raises(TimeIsUp):
        part.check()
    assert part.is_up and not clock.is_up and clock.taken == 4
    assert not clock.take(7) and "limit of 10 steps" in clock.reason and clock.part().is_up


def test_what_is_remembered_takes_its_steps_again() -> None:
    table: dict[str, tuple[int, int]] = {}

    def made(clock: Clock) -> int:
        return clock.remembered(
            table, "outer", lambda: clock.remembered(table, "inner", lambda: clock.take(5) and 1) + clock.take(2)
        )

    first, second = Clock.of(), Clock.of()
    assert made(first) == made(second) and first.taken == second.taken == 7
    table.pop("outer")
    third = Clock.of()
    made(third)
    assert third.taken == 7
    with pytest.raises(TimeIsUp):
        made(Clock.of(steps=6))
    assert not ENDLESS.is_up
