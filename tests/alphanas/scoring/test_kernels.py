"""Plans of training kernels: measured once for a shape, the same for all, never without a place to keep them, given ones first."""

from __future__ import annotations

from pathlib import Path

import pytest

from alphanas.scoring import kernels
from synth import native
from synth.graph import Builder, Graph
from synth.ops import Conv, Dense, DepthwiseConv, GlobalAvgPool, MultiHeadAttention
from synth.ops.formulations import FORWARD, TO_INPUT, TO_KERNEL, Plan, Question, fitting

ODD = Plan("native", "native", "native")


def network() -> Graph:
    build = Builder((6, 6, 8))
    x = build(Conv(features=8, groups=2), build.input, name="grouped")
    x = build(DepthwiseConv(), x, name="depthwise")
    x = build(DepthwiseConv(), x, name="again")
    x = build(GlobalAvgPool(), build(Conv(features=4), x, name="dense"), name="pool")
    return build.graph(build(Dense(features=3), x, name="head"))


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ALPHANAS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(kernels, "WORTH", 0)
    return tmp_path / "cache"


def refuse(question: Question) -> Plan:
    raise AssertionError(f"{question} was measured")


def test_nothing_is_measured_where_nothing_can_be_kept(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "measured", refuse)
    for setting in ("off", "/proc/none"):
        monkeypatch.setenv("ALPHANAS_CACHE", setting)
        assert kernels.plans(network(), 4) == {}


def test_what_costs_no_time_is_not_measured(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "measured", refuse)
    monkeypatch.setattr(kernels, "WORTH", 10**9)
    assert kernels.plans(network(), 4) == {}


def test_a_shape_is_measured_once_and_the_first_answer_stays(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def answer(question: Question) -> Plan:
        asked.append(question.key)
        path = kernels.cache_file()
        assert path is not None
        kernels.append(path, question.key, ODD)  # another process was faster
        return Plan("dense", "dense", "dense")

    monkeypatch.setattr(kernels, "measured", answer)
    first = kernels.plans(network(), 4)
    assert len(asked) == len(set(asked)) == 2
    assert set(first.values()) == {ODD}
    assert kernels.plans(network(), 64) == first and len(asked) == 2


@pytest.mark.skipif(not native.available(), reason="there is no C compiler here")
def test_attention_is_measured_as_a_whole_step(cache: Path) -> None:
    build = Builder((40, 8))
    x = build(MultiHeadAttention(heads=2), build.input, name="attention")
    graph = build.graph(build(Dense(features=3), x, name="head"))
    (plan,) = kernels.plans(graph, 4).values()
    assert set(kernels.named(plan)) in ({"native"}, {"direct"})
    path = kernels.cache_file()
    assert path is not None and list(kernels.read(path).values()) == [plan]


def test_recorded_plans_come_before_the_cache(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "measured", lambda question: ODD)
    stored = kernels.plans(network(), 4)
    key = next(iter(stored))
    recorded = {key: ["split", "split", "products"], "another shape": ["dense", "dense", "dense"]}
    assert kernels.plans(network(), 4, recorded=recorded) == {**stored, key: Plan("split", "split", "products")}


def test_recorded_plans_that_this_machine_cannot_follow_are_not_taken(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "measured", lambda question: ODD)
    monkeypatch.setattr(native, "available", lambda: False)
    stored = kernels.plans(network(), 4)
    key = next(iter(stored))
    assert kernels.plans(network(), 4, recorded={key: ["direct", "direct", "direct"]}) == stored


def test_plans_from_before_there_was_native_code_do_not_count(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = []
    for there in (False, True):
        monkeypatch.setattr(native, "available", lambda there=there: there)
        files.append(kernels.cache_file())
    assert None not in files and files[0] != files[1]


def test_damaged_lines_and_unknown_names_are_passed_over(cache: Path) -> None:
    path = kernels.cache_file()
    assert path is not None
    path.write_text('{"key": "a", "pl\n[]\n{"key": "a", "plan": ["no", "such", "form"]}\n{"key": "b", "plan": ["dense"]}\n')
    kernels.append(path, "a", ODD)
    kernels.append(path, "a", Plan("dense", "dense", "dense"))
    assert kernels.read(path) == {"a": ODD}


@pytest.mark.slow
def test_a_measured_plan_names_formulations_that_fit(cache: Path) -> None:
    for question in kernels.questions(network(), 4).values():
        plan = kernels.measured(question)
        rule = kernels.fixed(question)
        assert plan.forward in (*fitting(question, FORWARD), rule.forward)
        assert plan.to_input in (*fitting(question, TO_INPUT), rule.to_input)
        assert plan.to_kernel in (*fitting(question, TO_KERNEL), rule.to_kernel)
