"""Limits: what a text means in numbers, and by how much a number breaks it."""

from __future__ import annotations

from pathlib import Path

import pytest

from alphanas.config import Config, load_config
from alphanas.errors import UserError
from alphanas.limits import parse

SEED = {"params": 1000.0, "latency": 8.0, "peak_bytes": 4096.0, "error": 0.02, "mine.py:score": -4.0, "macs": 5e6}

# (name, text, a number that keeps the limit, one that does not)
KEPT = [
    ("params", "at most 20k", 20_000, 20_001),
    ("params", "at most 40%", 400, 401),
    ("params", "at most 40 % of the seed's", 400, 401),
    ("macs", "at most 1.5M", 1_500_000, 1_500_001),
    ("latency", "at most 2ms", 2.0, 2.001),
    ("latency", "at most 500 us", 0.5, 0.501),
    ("latency", "at most 0.001s", 1.0, 1.01),
    ("peak_bytes", "at most 2 KiB", 2048, 2049),
    ("peak_bytes", "at most 1MB", 1_000_000, 1_000_001),
    ("error", "at most 0.05", 0.05, 0.051),
    ("error", "at most 1 point over the seed", 0.03, 0.0301),
    ("error", "at most 150% of the seed", 0.03, 0.031),
    ("mine.py:score", "at least -5", -5, -5.1),
    ("mine.py:score", "between 1 and 2k", 2000, 0.5),
    ("params", "between 10% and 2k", 100, 99),
]


@pytest.mark.parametrize(("name", "text", "kept", "broken"), KEPT)
def test_texts_mean_numbers(name: str, text: str, kept: float, broken: float) -> None:
    limit = parse(name, text)
    assert limit.excess(kept, SEED[name]) == 0
    assert limit.excess(broken, SEED[name]) > 0
    assert parse(name, limit.text) == limit


def test_excess_is_a_share_of_the_bound_and_grows() -> None:
    limit = parse("params", "at most 200")
    assert [limit.excess(value, None) for value in (100, 200, 300, 600)] == [0, 0, 0.5, 2.0]


def test_what_is_not_known_breaks_nothing() -> None:
    assert parse("params", "at most 40%").excess(10**9, None) == 0
    assert parse("params", "at most 40k").excess(None, 3) == 0


def test_limits_come_back_from_toml_and_differ_by_name(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("def score(graph): return 1.0\n")
    (tmp_path / "config.toml").write_text(
        '[search]\nobjectives = ["error", "mine.py:score"]\n[constraints]\nparams = "at most 20k"\n"mine.py:score" = "at least 1"\n'
    )
    config = load_config(tmp_path / "config.toml", ['constraints.latency="at most 2 ms"'])
    own = f"{tmp_path / 'mine.py'}:score"
    assert config.own_functions == (own,)
    assert config.judged_by == ("error", own, "params", "latency")
    assert Config.from_mapping(config.to_mapping()) == config
    (tmp_path / "again.toml").write_text(config.to_toml())
    assert load_config(tmp_path / "again.toml") == config
    assert "constraints.params" in Config().difference(config)
    with pytest.raises(UserError, match=r"constraints: no file 'other.py'"):
        load_config(tmp_path / "config.toml", ['constraints={"other.py:score" = "at least 1"}'])
