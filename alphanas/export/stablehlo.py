"""StableHLO through `jax.export`, with the weights inside and the batch free.

JAX reads such a file for about half a year after it was written; the graph export is what lasts.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
from jax import export as jax_export

from alphanas.export.check import Exported, Options, check
from alphanas.models import weights
from synth.graph import Graph, Variables

FILE = "model.stablehlo"
EXPIRY = "JAX promises to read this file for six months after the version that wrote it; the graph format lasts"


def export_stablehlo(graph: Graph, variables: Variables, folder: Path, options: Options) -> Exported:
    """Writes `model.stablehlo`, which `jax.export.deserialize` reads: inference, for the CPU, at any batch size."""
    del options  # holds any batch
    (batch,) = jax_export.symbolic_shape("batch")
    shapes = [
        jax.ShapeDtypeStruct(tuple(batch if size is None else size for size in item.shape), item.dtype) for item in graph.inputs
    ]
    exported = jax_export.export(jax.jit(lambda *inputs: graph.apply(variables, *inputs)), platforms=["cpu"])(*shapes)
    weights.write_atomically(folder / FILE, bytes(exported.serialize()))
    read = jax_export.deserialize(bytearray((folder / FILE).read_bytes()))

    def run(*inputs: Any) -> Any:
        return read.call(*inputs)

    details = {"calling_convention": exported.calling_convention_version, "note": EXPIRY}
    return check(graph, variables, run, format="stablehlo", files=(FILE,), checked_by=("jax",), details=details)
