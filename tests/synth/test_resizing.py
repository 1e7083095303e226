"""Sizing of whole networks against brute force; what comes out is built, counted and interpreted anew."""

from __future__ import annotations

import functools
import itertools
import math
from typing import Any

import jax
import numpy as np
import pytest

from alphanas.models import zoo
from synth import Budget, Builder, Found, Graph, Infeasible, Interval, ShapeMismatch, macs, verify
from synth.allocation import Best, Limit, Nothing, maximise
from synth.elimination import Factor, Network
from synth.memory import peak_bytes
from synth.ops import Add, BatchNorm, Concatenate, Conv, Dense, DepthwiseConv, Flatten, GlobalAvgPool, Multiply, Relu, Sigmoid
from synth.resizing import resize
from synth.sizing import capacity
from synth.stages import stages
from synth.ties import ties


def residual() -> Graph:
    build = Builder((8, 8, 3))
    x = build(Relu(), build(Conv(features=24), build.input, name="stem"), name="act")
    y = build(BatchNorm(), build(Conv(features=32), x, name="inner"), name="norm")
    y = build(Conv(features=24), build(Relu(), y, name="act2"), name="outer")
    x = build(Add(), x, y, name="add")
    return build.graph(build(Dense(features=10), build(GlobalAvgPool(), x, name="pool"), name="head"))


def branches() -> Graph:
    """A concatenation added to what a convolution makes, behind a gate, a depthwise and a grouped convolution, flattened."""
    build = Builder((4, 4, 3))
    a = build(DepthwiseConv(multiplier=2), build(Conv(features=8), build.input, name="a"), name="depthwise")
    b = build(Conv(features=8), build.input, name="b")
    x = build(Concatenate(), a, b, name="join")
    y = build(Conv(features=24, groups=4), x, name="grouped")
    mean = build(GlobalAvgPool(keep_axes=True), y, name="mean")
    gate = build(Sigmoid(), build(Conv(features=24, kernel=1), mean, name="to_gate"), name="gate")
    x = build(Add(), x, build(Multiply(), y, gate, name="scaled"), name="sum")
    return build.graph(build(Dense(features=5), build(Flatten(), x, name="flat"), name="head"))


GRAPHS = {"residual": residual, "branches": branches}


@functools.cache
def every(graph: Graph, multiple: int) -> list[Graph]:
    """Oracle: all ways to set all sizes but the head's to multiples up to the present ones, those that fit."""
    nodes = [node for node in graph.nodes if "features" in node.op.attributes() and node.name != "head"]
    found = []
    for sizes in itertools.product(*(range(multiple, node.op.attributes()["features"] + 1, multiple) for node in nodes)):
        try:
            found.append(with_features(graph, {node.name: size for node, size in zip(nodes, sizes, strict=True)}))
        except ShapeMismatch:
            continue
    return found


def with_features(graph: Graph, sizes: dict[str, int]) -> Graph:
    data = [
        type(node)(node.name, type(node.op)(**{**node.op.attributes(), "features": sizes[node.name]}), node.inputs)
        if node.name in sizes
        else node
        for node in graph.nodes
    ]
    return Graph(graph.inputs, tuple(data), graph.outputs)


def worth(graph: Graph, seed: Graph) -> float:
    """The kept capacity, from the ops' features."""
    sizes = [
        (node.op.attributes()["features"], seed.by_name[node.name].op.attributes()["features"])
        for node in graph.nodes
        if "features" in node.op.attributes() and node.name != "head"
    ]
    return sum(1 - (min(0, math.log(w / w0)) / math.log(w0)) ** 2 for w, w0 in sizes) / len(sizes)


