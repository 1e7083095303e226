"""Laws of moves and strategies: valid graphs of the same ends, new ones, the same for the same generator."""

from __future__ import annotations

from collections.abc import Iterator

import jax
import numpy as np
import pytest

from alphanas.config import Config
from alphanas.errors import UserError
from alphanas.models import zoo
from alphanas.search import moves
from alphanas.search.archive import Archive, Member, Origin
from alphanas.search.change import SHARES
from alphanas.search.evolution import STARTS, Evolution
from alphanas.search.limited import sized_within
from alphanas.search.moves import MOVES, Options
from alphanas.search.paid import Paid
from alphanas.search.proposal import Failure, New
from alphanas.search.regions import Attempt
from alphanas.search.strategies import STRATEGIES, build, options_of
from alphanas.search.widths import resized, scaled, width_groups
from synth import Builder, Graph, Region, ShapeMismatch, macs
from synth.canonical import canonical
from synth.ops import Add, BatchNorm, Concatenate, Conv, Dense, DepthwiseConv, GlobalAvgPool, MaxPool, Relu

OPTIONS = Options(max_length=4, time_limit=10.0, branches=0.0)


def residual() -> Graph:
    build = Builder((8, 8, 1))
    x = build(Relu(), build(Conv(features=8), build.input, name="stem"), name="act")
    y = build(BatchNorm(), build(Conv(features=12), x, name="inner"), name="norm")
    y = build(Conv(features=8), build(Relu(), y, name="act2"), name="outer")
    x = build(Add(), x, y, name="add")
    return build.graph(build(Dense(features=10), build(GlobalAvgPool(), x, name="pool"), name="head"))


def archive(graph: Graph) -> Archive:
    return Archive(("error", "params"), (Member(0, graph, (0.1, float(graph.params))),))


def works(graph: Graph, like: Graph) -> None:
    """The graph has the ends of another, and computes finite numbers of the right shape, in inference and training."""
    assert graph.inputs == like.inputs
    assert [graph.values[name] for name in graph.outputs] == [like.values[name] for name in like.outputs]
    assert Graph.from_json(graph.to_json()).hash == graph.hash


@pytest.mark.parametrize("kind", sorted(MOVES))
def test_moves_keep_the_ends_and_say_what_they_changed(kind: str) -> None:
    graph, made = zoo.build("resnet8", input_shape=(8, 8, 1), num_classes=10) if kind == "pool" else residual(), 0
    for seed in range(8):
        attempt = MOVES[kind](graph, np.random.default_rng(seed), OPTIONS)
        if isinstance(attempt.answer, Failure):
            continue
        made += 1
        works(attempt.answer.graph, graph)
        assert attempt.region and set(attempt.region) <= set(graph.by_name)
    assert made >= 4


def test_what_a_region_becomes_keeps_its_budget_and_can_be_run() -> None:
    graph = residual()
    for seed in range(5):
        attempt = MOVES["region"](graph, np.random.default_rng(seed), OPTIONS)
        if not isinstance(attempt.answer, New):
            continue
        child = attempt.answer.graph
        assert child.params <= graph.params + 1
        out = child.apply(child.init(jax.random.key(0)), np.ones((2, 8, 8, 1), np.float32))
        assert out.shape == (2, 10) and np.isfinite(out).all()
        return
    pytest.fail("no seed gave a program")


def test_dropping_takes_parameters_out() -> None:
    graph = residual()
    for seed in range(10):
        attempt = MOVES["drop"](graph, np.random.default_rng(seed), OPTIONS)
        assert isinstance(attempt.answer, New)
        assert attempt.answer.graph.params < graph.params


def test_what_is_left_of_a_merge_never_reads_one_value_twice() -> None:
    graph = zoo.build("resnet8", input_shape=(8, 8, 1), num_classes=10)
    removals = moves._removals(graph, 20)
    assert removals and all(len(set(node.inputs)) == len(node.inputs) for _, left in removals for node in left.nodes)
    # The first block, whose ends are of one type, can still be taken out whole.
    assert any("stage1.block1.conv2" not in left.by_name for _, left in removals)


