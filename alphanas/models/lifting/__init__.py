"""Lifting: a Flax NNX module, a Linen pair or any JAX function as a graph of ops."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from alphanas.errors import FAILED, UserError
from alphanas.models.lifting.build import Report, build
from alphanas.models.lifting.sources import read, traced
from synth.graph import Graph, Variables


@dataclass(frozen=True)
class Lifted:
    """A lifted model: its graph, the arrays it had under the graph's names, and what became what."""

    graph: Graph
    variables: Variables | None
    report: Report


def lift(model: Any, *inputs: Any) -> tuple[Graph, Variables]:
    """The graph that computes what a model computes, and its variables; see `lift_with_report`."""
    lifted = lift_with_report(model, *inputs)
    variables = lifted.variables
    return lifted.graph, lifted.graph.init(jax.random.key(0)) if variables is None else variables


def lift_with_report(model: Any, *inputs: Any) -> Lifted:
    """The graph of a model on inputs of these shapes; the first axis of every input is the batch, which is free in the graph.

    `model` is a Flax NNX module, a Linen (module, variables) pair, a (function, parameters) pair or a function without parameters;
    `inputs` are arrays or `jax.ShapeDtypeStruct`s. Layers and pieces that the vocabulary has become ops; everything else becomes
    opaque nodes that run, train and are never edited, and the report says why. The arrays are the model's own, not copies.
    Raises UserError for what is no model and for a model that cannot run on such inputs.
    """
    if isinstance(model, Graph):
        return Lifted(model, None, Report({}, {}))
    if not inputs:
        raise UserError("lift", saw="no inputs", wanted="the model and one array (or ShapeDtypeStruct) for each of its inputs")
    for index, item in enumerate(inputs):
        _check_input(index, item)
    source = read(model)
    try:
        program = traced(source, inputs)
    except (TypeError, ValueError, IndexError, AssertionError) as error:
        shapes = ", ".join(str(tuple(item.shape)) for item in inputs)
        raise UserError(
            "model",
            saw=f"it does not run on inputs of shape {shapes}: {_first_line(error)}",
            exit_code=FAILED,
            cause="not_liftable",
        ) from error
    return Lifted(*build(program))


def _check_input(index: int, item: Any) -> None:
    """Raise UserError for what is no array of numbers with a batch in front."""
    shape, dtype = (item.shape, item.dtype) if isinstance(item, jax.ShapeDtypeStruct) else (np.shape(item), np.asarray(item).dtype)
    if np.dtype(dtype).kind not in "fiub" or not shape:
        saw = f"{type(item).__name__} of type {np.dtype(dtype).name} and shape {tuple(shape)}"
        raise UserError(
            f"lift: input {index}", saw=saw, wanted="an array (or ShapeDtypeStruct) of numbers whose first axis is the batch"
        )


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {(str(error).strip() or 'no message').splitlines()[0]}"


__all__ = ["Lifted", "Report", "lift", "lift_with_report"]
