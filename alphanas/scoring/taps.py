"""Where a network decides: the inputs of its elementwise activations."""

from __future__ import annotations

import functools

import numpy as np

from synth import Graph, Op, effect
from synth.op import Value


def taps(graph: Graph) -> tuple[str, ...]:
    """The names of the values that go into an activation, in order, each once."""
    read = (node.inputs[0] for node in graph.nodes if is_activation(node.op, graph.input_values(node)))
    return tuple(dict.fromkeys(read))


@functools.lru_cache(maxsize=16384)
def is_activation(op: Op, inputs: tuple[Value, ...]) -> bool:
    """Whether an op is one non-linear step of each element on its own. The op's depth and mixing say so, not its name."""
    if len(inputs) != 1 or op.weights(*inputs):
        return False
    found = effect.summary(op, inputs)
    steps = found.relation("depth", 0, 0)
    if steps is None:  # the output hangs on nothing
        return False
    ends_linear, ends_nonlinear = steps.from_linear
    nonlinear = ends_linear < 0 and ends_nonlinear == 1
    return nonlinear and _elementwise(inputs[0], np.asarray(found.mixing[0, 0].matrix))


def _elementwise(value: Value, matrix: np.ndarray[tuple[int, int], np.dtype[np.int64]]) -> bool:
    """Each element depends on the element in its own place alone; rows of axes of one position say nothing."""
    wide = np.array([size != 1 for size in value.shape])
    return matrix.shape[0] == matrix.shape[1] and bool((matrix[wide] == np.eye(len(wide), dtype=int)[wide]).all())
