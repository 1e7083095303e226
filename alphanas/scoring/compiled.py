"""Ops compiled one by one, and kept: the shapes of a search repeat, so a fresh candidate finds nearly all of its ops compiled.

Compiling a whole network costs seconds for each candidate; running it op by op costs microseconds of dispatch for each node.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from synth import Graph, ModalOp, Op
from synth.graph import Variables, weights_of


@functools.cache
def share_compilations(folder: str) -> None:
    """From now on, this process reads what other processes compiled from a folder, and writes there what it compiles itself.

    A finalist that one worker trained shortly then trains in full in another one without compiling anew.
    """
    jax.config.update("jax_compilation_cache_dir", folder)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    jax.config.update("jax_persistent_cache_enable_xla_caches", "none")


# Measured on small steps and single ops: XLA's fusion emitters double the time that compiling takes and its second level of
# optimisation adds a third to it, and neither makes them faster. On large steps of dense convolutions the emitters are a tenth
# faster, but they take minutes to compile a step of depthwise convolutions that are sums of shifts.
CPU_OPTIONS: dict[str, Any] = {
    "xla_cpu_use_fusion_emitters": False,
    "xla_cpu_parallel_codegen_split_count": 1,
    "xla_backend_optimization_level": 1,
}


def quickly(function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    """`jax.jit` with what makes it compile fast; which device there is is not asked before the first call."""

    @functools.cache
    def compiled() -> Callable[..., Any]:
        return jax.jit(function, compiler_options=CPU_OPTIONS if jax.default_backend() == "cpu" else None, **options)

    @functools.wraps(function)
    def run(*arguments: Any, **named: Any) -> Any:
        return compiled()(*arguments, **named)

    return run


Arrays = jax.Array | np.ndarray[Any, Any]


@functools.partial(quickly, static_argnames="op")
def _infer(op: Op, weights: Mapping[str, jax.Array], *inputs: jax.Array) -> jax.Array:
    return op.apply(weights, *inputs)


@functools.partial(quickly, static_argnames="op")
def _train(op: ModalOp, weights: Mapping[str, jax.Array], key: jax.Array, index: np.uint32, *inputs: jax.Array) -> jax.Array:
    # Folded in here, most ops never ask for it.
    return op.train(weights, *inputs, key=jax.random.fold_in(key, index))[0]


def every_value(graph: Graph, variables: Variables, *inputs: Arrays) -> dict[str, jax.Array]:
    """Every value of a graph in inference, by name; the same as `graph.run`."""
    values: dict[str, Any] = dict(zip((item.name for item in graph.inputs), inputs, strict=True))
    for node in graph.nodes:
        values[node.name] = _infer(node.op, weights_of(variables, node), *(values[name] for name in node.inputs))
    return values


def every_training_value(graph: Graph, variables: Variables, key: jax.Array, *inputs: Arrays) -> dict[str, jax.Array]:
    """Every value of a graph as training computes it, by name: batch norms use the statistics of this batch."""
    values: dict[str, Any] = dict(zip((item.name for item in graph.inputs), inputs, strict=True))
    for index, node in enumerate(graph.nodes):
        arguments = [values[name] for name in node.inputs]
        values[node.name] = training_value(node.op, weights_of(variables, node), key, index, *arguments)
    return values


def training_value(op: Op, weights: Mapping[str, Arrays], key: jax.Array, index: int, *inputs: Arrays) -> jax.Array:
    """What an op, the node `index` of its graph, computes in training."""
    return _train(op, weights, key, np.uint32(index), *inputs) if isinstance(op, ModalOp) else _infer(op, weights, *inputs)


def predict(graph: Graph, variables: Variables, inputs: Arrays) -> jax.Array:
    """The first output of a graph in inference, op by op."""
    return every_value(graph, variables, inputs)[graph.outputs[0]]
