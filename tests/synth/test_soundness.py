"""What op summaries and their composition claim of mixing, against Jacobians: on every op, and on random graphs with branches."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from synth import Graph, Input, Node, infer
from synth.op import PROBE_BATCH
from tests.harnesses import OP_CASES, case_id, dtype_of
from tests.properties.oracle import matrix, unclaimed
from tests.strategies import random_graph

DRAWS = 2


def pattern(graph: Graph, argument: int) -> np.ndarray:
    """Which output elements move with which elements of an input: (outputs, inputs), over a few parameters and inputs."""
    shapes = [item.value.aval(PROBE_BATCH).shape for item in graph.inputs]
    jacobian = jax.jit(jax.jacfwd(graph.apply, argnums=1 + argument))
    moved = np.zeros((), bool)
    for draw in range(DRAWS):
        found = np.asarray(jacobian(*point(graph, shapes, np.random.default_rng(draw))))
        moved = moved | (found.reshape(-1, int(np.prod(shapes[argument]))) != 0)
    return moved


def point(graph: Graph, shapes: list[tuple[int, ...]], rng: np.random.Generator) -> list[Any]:
    """Random variables and inputs."""
    leaves, tree = jax.tree.flatten(graph.init(jax.random.key(0)))
    drawn = [jnp.asarray(rng.uniform(0.5, 1.5, leaf.shape), leaf.dtype) for leaf in leaves]
    return [jax.tree.unflatten(tree, drawn), *(jnp.asarray(rng.standard_normal(shape), jnp.float32) for shape in shapes)]


def hold(graph: Graph) -> None:
    """The law: no Jacobian shows a dependence that mixing does not claim, by element and by its matrix."""
    outputs = graph.values[graph.outputs[0]].aval(PROBE_BATCH).shape
    found = infer(graph)
    for argument, item in enumerate(graph.inputs):
        inputs = item.value.aval(PROBE_BATCH).shape
        moved = pattern(graph, argument)
        mixing = found.relation("mixing", argument, 0)
        if mixing is None:
            assert not moved.any()
            continue
        assert (matrix(moved, outputs, inputs) <= found.mixing[argument, 0].matrix).all()
        assert unclaimed(found.mixing[argument, 0], moved, outputs, inputs) == []


# Integers have no Jacobian.
@pytest.mark.parametrize(("op", "shapes"), [case for case in OP_CASES if dtype_of(case[0]) == "float32"], ids=case_id)
def test_no_op_depends_on_more_than_its_summary_claims(op: Any, shapes: Any) -> None:
    inputs = tuple(Input(f"x{index}", (None, *shape)) for index, shape in enumerate(shapes))
    hold(Graph(inputs, (Node("op", op, tuple(item.name for item in inputs)),), ("op",)))


@pytest.mark.parametrize("seed", range(20))
def test_no_graph_depends_on_more_than_its_composition_claims(seed: int) -> None:
    hold(random_graph(np.random.default_rng(100 + seed), nodes=7))
