"""Laws of learning from a teacher: the losses are the formulas, they vanish where nothing is left to learn, students follow."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import numpy as np
import pytest

from alphanas.models import zoo
from alphanas.scoring import training
from alphanas.scoring.distillation import Teacher, attention_loss, attention_map, look, shared_taps, soft_loss, tapped
from alphanas.scoring.recipe import Recipe
from synth import Builder, Graph
from synth.ops import BatchNorm, Conv, Dense, GlobalAvgPool, Relu

RNG = np.random.default_rng(0)


def network(features: int) -> Graph:
    build = Builder((6, 6, 1))
    x = build(Conv(features=features), build.input, name="conv")
    x = build(Relu(), build(BatchNorm(), x, name="norm"), name="act")
    x = build(Conv(features=features, stride=2), x, name="down")
    return build.graph(build(Dense(features=3), build(GlobalAvgPool(), x, name="pool"), name="head"))


def stripes(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, count).astype(np.int32)
    rows, columns = np.mgrid[0:6, 0:6]
    patterns = np.stack([rows % 2, columns % 2, (rows + columns) % 2]).astype(np.float32)
    return (patterns[labels] + 0.2 * rng.standard_normal((count, 6, 6)).astype(np.float32))[..., None], labels


def normal(*shape: int) -> Any:
    return RNG.standard_normal(shape).astype(np.float32)


def test_a_map_is_the_formula_picture_by_picture() -> None:
    values = normal(3, 4, 5, 7)
    for found, picture in zip(np.asarray(attention_map(values)), values, strict=True):
        energy = np.array([[sum(channel**2 for channel in place) / 7 for place in row] for row in picture]).ravel()
        np.testing.assert_allclose(found, energy / np.linalg.norm(energy), rtol=1e-5)


@pytest.mark.parametrize("scale", [1.0, 0.01, 300.0])
def test_maps_of_other_scale_and_width_are_no_loss(scale: float) -> None:
    values = normal(3, 4, 4, 5)
    student = scale * np.concatenate([values, values[..., ::-1]], axis=-1)
    assert float(attention_loss([student], [attention_map(values)])) < 1e-9
    assert float(attention_loss([normal(3, 4, 4, 5)], [attention_map(values)])) > 1e-3


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_soft_loss_is_the_divergence(temperature: float) -> None:
    student, teacher = normal(6, 5), normal(6, 5)

    def softened(logits: np.ndarray) -> np.ndarray:
        powers = np.exp(logits.astype(np.float64) / temperature)
        return powers / powers.sum(-1, keepdims=True)

    wanted, had = softened(teacher), softened(student)
    divergence = np.mean([sum(p * np.log(p / q) for p, q in zip(*rows, strict=True)) for rows in zip(wanted, had, strict=True)])
    assert float(soft_loss(student, teacher, temperature)) == pytest.approx(temperature**2 * divergence, rel=1e-4)
    assert abs(float(soft_loss(teacher + 3.0, teacher, temperature))) < 1e-5


def test_taps_are_the_ends_of_the_stages_that_both_have() -> None:
    assert shared_taps(network(4), network(8)) == (("act", "act"), ("down", "down"))
    large = zoo.build("resnet8", input_shape=(32, 32, 3), num_classes=10)
    small = zoo.build("resnet8", input_shape=(16, 16, 3), num_classes=10)
    assert len(shared_taps(large, large)) == 3
    assert len(shared_taps(large, small)) == 2


def test_a_teacher_looks_as_its_graph_computes() -> None:
    graph, pictures = network(4), stripes(8)[0]
    variables = graph.init(jax.random.key(0))
    logits, maps = look(Teacher(graph, variables), ("act", "down"), pictures)
    wanted, *values = tapped(graph, ("act", "down")).apply(variables, pictures)
    np.testing.assert_allclose(logits, wanted, atol=1e-5)
    for found, value in zip(maps, values, strict=True):
        np.testing.assert_allclose(found, attention_map(value), atol=1e-5)


def test_a_student_follows_its_teacher_against_the_labels() -> None:
    """The student's labels are noise: whatever it knows in the end, the teacher told it."""
    pictures, labels = stripes(160)
    shown, right = stripes(100, seed=1)
    recipe = Recipe(epochs=12, batch_size=16, learning_rate=0.01)
    graph = network(8)
    teacher = Teacher(graph, training.train(graph, pictures, labels, recipe, seed=0).variables)
    noise = np.random.default_rng(1).permutation(labels)
    taught = dataclasses.replace(recipe, soft_labels=1.0)
    alone = training.train(network(4), pictures, noise, recipe, seed=0).variables
    led = training.train(network(4), pictures, noise, taught, seed=0, teacher=teacher).variables
    assert training.evaluate(network(4), led, shown, right).accuracy > 0.9
    assert training.evaluate(network(4), alone, shown, right).accuracy < 0.7


def test_attention_transfer_brings_maps_together() -> None:
    pictures, labels = stripes(96)
    graph, small = network(8), network(4)
    recipe = Recipe(epochs=6, batch_size=16, learning_rate=0.01)
    teacher = Teacher(graph, training.train(graph, pictures, labels, recipe, seed=0).variables)

    def apart(weight: float) -> float:
        taught = dataclasses.replace(recipe, attention_transfer=weight)
        student = training.train(small, pictures, labels, taught, seed=0, teacher=teacher).variables
        _, maps = look(teacher, ("act", "down"), pictures)
        return float(attention_loss(tapped(small, ("act", "down")).apply(student, pictures)[1:], maps))

    assert apart(1000.0) < 0.7 * apart(0.0)


def test_without_a_teacher_the_recipe_is_the_plain_one() -> None:
    data, recipe = stripes(64), Recipe(epochs=2, batch_size=16)
    plain = training.train(network(4), *data, recipe, seed=0)
    alone = training.train(network(4), *data, dataclasses.replace(recipe, soft_labels=0.5, attention_transfer=10.0), seed=0)
    assert plain.losses == alone.losses
