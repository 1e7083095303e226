"""Every primitive of JAX has a rule, or a top with its reason; tables compose; a faulty rule is named."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax
import jax.extend.core.primitives
import jax.numpy as jnp
import pytest

import properties
from properties import Rules, Top, rule, top
from properties.causality import lookahead
from properties.depth import DEPTH
from properties.equivariance import symmetry
from properties.jaxpr import STRUCTURAL
from properties.mixing import MIXING, Mixing
from properties.paths import longest_path

PRIMITIVES = sorted(
    getattr(jax.extend.core.primitives, name).name for name in dir(jax.extend.core.primitives) if name.endswith("_p")
)


@pytest.mark.parametrize("each", [DEPTH, MIXING], ids=lambda each: each.name)
def test_every_primitive_has_a_rule_or_a_declared_top(each: properties.RelationalProperty) -> None:
    known = set(each.rules) | STRUCTURAL
    assert len(known & set(PRIMITIVES)) >= 120
    assert [name for name in PRIMITIVES if name not in known] == []
    assert all(entry.because for entry in each.rules.values() if isinstance(entry, Top))


def test_depth_and_mixing_know_the_same_primitives() -> None:
    assert set(DEPTH.rules) ^ set(MIXING.rules) == set()


def test_a_primitive_with_two_rules_is_an_error() -> None:
    with pytest.raises(ValueError, match="two rules for sin"):
        rule(lambda *_: None, "sin", "cos") | top("sin", because="it is wavy")


def test_an_unknown_primitive_is_top_and_named() -> None:
    ignorant = without("tanh")
    inference = properties.infer(lambda x: jnp.tanh(x), jnp.ones((3, 4)), properties=[ignorant])
    assert inference.unknown == ("tanh",)
    assert inference.mixing[0, 0] == Mixing.top((3, 4), (3, 4))


def test_a_rule_of_the_wrong_rank_is_an_error_that_names_the_equation() -> None:
    wrong = with_rule("tanh", lambda context, operand, output: Mixing.identity((7,)))
    with pytest.raises(ValueError, match=r"mixing rule for the primitive 'tanh' at .*test_rules.py:\d+ .*\(7,\)"):
        properties.infer(lambda x: jnp.tanh(x), jnp.ones((3, 4)), properties=[wrong])


@pytest.mark.parametrize(("answer", "wanted"), [(3, "returned 3; wanted Mixing"), ("all", "returned 'all'; wanted Mixing")])
def test_a_rule_that_returns_no_relation_is_an_error_that_names_the_equation(answer: Any, wanted: str) -> None:
    with pytest.raises(TypeError, match=rf"mixing rule for the primitive 'tanh' at .*test_rules.py:\d+ .*{wanted}"):
        properties.infer(
            lambda x: jnp.tanh(x), jnp.ones((3, 4)), properties=[with_rule("tanh", lambda context, operand, output: answer)]
        )


def test_an_error_in_a_rule_names_the_equation() -> None:
    def fails(context: Any, operand: int, output: int) -> Any:
        raise KeyError("axis")

    with pytest.raises(KeyError) as caught:
        properties.infer(lambda x: jnp.tanh(x), jnp.ones((3, 4)), properties=[with_rule("tanh", fails)])
    assert any("mixing rule for the primitive 'tanh'" in note for note in caught.value.__notes__)


def changed(rules: Rules) -> properties.RelationalProperty:
    return replace(MIXING, rules=rules)


def without(name: str) -> properties.RelationalProperty:
    return changed(MIXING.rules.without(name))


def with_rule(name: str, entry: Any) -> properties.RelationalProperty:
    return changed(MIXING.rules.replacing(name, entry))


def test_asking_for_what_is_not_there_says_what_is() -> None:
    inference = properties.infer(lambda x: x + 1, jnp.ones((3, 4)))
    with pytest.raises(KeyError, match="there are depth, mixing, rank"):
        inference.relation("colour", 0, 0)
    with pytest.raises(IndexError, match="input 1 asked for"):
        inference.mixing[1, 0]
    with pytest.raises(IndexError, match="output 2 asked for"):
        inference.depth[0, 2]
    with pytest.raises(IndexError, match=r"value 1 asked for, but there are 1: float32\[3,4\]"):
        inference.shape[1]
    with pytest.raises(IndexError, match=r"axis 2 asked for, but the input has 2 axes: its shape is \(3, 4\)"):
        inference.mixing[0, 0].receptive_field(2)
    with pytest.raises(IndexError, match="axis 5 asked for"):
        lookahead(inference.mixing[0, 0], 5)
    with pytest.raises(IndexError, match="input 3 asked for, but there are 1 inputs that are data"):
        longest_path(jnp.sin, jnp.ones(3), input=3)
    with pytest.raises(IndexError, match="output 3 asked for"):
        longest_path(jnp.sin, jnp.ones(3), output=3)
    with pytest.raises(ValueError, match="group 'rotation' asked for; wanted 'permutation' or 'translation'"):
        symmetry(jnp.sin, jnp.ones(3), axis=0, group="rotation")  # type: ignore[arg-type]


def test_asking_for_a_property_that_does_not_exist_says_which_do() -> None:
    for asked, kind, said in (
        ("skale", ValueError, "did you mean 'scale'"),
        ("colour", ValueError, "built in are depth, mixing"),
        (3, TypeError, "3 is asked for, which is no property"),
        (Mixing, TypeError, "which is no property"),
    ):
        with pytest.raises(kind, match=said):
            properties.infer(jnp.sin, jnp.ones(3), properties=[asked])  # type: ignore[list-item]
    with pytest.raises(ValueError, match="two properties are called 'mixing'"):
        properties.infer(jnp.sin, jnp.ones(3), properties=[MIXING, without("tanh")])
