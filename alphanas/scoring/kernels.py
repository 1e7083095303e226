"""Which formulations of convolutions and attention train fastest on this machine, measured once for each shape and those like it.

Measuring a shape takes as long as some hundred steps of training, and every candidate of a search has shapes that were not met
before: so channels and groups are brought to a coarse grid, and what was measured there holds for all nearest to it.

What was measured is kept in the cache folder (`$ALPHANAS_CACHE`, or `alphanas` in the user's cache folder), one line of JSON for
each shape in one file for each JAX version, processor and number of threads; the first line on a shape counts, so that all
processes agree. Formulations differ in rounding. So that a study gives the same results again, nothing is measured where nothing
can be kept (`ALPHANAS_CACHE=off`): the fixed rule of `synth.ops.formulations` holds then; and a study records the plans it
trained by, which are given back as `recorded` and come before the cache.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from alphanas.execution import notes, turns
from alphanas.study import environment
from synth import Graph, native
from synth.cache import cache_folder
from synth.ops.attention import FORMULATIONS, Attended
from synth.ops.formulations import (
    FORWARD,
    TO_INPUT,
    TO_KERNEL,
    AttentionQuestion,
    Formulated,
    Plan,
    Question,
    fitting,
    fixed,
    has_choice,
    runs_here,
)

WORTH = 5_000_000
"""Multiply-adds of a batch below which the fixed rule is taken: measuring compiles for a second, and such ops cost no time."""
DENSE_WORTH = 20_000_000
"""The same for dense windows, where the rule is some two times slower than the fastest, and not ten or fifty."""
LARGEST_BATCH = 32
ROUNDS = 3
ROUND_S = 0.01
HOPELESS = 3.0
"""A formulation whose first run takes so many times the fastest's is not run again."""
GRID = tuple(sorted({share * 2**power for power in range(20) for share in (2, 3)} | {1}))
"""Channels that are measured: neighbours are a third or a half apart."""
MARGIN = 0.9
"""Another than the fixed rule's formulation is taken if it needs less than this share of its time."""

Plans = Mapping[str, Plan]


Asked = Question | AttentionQuestion


def questions(graph: Graph, batch: int) -> dict[str, Asked]:
    """What there is to be planned in a graph, by key."""
    found: dict[str, Asked] = {}
    for node in graph.nodes:
        if isinstance(node.op, Formulated):
            shapes = [graph.values[name].aval(batch).shape for name in node.inputs]
            question = node.op.question(*shapes, dtype=graph.values[node.inputs[0]].dtype)
            found[question.key] = question
    return found


def plans(graph: Graph, batch: int, *, recorded: Mapping[str, Any] | None = None) -> dict[str, Plan]:
    """The plans of a graph's ops: the recorded ones, else those of the shapes like theirs from the cache, else measured now.

    None for what the rule decides.
    """
    if jax.default_backend() != "cpu":
        return {}
    given = {key: plan for key, names in (recorded or {}).items() if runs_here(plan := Plan(*names))}
    asked = questions(graph, batch)
    known = {key: given[key] for key in asked if key in given}
    path = cache_file()
    wanted = {key: q for key, q in asked.items() if key not in known and _is_worth_it(q) and has_choice(q)}
    if path is None or not wanted:
        return known
    alike = {key: representative(question) for key, question in wanted.items()}
    cached = read(path)
    for question in alike.values():
        if question.key not in cached:
            notes.progress()
            append(path, question.key, measured(question))
            cached = read(path)
    return known | {key: _fit(cached[like.key], like, wanted[key]) for key, like in alike.items() if like.key in cached}


