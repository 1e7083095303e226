"""Laws of costs and zero-cost scores, against closed forms and brute force."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from alphanas.scoring import proxies
from alphanas.scoring.compiled import every_training_value, every_value
from alphanas.scoring.cost import cost
from alphanas.scoring.fisher import fisher
from alphanas.scoring.naswot import naswot
from alphanas.scoring.taps import is_activation, taps
from synth import Builder, Graph, Op, Value
from synth.ops import (
    Add,
    AvgPool,
    BatchNorm,
    Conv,
    Dense,
    Dropout,
    Flatten,
    Gelu,
    GlobalAvgPool,
    HardSigmoid,
    HardSilu,
    LayerNorm,
    MaxPool,
    Relu,
    Relu6,
    Scale,
    Sigmoid,
    Silu,
    Softmax,
    SquaredRelu,
)
from tests.strategies import random_graph

KEY = jax.random.key(0)


def perceptron(width: int = 4) -> Graph:
    build = Builder((width,))
    x = build(Relu(), build.input, name="act")
    return build.graph(build(Dense(features=2), x, name="head"))


def residual() -> Graph:
    build = Builder((5, 5, 2))
    x = build(Conv(features=4), build.input, name="stem")
    y = build(Relu(), build(BatchNorm(), x, name="norm"), name="act")
    x = build(Add(), x, build(Conv(features=4), y, name="conv"), name="add")
    return build.graph(build(Dense(features=3), build(GlobalAvgPool(), build(Relu(), x, name="last"), name="pool"), name="head"))


def test_naswot_of_orthogonal_codes_in_closed_form() -> None:
    """Each of n pictures switches on one unit of n of its own: agreements are n on the diagonal and n - 2 off it."""
    count = 4
    pictures = (2 * np.eye(count) - 1).astype(np.float32)
    kernel = np.full((count, count), count - 2.0) + 2 * np.eye(count)
    graph = perceptron(count)
    found = naswot(graph, graph.init(KEY), pictures, np.zeros(count, int), KEY)
    assert found == pytest.approx(np.log(np.linalg.det(kernel)))


def test_naswot_counts_agreements_as_brute_force_does() -> None:
    graph = residual()
    variables, pictures = graph.init(KEY), np.random.default_rng(0).standard_normal((6, 5, 5, 2)).astype(np.float32)
    values = every_training_value(graph, variables, KEY, pictures)
    codes = np.concatenate([np.asarray(values[name]).reshape(6, -1) > 0 for name in ("norm", "add")], axis=1)
    kernel = [[sum(a == b for a, b in zip(one, other, strict=True)) for other in codes.tolist()] for one in codes.tolist()]
    assert naswot(graph, variables, pictures, np.zeros(6, int), KEY) == pytest.approx(np.linalg.slogdet(np.array(kernel, float))[1])


def test_naswot_is_undefined_where_two_pictures_have_one_code() -> None:
    graph, pictures = perceptron(), np.ones((3, 4), np.float32)
    assert naswot(graph, graph.init(KEY), pictures, np.zeros(3, int), KEY) == float("-inf")
    assert proxies.score(graph, pictures, np.zeros(3, int), kind="naswot", seed=0) is None


def test_fisher_is_the_slope_of_the_loss_in_the_activations() -> None:
    """Oracle: gradients with respect to zeros added to the tapped values of the whole network."""
    graph = residual()
    variables, rng = graph.init(KEY), np.random.default_rng(0)
    pictures, labels = rng.standard_normal((6, 5, 5, 2)).astype(np.float32), rng.integers(0, 3, 6)
    zeros = {name: jnp.zeros((6, *graph.values[name].shape[1:])) for name in taps(graph)}

    def loss_of(added: dict[str, jax.Array]) -> tuple[jax.Array, dict[str, jax.Array]]:
        values = {"input": jnp.asarray(pictures)}
        for index, node in enumerate(graph.nodes):
            weights = {**variables["params"].get(node.name, {}), **variables["state"].get(node.name, {})}
            arguments = [values[name] for name in node.inputs]
            if isinstance(node.op, BatchNorm):
                value = node.op.train(weights, *arguments, key=jax.random.fold_in(KEY, index))[0]
            else:
                value = node.op.apply(weights, *arguments)
            values[node.name] = value + added.get(node.name, 0.0)
        loss = optax.softmax_cross_entropy_with_integer_labels(values["head"], labels).sum()
        return loss, values

    slopes, values = jax.grad(loss_of, has_aux=True)(zeros)
    wanted = sum(0.5 * np.mean(np.sum(values[name] * slopes[name], axis=(1, 2)) ** 2, axis=0).sum() for name in zeros)
    assert fisher(graph, variables, pictures, labels, KEY) == pytest.approx(float(wanted), rel=1e-4)


ACTIVATIONS: tuple[Op, ...] = (Relu(), Relu6(), Gelu(), Silu(), HardSilu(), Sigmoid(), HardSigmoid(), SquaredRelu())
OTHERS: tuple[Op, ...] = (
    Softmax(),
    Scale(),
    Dropout(),
    MaxPool(),
    AvgPool(),
    Flatten(),
    LayerNorm(),
    BatchNorm(),
    Conv(features=8, kernel=1),
    Dense(features=8),
)


@pytest.mark.parametrize("shape", [(8, 8, 4), (1, 1, 4), (4, 4, 1)])
def test_activations_are_known_by_what_they_do(shape: tuple[int, ...]) -> None:
    value = Value((None, *shape))
    assert all(is_activation(op, (value,)) for op in ACTIVATIONS)
    assert min(shape) == 1 or not any(is_activation(op, (value,)) for op in OTHERS)


@pytest.mark.parametrize("seed", range(5))
def test_op_by_op_values_are_the_graphs(seed: int) -> None:
    rng = np.random.default_rng(seed)
    graph = random_graph(rng, nodes=8)
    variables, x = graph.init(KEY), rng.standard_normal((2, *(s or 1 for s in graph.inputs[0].shape[1:]))).astype(np.float32)
    wanted = graph.run(variables, {graph.inputs[0].name: jnp.asarray(x)})
    for name, value in every_value(graph, variables, jnp.asarray(x)).items():
        np.testing.assert_allclose(value, wanted[name], atol=1e-4, rtol=1e-4)


def test_cost_in_closed_form() -> None:
    found = cost(residual())
    assert found.params == 9 * 2 * 4 + 8 + 9 * 4 * 4 + 4 * 3 + 3
    assert found.macs >= 25 * (9 * 2 * 4 + 9 * 4 * 4) + 12
    assert found.macs < 1.2 * (25 * (9 * 2 * 4 + 9 * 4 * 4) + 12)
    # At the sum, its two operands and its result are alive.
    assert found.peak_bytes == 4 * 25 * (4 + 4 + 4)


def test_unknown_scores_are_refused() -> None:
    with pytest.raises(ValueError, match="naswot"):
        proxies.score(perceptron(), np.ones((3, 4), np.float32), np.zeros(3, int), kind="naswott", seed=0)
