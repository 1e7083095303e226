"""Laws of training: it learns, it repeats itself, it ends in outcomes; weights pass from parent to child where both agree."""

from __future__ import annotations

import dataclasses
import time
from typing import Any

import jax
import numpy as np
import optax
import pytest

from alphanas.scoring import inheritance, training
from alphanas.scoring.augment import AUGMENTATIONS, shifted
from alphanas.scoring.packing import Packing
from alphanas.scoring.recipe import Recipe
from synth import Builder, Graph, Node
from synth.ops import BatchNorm, Conv, Dense, Dropout, GlobalAvgPool, Relu

RECIPE = Recipe(epochs=3, batch_size=16, learning_rate=0.01)


def network(features: int = 4, classes: int = 3) -> Graph:
    build = Builder((6, 6, 1))
    x = build(Conv(features=features), build.input, name="conv")
    x = build(Relu(), build(BatchNorm(), x, name="norm"), name="act")
    x = build(Dropout(rate=0.1), build(GlobalAvgPool(), x, name="pool"), name="drop")
    return build.graph(build(Dense(features=classes), x, name="head"))


def stripes(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Pictures of horizontal, vertical and diagonal stripes, with noise: three classes."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, count).astype(np.int32)
    rows, columns = np.mgrid[0:6, 0:6]
    patterns = np.stack([rows % 2, columns % 2, (rows + columns) % 2]).astype(np.float32)
    return (patterns[labels] + 0.2 * rng.standard_normal((count, 6, 6)).astype(np.float32))[..., None], labels


def test_training_learns_what_can_be_learnt() -> None:
    graph, (pictures, labels) = network(), stripes(160)
    before = training.evaluate(graph, graph.init(jax.random.key(0)), *stripes(100, seed=1))
    run = training.train(graph, pictures, labels, dataclasses.replace(RECIPE, epochs=12), seed=0)
    after = training.evaluate(graph, run.variables, *stripes(100, seed=1))
    assert run.stopped == "finished" and run.epochs == 12
    assert after.accuracy > 0.95 > before.accuracy
    assert run.losses[-1] < run.losses[0]


def test_equal_seeds_give_equal_weights_and_others_do_not() -> None:
    graph, data = network(), stripes(64)
    first, again, other = (training.train(graph, *data, RECIPE, seed=seed).variables for seed in (3, 3, 4))
    pack = Packing.of(first["params"]).pack
    assert np.array_equal(pack(first["params"]), pack(again["params"]))
    assert not np.array_equal(pack(first["params"]), pack(other["params"]))


def test_a_step_is_the_step_that_optax_takes() -> None:
    """Oracle: optax's own adamw with a mask, on the nested weights, no clipping, constant rate."""
    graph, (pictures, labels) = network().pruned(), stripes(16)
    graph = without_chance(graph)
    recipe = Recipe(epochs=2, batch_size=16, schedule="constant", warmup=0.0, clip_norm=0.0, weight_decay=0.1, label_smoothing=0.1)
    run = training.train(graph, pictures, labels, recipe, seed=0)
    variables = graph.init(jax.random.key(0))
    mask = {node: {name: name == "kernel" for name in arrays} for node, arrays in variables["params"].items()}
    rule = optax.adamw(recipe.learning_rate, weight_decay=0.1, mask=mask)
    params, state = variables["params"], variables["state"]
    memory = rule.init(params)
    targets = 0.9 * np.eye(3)[labels] + 0.1 / 3

    def loss_of(params: Any, state: Any) -> Any:
        logits, new = graph.apply({"params": params, "state": state}, pictures, train=True, rng=jax.random.key(1))
        return optax.softmax_cross_entropy(logits, targets).mean(), new["state"]

    for _ in range(2):
        gradient, state = jax.grad(loss_of, has_aux=True)(params, state)
        updates, memory = rule.update(gradient, memory, params)
        params = optax.apply_updates(params, updates)
    for node, arrays in params.items():
        for name, array in arrays.items():
            np.testing.assert_allclose(run.variables["params"][node][name], array, atol=2e-4)
    for name, array in state["norm"].items():
        np.testing.assert_allclose(run.variables["state"]["norm"][name], array, atol=1e-4)


def without_chance(graph: Graph) -> Graph:
    kept = tuple(
        Node(node.name, node.op, ("pool",)) if node.name == "head" else node for node in graph.nodes if node.name != "drop"
    )
    return Graph(graph.inputs, kept, graph.outputs)


def test_divergence_is_an_outcome() -> None:
    pictures, labels = stripes(32)
    pictures[3] = np.nan
    run = training.train(network(), pictures, labels, RECIPE, seed=0)
    assert run.stopped == "diverged"
    assert run.epochs == 1 and np.isnan(run.losses[0])


@pytest.mark.filterwarnings("ignore:overflow")
def test_weights_that_left_the_numbers_have_diverged() -> None:
    """The loss of the only step is finite: it was taken before the step."""
    recipe = Recipe(epochs=1, batch_size=32, learning_rate=1e39, warmup=0.0, schedule="constant")
    run = training.train(network(), *stripes(32), recipe, seed=0)
    assert np.isfinite(run.losses[0]) and run.stopped == "diverged"


def test_a_deadline_stops_between_epochs() -> None:
    run = training.train(network(), *stripes(32), dataclasses.replace(RECIPE, epochs=50), seed=0, deadline=time.monotonic())
    assert run.stopped == "time_limit" and run.epochs == 1


@pytest.mark.parametrize("graph", [network(classes=2), Graph(network().inputs, network().nodes, ("act",))])
def test_what_is_no_classifier_of_the_data_is_refused(graph: Graph) -> None:
    with pytest.raises(ValueError, match=r"classifier|outputs"):
        training.train(graph, *stripes(32), RECIPE, seed=0)


def test_evaluation_equals_the_graph_in_inference_for_any_number_of_pictures() -> None:
    graph = network()
    variables = graph.init(jax.random.key(0))
    for count in (1, 255, 257):
        pictures, labels = stripes(count)
        logits = np.asarray(graph.apply(variables, pictures), np.float64)
        found = training.evaluate(graph, variables, pictures, labels)
        wanted = float(optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean())
        assert found.accuracy == pytest.approx((logits.argmax(-1) == labels).mean())
        assert found.loss == pytest.approx(wanted, abs=1e-5)


def test_a_child_inherits_what_is_the_same_and_nothing_else() -> None:
    parent = network()
    changed = tuple(Node("act", Dropout(rate=0.2), node.inputs) if node.name == "act" else node for node in parent.nodes)
    child = Graph(parent.inputs, (*changed[:-1], Node("other", changed[-1].op, ("drop",))), ("other",))
    trained = training.train(parent, *stripes(32), RECIPE, seed=0).variables
    fresh = child.init(jax.random.key(9))
    variables, taken = inheritance.inherited(child, fresh, parent, trained)
    assert taken == 2
    for collection, node in (("params", "conv"), ("params", "norm"), ("state", "norm")):
        for name, array in variables[collection][node].items():
            np.testing.assert_array_equal(array, trained[collection][node][name])
    np.testing.assert_array_equal(variables["params"]["other"]["kernel"], fresh["params"]["other"]["kernel"])


@pytest.mark.parametrize("width", [2, 6])
def test_channels_that_parent_and_child_share_are_inherited(width: int) -> None:
    parent, child = network(4), network(width)
    trained = training.train(parent, *stripes(32), RECIPE, seed=0).variables
    fresh = child.init(jax.random.key(9))
    variables, taken = inheritance.inherited(child, fresh, parent, trained)
    shared = min(width, 4)
    assert taken == 3
    kernel, head = variables["params"]["conv"]["kernel"], variables["params"]["head"]["kernel"]
    assert kernel.shape[-1] == width and head.shape == (width, 3)
    np.testing.assert_array_equal(kernel[..., :shared], trained["params"]["conv"]["kernel"][..., :shared])
    np.testing.assert_array_equal(kernel[..., shared:], fresh["params"]["conv"]["kernel"][..., shared:])
    np.testing.assert_array_equal(head[:shared], trained["params"]["head"]["kernel"][:shared])


@pytest.mark.parametrize("schedule", ["cosine", "constant"])
@pytest.mark.parametrize("steps", [1, 2, 10, 100])
def test_the_learning_rate_rises_to_its_peak_and_stays_within_it(schedule: str, steps: int) -> None:
    recipe = Recipe(schedule=schedule, learning_rate=0.5, warmup=0.2)
    rates = [recipe.rate(step, steps) for step in range(steps)]
    rise = max(1, round(0.2 * steps))
    assert rates[rise - 1] == pytest.approx(0.5) and max(rates) <= 0.5 + 1e-12 and min(rates) > 0
    assert rates[:rise] == sorted(rates[:rise]) and rates[rise:] == sorted(rates[rise:], reverse=True)
    assert schedule == "constant" or steps < 10 or rates[-1] < 0.05


def test_a_recipe_refuses_what_it_does_not_know() -> None:
    with pytest.raises(ValueError, match="batchsize"):
        Recipe.from_mapping({"batchsize": 3})
    with pytest.raises(ValueError, match="lion"):
        Recipe(optimizer="lion")
    assert Recipe.from_mapping({"epochs": 2, "short_epochs": 1, "inherit": True, "time_limit": 3.0}).epochs == 2


def test_shifts_move_half_of_the_pictures_by_whole_pixels() -> None:
    """Oracle: every shifted picture is one of the windows of the picture with a frame of background around it."""
    pictures = np.random.default_rng(0).random((400, 8, 7, 2), np.float32)
    moved = shifted(np.random.default_rng(1), pictures)
    frame = np.broadcast_to(pictures.min((0, 1, 2)), (10, 9, 2))
    for before, after in zip(pictures, moved, strict=True):
        padded = frame.copy()
        padded[1:-1, 1:-1] = before
        assert any(np.array_equal(after, padded[i : i + 8, j : j + 7]) for i in range(3) for j in range(3))
    still = np.mean([np.array_equal(before, after) for before, after in zip(pictures, moved, strict=True)])
    assert 0.45 < still < 0.65


@pytest.mark.parametrize("name", sorted(AUGMENTATIONS))
def test_augmentations_keep_shape_and_dtype_and_repeat_themselves(name: str) -> None:
    pictures = stripes(10)[0]
    results = [AUGMENTATIONS[name](np.random.default_rng(5), pictures) for _ in range(2)]
    assert results[0].shape == pictures.shape and results[0].dtype == pictures.dtype
    assert np.array_equal(*results)


def test_packing_is_undone_by_unpacking() -> None:
    nested = network().init(jax.random.key(0))["params"]
    packing = Packing.of(nested)
    unpacked = packing.unpack(packing.pack(nested))
    assert {node: set(arrays) for node, arrays in unpacked.items()} == {node: set(arrays) for node, arrays in nested.items()}
    for node, arrays in nested.items():
        for name, array in arrays.items():
            np.testing.assert_array_equal(unpacked[node][name], array)
    np.testing.assert_array_equal(jax.jit(packing.pack_traced)(nested), packing.pack(nested))
    assert Packing.of({}).unpack(np.zeros(0)) == {}
