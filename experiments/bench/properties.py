"""Benchmark of abstract interpretation: `python -m experiments.bench.properties` prints JSON, times in milliseconds.

`interpret` is the work once a model is traced: reading the jaxpr, recognising idioms, depth, mixing, rank and capacity, and the
mixing matrix; medians over repeats with the quartiles, in wall time and in `cpu`, the processor time that other programs do not
stretch.
`first` is the same when nothing is memoised yet, `trace` JAX's own tracing. All models and sizes are measured side by side.

`edits` is the re-analysis of a graph of the zoo after one edit, with the summaries of its ops memoised: a convolution near the
first, the middle and the last of its nodes becomes one of another kernel with an activation after it. `whole` infers the new graph.
`memory` is what the analysis of a traced model allocates in Python at most, in MiB, which must not grow with the sizes of tensors.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

import properties
from alphanas.models import zoo
from properties.idioms import with_idioms
from properties.inference import analyze_program
from properties.jaxpr import program
from synth import Graph, Node, Region, infer, splice
from synth.edits import Edits
from synth.ops import Conv, Relu


class Bottleneck(nn.Module):
    """A residual block of ResNet-50."""

    features: int
    stride: int = 1

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        def unit(y: jax.Array, features: int, kernel: int, stride: int = 1) -> jax.Array:
            y = nn.Conv(features, (kernel, kernel), stride, use_bias=False)(y)
            return nn.BatchNorm(use_running_average=True)(y)

        y = nn.relu(unit(x, self.features, 1))
        y = nn.relu(unit(y, self.features, 3, self.stride))
        y = unit(y, 4 * self.features, 1)
        x = x if x.shape == y.shape else unit(x, 4 * self.features, 1, self.stride)
        return nn.relu(x + y)


class Basic(nn.Module):
    """A residual block of ResNet-18."""

    features: int
    stride: int = 1

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        def unit(y: jax.Array, kernel: int, stride: int = 1) -> jax.Array:
            y = nn.Conv(self.features, (kernel, kernel), stride, use_bias=False)(y)
            return nn.BatchNorm(use_running_average=True)(y)

        y = unit(nn.relu(unit(x, 3, self.stride)), 3)
        x = x if x.shape == y.shape else unit(x, 1, self.stride)
        return nn.relu(x + y)


class ResNet(nn.Module):
    """A residual network with the given numbers of blocks."""

    blocks: tuple[int, ...]
    block: Callable[..., nn.Module]

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = nn.relu(nn.BatchNorm(use_running_average=True)(nn.Conv(64, (7, 7), 2, use_bias=False)(x)))
        x = nn.max_pool(x, (3, 3), (2, 2), "SAME")
        for stage, count in enumerate(self.blocks):
            for index in range(count):
                x = self.block(64 * 2**stage, 2 if stage and not index else 1)(x)
        return nn.Dense(1000)(x.mean((1, 2)))


class VisionTransformer(nn.Module):
    """ViT-B/16."""

    width: int = 768
    layers: int = 12

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = nn.Conv(self.width, (16, 16), 16)(x).reshape(x.shape[0], -1, self.width)
        x = jnp.concatenate([jnp.zeros((x.shape[0], 1, self.width)) + self.param("cls", nn.zeros, (1, 1, self.width)), x], 1)
        x = x + self.param("pos", nn.zeros, x.shape)
        for _ in range(self.layers):
            x = x + nn.MultiHeadDotProductAttention(num_heads=12, deterministic=True)(y := nn.LayerNorm()(x), y)
            x = x + nn.Dense(self.width)(nn.gelu(nn.Dense(4 * self.width)(nn.LayerNorm()(x))))
        return nn.Dense(1000)(nn.LayerNorm()(x)[:, 0])


MODELS: dict[str, tuple[nn.Module, int]] = {
    "resnet18@224": (ResNet((2, 2, 2, 2), Basic), 224),
    "resnet50@224": (ResNet((3, 4, 6, 3), Bottleneck), 224),
    "resnet50@2240": (ResNet((3, 4, 6, 3), Bottleneck), 2240),
    "vit-b16@224": (VisionTransformer(), 224),
}


def interpret(closed: Any, params: int) -> properties.Inference:
    """Everything that a report reads, from a traced program."""
    inference = analyze_program(with_idioms(program(closed)), params=params)
    assert inference.mixing[0, 0].matrix.shape == (4, 2)
    return inference


def milliseconds(work: Callable[[], object]) -> tuple[float, float]:
    """The wall time and the processor time of one call."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return 1000 * (time.perf_counter() - wall), 1000 * (time.process_time() - cpu)


