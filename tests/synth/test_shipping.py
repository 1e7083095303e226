"""What comes with the package is what would be derived, and it is used only where that is certain."""

from __future__ import annotations

import fnmatch
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest

from properties import idioms, shipped
from synth import Value, formulas
from synth.op import alternatives
from synth.ops import OPS, Conv
from synth.shelf import Shelf
from synth.shipping import SHIPMENTS, Shipment, outdated

ROOT = Path(__file__).parents[2]


def written_with(each: Shipment) -> str:
    return str(shipped.json.loads(each.path.read_text(encoding="utf-8"))["origin"]["jax"])


def test_what_is_shipped_is_what_is_derived() -> None:
    other = {written_with(each) for each in SHIPMENTS} - {version("jax")}
    if other:
        pytest.skip(f"the files were written with JAX {', '.join(other)}, not {version('jax')}: they are not used")
    assert not list(outdated()), "the source has changed: run `python -m synth.shipping` and commit what it writes"


@pytest.mark.parametrize("each", SHIPMENTS, ids=lambda each: each.path.name)
def test_a_file_of_another_origin_is_not_used(each: Shipment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy, source = tmp_path / each.path.name, tmp_path / "source.py"
    source.write_text("x = 1")
    shipped.written(copy, [source], [1])
    assert shipped.recalled(copy, [source]) == [1]
    with monkeypatch.context() as patched:
        patched.setattr(shipped, "version", lambda name: "0.0.1")
        assert shipped.recalled(copy, [source]) is None
    source.write_text("x = 2")
    assert shipped.recalled(copy, [source]) is None
    for damaged in ("", "{", "[]", '{"origin": {}}'):
        copy.write_text(damaged)
        assert shipped.recalled(copy, [source]) is None
    assert shipped.recalled(tmp_path / "missing.json", [source]) is None


def test_without_the_files_the_same_is_derived(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    value = Value((None, 8, 8, 16))
    kinds = [kind for op in alternatives(Conv, (16,)) if (kind := formulas.Kind.of(op, value)) is not None]

    def known() -> object:
        empty = Shelf(None)
        monkeypatch.setattr(formulas, "shelf", lambda: empty)
        formulas._shipped.cache_clear()
        idioms._shipped.cache_clear()
        found = formulas.formulas(kinds)
        return {kind: found[kind] for kind in kinds}, idioms.patterns()

    before = known()
    monkeypatch.setattr(formulas, "SHIPPED", tmp_path / "missing.json")
    monkeypatch.setattr(idioms, "SHIPPED", tmp_path / "missing.json")
    idioms._alternatives.cache_clear()
    assert known() == before
    formulas._shipped.cache_clear()
    idioms._shipped.cache_clear()


def test_every_op_that_is_drawn_is_shipped() -> None:
    drawn = {op_type.kind() for op_type in OPS.values() if op_type.arity == 1 and op_type.taste > 0 and op_type.fitted}
    facts = shipped.json.loads(formulas.SHIPPED.read_text(encoding="utf-8"))["facts"]
    assert {attributes["kind"] for attributes, *_ in facts} >= drawn - {"opaque"}


def test_the_package_takes_the_files_along() -> None:
    patterns = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]["*"]
    for each in SHIPMENTS:
        assert any(fnmatch.fnmatch(each.path.name, pattern) for pattern in patterns), each.path
        assert (each.path.parent / "__init__.py").exists()
