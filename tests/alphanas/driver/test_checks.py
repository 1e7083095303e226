"""What no candidate could be judged by is said at the start, all at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from alphanas.config import Config
from alphanas.driver.checks import check_stages
from alphanas.errors import UserError


def test_scores_and_functions_that_are_none_are_named_with_their_keys(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("def size(graph): return 1.0\n")
    wrong = {
        "scoring": {"proxy": "naswott"},
        "search": {"objectives": ["error", f"{tmp_path / 'mine.py'}:sice"]},
        "constraints": {f"{tmp_path / 'other.py'}:size": "at most 1"},
    }
    with pytest.raises(UserError) as caught:
        check_stages(Config.from_mapping(wrong))
    assert [fault.thing for fault in caught.value.faults] == ["scoring.proxy", "search.objectives", "constraints"]
    assert "did you mean 'naswot'?" in str(caught.value) and "it has size" in str(caught.value)


@pytest.mark.parametrize("proxy", ["none", "naswot", "synflow+params"])
def test_what_can_be_judged_by_passes(tmp_path: Path, proxy: str) -> None:
    (tmp_path / "mine.py").write_text("def size(graph): return 1.0\n")
    check_stages(Config.from_mapping({"scoring": {"proxy": proxy}, "search": {"objectives": [f"{tmp_path / 'mine.py'}:size"]}}))