def test_sums_tie_widths_and_ends_fix_them() -> None:
    groups = width_groups(residual())
    assert {(group.nodes, group.width) for group in groups} == {(("stem", "outer"), 8), (("inner",), 12)}


@pytest.mark.parametrize("name", ["resnet8", "mobilenet_nano", "vit_nano", "mlp", "cifar_cnn"])
def test_groups_are_those_that_change_together(name: str) -> None:
    """Oracle: every group fits at twice its width, and no part of a group of several nodes fits alone."""
    graph = zoo.build(name, input_shape=(16, 16, 3), num_classes=10)
    for group in width_groups(graph):
        works(resized(graph, {group: 2 * group.width}), graph)
        for node in group.nodes[: 1 if len(group.nodes) > 1 else 0]:
            part = type(group)((node,), group.width)
            with pytest.raises(ShapeMismatch):
                resized(graph, {part: 3 * group.width})


def test_widths_follow_through_concatenation_and_depthwise_convolution() -> None:
    build = Builder((8, 8, 3))
    a = build(DepthwiseConv(), build(Conv(features=8), build.input, name="a"), name="depthwise")
    b = build(Conv(features=4), build.input, name="b")
    x = build(Concatenate(), a, b, name="join")
    graph = build.graph(build(Dense(features=10), build(GlobalAvgPool(), x, name="pool"), name="head"))
    half = scaled(graph, 0.5)
    assert half is not None and half.values["join"].channels == 6 and half.values["depthwise"].channels == 4


@pytest.mark.parametrize("factor", [0.25, 0.4, 0.5, 0.75, 1.5])
def test_scaling_scales(factor: float) -> None:
    graph = zoo.build("resnet8", input_shape=(8, 8, 1), num_classes=10)
    found = scaled(graph, factor)
    assert found is not None
    works(found, graph)
    assert found.params / graph.params == pytest.approx(factor**2, rel=0.5)
    assert scaled(graph, 1.0) is None


@pytest.mark.parametrize("name", sorted(STRATEGIES))
def test_strategies_propose_new_graphs_and_repeat_themselves(name: str) -> None:
    strategy = build(
        Config.from_mapping({"search": {"strategy": name}, "synthesis": {"max_length": 4, "time_limit": "10s", "branches": 0.0}})
    )
    found, rng = archive(residual()), np.random.default_rng(7)
    for number in range(1, 7):
        state = rng.bit_generator.state
        proposal = strategy.propose(found, rng)
        again = np.random.default_rng()
        again.bit_generator.state = state
        repeated = strategy.propose(found, again)
        assert (proposal.kind, proposal.region, proposal.changes) == (repeated.kind, repeated.region, repeated.changes)
        assert proposal.answer == repeated.answer
        if proposal.graph is None:
            continue
        works(proposal.graph, residual())
        assert found.repeats(proposal.graph) is None
        assert canonical(proposal.graph) == proposal.graph
        point = (0.1, float(proposal.graph.params))
        member = Member(number, proposal.graph, point, proposal.parent, Origin.from_json(proposal.to_json()))
        found = Archive(found.objectives, (*found.members, member))
    assert len(found.members) > (1 if name == "depth_scaling" else 3)


def test_an_unknown_strategy_is_named() -> None:
    with pytest.raises(UserError, match="evolutoin"):
        build(Config.from_mapping({"search": {"strategy": "evolutoin"}}))


def test_evolution_looks_at_what_is_nearly_as_good_as_the_seed() -> None:
    small = Member(1, residual(), (0.9, 1.0))
    found = Archive(("error", "params"), (*archive(residual()).members, small))
    strategy = Evolution(Options(), focus=1.0)
    assert {strategy.propose(found, np.random.default_rng(seed)).parent for seed in range(4)} == {0}