def edits_of(name: str, repeats: int) -> dict[str, Any]:
    """Times to analyse a model of the zoo after one edit, at three places."""
    graph = zoo.build(name, input_shape=(224, 224, 3), num_classes=1000)
    ready = Edits.of(graph)
    convs = [node.name for node in graph.nodes if isinstance(node.op, Conv) and node.op.kernel == 3 and node.op.stride == 1]
    places = {"first": convs[0], "middle": convs[len(convs) // 2], "last": convs[-1]}
    found: dict[str, Any] = {"nodes": len(graph.nodes)}
    for place, chosen in places.items():
        region = Region(graph, frozenset({chosen}))
        inner = region.subgraph()
        grown = replace(inner.nodes[0], op=replace(inner.nodes[0].op, kernel=5))
        piece = Graph(inner.inputs, (grown, Node("act", Relu(), (grown.name,))), ("act",))
        new = splice(graph, region, piece)
        assert (ready.after(region, piece).mixing[0, 0].matrix == infer(new).mixing[0, 0].matrix).all()
        edit = [milliseconds(lambda given=(region, piece): ready.after(*given)) for _ in range(repeats)]  # type: ignore[misc]
        whole = [milliseconds(lambda given=new: infer(given)) for _ in range(repeats)]  # type: ignore[misc]
        found[place] = {name: spread(times) for name, times in (("edit", edit), ("whole", whole))}
    return found


def spread(times: list[tuple[float, float]]) -> dict[str, Any]:
    """Median and quartiles of wall times, and the median of processor times."""
    wall, cpu = zip(*times, strict=True)
    low, _, high = statistics.quantiles(wall, n=4)
    return {"median": statistics.median(wall), "quartiles": [low, high], "cpu": statistics.median(cpu)}


def allocated(work: Callable[[], object]) -> float:
    """The most that is allocated in Python while something runs, in MiB."""
    tracemalloc.start()
    work()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak / 2**20


def main() -> None:
    """Prints the benchmark's figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=15)
    repeats = parser.parse_args().repeats
    traced = {}
    results: dict[str, Any] = {}
    properties.infer(jax.nn.relu, jnp.ones(3))  # the idioms' patterns are traced once per process
    for name, (model, size) in MODELS.items():
        x = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
        variables = jax.eval_shape(model.init, jax.random.key(0), x)
        start = time.perf_counter()
        closed = jax.make_jaxpr(model.apply)(variables, x)
        trace = 1000 * (time.perf_counter() - start)
        count = len(jax.tree.leaves(variables))
        traced[name] = closed, count
        first, _ = milliseconds(lambda given=traced[name]: interpret(*given))  # type: ignore[misc]
        found = interpret(closed, count)
        results[name] = {
            "trace": trace, "first": first, "depth": found.depth[0, 0], "params": found.capacity.params,
            "macs": found.capacity.macs, "equations": len(closed.jaxpr.eqns), "unknown": found.unknown,
        }  # fmt: skip
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in MODELS}
    for _ in range(repeats):
        for name, given in traced.items():
            times[name].append(milliseconds(lambda given=given: interpret(*given)))  # type: ignore[misc]
    for name, measured in times.items():
        found = spread(measured)
        results[name] |= {"interpret": found.pop("median"), **found}
        results[name]["memory"] = allocated(lambda given=traced[name]: interpret(*given))  # type: ignore[misc]
    edits = {name: edits_of(name, repeats) for name in ("resnet18", "resnet50")}
    environment = {"python": platform.python_version(), "jax": jax.__version__, "repeats": repeats, "machine": platform.machine()}
    print(json.dumps({"models": results, "edits": edits, "unit": "ms", "environment": environment}, indent=2))


if __name__ == "__main__":
    main()
