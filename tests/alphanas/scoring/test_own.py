"""One's own objective, as a worker computes it."""

from __future__ import annotations

from pathlib import Path

import pytest

from alphanas.scoring.tasks import objective
from synth import Value, chain
from synth.ops import Dense

GRAPH = chain(Value((None, 3)), [Dense(features=4), Dense(features=2)])


def asked(folder: Path, text: str, name: str = "mine") -> dict[str, object]:
    (folder / "own.py").write_text(text)
    return objective({"graph": GRAPH.to_json(), "function": f"{folder / 'own.py'}:{name}"})


def test_it_is_a_number_of_the_graph_and_may_import_its_neighbours(tmp_path: Path) -> None:
    (tmp_path / "beside_own.py").write_text("def count(graph): return len(graph.nodes)\n")
    found = asked(tmp_path, "from beside_own import count\ndef mine(graph): return count(graph) / 4\n")
    assert found["value"] == 0.5


@pytest.mark.parametrize(
    ("text", "name", "said"),
    [
        ("def mine(graph): return float('nan')\n", "mine", "returned nan; wanted a finite number"),
        ("def mine(graph): return float('-inf')\n", "mine", "returned -inf"),
        ("def mine(graph): return 1 / 0\n", "mine", "division"),
        ("def mine(graph): return 1\n", "other", "has no 'other'; it has mine"),
        ("mine = 3\n", "mine", "is a int; wanted a function"),
        ("1 / 0\n", "mine", "cannot run"),
        ("def mine(graph): return 'many'\n", "mine", "many"),
    ],
)
def test_what_raises_is_told(tmp_path: Path, text: str, name: str, said: str) -> None:
    with pytest.raises((ValueError, ArithmeticError), match=said):
        asked(tmp_path, text, name)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no file"):
        objective({"graph": GRAPH.to_json(), "function": f"{tmp_path / 'nowhere.py'}:mine"})
