"""The notebook in `experiments` runs from its first cell to its last, on less of everything."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from alphanas import config

NOTEBOOK = Path(__file__).parents[2] / "experiments" / "digits.ipynb"
LESS = [
    "time_limit=10m",
    "search.max_candidates=2",
    "search.generation=2",
    "training.seed_epochs=1",
    "training.short_epochs=1",
    "training.epochs=1",
    "data.train_limit=100",
    "hardware.backends=[]",
]


@pytest.mark.slow
def test_every_cell_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load = config.load_config
    monkeypatch.setattr(config, "load_config", lambda path, changes: load(NOTEBOOK.parents[1] / path, [*changes, *LESS]))
    monkeypatch.chdir(tmp_path)
    cells = [cell for cell in json.loads(NOTEBOOK.read_text())["cells"] if cell["cell_type"] == "code"]
    names: dict[str, Any] = {}
    for cell in cells:
        exec("".join(cell["source"]), names)
    assert names["study"].status() == "done" and (tmp_path / "runs" / "notebook" / "report.html").is_file()
    assert len(names["answer"].graphs) == 1


def test_no_output_is_kept_with_it() -> None:
    cells = [cell for cell in json.loads(NOTEBOOK.read_text())["cells"] if cell["cell_type"] == "code"]
    assert cells and all(not cell["outputs"] and cell["execution_count"] is None for cell in cells)