@pytest.mark.parametrize(("name", "multiple"), [("residual", 8), ("branches", 4)])
@pytest.mark.parametrize("objective", ["capacity", "params", "macs"])
def test_the_best_is_that_of_brute_force(name: str, multiple: int, objective: str) -> None:
    graph = GRAPHS[name]()
    keep = 0.0 if objective == "capacity" else 0.8
    everything = [(each, worth(each, graph)) for each in every(graph, multiple)]
    for share, memory in ((0.3, 1.0), (0.6, 0.8), (1.0, 0.7)):
        budget = Budget(Interval(0, share * graph.params), Interval(0, 0.9 * macs(graph)), Interval(0, memory * peak_bytes(graph)))
        within = [each for each in everything if budget.distance(each[0].params, macs(each[0]), peak_bytes(each[0])) == 0]
        values = {"capacity": [w for _, w in within], "params": [-g.params for g, w in within if w >= keep],
                  "macs": [-macs(g) for g, w in within if w >= keep]}[objective]  # fmt: skip
        found = resize(graph, budget, multiple=multiple, objective=objective, keep=keep, time_limit=60)
        if not values:
            assert isinstance(found, Infeasible)
            continue
        assert isinstance(found, Found) and found.optimal and found.gap == 0
        value = {"capacity": worth(found.graph, graph), "params": -found.graph.params, "macs": -macs(found.graph)}[objective]
        assert value == pytest.approx(max(values))
        assert abs(value) == pytest.approx(found.value)


OPTIONS: list[dict[str, Any]] = [{}, {"keep_rank": 1.0}, {"free": ("widths", "depths", "groups")}]
QUICK = {("resnet8", 2), ("mobilenet_nano", 0), ("vit_nano", 1), ("cifar_cnn", 1)}


@pytest.mark.parametrize(
    ("name", "options"),
    [
        pytest.param(name, options, id=f"{name} {options}", marks=[] if (name, index) in QUICK else [pytest.mark.slow])
        for name in ("resnet8", "mobilenet_nano", "vit_nano", "mlp", "cifar_cnn")
        for index, options in enumerate(OPTIONS)
    ],
)
def test_networks_of_the_zoo_keep_what_was_asked(name: str, options: dict[str, Any]) -> None:
    graph = zoo.build(name, input_shape=(16, 16, 3), num_classes=10)
    budget = Budget(Interval(0, 0.6 * graph.params))
    found = resize(graph, budget, multiple=4, time_limit=90, tolerance=0.02, **options)
    assert isinstance(found, Found), found
    checked = verify(found.graph)
    assert found.graph.params == found.proofs[0].params <= 0.6 * graph.params
    assert checked.capacity.macs == macs(found.graph) == found.proofs[0].macs
    assert found.graph.inputs == graph.inputs
    assert [found.graph.values[o] for o in found.graph.outputs] == [graph.values[o] for o in graph.outputs]
    for node in found.graph.nodes:
        features = node.op.attributes().get("features")
        assert features is None or features % 4 == 0 or features == graph.by_name[node.name].op.attributes()["features"]
    if "keep_rank" in options:
        after = {stage.target: stage.rank for stage in stages(found.graph)}
        assert all(after[stage.target] >= stage.rank for stage in stages(graph))
    out = found.graph.apply(found.graph.init(jax.random.key(0)), np.ones((2, 16, 16, 3), np.float32))
    assert out.shape == (2, 10) and np.isfinite(out).all()


def test_a_block_that_a_rank_needs_is_not_left_out() -> None:
    """The way into a stage is narrower than the stage: its residual block adds to the rank of what goes in."""
    build = Builder((8, 8, 8))
    x = build(Relu(), build(Conv(features=8), build.input, name="into"), name="on")
    x = build(Relu(), build(Conv(features=24), build(Conv(features=16, stride=2), x, name="narrow"), name="wide"), name="act")
    y = build(Conv(features=24), build(Relu(), build(Conv(features=16), x, name="inner"), name="mid"), name="outer")
    x = build(Relu(), build(Add(), x, y, name="add"), name="after")
    graph = build.graph(build(Dense(features=10), build(GlobalAvgPool(), x, name="pool"), name="head"))
    ranks = [stage.rank for stage in stages(graph)]
    found = resize(graph, Budget(Interval(0, graph.params)), free=("widths", "depths"), keep_rank=1.0, objective="params")
    assert isinstance(found, Found)
    assert [stage.rank for stage in stages(found.graph)] >= ranks
    tight = resize(graph, Budget(Interval(0, 0.5 * graph.params)), free=("widths", "depths"), keep_rank=1.0)
    assert not isinstance(tight, Found)


