"""A study as a table for other tools: CSV, Parquet, TensorBoard. One row a candidate; what was not measured is empty."""

from __future__ import annotations

import csv
import importlib.util
import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alphanas.errors import FAILED, UserError

if TYPE_CHECKING:
    from alphanas.study import Candidate, Study

COLUMNS: Mapping[str, Callable[[Candidate], Any]] = {
    "id": lambda one: one.id,
    "parent": lambda one: one.parent,
    "generation": lambda one: one.generation,
    "status": lambda one: one.status,
    "change": lambda one: str(one.proposal.get("kind", "")) or None,
    "graph_hash": lambda one: one.graph_hash,
    "params": lambda one: one.params,
    "macs": lambda one: one.macs,
    "peak_bytes": lambda one: one.objective("peak_bytes"),
    "score": lambda one: one.values("score").get("score"),
    "validation_error": lambda one: one.error,
    "test_accuracy": lambda one: one.accuracy,
    "latency_ms": lambda one: one.latency_ms,
    "synthesis_s": lambda one: one.seconds,
}
"""Column → what it holds of a candidate. A new column is one line."""


def rows(study: Study) -> list[dict[str, Any]]:
    """One mapping a candidate by id, with `on_front` and `best` beside the columns; None where something is not known."""
    candidates = study.candidates()
    if not candidates:
        return []
    fronts, best = {one.id for one in study.pareto()}, study.best().id
    return [
        {name: read(one) for name, read in COLUMNS.items()} | {"on_front": one.id in fronts, "best": one.id == best}
        for one in candidates
    ]


def write_csv(study: Study, path: Path) -> None:
    """A CSV file with a header."""
    from alphanas.study import write_atomic

    text = io.StringIO()
    writer = csv.DictWriter(text, [*COLUMNS, "on_front", "best"], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows(study))
    write_atomic(path, text.getvalue())


def write_parquet(study: Study, path: Path) -> None:
    """A Parquet file. Needs pyarrow, the extra `tables`."""
    _require("pyarrow")
    import pyarrow
    import pyarrow.parquet

    from alphanas.study import write_atomic

    content = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows(study)), content)
    write_atomic(path, content.getvalue())


def write_tensorboard(study: Study, path: Path) -> None:
    """A log folder for TensorBoard: each number of each candidate at the step of its id, and the hypervolume over those trained.

    Needs tensorboard, the extra `tables`.
    """
    _require("tensorboard")
    from tensorboard.summary import Writer

    from alphanas.report.history import hypervolumes

    writer = Writer(str(path))
    numbers = ("params", "macs", "peak_bytes", "score", "validation_error", "test_accuracy", "latency_ms", "synthesis_s")
    for row in rows(study):
        for name in numbers:
            if row[name] is not None:
                writer.add_scalar(f"candidate/{name}", float(row[name]), row["id"])
    for count, volume in hypervolumes(study):
        writer.add_scalar("search/hypervolume", volume, count)
    writer.close()


FORMATS: Mapping[str, Callable[[Study, Path], None]] = {
    "csv": write_csv,
    "parquet": write_parquet,
    "tensorboard": write_tensorboard,
}
"""Format → what writes it; names are those of `report --format`."""


def _require(package: str) -> None:
    if importlib.util.find_spec(package) is None:
        remedy = "pip install 'alphanas[tables]'"
        raise UserError(f"package {package}", saw="not installed", remedy=remedy, exit_code=FAILED, cause="missing_package")
