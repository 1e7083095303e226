"""Flows on real worker processes: all results come back to their flow, failures too, and time running out abandons the rest."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from alphanas.driver.flows import Flow, Task, run_flows
from alphanas.execution import Completed, Failed, LocalPool, Result

HERE = "tests.alphanas.driver.test_flows"


def double(payload: dict[str, int]) -> int:
    return 2 * payload["x"]


def broken(payload: dict[str, int]) -> int:
    raise RuntimeError(f"cannot {payload['x']}")


@pytest.fixture(scope="module")
def pool() -> Iterator[LocalPool]:
    with LocalPool(workers=2) as pool:
        yield pool


def quiet(running: tuple[str, ...]) -> None:
    assert len(running) <= 4


def twice(x: int, seen: dict[int, list[Result]]) -> Flow:
    first = yield Task(f"{HERE}:double", {"x": x}, 30.0, f"double {x}")
    assert isinstance(first, Completed)
    second = yield Task(f"{HERE}:{'broken' if x % 2 else 'double'}", {"x": first.value}, 30.0, f"again {x}")
    seen[x] = [first, second]


def test_every_flow_gets_its_own_results(pool: LocalPool) -> None:
    seen: dict[int, list[Result]] = {}
    assert run_flows(pool, (twice(x, seen) for x in range(6)), out_of_time=lambda: False, on_change=quiet)
    for x, (first, second) in seen.items():
        assert isinstance(first, Completed) and first.value == 2 * x
        if x % 2:
            assert isinstance(second, Failed) and second.cause == "error" and f"cannot {2 * x}" in second.message
            continue
        assert isinstance(second, Completed) and second.value == 4 * x
    assert sorted(seen) == list(range(6))


def test_few_flows_are_begun_before_a_worker_is_free_for_them(pool: LocalPool) -> None:
    finished: dict[int, list[Result]] = {}
    begun_before: list[int] = []

    def flows() -> Iterator[Flow]:
        for x in range(6):
            begun_before.append(x - len(finished))
            yield twice(x, finished)

    run_flows(pool, flows(), out_of_time=lambda: False, on_change=quiet)
    assert max(begun_before) < 2 * pool.workers


def test_when_time_is_out_nothing_new_begins(pool: LocalPool) -> None:
    seen: dict[int, list[Result]] = {}
    assert not run_flows(pool, (twice(x, seen) for x in range(6)), out_of_time=lambda: len(seen) >= 2, on_change=quiet)
    assert 2 <= len(seen) < 6


def test_a_flow_without_tasks_is_through_at_once(pool: LocalPool) -> None:
    def nothing() -> Flow:
        yield from ()

    assert run_flows(pool, iter([nothing(), nothing()]), out_of_time=lambda: False, on_change=quiet)