def test_evolution_makes_the_moves_that_paid() -> None:
    seed = archive(residual()).seed
    children = tuple(Member(index, seed.graph, (0.1, 10.0), 0, Origin("width")) for index in range(1, 9))
    losers = tuple(Member(index, seed.graph, (0.9, 10.0), 0, Origin("region")) for index in range(9, 17))
    paid = Paid.of(Archive(("error", "params"), (seed, *children, *losers)), 0.01)
    shares = Evolution(Options())._shares(paid)
    assert shares["width"] > 4 * shares["region"] > 0


def test_where_error_is_the_only_objective_those_that_err_least_have_children_and_moves_pay_by_it() -> None:
    graph = residual()
    seed = Member(0, graph, (0.1,), excess=4.0)
    first = tuple(Member(index, graph, (0.3 + 0.01 * index,), 0, Origin("leap")) for index in range(1, 11))
    better = tuple(Member(index, graph, (0.25,), 1, Origin("width")) for index in range(11, 19))
    worse = tuple(Member(index, graph, (0.4,), 1, Origin("region")) for index in range(19, 27))
    found = Archive(("error",), (seed, *first, *better, *worse), noise=0.01)
    parents = [Evolution(Options()).propose(found, np.random.default_rng(seed)).parent for seed in range(20)]
    assert sum(11 <= parent < 19 for parent in parents if parent is not None) >= 14
    shares = Evolution(Options())._shares(Paid.of(found, 0.02))
    per = {kind: shares[kind] / SHARES[kind] for kind in ("width", "leap", "drop", "region")}
    assert per["leap"] == pytest.approx(per["drop"])
    assert per["width"] > 1.3 * per["leap"] and per["leap"] > 2 * per["region"] > 0


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["evolution", "random_programs", "primer"])
def test_what_a_move_makes_is_sized_to_keep_the_limits(strategy: str) -> None:
    graph = zoo.build("resnet8", input_shape=(8, 8, 1), num_classes=10)
    limits = {"params": "at most 20%", "macs": "at most 60%"}
    config = Config.from_mapping(
        {"search": {"strategy": strategy}, "synthesis": {"params_ratio": [0.5, 2.0]}, "constraints": limits}
    )
    here, made = archive(graph), list[Graph]()
    for seed in range(12):
        proposal = build(config).propose(here, np.random.default_rng(seed))
        if isinstance(proposal.answer, New):
            made.append(proposal.answer.graph)
            works(made[-1], graph)
    assert len(made) >= 4
    assert all(one.params <= 0.2 * graph.params and macs(one) <= 0.6 * macs(graph) for one in made)


def test_what_keeps_the_limits_or_cannot_be_sized_stays_as_it_is() -> None:
    graph, rng = residual(), np.random.default_rng(0)
    for params in ("at most 100%", "at most 1"):
        options = options_of(Config.from_mapping({"constraints": {"params": params}}))
        assert sized_within(graph, rng, options, graph) == (graph, ())


def test_what_leaves_room_is_widened_where_costing_less_gains_nothing() -> None:
    graph, rng = residual(), np.random.default_rng(0)
    limits = {"params": "at most 400%", "macs": "at most 500%"}
    for objectives, wider in ((["error"], True), (["error", "params"], False)):
        options = options_of(Config.from_mapping({"constraints": limits, "search": {"objectives": objectives}}))
        for _ in range(6):
            child, changes = sized_within(graph, rng, options, graph)
            works(child, graph)
            assert graph.params <= child.params <= 4 * graph.params and macs(child) <= 5 * macs(graph)
            assert bool(changes) == (child != graph)
            assert child == graph or wider
        assert (child != graph) == wider


def test_a_network_is_widened_early_or_late_so_that_neither_limit_is_left_over() -> None:
    graph = zoo.build("resnet8", input_shape=(16, 16, 3), num_classes=10)
    asked = {"search": {"objectives": ["error"]}}
    for params, work in ((1.5, 3.0), (2.0, 1.5)):
        limits = {"params": f"at most {100 * params:.0f}%", "macs": f"at most {100 * work:.0f}%"}
        options = options_of(Config.from_mapping({**asked, "constraints": limits}))
        shares = []
        for seed in range(8):
            child, _ = sized_within(graph, np.random.default_rng(seed), options, graph)
            works(child, graph)
            shares.append((child.params / graph.params / params, macs(child) / macs(graph) / work))
        assert np.max(shares) <= 1
        assert (np.median(shares, axis=0) > 0.6).all()


