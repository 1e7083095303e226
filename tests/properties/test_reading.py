"""What people read: the README as printed, the path of the depth, formulas of shapes, HTML."""

from __future__ import annotations

import re
import sys
from html.parser import HTMLParser
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import properties
from properties import symbolic
from properties.display import table_html, table_text
from properties.paths import longest_path
from tests.properties.programs import conv, gate

README = Path(properties.__file__).with_name("README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)


def test_the_readme_runs_as_printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    first, module, use = BLOCKS
    exec(first, {})
    printed = capsys.readouterr().out.splitlines()
    expected = [line.split("# ")[1] for line in first.splitlines() if line.startswith("print")]
    assert [printed[0], printed[1], printed[-2], printed[-1]] == [
        expected[0], expected[1].split(":")[0], "384", expected[-1]
    ]  # fmt: skip
    (tmp_path / "transcendental.py").write_text(module)
    monkeypatch.syspath_prepend(str(tmp_path))
    exec(use, {})
    sys.modules.pop("transcendental")
    assert len(module.splitlines()) < 100


def test_a_requirement_that_cannot_be_imported_is_an_error_that_says_so() -> None:
    cases = [("nowhere:Thing", "cannot be imported"), ("json:loads", "no class with the methods"), ("hue", "give one of")]
    for kind, said in cases:
        with pytest.raises(ValueError, match=said):
            properties.requirement({"kind": kind})


def test_the_path_has_as_many_runs_as_the_depth_and_they_alternate() -> None:
    def net(w: jax.Array, x: jax.Array) -> jax.Array:
        return jax.nn.softmax(x + gate(w, jax.nn.gelu(x @ w)) @ w)

    arguments = (jnp.ones((1, 4, 4, 6)),)
    path = longest_path(net, *arguments, params=jnp.ones((6, 6)))
    assert len(path) == properties.infer(net, *arguments, params=jnp.ones((6, 6))).depth[0, 0] == 6
    assert [step.linear for step in path] == [True, False] * 3
    assert [step.name for step in path] == ["dot_general", "gelu", "reduce_sum", "logistic", "dot_general", "softmax"]
    assert all("test_reading.py" in step.source or "programs.py" in step.source for step in path if step.name == "dot_general")
    assert longest_path(lambda x: jnp.ones(3), jnp.ones(3)) == ()


def test_symbolic_shapes_agree_with_tracing_at_any_size() -> None:
    def net(w: jax.Array, x: jax.Array) -> jax.Array:
        x = lax.reduce_window(jax.nn.relu(conv(2)(w, x)), -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
        return x.reshape(x.shape[0], -1)

    w = jnp.ones((3, 3, 3, 8))
    found = symbolic.shapes(net, "b, h, w, 3", params=w, constraints=("h >= 8", "w >= 8"))
    assert found.names == ("b", "h", "w")
    rng = np.random.default_rng(0)
    for b, h, width in rng.integers(8, 60, size=(20, 3)).tolist():
        expected = jax.eval_shape(net, w, jax.ShapeDtypeStruct((b, h, width, 3), jnp.float32))
        assert found.at(b=b, h=h, w=width) == (expected.shape,)
    with pytest.raises(ValueError, match="no size given for h, w"):
        found.at(b=3)


def test_symbolic_shapes_say_what_they_need() -> None:
    halves = lambda x: x.reshape(x.shape[0], x.shape[1] // 2, 2, -1)  # noqa: E731
    with pytest.raises(Exception, match="should be 0"):
        symbolic.shapes(halves, "b, n, 3")
    assert symbolic.shapes(halves, "b, n, 3", constraints=["mod(n, 2) == 0"]).at(b=3, n=8) == ((3, 4, 2, 3),)


class _Balance(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_html_is_well_formed_and_names_what_was_not_understood() -> None:
    inference = properties.infer(lambda w, x: conv(2)(w, x), jnp.ones((1, 8, 8, 3)), params=jnp.ones((3, 3, 3, 4)))
    html = inference._repr_html_()
    parser = _Balance()
    parser.feed(html)
    assert not parser.open
    assert "size 3, stride 2, offset 0" in html and "depth 1" in html
    blocks = {"stem": inference, "head <1>": properties.infer(lambda w, x: x @ w, jnp.ones((2, 3)), params=jnp.ones((3, 4)))}
    parser.feed(table_html(blocks))
    assert not parser.open and "head &lt;1&gt;" in table_html(blocks)
    head, stem, last = table_text(blocks).splitlines()
    assert head.split()[:3] == ["block", "output", "depth"]
    assert stem.split() == ["stem", "float32[1,4,4,4]", "1", "108", "1,728", "1,024", "3", "×", "3", "1111", "0200", "0020", "3333"]
    assert last.split()[-2:] == ["10", "33"]
    unknown = properties.Inference.of(inference.inputs, inference.shape, {}, inference.capacity, ["mystery"])
    assert "mystery" in unknown._repr_html_()
