"""The zoo: published parameter counts and MACs, shapes, names, and blocks against references in NumPy."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from scipy import special

from alphanas.errors import UserError
from alphanas.export.blocks import tidy
from alphanas.export.flax.export import source
from alphanas.models import lift_with_report, zoo
from alphanas.models.zoo import convnext, densenet, mobilenet, nasbench201, resnet, vit
from alphanas.models.zoo.net import Net
from synth import Graph
from synth.analysis import macs
from tests import oracles

IMAGENET = ((224, 224, 3), 1000)
CIFAR = ((32, 32, 3), 10)

BEST_CELL = "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_3x3~1|nor_conv_3x3~2|"

# Parameters, and millions of MACs for one picture, with the source of the latter. torchvision: `_ops` in the metadata of its
# weights. timm: gmacs in results/benchmark-infer-*.csv. kuangliu: the table of pytorch-cifar, whose counter adds two operations
# for every element that a batch norm reads. nats: the benchmark's own record. A dash: no figure found; the sum over the layers.
PUBLISHED: dict[tuple[str, tuple[tuple[int, ...], int]], tuple[int, float, str]] = {
    ("resnet18", IMAGENET): (11_689_512, 1814, "torchvision"),
    ("resnet34", IMAGENET): (21_797_672, 3664, "torchvision"),
    ("resnet50", IMAGENET): (25_557_032, 4089, "torchvision"),
    ("resnet101", IMAGENET): (44_549_160, 7801, "torchvision"),
    ("resnext50_32x4d", IMAGENET): (25_028_904, 4230, "torchvision"),
    ("densenet121", IMAGENET): (7_978_856, 2834, "torchvision"),
    ("densenet161", IMAGENET): (28_681_000, 7728, "torchvision"),
    ("densenet169", IMAGENET): (14_149_480, 3360, "torchvision"),
    ("densenet201", IMAGENET): (20_013_928, 4291, "torchvision"),
    ("vgg16", IMAGENET): (138_357_544, 15_470, "torchvision"),
    ("mobilenet_v2", IMAGENET): (3_504_872, 301, "torchvision"),
    ("mobilenet_v3_large", IMAGENET): (5_483_032, 217, "torchvision"),
    ("efficientnet_b0", IMAGENET): (5_288_548, 386, "torchvision"),
    ("vit_ti16", IMAGENET): (5_717_416, 1260, "timm"),
    ("vit_s16", IMAGENET): (22_050_664, 4610, "timm"),
    ("vit_b16", IMAGENET): (86_567_656, 17_564, "torchvision"),
    ("convnext_t", IMAGENET): (28_589_128, 4456, "torchvision"),
    ("mixer_b16", IMAGENET): (59_880_472, 12_620, "timm"),
    ("resnet18_cifar", CIFAR): (11_173_962, 556.65, "kuangliu"),
    ("resnet34_cifar", CIFAR): (21_282_122, 1161.45, "kuangliu"),
    ("resnet50_cifar", CIFAR): (23_520_842, 1304.71, "kuangliu"),
    ("resnext29_2x64d", CIFAR): (9_128_778, 1416.64, "kuangliu"),
    ("wrn_40_2", CIFAR): (2_243_546, 327.6, "-"),
    (f"nasbench201:{BEST_CELL}", CIFAR): (1_288_506, 184.73, "nats"),
    ("cifar_cnn", CIFAR): (2_192_458, 39.95, "-"),
    ("resnet8", CIFAR): (78_042, 12.50, "-"),
}


@pytest.mark.parametrize(("name", "task"), PUBLISHED)
def test_parameters_and_macs_are_the_published_ones(name: str, task: tuple[tuple[int, ...], int]) -> None:
    graph = zoo.build(name, input_shape=task[0], num_classes=task[1])
    params, millions, _ = PUBLISHED[name, task]
    assert graph.params == params
    assert macs(graph) / 1e6 == pytest.approx(millions, rel=0.01)


@pytest.mark.parametrize("name", zoo.names())
def test_models_map_pictures_to_classes(name: str) -> None:
    graph = zoo.build(name, input_shape=(1, 32, 32, 3), num_classes=7)
    assert graph.values[graph.outputs[0]].shape == (None, 7)
    assert graph.hash == zoo.build(name, input_shape=(32, 32, 3), num_classes=7).hash
    assert graph == Graph.from_json(graph.to_json())


@pytest.mark.parametrize("name", ["resnet18", "resnet34", "resnet50", "resnet101"])
def test_a_small_picture_has_the_stem_of_cifar(name: str) -> None:
    small = zoo.build(name, input_shape=(32, 32, 3), num_classes=10)
    assert small.hash == zoo.build(f"{name}_cifar", input_shape=(32, 32, 3), num_classes=10).hash
    assert "stem.pool" not in small.by_name
    assert "stem.pool" in zoo.build(name).by_name


@pytest.mark.parametrize("shape", [(8, 8, 1), (28, 28, 1)])
def test_the_seed_of_the_digits_search_is_small(shape: tuple[int, ...]) -> None:
    assert 75_000 <= zoo.build("resnet8", input_shape=shape, num_classes=10).params <= 78_000


@pytest.mark.parametrize("width", [1, 16, 64])
def test_a_first_width_scales_a_residual_network(width: int) -> None:
    """Oracle: parameters of basic blocks counted by hand, two a stage, widths doubling."""

    def conv_norm(inputs: int, outputs: int, kernel: int = 3) -> int:
        return kernel * kernel * inputs * outputs + 2 * outputs

    stages = [width * 2**stage for stage in range(4)]
    total = conv_norm(3, width) + stages[-1] * 10 + 10
    for before, own in zip([width, *stages], stages, strict=False):
        total += conv_norm(before, own) + 3 * conv_norm(own, own) + (conv_norm(before, own, 1) if before != own else 0)
    assert zoo.build(f"resnet18_cifar:{width}", input_shape=(32, 32, 3), num_classes=10).params == total


@pytest.mark.parametrize("typed", ["ViT-B/16", "vit_b16", "VIT-B16"])
def test_names_count_without_case_and_punctuation(typed: str) -> None:
    assert zoo.build(typed, input_shape=(32, 32, 3)) == zoo.build("vit_b16", input_shape=(32, 32, 3))


def test_no_two_names_are_alike() -> None:
    assert len({name.replace("_", "") for name in zoo.names()}) == len(zoo.names())


BAD = {
    "unknown name": ("resnet17", (8, 8, 1), 10, "did you mean 'resnet18'"),
    "no size": ("resnet8", (8, 8, 0), 10, "input shape"),
    "no classes": ("resnet8", (8, 8, 1), 0, "num_classes"),
    "no picture": ("resnet8", (64,), 10, "resnet8.*height, width, channels"),
    "not divisible": ("vit_b16", (225, 224, 3), 10, "patches of 16×16 pixels do not fill 225×224"),
    "smaller than a patch": ("mixer_b16", (8, 8, 3), 10, "multiples of 16"),
    "too small": ("convnext_t", (16, 16, 3), 10, "multiples of 4 from 32"),
    "variant of a model without": ("resnet8:wide", (32, 32, 3), 10, "no variants"),
    "width that is none": ("resnet18:wide", (32, 32, 3), 10, "from 1 to 4096"),
    "two nodes": ("nasbench201:|none~0|+|none~0|none~1|", (32, 32, 3), 10, "2 nodes"),
    "unknown operation": ("nasbench201:|non~0|+|none~0|none~1|+|none~0|none~1|none~2|", (32, 32, 3), 10, "did you mean 'none'"),
    "missing edge": ("nasbench201:|none~0|+|none~0|none~1|+|none~0|none~2|", (32, 32, 3), 10, "as node 3"),
    "no bars": ("nasbench201:none~0+|none~0|none~1|+|none~0|none~1|none~2|", (32, 32, 3), 10, "as node 1"),
}


@pytest.mark.parametrize(("name", "shape", "classes", "says"), BAD.values(), ids=BAD)
def test_bad_names_and_shapes_are_one_error_each(name: str, shape: tuple[int, ...], classes: int, says: str) -> None:
    with pytest.raises(UserError, match=says):
        zoo.build(name, input_shape=shape, num_classes=classes)


CELLS = [cell for number, cell in enumerate(itertools.product(nasbench201.OPERATIONS, repeat=6)) if number % 977 == 0]


def _text(operations: tuple[str, ...]) -> str:
    edges = [f"{operation}~{source}" for operation, source in zip(operations, (0, 0, 1, 0, 1, 2), strict=True)]
    return "+".join(f"|{'|'.join(edges[first:last])}|" for first, last in ((0, 1), (1, 3), (3, 6)))


@pytest.mark.parametrize(
    "operations", CELLS, ids=lambda operations: "".join(str(nasbench201.OPERATIONS.index(o)) for o in operations)
)
def test_parameters_of_a_cell_are_those_of_its_convolutions(operations: tuple[str, ...]) -> None:
    graph = zoo.build(f"nasbench201:{_text(operations)}", input_shape=(32, 32, 3), num_classes=10)
    taps = {"nor_conv_1x1": 1, "nor_conv_3x3": 9}
    cells = sum(5 * (taps[o] * c**2 + 2 * c) for o in operations if o in taps for c in (16, 32, 64))
    reductions = sum(9 * c * 2 * c + 9 * 4 * c**2 + 2 * c**2 + 4 * 2 * c for c in (16, 32))
    assert graph.params == 3 * 9 * 16 + 32 + cells + reductions + 128 + 65 * 10


# Blocks against references that share no code with the ops.


def _run(net: Net, output: str, x: np.ndarray) -> tuple[np.ndarray, dict[str, dict[str, np.ndarray]]]:
    """What a graph computes on random weights, and the weights by node."""
    graph, rng = net.graph(output), np.random.default_rng(3)
    variables = jax.tree.map(lambda leaf: jnp.asarray(rng.uniform(0.2, 1.0, leaf.shape), leaf.dtype), graph.init(jax.random.key(0)))
    owned = {node.name: {**variables["params"].get(node.name, {}), **variables["state"].get(node.name, {})} for node in graph.nodes}
    return np.asarray(jax.jit(graph.apply)(variables, x)), jax.tree.map(np.asarray, owned)


def _conv(x: np.ndarray, w: dict[str, np.ndarray], *, stride: int = 1, groups: int = 1, padding: str = "SAME") -> np.ndarray:
    out = oracles.convolve(x, w["kernel"], stride=stride, dilation=1, groups=groups, padding=padding)
    return out + w.get("bias", 0.0)


def _batch_norm(x: np.ndarray, w: dict[str, np.ndarray], epsilon: float = 1e-5) -> np.ndarray:
    return (x - w["mean"]) / np.sqrt(w["var"] + epsilon) * w["scale"] + w["bias"]


def _layer_norm(x: np.ndarray, w: dict[str, np.ndarray]) -> np.ndarray:
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6) * w["scale"] + w["bias"]


def _gelu(x: np.ndarray) -> np.ndarray:
    return 0.5 * x * (1 + special.erf(x / math.sqrt(2)))


def _perceptron(x: np.ndarray, w: dict[str, Any], prefix: str = "") -> np.ndarray:
    hidden = _gelu(x @ w[f"{prefix}expand"]["kernel"] + w[f"{prefix}expand"]["bias"])
    return hidden @ w[f"{prefix}project"]["kernel"] + w[f"{prefix}project"]["bias"]


def _relu(x: np.ndarray) -> np.ndarray:
    return np.maximum(x, 0)


def _picture(*shape: int) -> np.ndarray:
    return np.random.default_rng(5).standard_normal((2, *shape)).astype(np.float32)


def _close(seen: np.ndarray, wanted: np.ndarray) -> None:
    np.testing.assert_allclose(seen / np.abs(wanted).max(), wanted / np.abs(wanted).max(), atol=2e-5)


def test_a_wide_block_projects_the_activated_input() -> None:
    x, net = _picture(6, 6, 4), Net((6, 6, 4))
    seen, w = _run(net, resnet.wide_block(net, net.input, 8, 2), x)
    activated = _relu(_batch_norm(x, w["norm1"]))
    y = _relu(_batch_norm(_conv(activated, w["conv1"], stride=2), w["norm2"]))
    _close(seen, _conv(y, w["conv2"]) + _conv(activated, w["shortcut"], stride=2))


def test_a_grouped_block_is_two_pieces_side_by_side() -> None:
    x, net = _picture(5, 5, 8), Net((5, 5, 8))
    seen, w = _run(net, resnet.grouped_block(net, net.input, 4, 1, groups=2, features=8), x)
    y = _relu(_batch_norm(_conv(x, w["conv1"]), w["norm1"]))
    halves = [_conv(y[..., part], {"kernel": w["conv2"]["kernel"][..., part]}) for part in (slice(0, 2), slice(2, 4))]
    y = _relu(_batch_norm(np.concatenate(halves, -1), w["norm2"]))
    _close(seen, _relu(x + _batch_norm(_conv(y, w["conv3"]), w["norm3"])))


def test_a_dense_layer_keeps_its_input_in_front() -> None:
    x, net = _picture(5, 5, 6), Net((5, 5, 6))
    seen, w = _run(net, densenet.dense_layer(net, net.input, 3), x)
    y = _conv(_relu(_batch_norm(x, w["norm1"])), w["conv1"])
    _close(seen, np.concatenate([x, _conv(_relu(_batch_norm(y, w["norm2"])), w["conv2"])], -1))


def test_an_inverted_bottleneck_gates_by_hard_sigmoid() -> None:
    x, net, eps = _picture(6, 6, 4), Net((6, 6, 4)), 1e-3
    seen, w = _run(net, mobilenet.inverted_bottleneck(net, net.input, 4, mobilenet.MOBILE_3, hidden=8, kernel=5, squeeze=3), x)

    def hard(x: np.ndarray) -> np.ndarray:
        return x * np.clip(x / 6 + 0.5, 0, 1)

    y = hard(_batch_norm(_conv(x, w["expand.conv"]), w["expand.norm"], eps))
    y = hard(_batch_norm(_conv(y, w["depthwise.conv"], groups=8), w["depthwise.norm"], eps))
    gate = _relu(y.mean((1, 2)) @ w["se.reduce"]["kernel"][0, 0] + w["se.reduce"]["bias"])
    gate = np.clip((gate @ w["se.expand"]["kernel"][0, 0] + w["se.expand"]["bias"]) / 6 + 0.5, 0, 1)
    _close(seen, x + _batch_norm(_conv(y * gate[:, None, None], w["project.conv"]), w["project.norm"], eps))


def test_a_convnext_block_is_a_scaled_perceptron_of_a_window() -> None:
    x, net = _picture(8, 8, 4), Net((8, 8, 4))
    seen, w = _run(net, convnext.convnext_block(net, net.input, drop=0.1), x)
    y = _perceptron(_layer_norm(_conv(x, w["depthwise"], groups=4), w["norm"]), w)
    _close(seen, x + y * w["scale"]["scale"])


def test_an_encoder_block_attends_and_then_maps_each_token() -> None:
    x, net = _picture(6, 8), Net((6, 8), rank=2)
    seen, w = _run(net, vit.encoder_block(net, net.input, heads=2, hidden=16), x)
    y = x + oracles.attention(_layer_norm(x, w["norm1"]), w["attention"], causal=False)
    _close(seen, y + _perceptron(_layer_norm(y, w["norm2"]), w))


def test_a_mixer_block_maps_positions_and_then_features() -> None:
    x, net = _picture(6, 8), Net((6, 8), rank=2)
    seen, w = _run(net, vit.mixer_block(net, net.input, tokens_hidden=5, hidden=16), x)
    y = x + _perceptron(_layer_norm(x, w["tokens.norm"]).transpose(0, 2, 1), w, "tokens.").transpose(0, 2, 1)
    _close(seen, y + _perceptron(_layer_norm(y, w["channels.norm"]), w, "channels."))


CELL = "|nor_conv_3x3~0|+|none~0|avg_pool_3x3~1|+|skip_connect~0|nor_conv_1x1~1|skip_connect~2|"


def test_a_cell_sums_what_arrives_at_its_nodes() -> None:
    x, net = _picture(5, 5, 4), Net((5, 5, 4))
    seen, w = _run(net, nasbench201._cell(net, net.input, nasbench201.parse_cell(CELL)), x)
    first = _batch_norm(_conv(_relu(x), w["edge01.conv"]), w["edge01.norm"])
    second = oracles.pool(first, window=3, stride=1, padding="SAME", largest=False, counted=False)
    _close(seen, x + _batch_norm(_conv(_relu(first), w["edge13.conv"]), w["edge13.norm"]) + second)


def test_a_cell_without_a_way_through_gives_the_same_to_all_pictures() -> None:
    graph = zoo.build(f"nasbench201:{_text(('nor_conv_3x3',) + ('none',) * 5)}", input_shape=(8, 8, 3), num_classes=4)
    out = np.asarray(jax.jit(graph.apply)(graph.init(jax.random.key(0)), _picture(8, 8, 3)))
    np.testing.assert_array_equal(out[0], out[1])


PIECES: dict[str, Callable[[Net, str], str]] = {
    "residual": lambda net, x: resnet.bottleneck_block(net, x, 4, 2),
    "grouped": lambda net, x: resnet.grouped_block(net, x, 16, 1, groups=4, features=16),
    "wide": lambda net, x: resnet.wide_block(net, x, 12, 2),
    "dense": lambda net, x: densenet.dense_layer(net, x, 4),
    "mobilenet_v2": lambda net, x: mobilenet.inverted_bottleneck(net, x, 8, mobilenet.MOBILE_2, hidden=24),
    "mobilenet_v3": lambda net, x: mobilenet.inverted_bottleneck(net, x, 8, mobilenet.MOBILE_3, hidden=24, squeeze=4),
    "efficientnet": lambda net, x: mobilenet.inverted_bottleneck(net, x, 8, mobilenet.EFFICIENT, hidden=24, squeeze=4, drop=0.1),
    "convnext": lambda net, x: convnext.convnext_block(net, x, drop=0.1),
    "cell": lambda net, x: nasbench201._cell(net, x, nasbench201.parse_cell(CELL)),
}


def _with_stem_and_head(piece: Callable[[Net, str], str]) -> Graph:
    net = Net((8, 8, 3))
    return net.classifier(piece(net, net.conv_norm(net.input, 8, suffix="0")), 3)


def _mixer(shape: tuple[int, ...], classes: int) -> Graph:
    net = Net(shape)
    return net.classifier(vit.mixer_block(net, vit.patches(net, 8, 4), tokens_hidden=6, hidden=16), classes)


WHOLE: dict[str, Callable[[], Graph]] = {
    **{name: functools.partial(_with_stem_and_head, piece) for name, piece in PIECES.items()},
    "mixer": lambda: _mixer((8, 8, 3), 3),
    "transformer": lambda: vit.transformer((8, 8, 3), 3, width=16, heads=2, depth=2, patch=4),
    "vit_nano": lambda: zoo.build("vit_nano", input_shape=(8, 8, 3), num_classes=3),
    "cifar_cnn": lambda: zoo.build("cifar_cnn", input_shape=(8, 8, 3), num_classes=3),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", WHOLE)
def test_a_step_of_training_lowers_the_loss(name: str) -> None:
    graph = WHOLE[name]()
    variables = graph.init(jax.random.key(0))
    x, labels = _picture(8, 8, 3), jnp.array([0, 2])

    @jax.jit
    def step(variables: Any, rate: float) -> Any:
        def loss(params: Any) -> Any:
            out, new = graph.apply({**variables, "params": params}, x, train=True, rng=jax.random.key(1))
            return optax.softmax_cross_entropy_with_integer_labels(out, labels).mean(), (out, new["state"])

        (value, (out, state)), slope = jax.value_and_grad(loss, has_aux=True)(variables["params"])
        norm = optax.global_norm(slope)
        params = jax.tree.map(lambda p, g: p - rate * g / norm, variables["params"], slope)
        return value, out, {"params": params, "state": state}

    first, out, variables = step(variables, 0.01)
    second, _, variables = step(variables, 0.0)
    assert 0.02 < float(jnp.abs(out).max()) < 50
    assert float(second) < float(first)
    assert all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(variables))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["densenet121", "efficientnet_b0", "convnext_t", "vit_ti16", "mobilenet_v3_large"])
def test_training_a_whole_model_keeps_the_shapes_of_its_variables(name: str) -> None:
    graph = zoo.build(name, input_shape=(32, 32, 3), num_classes=3)
    variables = graph.init(jax.random.key(0))
    x = jax.ShapeDtypeStruct((2, 32, 32, 3), jnp.float32)
    out, new = jax.eval_shape(lambda v, x: graph.apply(v, x, train=True, rng=jax.random.key(0)), variables, x)
    assert out.shape == (2, 3)
    assert jax.tree.map(lambda leaf: leaf.shape, new) == jax.tree.map(lambda leaf: leaf.shape, variables)


@pytest.mark.slow
@pytest.mark.parametrize("name", WHOLE)
def test_what_is_exported_lifts_to_the_same_program(name: str) -> None:
    tidied, _ = tidy(WHOLE[name](), {"params": {}, "state": {}})
    scope: dict[str, Any] = {"__file__": f"{name}.py", "__name__": name}
    exec(source(tidied), scope)
    model = nnx.eval_shape(lambda: scope["Model"](rngs=nnx.Rngs(0)))
    lifted = lift_with_report(model, np.zeros((2, 8, 8, 3), np.float32))
    assert not lifted.report.opaque
    assert lifted.graph.hash == tidied.hash
