"""Programs that are not chains: residual, gated, attending and multi-branch programs, of any number of inputs and outputs.

A program is series-parallel: a sequence in which some steps are blocks of branches that part at one value and meet in a merge;
branches may have blocks again. Which merges there are, and what they join, follows from the vocabulary and the operands' types
(`synth.branching.frame`); programs are drawn from a grammar over abstract states given that they meet the target
(`synth.branching.grammar`), their widths are set anew, and every result is verified as a whole. A branch is the value itself
(residual), or ends in another type that broadcasts (squeeze-and-excite), or in half of the channels (concatenation). Further
inputs join one by one, several outputs leave a common trunk.

Complete relative to bounds: `NESTING` blocks inside one another, `LONGEST_BODY` steps in a branch, the problem's `max_length` in
the trunk, `LARGEST` nodes. Within them every program that meets the target is drawn with a probability above zero. Where the
grammar accepts nothing within its bounds, that is a proof (it errs towards accepting), and the answer is Infeasible; where only
drawing failed, GaveUp.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from properties import Requirement, ShapeRequirement
from synth.branching.frame import Frame, frame
from synth.branching.grammar import LONGEST_BODY, NESTING, Grammar
from synth.branching.sizing import sized, sizes_of
from synth.branching.states import Asked, states
from synth.branching.term import Term, assembled, parsed, steps_of
from synth.effect import size_fields
from synth.graph import Graph
from synth.op import Value
from synth.problem import Cost, Problem, cost_of
from synth.proving import Clock, answer, prove
from synth.questions import questions
from synth.result import GaveUp, Infeasible, Result
from synth.target import describe

LARGEST = 24
"""Nodes that a program may have."""

DETOURS = 3
"""Shape changes that are looked for between an input and an output."""

TRIES = 200
"""Programs that are drawn in a row without any within the budget, before it is given up."""

CHEAP = 60
"""Programs of which the cheapest are taken where there is no chance to draw by."""


def synthesize(
    problem: Problem, *, rng: np.random.Generator | None = None, count: int = 1, time_limit: float | None = None
) -> Result:
    """`count` programs that meet the target and have branches; without `rng` the cheapest of some that are always the same.

    The time limit is for drawing; a problem of new types takes longer, until its grammar is made.
    """
    clock = Clock.of(time_limit)
    goals = goals_of(problem)
    if isinstance(goals, Infeasible):
        return goals
    grammar = grammar_of(problem, goals) if _frame(problem, goals).reachable else None
    if grammar is None or not grammar.total:
        return replace(_infeasible(problem, goals), seconds=clock.seconds)
    # The grammar is made once and serves all problems of these types: it does not count as time of this one.
    clock = replace(clock, deadline=clock.deadline + clock.seconds)
    graphs = _drawn(problem, grammar, rng, clock) if rng is not None else iter(_cheapest(problem, grammar, count, clock))
    reason = f"of {TRIES} programs in a row none had branches and kept {problem.target.budget}"
    return answer(problem, graphs, count, clock, diverse=rng is not None, otherwise=lambda: GaveUp(reason, clock.seconds))


def goals_of(problem: Problem) -> tuple[Value, ...] | Infeasible:
    """The types that the target wants of the outputs; ValueError if it leaves one open."""
    goals = []
    for output in range(problem.outputs):
        wanted = {each for each in problem.target.requirements if isinstance(each, ShapeRequirement) and each.output == output}
        goal = problem.target.output(problem.value.dtype, output)
        if goal is None:
            raise ValueError(f"the target must require the shape of output {output}, in every size but the batch's")
        if len(wanted) > 1:
            return Infeasible(tuple(sorted(map(describe, wanted))))
        goals.append(goal)
    return tuple(goals)


def grammar_of(problem: Problem, goals: tuple[Value, ...]) -> Grammar:
    """The grammar of a problem's programs, where the inputs lead to the outputs at all; memoised by what it depends on."""
    return _grammar(_frame(problem, goals), tuple(_asked(problem, goals)), problem.max_length)


@functools.lru_cache(maxsize=256)
def _grammar(here: Frame, asked: tuple[Asked, ...], longest: int) -> Grammar:
    lengths = np.array([0.0 if len(here.sources) == len(here.goals) == 1 else 1.0, *[1.0] * longest])
    return Grammar(here, states(here, asked), lengths / max(1.0, lengths.sum()))


def _frame(problem: Problem, goals: tuple[Value, ...]) -> Frame:
    # Widths that are set anew need no more than one width inside that stands for all.
    sizes = problem.sizes[-1:] if problem.widths else problem.sizes
    return frame(tuple(problem.vocabulary.values()), sizes, problem.values, goals, DETOURS)