def made_by(move: str, graph: Graph) -> Iterator[tuple[Attempt, Graph]]:
    """What a move makes of a graph, with eight seeds."""
    for seed in range(8):
        attempt = MOVES[move](graph, np.random.default_rng(seed), OPTIONS)
        assert isinstance(attempt.answer, New)
        yield attempt, attempt.answer.graph


def test_pooling_in_place_of_strides_keeps_every_shape() -> None:
    graph = zoo.build("resnet8", input_shape=(9, 9, 3), num_classes=10)
    pools = set()
    for attempt, child in made_by("pool", graph):
        assert child.params == graph.params and macs(child) > macs(graph)
        kept = {node.name for node in graph.nodes} - {name for name in attempt.region}
        assert all(child.values[name] == graph.values[name] for name in kept)
        striding = [sum(node.op.attributes().get("stride", 1) > 1 for node in each.nodes) for each in (graph, child)]
        pools.add(sum(isinstance(node.op, MaxPool) for node in child.nodes))
        assert striding[0] == striding[1]
    assert len(pools) > 1 and 0 not in pools


def test_a_shallower_network_lacks_several_pieces() -> None:
    graph = zoo.build("resnet8", input_shape=(8, 8, 3), num_classes=10)
    depths = set()
    for _, child in made_by("shallower", graph):
        works(child, graph)
        assert child.params < graph.params
        depths.add(sum(isinstance(node.op, Conv) for node in child.nodes))
    assert len(depths) > 1


def test_scaling_as_a_whole_changes_depth_and_places() -> None:
    graph = zoo.build("resnet8", input_shape=(16, 16, 3), num_classes=10)
    seen = set()
    for attempt, child in made_by("compound", graph):
        works(child, graph)
        depth = sum(isinstance(node.op, Conv) for node in child.nodes) < sum(isinstance(node.op, Conv) for node in graph.nodes)
        pools = any(isinstance(node.op, MaxPool) for node in child.nodes)
        assert depth
        assert pools == ("striding" in {change.property for change in attempt.changes})
        seen.add(pools)
    assert seen == {True, False}


def test_a_search_with_filled_limits_begins_with_the_seed_scaled_as_a_whole() -> None:
    graph = zoo.build("resnet8", input_shape=(16, 16, 3), num_classes=10)
    asked = {"search": {"objectives": ["error"]}, "constraints": {"params": "at most 50%", "macs": "at most 60%"}}
    filling = Evolution(options_of(Config.from_mapping(asked)))

    def kinds(strategy: Evolution, count: int) -> set[tuple[int, str]]:
        members = tuple(Member(number, graph, (0.1 - 0.001 * number,)) for number in range(count))
        archive = Archive(("error",), members)
        made = (strategy.propose(archive, np.random.default_rng(seed)) for seed in range(6))
        return {(proposal.parent, proposal.kind) for proposal in made}

    assert kinds(filling, 1) == kinds(filling, STARTS) == {(0, "compound")}
    assert len(kinds(filling, STARTS + 1)) > 1
    assert len(kinds(Evolution(Options(max_length=4, branches=0.0)), 1)) > 1


def test_replacements_with_branches_take_regions_of_several_ends() -> None:
    graph, options = residual(), Options(max_length=3, time_limit=20.0, branches=1.0)
    made, several = 0, 0
    for seed in range(3):
        attempt = MOVES["region"](graph, np.random.default_rng(seed), options)
        assert attempt.method == "branches"
        region = Region(graph, frozenset(attempt.region))
        several += len(region.inputs) + len(region.outputs) > 2
        if isinstance(attempt.answer, New):
            made += 1
            works(attempt.answer.graph, graph)
            assert attempt.answer.graph.params <= graph.params
    assert made >= 1 and several >= 1
