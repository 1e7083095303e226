"""What every export is held to: the same outputs as the graph on random inputs, and a record of it beside the file."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import jax
import numpy as np

from alphanas.errors import FAILED, UserError
from synth.graph import Graph, Variables

TOLERANCE = 1e-4
"""Largest error of an export, as a part of the largest output (at least 1): what reordered 32-bit sums may differ by."""

SEED = 0
BATCHES = (1, 3)
"""Two sizes where the batch is free, so that a baked-in batch is seen."""


@dataclasses.dataclass(frozen=True)
class Exported:
    """What an export wrote and checked: `max_error` is the largest error, as a part of the largest output (at least 1).

    `inputs` are (name, shape, dtype), None being the free batch; `checked_by` is what ran the written files; `details` are the
    format's own (opset, target, …).
    """

    format: str
    files: tuple[str, ...]
    max_error: float
    tolerance: float
    batches: tuple[int, ...]
    seed: int
    graph: str
    inputs: tuple[tuple[str, tuple[int | None, ...], str], ...]
    checked_by: str
    versions: Mapping[str, str]
    details: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """The record that stands beside the files."""
        return dataclasses.asdict(self)


@dataclasses.dataclass(frozen=True)
class Options:
    """What a caller may say about a compiled export; other formats hold any batch, on any machine.

    `target` is CPU or TRIPLE/CPU as LLVM has them, None for this machine. Its schedules are those on record in the file `records`
    (None: the cache folder's); what has none is timed for up to `tuning_s`, and recorded.
    """

    batch: int = 1
    target: str | None = None
    threads: int = 1
    tuning_s: float = 20.0
    records: Path | None = None


def random_inputs(graph: Graph, *, batch: int, seed: int = SEED) -> tuple[np.ndarray, ...]:
    """Standard normal inputs of a graph; zeros and ones where an input is of an integer type."""
    rng = np.random.default_rng(seed)
    arrays = []
    for item in graph.inputs:
        shape = item.value.aval(batch).shape
        whole = not np.issubdtype(np.dtype(item.dtype), np.inexact)
        arrays.append((rng.integers(0, 2, shape) if whole else rng.standard_normal(shape)).astype(item.dtype))
    return tuple(arrays)


def largest_error(wanted: Any, seen: Any) -> float:
    """The largest difference between outputs, as a part of the largest wanted one (at least 1).

    Infinite for unequal shapes and NaN where any output is NaN.
    """
    pairs = list(zip(_several(wanted), _several(seen), strict=True))
    if any(a.shape != b.shape for a, b in pairs):
        return float("inf")
    return float(np.max([np.max(np.abs(a - b), initial=0.0) / max(1.0, np.max(np.abs(a), initial=0.0)) for a, b in pairs]))


def _several(outputs: Any) -> Sequence[np.ndarray]:
    many = outputs if isinstance(outputs, tuple | list) else (outputs,)
    return [np.asarray(output, dtype=np.float64) for output in many]


def check(
    graph: Graph,
    variables: Variables,
    run: Callable[..., Any],
    *,
    format: str,
    files: Sequence[str],
    checked_by: Sequence[str],
    batches: Sequence[int] = BATCHES,
    details: Mapping[str, Any] | None = None,
) -> Exported:
    """Runs an export on random inputs beside its graph; raises UserError where they differ by more than the tolerance.

    `checked_by` names the packages that ran it, whose versions are put on record.
    """
    apply = jax.jit(graph.apply)
    errors = []
    for batch in batches:
        inputs = random_inputs(graph, batch=batch)
        errors.append(largest_error(apply(variables, *inputs), run(*inputs)))
    error = float(np.max(errors))
    if not error <= TOLERANCE:
        raise UserError(
            f"export as {format}",
            saw=f"its outputs differ from the graph's by {error:.2g}",
            wanted=f"at most {TOLERANCE:g}",
            remedy="nothing was written; please report the graph",
            exit_code=FAILED,
            cause="export_differs",
        )
    return Exported(
        format=format,
        files=tuple(files),
        max_error=error,
        tolerance=TOLERANCE,
        batches=tuple(batches),
        seed=SEED,
        graph=graph.hash,
        inputs=tuple((item.name, item.shape, item.dtype) for item in graph.inputs),
        checked_by=" and ".join(checked_by),
        versions={name: metadata.version(name) for name in dict.fromkeys(("jax", "numpy", *checked_by))},
        details=dict(details or {}),
    )
