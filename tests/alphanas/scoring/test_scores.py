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
from alphanas.scoring.gradnorm import gradnorm
from alphanas.scoring.jacobian import jacobian_covariance
from alphanas.scoring.naswot import naswot
from alphanas.scoring.ranking import combined
from alphanas.scoring.snip import snip
from alphanas.scoring.synflow import synflow
from alphanas.scoring.taps import is_activation, taps
from synth import Builder, Graph, Op, Value, chain
from synth.graph import Variables
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
    Zero,
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
    Zero(),
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


def test_every_score_is_a_finite_number_on_a_sound_network() -> None:
    graph, rng = residual(), np.random.default_rng(0)
    pictures, labels = rng.standard_normal((6, 5, 5, 2)).astype(np.float32), rng.integers(0, 3, 6)
    for kind in proxies.PROXIES:
        found = proxies.score(graph, pictures, labels, kind=kind, seed=0)
        assert found is not None and np.isfinite(found), kind
        assert found == proxies.score(graph, pictures, labels, kind=kind, seed=0)


def gradient(graph: Graph, variables: Variables, pictures: np.ndarray, labels: np.ndarray) -> dict[str, dict[str, jax.Array]]:
    """Oracle: the gradient of the mean loss by JAX, through the whole network at once."""

    def loss_of(params: dict[str, dict[str, jax.Array]]) -> jax.Array:
        logits, _ = graph.apply({"params": params, "state": variables["state"]}, pictures, train=True, rng=KEY)
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    return jax.grad(loss_of)(variables["params"])


def test_gradient_scores_are_those_of_the_whole_networks_gradient() -> None:
    graph, rng = residual(), np.random.default_rng(0)
    variables, labels = graph.init(KEY), rng.integers(0, 3, 6)
    pictures = rng.standard_normal((6, 5, 5, 2)).astype(np.float32)
    slopes = gradient(graph, variables, pictures, labels)
    pairs = [(variables["params"][node][name], slope) for node, arrays in slopes.items() for name, slope in arrays.items()]
    norms = sum(float(jnp.linalg.norm(slope.ravel())) for _, slope in pairs)
    assert gradnorm(graph, variables, pictures, labels, KEY) == pytest.approx(norms, rel=1e-4)
    worth = sum(float(jnp.abs(weight * slope).sum()) for weight, slope in pairs)
    assert snip(graph, variables, pictures, labels, KEY) == pytest.approx(worth, rel=1e-4)


def test_synflow_of_a_chain_in_closed_form() -> None:
    """Each layer's weights carry the whole flow, and biases that start at zero none: layers times the product of the |weights|."""
    graph = chain(Value((None, 3)), [Dense(features=5), Relu(), Dense(features=2)])
    variables = graph.init(KEY)
    first, second = (np.abs(np.asarray(arrays["kernel"], float)) for arrays in variables["params"].values())
    flow = 2 * (np.ones((1, 3)) @ first @ second).sum()
    pictures = np.zeros((4, 3), np.float32)
    assert synflow(graph, variables, pictures, np.zeros(4, int), KEY) == pytest.approx(np.log(flow))


def test_synflow_is_beyond_the_range_of_32_bits() -> None:
    """Oracle: a layer of ones of width w multiplies the flow by w."""
    graph = chain(Value((None, 64)), [Dense(features=64)] * 30)
    ones = {node: {"kernel": np.ones((64, 64)), "bias": np.zeros(64)} for node in graph.init(KEY)["params"]}
    found = synflow(graph, {"params": ones, "state": {}}, np.zeros((2, 64), np.float32), np.zeros(2, int), KEY)
    assert found == pytest.approx(np.log(30) + 31 * np.log(64))
    assert found > np.log(np.finfo(np.float32).max)


def test_jacobian_covariance_by_brute_force() -> None:
    graph, rng = residual(), np.random.default_rng(0)
    variables, pictures = graph.init(KEY), rng.standard_normal((5, 5, 5, 2)).astype(np.float32)

    def total(pictures: jax.Array) -> jax.Array:
        return graph.apply(variables, pictures, train=True, rng=KEY)[0].sum()

    slopes = np.asarray(jax.grad(total)(jnp.asarray(pictures))).reshape(5, -1)
    eigenvalues = np.linalg.eigvalsh(np.corrcoef(slopes))
    wanted = -np.sum(np.log(eigenvalues + 1e-5) + 1 / (eigenvalues + 1e-5))
    assert jacobian_covariance(graph, variables, pictures, np.zeros(5, int), KEY) == pytest.approx(wanted, rel=1e-3)


def test_fisher_is_a_mean_over_three_initialisations() -> None:
    graph, rng = residual(), np.random.default_rng(0)
    pictures, labels = rng.standard_normal((6, 5, 5, 2)).astype(np.float32), rng.integers(0, 3, 6)
    keys = [jax.random.fold_in(jax.random.key(4), index) for index in range(3)]
    wanted = np.mean([fisher(graph, graph.init(key), pictures, labels, key) for key in keys])
    assert proxies.score(graph, pictures, labels, kind="fisher", seed=4) == pytest.approx(float(wanted))


def test_combined_ranks_know_no_scale_and_agree_where_all_agree() -> None:
    rng = np.random.default_rng(0)
    table = rng.standard_normal((12, 3))
    assert np.allclose(combined(table), combined(np.exp(5 * table) + 3))
    order = np.argsort(combined(np.stack([table[:, 0], 100 * table[:, 0]], 1)))
    assert order.tolist() == np.argsort(table[:, 0]).tolist()
    assert combined([[1.0], [1.0], [0.0]]).tolist() == [0.75, 0.75, 0.0]


@pytest.mark.parametrize("kind", ["naswot+naswot", "naswot+nothing", ""])
def test_combinations_that_make_no_sense_are_refused(kind: str) -> None:
    with pytest.raises(ValueError, match="score"):
        proxies.parts(kind)
