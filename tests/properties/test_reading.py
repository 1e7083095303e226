"""What people read: the README as printed, the path of the depth, formulas of shapes, HTML."""

from __future__ import annotations

import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

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


def patches(x: jax.Array) -> jax.Array:
    b, h, w, c = x.shape
    return x.reshape(b, h // 4, 4, w // 4, 4, c).transpose(0, 1, 3, 2, 4, 5).reshape(b, (h // 4) * (w // 4), -1)


def pixel_shuffle(x: jax.Array) -> jax.Array:
    b, h, w, c = x.shape
    return x.reshape(b, h, w, 2, 2, c // 4).transpose(0, 1, 3, 2, 4, 5).reshape(b, 2 * h, 2 * w, c // 4)


def pixel_unshuffle(x: jax.Array) -> jax.Array:
    b, h, w, c = x.shape
    return x.reshape(b, h // 2, 2, w // 3, 3, c).transpose(0, 1, 3, 5, 2, 4).reshape(b, h // 2, w // 3, -1)


def up_and_down(x: jax.Array) -> jax.Array:
    halved = lax.reduce_window(x, 0.0, lax.add, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
    return x + jnp.repeat(jnp.repeat(halved, 2, 1), 2, 2)


KERNEL = np.ones((3, 3, 3, 4), np.float32)
DIVIDED: dict[str, tuple[Any, str, tuple[str, ...]]] = {
    "patches": (patches, "b, h, w, 3", ("h % 4 == 0", "w % 4 == 0")),
    "pixel shuffle": (pixel_shuffle, "b, h, w, c", ("c % 4 == 0",)),
    "pixel unshuffle": (pixel_unshuffle, "b, h, w, 2", ("h % 2 == 0", "w % 3 == 0")),
    "strides": (lambda x: conv(2)(KERNEL, x)[:, ::2], "b, h, w, 3", ()),
    "pooled and back": (up_and_down, "b, h, w, 3", ("h % 2 == 0", "w % 2 == 0")),
    "rows of sixteen": (lambda x: x.reshape(x.shape[0], -1, 16), "b, h, 3", ("h % 16 == 0",)),
    "halves": (lambda x: jnp.stack(jnp.split(x, 2, axis=1)), "b, n", ("n % 2 == 0",)),
}


@pytest.mark.parametrize("name", DIVIDED)
def test_symbolic_shapes_are_valid_where_they_say_and_nowhere_else(name: str) -> None:
    function, text, conditions = DIVIDED[name]
    found = symbolic.shapes(function, text)
    assert found.conditions == conditions
    assert str(found).endswith(f" where {' and '.join(conditions)}") == bool(conditions)
    rng = np.random.default_rng(0)
    valid = 0
    for _ in range(40):
        sizes = {size: int(rng.integers(4, 40)) * int(rng.choice([1, 4, 16])) for size in found.names}
        shape = tuple(sizes[part] if part in sizes else int(part) for part in text.replace(" ", "").split(","))
        try:
            expected = jax.eval_shape(function, jax.ShapeDtypeStruct(shape, jnp.float32))
        except (TypeError, ValueError):
            with pytest.raises(ValueError, match=r"not valid at these sizes: \w = \d+ is no multiple of"):
                found.at(**sizes)
            continue
        valid += 1
        assert found.at(**sizes) == (expected.shape,)
    assert valid > 3


def test_symbolic_shapes_take_constraints_and_say_what_cannot_be() -> None:
    found = symbolic.shapes(patches, "b, h, w, 3", constraints=["mod(h, 4) == 0", "w >= 16"])
    assert found.conditions == ("h % 4 == 0", "w % 4 == 0", "w >= 16")
    with pytest.raises(ValueError, match="w >= 16 does not hold"):
        found.at(b=1, h=8, w=8)
    with pytest.raises(TypeError, match="incompatible shapes"):
        symbolic.shapes(lambda x, y: x + y, "b, n", "b, m")


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