def test_depth_is_left_out_where_capacity_allows_it() -> None:
    graph = zoo.build("resnet18", input_shape=(32, 32, 3), num_classes=10)
    found = resize(graph, free=("depths",), objective="macs", keep=0.7, time_limit=20)
    assert isinstance(found, Found) and found.optimal
    assert len(found.graph.nodes) < len(graph.nodes)
    assert found.value == macs(found.graph) == found.proofs[0].macs
    assert verify(found.graph).capacity.macs == macs(found.graph)


def test_a_table_of_latencies_is_the_only_choice_of_sizes_and_the_cheapest_wins() -> None:
    graph = residual()
    table = {}
    for each in every(graph, 8):
        for node in each.nodes:
            if isinstance(node.op, Conv) and node.op.features != 16:
                table[node.op, *each.input_values(node)] = 1.0 + 100.0 / node.op.features
    found = resize(graph, objective=table, multiple=8, time_limit=20)
    assert isinstance(found, Found) and found.optimal
    assert found.value == pytest.approx(3 + 100 / 24 + 100 / 32 + 100 / 24)
    free = resize(graph, objective=lambda op, *values: float(values[0].channels), multiple=8, time_limit=20)
    assert isinstance(free, Found) and free.graph.by_name["stem"].op.attributes()["features"] == 8


def test_what_cannot_be_says_what_excludes_it() -> None:
    graph = residual()
    none = resize(graph, Budget(Interval(0, 100), Interval(0, 10**9)), keep=0.5)
    assert isinstance(none, Infeasible)
    assert any("100 parameters" in line for line in none.core) and not any("MACs" in line for line in none.core)
    both = resize(graph, Budget(Interval(0, 0.3 * graph.params)), keep=0.99)
    assert isinstance(both, Infeasible)
    assert any("parameters" in line for line in both.core) and any("99%" in line for line in both.core)


@pytest.mark.parametrize(
    "options",
    [{"multiple": 0}, {"free": ("width",)}, {"objective": "cheap"}, {"smallest": 2.0}, {"keep": 1.5}, {"keep_rank": -1.0}],
    ids=str,
)
def test_what_makes_no_sense_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"got|known"):
        resize(residual(), **options)


def test_sums_gates_and_concatenations_tie_widths() -> None:
    found = ties(branches())
    names = {frozenset(name for name, _ in width.setters) for width in found.widths}
    assert {frozenset({"a"}), frozenset({"b"}), frozenset({"grouped", "to_gate"})} <= names
    assert len(found.sums) == 1


def test_capacity_is_one_as_it_is_and_zero_at_one_channel() -> None:
    assert capacity(np.array([2.0, 1.0, 0.5, 1 / 64]), 64).tolist() == pytest.approx([1, 1, 1 - (1 / 6) ** 2, 0])


@pytest.mark.parametrize("seed", range(120))
def test_allocation_is_optimal_on_random_tables(seed: int) -> None:
    rng = np.random.default_rng(seed)
    count = int(rng.integers(2, 7))
    sizes = tuple(int(size) for size in rng.integers(1, 6, count))
    factors = []
    for _ in range(int(rng.integers(2, 9))):
        scope = tuple(sorted(int(each) for each in rng.choice(count, int(rng.integers(1, min(3, count) + 1)), replace=False)))
        shape = [sizes[each] for each in scope]
        allowed = rng.random(shape) < 0.9 if rng.random() < 0.3 else None
        factors.append(Factor(scope, rng.integers(0, 50, (3, *shape)).astype(float), allowed))
    network = Network.of(sizes, factors, 3)
    totals = [found for each in itertools.product(*map(range, sizes)) if (found := network.totals(each)) is not None]
    limits = [Limit(1, high=float(np.quantile([each[1] for each in totals] or [10], 0.6 * rng.random())))]
    if rng.random() < 0.5:
        limits.append(Limit(2, float(rng.integers(0, 150)), float(rng.integers(150, 250))))
    values = [each[0] for each in totals if all(limit.low <= each[limit.quantity] <= limit.high for limit in limits)]
    found = maximise(network, np.array([1.0, 0.0, 0.0]), limits)
    if not values:
        assert found == Nothing(proven=True)
        return
    assert isinstance(found, Best)
    assert found.value == pytest.approx(max(values)) and found.bound == pytest.approx(found.value)
