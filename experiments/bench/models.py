"""Benchmark of lifting: `python -m experiments.bench.models` prints JSON alone; times in seconds, medians with quartiles.

`lift` compares, side by side and in one process, Flax's eager construction of a module with lifting the same module from its shapes
alone (`nnx.eval_shape`, `jax.eval_shape` of Linen's init). `init` draws the parameters of a graph. `step` interleaves the compiled
training step of a module and that of its graph, and gives their ratio, in inference too. `memory` is how far a child process's peak
grows while it lifts a module that holds its weights, beside the size of those weights.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import resource
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen, nnx

from alphanas.export.blocks import tidy
from alphanas.export.flax.export import source
from alphanas.models import lift, lift_with_report, zoo
from synth import Graph

LARGE = {"resnet50": (224, 224, 3), "vit_b16": (224, 224, 3)}
SMALL = {"resnet8": (32, 32, 3), "vit_nano": (32, 32, 3)}


class LinenResNet50(linen.Module):
    """ResNet-50 as Linen users write it."""

    @linen.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        def unit(y: jax.Array, features: int, kernel: int, stride: int = 1) -> jax.Array:
            y = linen.Conv(features, (kernel, kernel), (stride, stride), use_bias=False)(y)
            return linen.BatchNorm(use_running_average=not train, momentum=0.9)(y)

        x = linen.max_pool(linen.relu(unit(x, 64, 7, 2)), (3, 3), (2, 2), "SAME")
        for stage, depth in enumerate((3, 4, 6, 3)):
            for block in range(depth):
                stride = 2 if stage and not block else 1
                width = 64 << stage
                y = linen.relu(unit(linen.relu(unit(x, width, 1)), width, 3, stride))
                y = unit(y, 4 * width, 1)
                x = linen.relu(y + (unit(x, 4 * width, 1, stride) if not block else x))
        return linen.Dense(1000)(x.mean((1, 2)))


def spread(times: list[float]) -> dict[str, float]:
    """Median and quartiles."""
    low, middle, high = statistics.quantiles(times, n=4) if len(times) > 1 else (times[0],) * 3
    return {"median": round(middle, 4), "low": round(low, 4), "high": round(high, 4)}


def timed(function: Callable[[], Any], repeats: int) -> tuple[list[float], list[float], Any]:
    """Wall and processor times of every run, and the last result."""
    walls, processor, result = [], [], None
    for _ in range(repeats):
        wall, cpu = time.perf_counter(), time.process_time()
        result = function()
        walls.append(time.perf_counter() - wall)
        processor.append(time.process_time() - cpu)
    return walls, processor, result


def native(name: str, shape: tuple[int, ...], classes: int) -> tuple[Graph, type[nnx.Module]]:
    """A model of the zoo, and the class of its Flax source."""
    graph = tidy(zoo.build(name, input_shape=shape, num_classes=classes), {"params": {}, "state": {}})[0]
    module: dict[str, Any] = {"__name__": "native", "__file__": __file__}
    exec(compile(source(graph), "model.py", "exec"), module)
    return graph, module["Model"]


def lifting(name: str, shape: tuple[int, ...], repeats: int, *, eager: bool) -> dict[str, Any]:
    """Lifting a module from its shapes, Flax's own eager construction, and drawing the graph's parameters."""
    graph, kind = native(name, shape, 1000)
    spec = jax.ShapeDtypeStruct((1, *shape), "float32")
    make = lambda: nnx.eval_shape(lambda: kind(rngs=nnx.Rngs(0)))  # noqa: E731
    first, _, abstract = timed(make, 1)
    walls, processor, lifted = timed(lambda: lift_with_report(abstract, spec), repeats)
    drawn, drawn_cpu, _ = timed(lambda: jax.block_until_ready(graph.init(jax.random.key(0))), repeats)
    row = {
        "params": graph.params,
        "first_lift_s": round(walls[0], 3),
        "lift_s": spread(walls),
        "lift_cpu_s": spread(processor),
        "eval_shape_s": round(first[0], 3),
        "opaque_nodes": len(lifted.report.opaque),
        "init_s": spread(drawn),
        "init_cpu_s": spread(drawn_cpu),
    }
    if eager:
        seconds, _, _ = timed(lambda: jax.block_until_ready(jax.tree.leaves(nnx.state(kind(rngs=nnx.Rngs(0))))), 1)
        row["flax_eager_init_s"] = round(seconds[0], 3)
    return row


def lifting_linen(repeats: int) -> dict[str, Any]:
    """Lifting a Linen ResNet-50 whose variables are shapes."""
    module, spec = LinenResNet50(), jax.ShapeDtypeStruct((1, 224, 224, 3), "float32")
    shapes, _, variables = timed(lambda: jax.eval_shape(module.init, jax.random.key(0), spec), 1)
    walls, processor, lifted = timed(lambda: lift_with_report((module, variables), spec), repeats)
    return {
        "params": lifted.graph.params,
        "first_lift_s": round(walls[0], 3),
        "lift_s": spread(walls),
        "lift_cpu_s": spread(processor),
        "eval_shape_s": round(shapes[0], 3),
        "opaque_nodes": len(lifted.report.opaque),
    }


def steps(name: str, shape: tuple[int, ...], repeats: int, batch: int = 32) -> dict[str, Any]:
    """The compiled inference and the compiled gradient of a module beside those of its graph, interleaved."""
    _, kind = native(name, shape, 10)
    model = kind(rngs=nnx.Rngs(0))
    graph, variables = lift(model, jax.ShapeDtypeStruct((1, *shape), "float32"))
    x = jnp.asarray(np.random.default_rng(0).standard_normal((batch, *shape)), jnp.float32)
    model.eval()
    resting, held, fixed = nnx.split(model, nnx.Param, ...)
    training = kind(rngs=nnx.Rngs(0))
    training.train()
    structure, params, others = nnx.split(training, nnx.Param, ...)

    def their_loss(params: Any, others: Any) -> tuple[jax.Array, Any]:
        # Made anew, so that they belong to this trace and may be written.
        net = nnx.merge(structure, params, jax.tree.map(lambda leaf: leaf, others))
        out = net(x)
        return jnp.square(out).mean(), nnx.state(net, nnx.BatchStat)

    def our_loss(params: Any) -> tuple[jax.Array, Any]:
        out, new = graph.apply({**variables, "params": params}, x, train=True, rng=jax.random.key(0))
        return jnp.square(out).mean(), new["state"]

    pairs: dict[str, Any] = {
        "inference": (
            (jax.jit(lambda params, others: nnx.merge(resting, params, others)(x)), (held, fixed)),
            (jax.jit(lambda held: graph.apply(held, x)), (variables,)),
        ),
        "training": (
            (jax.jit(jax.grad(their_loss, has_aux=True)), (params, others)),
            (jax.jit(jax.grad(our_loss, has_aux=True)), (variables["params"],)),
        ),
    }
    found = {}
    for mode, sides in pairs.items():
        times: tuple[list[float], list[float]] = ([], [])
        for function, given in sides:
            jax.block_until_ready(function(*given))
        for _ in range(repeats):
            for side, (function, given) in zip(times, sides, strict=True):
                begin = time.perf_counter()
                jax.block_until_ready(function(*given))
                side.append(time.perf_counter() - begin)
        ratios = [ours / theirs for theirs, ours in zip(*times, strict=True)]
        found[mode] = {"native_s": spread(times[0]), "lifted_s": spread(times[1]), "lifted_over_native": spread(ratios)}
    return {"batch": batch, "input": list(shape)} | found


def _grown(name: str, shape: tuple[int, ...], channel: Any) -> None:
    graph, kind = native(name, shape, 1000)
    model = nnx.eval_shape(lambda: kind(rngs=nnx.Rngs(0)))
    # What lifting loads and compiles is not what it copies.
    lift_with_report(model, jax.ShapeDtypeStruct((1, *shape), "float32"))
    nnx.update(model, jax.tree.map(lambda leaf: jnp.ones(leaf.shape, leaf.dtype), nnx.state(model, (nnx.Param, nnx.BatchStat))))
    jax.block_until_ready(jax.tree.leaves(nnx.state(model)))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    _, variables = lift(model, jax.ShapeDtypeStruct((1, *shape), "float32"))
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    held = sum(leaf.nbytes for leaf in jax.tree.leaves(variables))
    channel.send({"weights_mib": round(held / 2**20, 1), "peak_growth_mib": round(grown / 1024, 1), "params": graph.params})


def memory(name: str, shape: tuple[int, ...]) -> dict[str, Any]:
    """How far the peak of a fresh process grows while it lifts."""
    ours, theirs = multiprocessing.get_context("spawn").Pipe()
    child = multiprocessing.get_context("spawn").Process(target=_grown, args=(name, shape, theirs))
    child.start()
    found: dict[str, Any] = ours.recv()
    child.join()
    return found


def main() -> None:
    """Prints everything as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--steps", type=int, default=30, help="timed steps of each side")
    parser.add_argument("--eager", action="store_true", help="time Flax's eager construction too (up to 15 s a model)")
    arguments = parser.parse_args()
    result = {
        "environment": {
            "python": platform.python_version(),
            "jax": jax.__version__,
            "cpus": os.cpu_count(),
            "load": os.getloadavg(),
        },
        "memory": {"resnet50": memory("resnet50", LARGE["resnet50"])},
        "lift": {name: lifting(name, shape, arguments.repeats, eager=arguments.eager) for name, shape in LARGE.items()},
        "lift_linen": {"resnet50": lifting_linen(arguments.repeats)},
        "step": {name: steps(name, shape, arguments.steps) for name, shape in SMALL.items()},
    }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
