"""StableHLO through `jax.export`, with the weights inside and the batch free.

JAX reads such a file for about half a year after it was written; the graph export is what lasts.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
from jax import export as jax_export

from alphanas.export.check import Exported, check, record
from alphanas.models import weights
from synth.graph import Graph, Variables

FILE = "model.stablehlo"


def export_stablehlo(graph: Graph, variables: Variables, directory: Path) -> Exported:
    """Writes `model.stablehlo`, which `jax.export.deserialize` reads: inference, for the CPU, at any batch size."""
    weights.check(graph, variables)
    (batch,) = jax_export.symbolic_shape("batch")
    shapes = [
        jax.ShapeDtypeStruct(tuple(batch if size is None else size for size in item.shape), item.dtype) for item in graph.inputs
    ]
    exported = jax_export.export(jax.jit(lambda *inputs: graph.apply(variables, *inputs)), platforms=["cpu"])(*shapes)
    data = bytes(exported.serialize())
    read = jax_export.deserialize(bytearray(data))

    def run(*inputs: Any) -> Any:
        return read.call(*inputs)

    checked = check(graph, variables, run, format="stablehlo", files=(FILE,))
    weights.write_atomically(Path(directory) / FILE, data)
    return record(checked, Path(directory))