def _asked(problem: Problem, goals: tuple[Value, ...]) -> Iterator[Asked]:
    """What the requirements ask, each of its own input and output."""
    for requirement in problem.target.requirements:
        source, output = getattr(requirement, "input", 0), getattr(requirement, "output", 0)
        if isinstance(requirement, ShapeRequirement) or source >= len(problem.values) or output >= len(goals):
            continue
        alone = replace(problem.target, requirements=(_moved(requirement),))
        for question in questions(replace(problem, value=problem.values[source], others=(), target=alone), goals[output]):
            yield Asked(question, source, output)


def _moved(requirement: Requirement) -> Requirement:
    """The same requirement for a program with one input and one output."""
    if getattr(requirement, "input", 0) or getattr(requirement, "output", 0):
        return replace(requirement, input=0, output=0)  # type: ignore[type-var]
    return requirement


def _infeasible(problem: Problem, goals: tuple[Value, ...]) -> Infeasible:
    """A smallest set of requirements that no program of the bounds meets, as far as dropping one at a time finds it."""
    ends = f"{', '.join(map(str, goals))} from {', '.join(map(str, problem.values))}"
    bounds = f"at most {problem.max_length} steps, branches of at most {LONGEST_BODY}, {NESTING} blocks inside one another"
    here = _frame(problem, goals)
    kept = list(_asked(problem, goals)) if here.reachable else []
    if not here.reachable or not _grammar(here, (), problem.max_length).total:
        return Infeasible((ends, bounds))
    for each in list(kept):
        rest = [other for other in kept if other is not each]
        if not _grammar(here, tuple(rest), problem.max_length).total:
            kept = rest
    return Infeasible((ends, bounds, *dict.fromkeys(each.question.label for each in kept)))


def _drawn(problem: Problem, grammar: Grammar, rng: np.random.Generator, clock: Clock) -> Iterator[Graph]:
    misses = 0
    while misses < TRIES and not clock.is_up:
        graph = _candidate(problem, grammar.sample(rng), rng)
        misses = misses + 1 if graph is None else 0
        if graph is not None:
            yield graph


def _candidate(problem: Problem, term: Term, rng: np.random.Generator | None) -> Graph | None:
    """A term as a program within the budget and the bounds, or None."""
    if not _fits(problem, term):
        return None
    return sized(assembled(problem.values, term), problem.widths, problem.target.budget, rng)


def _fits(problem: Problem, term: Term) -> bool:
    ops = list(steps_of(term))
    several = len(problem.values) > 1 or problem.outputs > 1
    return len(ops) <= LARGEST and (several or any(op.arity != 1 for op in ops))


def _cheapest(problem: Problem, grammar: Grammar, count: int, clock: Clock) -> list[Graph]:
    """The cheapest of some programs, each with its smallest widths."""
    rng, cost = np.random.default_rng(0), cost_of(problem)
    found: dict[str, Graph] = {}
    for _ in range(max(CHEAP, 4 * count)):
        graph = _candidate(problem, grammar.sample(rng), None)
        if graph is not None:
            found[graph.hash] = graph
        if clock.is_up:
            break
    return sorted(found.values(), key=lambda graph: _total(graph, cost))


def _total(graph: Graph, cost: Cost) -> float:
    return sum(cost(node.op, graph.input_values(node)[0]) for node in graph.nodes if node.op.arity == 1)


def derivable(problem: Problem, graph: Graph) -> bool:
    """Whether this procedure draws a program for a problem with a probability above zero.

    That is: the grammar derives its ops, its widths are among those that are drawn, it is within the bounds, and it is proven to
    meet the target. Programs of one input and one output.
    """
    return probability(problem, graph) > 0 and _widths_are_drawn(problem, graph) and prove(problem, graph).distance == 0


def probability(problem: Problem, graph: Graph) -> float:
    """The probability that one draw for a problem gives a program's ops, sizes aside; 0 for what is not within the bounds."""
    goals, term = goals_of(problem), parsed(graph)
    if isinstance(goals, Infeasible) or term is None or not _fits(problem, term) or not _frame(problem, goals).reachable:
        return 0.0
    return grammar_of(problem, goals).probability(term)


def _widths_are_drawn(problem: Problem, graph: Graph) -> bool:
    found = sizes_of(graph)
    nominal = {value.channels for value in _frame(problem, tuple(graph.values[name] for name in graph.outputs)).values}
    free = set(itertools.chain.from_iterable(found.groups)) if problem.widths else set()
    for node in graph.nodes:
        sizes = {getattr(node.op, name) for name in size_fields(type(node.op))}
        if not sizes <= (set(problem.widths) if node.name in free else nominal):
            return False
    return True
