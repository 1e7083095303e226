"""What every export is held to: the same outputs as the graph on random inputs, and a record of it beside the file."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from alphanas.errors import FAILED, UserError
from alphanas.models.weights import write_atomically
from synth.graph import Graph, Variables

TOLERANCE = 1e-4
"""Largest error of an export, as a part of the largest output (at least 1): what reordered 32-bit sums may differ by."""

SEED = 0
BATCH = 3
"""The batch of a check is none of the sizes that a trace was made at, so that a baked-in batch is seen."""


@dataclasses.dataclass(frozen=True)
class Exported:
    """What an export wrote, and the largest error that its check saw, as a part of the largest output (at least 1)."""

    format: str
    files: tuple[str, ...]
    max_error: float
    batch: int
    seed: int
    graph: str
    details: tuple[tuple[str, Any], ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The record that stands beside the files."""
        return dataclasses.asdict(self) | {"files": list(self.files), "details": dict(self.details)}


def random_inputs(graph: Graph, *, batch: int = BATCH, seed: int = SEED) -> tuple[np.ndarray, ...]:
    """Standard normal inputs of a graph; small whole numbers where an input is of an integer type."""
    rng = np.random.default_rng(seed)
    arrays = []
    for item in graph.inputs:
        shape = item.value.aval(batch).shape
        whole = np.issubdtype(np.dtype(item.dtype), np.integer)
        arrays.append((rng.integers(0, 2, shape) if whole else rng.standard_normal(shape)).astype(item.dtype))
    return tuple(arrays)


def largest_error(wanted: Any, seen: Any) -> float:
    """The largest difference between outputs, as a part of the largest wanted one (at least 1); infinite for unequal shapes."""
    pairs = list(zip(_several(wanted), _several(seen), strict=True))
    if any(a.shape != b.shape for a, b in pairs):
        return float("inf")
    return max(float(np.max(np.abs(a - b), initial=0.0) / max(1.0, np.max(np.abs(a), initial=0.0))) for a, b in pairs)


def _several(outputs: Any) -> Sequence[np.ndarray]:
    many = outputs if isinstance(outputs, tuple | list) else (outputs,)
    return [np.asarray(output, dtype=np.float64) for output in many]


def check(
    graph: Graph, variables: Variables, run: Callable[..., Any], *, format: str, files: Sequence[str], batch: int = BATCH
) -> Exported:
    """Runs an export on random inputs beside its graph; raises UserError where they differ by more than the tolerance."""
    inputs = random_inputs(graph, batch=batch)
    wanted = jax.jit(graph.apply)(variables, *inputs)
    error = largest_error(wanted, run(*inputs))
    if not error <= TOLERANCE:
        raise UserError(
            f"export as {format}",
            saw=f"its outputs differ from the graph's by {error:.2g}",
            wanted=f"at most {TOLERANCE:g}",
            remedy="nothing was written; please report the graph",
            exit_code=FAILED,
            cause="export_differs",
        )
    return Exported(format, tuple(files), error, batch, SEED, graph.hash)


def record(exported: Exported, directory: Path) -> Exported:
    """Writes what was checked to `export.json` beside the files, by format; what other formats wrote there stays."""
    path = directory / "export.json"
    try:
        others = json.loads(path.read_text())
    except (OSError, json.JSONDecodeError):
        others = {}
    write_atomically(path, json.dumps(others | {exported.format: exported.to_dict()}, indent=2) + "\n")
    return exported