def representative(q: Asked) -> Asked:
    """The question that is measured for all like it: groups and the channels of each on the grid, all else as it is."""
    if isinstance(q, AttentionQuestion):
        return q
    groups, inside, outside = (_nearest(number) for number in (q.groups, q.kernel[-2], q.kernel[-1] // q.groups))
    kernel = (*q.window, inside, groups * outside)
    return dataclasses.replace(q, input=(*q.input[:-1], groups * inside), kernel=kernel, groups=groups)


def _nearest(number: int) -> int:
    return min(GRID, key=lambda other: abs(math.log(other / number)))


def _fit(plan: Plan, measured_on: Asked, question: Asked) -> Plan:
    """The plan of a representative for a question: the rule's formulation where that one does not fit."""
    if measured_on == question:
        return plan
    tables = zip(named(plan), named(fixed(question)), (FORWARD, TO_INPUT, TO_KERNEL), strict=True)
    return Plan(*(name if name in fitting(question, table) else rule for name, rule, table in tables))


def _is_worth_it(q: Asked) -> bool:
    dense = isinstance(q, Question) and q.groups == 1 < math.prod(q.window)
    return q.macs >= (max(WORTH, DENSE_WORTH) if dense else WORTH)


def cache_file() -> Path | None:
    """Where plans are kept; None where nothing can be."""
    base = cache_folder()
    if base is None:
        return None
    facts = environment()
    # A formulation that came later has not been measured against those before.
    choices = [sorted(table) for table in (FORWARD, TO_INPUT, TO_KERNEL)]
    device = hashlib.sha256(f"{facts['cpu']} {facts['cores']} {choices} {native.available()}".encode()).hexdigest()[:12]
    path = base / f"training-kernels-{jax.__version__}-{device}-{os.environ.get('NPROC', 'all')}.jsonl"
    try:
        base.mkdir(parents=True, exist_ok=True)
        path.touch()
    except OSError:
        return None
    return path if os.access(path, os.R_OK | os.W_OK) else None


def read(path: Path) -> dict[str, Plan]:
    """All plans of a file, the first on each shape; what is damaged is passed over."""
    found: dict[str, Plan] = {}
    for line in path.read_text(errors="replace").splitlines():
        try:
            entry = json.loads(line)
            plan = Plan(*entry["plan"])
            known = plan.forward in FORWARD and plan.to_input in TO_INPUT and plan.to_kernel in TO_KERNEL
            if known:
                found.setdefault(str(entry["key"]), plan)
        except (ValueError, KeyError, TypeError):
            continue
    return found


def append(path: Path, key: str, plan: Plan) -> None:
    """Adds a plan in one write."""
    line = json.dumps({"key": key, "plan": named(plan)}) + "\n"
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND)
    try:
        os.write(descriptor, line.encode())
    finally:
        os.close(descriptor)


def named(plan: Plan) -> list[str]:
    """A plan as JSON."""
    return [plan.forward, plan.to_input, plan.to_kernel]


def measured(question: Asked) -> Plan:
    """The fastest plan for a question, by timing each product's formulations in turns; of attention whole steps."""
    rule = fixed(question)
    rng = np.random.default_rng(0)
    if isinstance(question, AttentionQuestion):
        q = dataclasses.replace(question, batch=min(question.batch, LARGEST_BATCH))
        sides = ((q.queries, q.features), (q.keys, q.features), (q.keys, q.outputs), (q.queries, q.outputs))
        given = (rng.standard_normal((q.batch, count, q.heads, size)).astype(q.dtype) for count, size in sides)
        name = _fastest(q, ATTENTION_STEPS, rule.forward, *given)
        return Plan(name, name, name)
    question = dataclasses.replace(question, input=(min(question.input[0], LARGEST_BATCH), *question.input[1:]))
    x, kernel, slope = (
        rng.standard_normal(shape).astype(question.dtype) for shape in (question.input, question.kernel, question.output)
    )
    return Plan(
        _fastest(question, FORWARD, rule.forward, x, kernel),
        _fastest(question, TO_INPUT, rule.to_input, slope, kernel),
        _fastest(question, TO_KERNEL, rule.to_kernel, x, slope),
    )


def _attention_step(attended: Attended) -> Callable[..., Any]:
    def step(question: AttentionQuestion, *arguments: jax.Array) -> Any:
        *given, slope = arguments
        out, back = jax.vjp(lambda query, key, value: attended(query, key, value, question.causal), *given)
        return out, back(slope)

    return step


ATTENTION_STEPS = {name: _attention_step(attended) for name, attended in FORMULATIONS.items()}


def _fastest(question: Asked, table: Mapping[str, Callable[..., Any]], rule: str, *arguments: np.ndarray) -> str:
    names = tuple(dict.fromkeys((rule, *fitting(question, table))))
    times = seconds(question, table, names, *arguments)
    best = min(times, key=lambda name: times[name])
    return best if times[best] < MARGIN * times[rule] else rule


def seconds(
    question: Asked, table: Mapping[str, Callable[..., Any]], names: Iterable[str], *arguments: np.ndarray
) -> dict[str, float]:
    """Seconds of one run of each formulation: compiled as training compiles, then the fastest round of each, in turns."""
    runs = {name: _compiled(question, table[name], arguments) for name in names}
    best: dict[str, float] = {}
    with turns.turn("cpu", "formulations of a convolution"):
        for name, run in runs.items():
            best[name] = _once(run)
        hopeful = [name for name in runs if best[name] <= HOPELESS * min(best.values())]
        for _ in range(ROUNDS):
            for name in hopeful:
                number = max(1, int(ROUND_S / best[name]))
                best[name] = min(best[name], *(_once(runs[name]) for _ in range(number)))
    return best


def _compiled(question: Asked, product: Callable[..., Any], arguments: tuple[np.ndarray, ...]) -> Callable[[], object]:
    from alphanas.scoring.compiled import CPU_OPTIONS

    placed = jax.device_put(arguments)
    compiled = jax.jit(lambda *given: product(question, *given)).lower(*placed).compile(compiler_options=CPU_OPTIONS)

    def run() -> object:
        return jax.block_until_ready(compiled(*placed))

    run()
    return run


def _once(run: Callable[[], object]) -> float:
    begin = time.perf_counter()
    run()
    return time.perf_counter() - begin
