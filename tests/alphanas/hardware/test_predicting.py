"""A prediction is the sum of its kernels' records, and where trials are spent is where they may save most. No TVM here."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from collections import Counter
from typing import Any

import pytest

from alphanas.hardware.identity import identify
from alphanas.hardware.outline import flat, outline
from alphanas.hardware.predicting import Pace, Predictor, Run, complete, more, seconds_of
from alphanas.hardware.program import Storage
from alphanas.hardware.records import FEW_BYTES, TEMPLATE, Device, Record, Records
from alphanas.hardware.spending import Need, shares
from alphanas.models import zoo
from synth.graph import Graph

HERE = Device("znver4", "a CPU x2", 16, 24, 2, "0.27.0", "c0de")
OVERHEAD = {"call": 5e-6, "kernel": 1e-6}


Caches = tuple[tuple[int, float], ...]
NO_CACHES: Caches = ((FEW_BYTES, 0.0), (1 << 26, 0.0))


def keys(graph: Graph, batch: int) -> Counter[str]:
    """The kernels of a graph whose results lie in memory as they are."""
    plan = outline(graph, batch)
    producers = {step.output: step for step in plan.flat.steps}
    types = {kernel.output: plan.flat.types[kernel.output] for kernel in plan.kernels}
    storages = {slot: Storage(kind.shape, kind.shape, kind.dtype) for slot, kind in types.items()}
    return Counter(identify(plan, producers, storages, kernel, HERE.lanes).key for kernel in plan.kernels)


PACE, EXCHANGE = 5e-5, 1.3e-5
USUAL = Pace(PACE, EXCHANGE)
NO_NEIGHBOURS = (0.0,) * 4
FREE = {"call": 0.0, "kernel": 0.0}


def fill(store: Records, graph: Graph, batch: int, seconds: dict[str, float], caches: Caches = NO_CACHES, **more: Any) -> None:
    plan = outline(graph, batch)
    producers = {step.output: step for step in plan.flat.steps}
    storages: dict[int, Storage] = {}
    for kernel in plan.kernels:
        key = identify(plan, producers, storages, kernel, HERE.lanes).key
        kind = plan.flat.types[kernel.output]
        storages[kernel.output] = Storage(kind.shape, kind.shape, kind.dtype)
        if key in seconds:
            facts = {"caches": caches, "pace": PACE, "handed": NO_NEIGHBOURS, "exchange": EXCHANGE, **more}
            store.add(HERE, Record(key, TEMPLATE, "map", 1, storages[kernel.output], {}, seconds[key], **facts))


@pytest.mark.parametrize("name", ["resnet8", "vit_nano"])
@pytest.mark.parametrize("batch", [1, 3])
def test_a_prediction_is_the_sum_of_records_and_overhead(name: str, batch: int) -> None:
    graph = zoo.build(name, input_shape=(16, 16, 3), num_classes=10)
    counts = keys(graph, batch)
    seconds = {key: 1e-6 * (1 + number) for number, key in enumerate(counts)}
    with Records.open(None) as store:
        store.set_overhead(HERE, OVERHEAD)
        fill(store, graph, batch, seconds)
        found = Predictor(store, HERE, batch)(graph)
    own = sum(seconds[key] * count for key, count in counts.items())
    assert found.seconds == pytest.approx(own + OVERHEAD["call"] + counts.total() * OVERHEAD["kernel"])
    assert (found.known, found.unknown, found.calls) == (len(counts), 0, counts.total())


def test_a_kernel_takes_longer_the_more_data_the_network_goes_through() -> None:
    small, large = (zoo.build("mlp", input_shape=(size, size, 3), num_classes=10) for size in (8, 128))
    predicted = []
    for graph in (small, large):
        with Records.open(None) as store:
            store.set_overhead(HERE, OVERHEAD)
            fill(store, graph, 1, dict.fromkeys(keys(graph, 1), 1e-6), ((FEW_BYTES, 0.0), (1 << 22, 1e-6), (1 << 26, 9e-6)))
            predicted.append(Predictor(store, HERE, 1)(graph))
    assert predicted[0].calls == predicted[1].calls
    assert predicted[0].seconds < predicted[1].seconds  # type: ignore[operator]


@pytest.mark.parametrize("slower", [0.5, 1.0, 3.0])
def test_records_of_a_slower_minute_predict_the_same(slower: float) -> None:
    with Records.open(None) as store:
        store.set_overhead(HERE, FREE)
        graph = zoo.build("resnet8", input_shape=(16, 16, 3), num_classes=10)
        first, *others = keys(graph, 1)
        fill(store, graph, 1, dict.fromkeys(others, 1e-6))
        fill(store, graph, 1, {first: slower * 1e-6}, ((FEW_BYTES, slower * 1e-6),), pace=slower * PACE)
        predictor = Predictor(store, HERE, 1)
        found, halved = predictor(graph), predictor(graph, pace=Pace(PACE / 2, EXCHANGE))
    assert found.seconds == pytest.approx((found.calls + keys(graph, 1)[first]) * 1e-6)
    assert halved.seconds == pytest.approx(found.seconds / 2)  # type: ignore[operator]
    assert predictor.usual == USUAL


def made(seconds: float, *, shares: bool = False, **more: Any) -> Record:
    """A record of a kernel that leaves one number."""
    facts = {"caches": NO_CACHES, "pace": PACE, "handed": NO_NEIGHBOURS, "exchange": EXCHANGE, **more}
    return Record(f"k{seconds}", TEMPLATE, "map", 1, Storage((1,), (1,), "float32"), {"parallel": shares}, seconds, **facts)


@pytest.mark.parametrize(("each", "alone", "wanted"), [(1e-6, 0.5e-6, 0.5e-6), (1e-6, 2e-6, 1e-6), (1e-3, 0.5e-3, 1e-3)])
def test_a_small_network_takes_one_thread_where_that_is_faster_as_it_is_built(each: float, alone: float, wanted: float) -> None:
    runs = [Run(made(each, shares=True, alone=alone)) for _ in range(4)]
    assert seconds_of(runs, 1, FREE, 2, USUAL) == pytest.approx(4 * wanted)


HANDED = (1e-6, 2e-6, 4e-6, 8e-6)


@pytest.mark.parametrize("shares", [False, True])
@pytest.mark.parametrize(
    ("writers", "readers", "wanted"),
    [
        ((False,), (), {False: HANDED[0], True: HANDED[0]}),
        ((True,), (), {False: HANDED[2], True: HANDED[2]}),
        ((True, False), (), {False: (HANDED[0] + HANDED[2]) / 2, True: (HANDED[0] + HANDED[2]) / 2}),
        ((True,), (True,), {False: HANDED[3], True: HANDED[2]}),
        ((True,), (False,), {False: HANDED[2], True: HANDED[3]}),
        ((False,), (False, True), {False: HANDED[1], True: HANDED[1]}),
        ((), (), {False: HANDED[0], True: HANDED[2]}),
    ],
)
def test_a_kernel_pays_for_what_other_threads_wrote_before_and_read_after_it(
    shares: bool, writers: tuple[bool, ...], readers: tuple[bool, ...], wanted: dict[bool, float]
) -> None:
    own = made(1e-2, shares=shares, handed=HANDED)
    before = [Run(made(1e-2, shares=each)) for each in writers]
    after = [Run(made(1e-2, shares=each), (len(before),)) for each in readers]
    runs = [*before, Run(own, tuple(range(len(before)))), *after]
    assert seconds_of(runs, 1, FREE, 2, USUAL) == pytest.approx(len(runs) * 1e-2 + wanted[shares])


@pytest.mark.parametrize("farther", [0.5, 1.0, 3.0])
def test_records_of_a_minute_in_which_threads_were_farther_apart_predict_the_same(farther: float) -> None:
    compute, swapped, fetched = 1e-2, 3e-3, 2e-3
    record = made(compute + farther * swapped, shares=True, alone=2 * compute, handed=(farther * fetched,) * 4)
    runs = [Run(dataclasses.replace(record, exchange=farther * EXCHANGE))]
    assert seconds_of(runs, 1, FREE, 2, USUAL) == pytest.approx(compute + swapped + fetched)
    assert seconds_of(runs, 1, FREE, 2, Pace(PACE, 2 * EXCHANGE)) == pytest.approx(compute + 2 * (swapped + fetched))
    assert seconds_of([Run(made(compute))], 1, FREE, 2, Pace(PACE, 2 * EXCHANGE)) == pytest.approx(compute)


def test_with_one_thread_a_kernel_is_handed_what_that_thread_wrote() -> None:
    runs = [Run(made(1e-2, handed=(1e-3,), exchange=0.0)), Run(made(1e-2, handed=(2e-3,), exchange=0.0), (0,))]
    assert seconds_of(runs, 1, FREE, 1, Pace(PACE, 0.0)) == pytest.approx(2.3e-2)


def test_cold_weights_and_neighbours_cost_together() -> None:
    record = made(1e-2, caches=((FEW_BYTES, 0.0), (1 << 22, 1e-3)), handed=(2e-3,) * 4)
    assert seconds_of([Run(record)], 1 << 22, FREE, 2, USUAL) == pytest.approx(1.3e-2)


def with_caches(caches: Caches) -> Record:
    return made(1e-6, caches=caches)


@pytest.mark.parametrize(
    ("facts", "wanted"), [({}, True), ({"pace": None}, False), ({"exchange": None}, False), ({"handed": ()}, False)]
)
def test_a_record_that_does_not_tell_of_the_machine_beside_it_is_not_complete(facts: dict[str, Any], wanted: bool) -> None:
    assert complete(made(1e-6, **facts)) is wanted


@pytest.mark.parametrize(("size", "wanted"), [(1, 1e-6), (1 << 18, 1e-6), (1 << 20, 2e-6), (1 << 22, 3e-6), (1 << 30, 7e-6)])
def test_between_its_measurements_a_record_is_a_line(size: int, wanted: float) -> None:
    assert more(with_caches(((FEW_BYTES, 1e-6), (1 << 22, 3e-6), (1 << 26, 7e-6))), size) == pytest.approx(wanted)


@pytest.mark.parametrize(("caches", "wanted"), [((), False), (((1 << 22, 3e-6),), False), (NO_CACHES, True)])
def test_a_record_without_what_cold_weights_cost_is_not_complete(caches: Caches, wanted: bool) -> None:
    assert complete(with_caches(caches)) is wanted


def test_steps_of_equal_ops_are_each_named_for_their_own_node() -> None:
    graph = zoo.build("resnet8", input_shape=(16, 16, 3), num_classes=10)
    renamed = Graph.from_json(graph.to_json().replace('"stage', '"part'))
    assert {node.op for node in renamed.nodes} == {node.op for node in graph.nodes}
    for each in (graph, renamed):
        found = {step.origin for step in flat(each, 1).steps}
        assert found == {node.name for node in each.nodes}


def test_a_prediction_needs_no_tvm() -> None:
    code = "import sys, alphanas.driver.predict, alphanas.hardware.predicting; assert 'tvm' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_what_is_not_on_record_is_counted_and_not_guessed_until_it_is() -> None:
    graph = zoo.build("resnet8", input_shape=(16, 16, 3), num_classes=10)
    seconds = dict.fromkeys(keys(graph, 1), 1e-6)
    missing = seconds.popitem()[0]
    with Records.open(None) as store:
        fill(store, graph, 1, seconds)
        predictor = Predictor(store, HERE, 1)
        assert predictor(graph).seconds is None
        assert (predictor(graph).known, predictor(graph).unknown) == (len(seconds), 1)
        fill(store, graph, 1, {missing: 1e-6})
        assert predictor(graph).seconds is None  # the overhead is not known
        store.set_overhead(HERE, OVERHEAD)
        assert predictor(graph).seconds is not None


def test_trials_go_where_most_time_may_be_saved_and_none_is_left_over() -> None:
    slow, fast, often = Need("slow", 1, 8e-3, 1000), Need("fast", 1, 1e-3, 1000), Need("often", 20, 2e-3, 1000)
    given = shares([slow, fast, often], 80)
    assert sum(given.values()) == 80
    assert given["often"] > given["slow"] > given.get("fast", 0)
    assert shares([slow], 5) == {"slow": 5}
    assert shares([], 80) == shares([slow, fast], 0) == {}


def test_trials_that_were_spent_make_way_for_others() -> None:
    fresh, tried = Need("fresh", 1, 2e-3, 1000), Need("tried", 1, 2e-3, 1000, 64)
    given = shares([fresh, tried, Need("peak", 1, 1e-3, 1000)], 64)
    assert given["fresh"] > given.get("tried", 0)
