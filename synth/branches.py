"""Programs that are not chains: residual, gated, attending and multi-branch programs, of any number of inputs and outputs.

A program is series-parallel: a sequence in which some steps are blocks of branches that part at one value and meet in a merge;
branches may have blocks again. Which merges there are, and what they join, follows from the vocabulary and the operands' types
(`synth.branching.frame`); programs are drawn from a grammar over abstract states given that they meet the target
(`synth.branching.grammar`), their widths are set anew, and every result is verified as a whole. A branch is the value itself
(residual), or ends in another type that broadcasts (squeeze-and-excite), or in half of the channels (concatenation). Further
inputs join one by one, several outputs leave a common trunk.

Blocks whose branches share nodes are no series-parallel programs and are never drawn: their grammar would need a state for every
set of values that are alive together. They are reached from here one edge at a time by rewiring (`synth.rewiring`).

Programs are drawn from a coarse grammar and refused by what they fail; only what most programs fail is asked of the states, which
changes how many are drawn in vain and not how likely each one is. Where most miss the budget the prior is tilted towards ops that
cost less (or more), and what no program within the budget can have is left out.

Complete relative to bounds: `NESTING` blocks inside one another, `LONGEST_BODY` steps in a branch, the problem's `max_length` in
the trunk, `LARGEST` nodes. Within them every program that meets the target is drawn with a probability above zero. Where the
grammar accepts nothing within its bounds, that is a proof (it errs towards accepting), and the answer is Infeasible; where only
drawing failed, GaveUp.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from properties import Requirement, ShapeRequirement
from synth.branching import membership
from synth.branching.asking import unmet
from synth.branching.floor import favour, within
from synth.branching.frame import Frame, frame
from synth.branching.grammar import Grammar
from synth.branching.sizing import Unfit, sized, sizes_of
from synth.branching.states import Asked, states
from synth.branching.story import LONGEST_BODY, NESTING, SHORTENING, Story
from synth.branching.term import Term, assembled, parsed, steps_of
from synth.budget import UNLIMITED, Budget
from synth.clock import ENDLESS, Clock, TimeIsUp
from synth.core import smallest_core
from synth.effect import size_fields
from synth.graph import Graph
from synth.memo import Memo
from synth.op import Value
from synth.problem import Cost, Problem, cost_of
from synth.proving import answer, prove
from synth.questions import questions
from synth.result import GaveUp, Infeasible, Result
from synth.target import describe

LARGEST = 24
"""Nodes that a program may have."""

DETOURS = 3
"""Shape changes that are looked for between an input and an output."""

TRIES = 200
"""Programs that are drawn in a row without any within the budget, before it is given up."""

BATCH = 40
"""Programs that are drawn before it is seen whether too many fail the same question."""

A_DRAW = 20
"""Steps that one draw takes."""

ENOUGH = 4
"""Programs of a batch that are enough to go on as before."""

STEEPEST_TILT = 1000.0

CHEAP = 60
"""Programs of which the cheapest are taken where there is no chance to draw by."""


def synthesize(
    problem: Problem,
    *,
    rng: np.random.Generator | None = None,
    count: int = 1,
    time_limit: float | None = None,
    steps: float | None = None,
) -> Result:
    """`count` programs that meet the target and have branches; without `rng` the cheapest of some that are always the same."""
    clock = Clock.of(time_limit, steps)
    goals = goals_of(problem)
    if isinstance(goals, Infeasible):
        return goals
    run = _Run(problem, goals, clock, rng)
    graphs = run.graphs() if rng is not None else iter(_cheapest(problem, run, count))
    return answer(problem, graphs, count, clock, diverse=rng is not None, otherwise=run.reason)


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


GrammarKey = tuple[Frame, tuple[Asked, ...], int, int | None, Budget, float]
_GRAMMARS: Memo[GrammarKey, tuple[Grammar, int]] = Memo(256)


def _grammar(
    here: Frame,
    asked: tuple[Asked, ...],
    longest: int,
    *,
    narrowest: int | None = None,
    budget: Budget = UNLIMITED,
    tilt: float = 0.0,
    clock: Clock = ENDLESS,
) -> Grammar:
    key = here, asked, longest, narrowest, budget if tilt else UNLIMITED, tilt

    def made() -> Grammar:
        several = len(here.sources) > 1 or len(here.goals) > 1
        lengths = np.array([float(several), *(SHORTENING**k for k in range(longest))])
        story = Story(here, states(here, asked, clock=clock), favour(here, narrowest, budget, tilt), clock=clock)
        return Grammar(story, lengths / lengths.sum() if lengths.any() else lengths)

    found = clock.remembered(_GRAMMARS, key, made)
    found.prepare(clock)
    return found


def _frame(problem: Problem, goals: tuple[Value, ...], clock: Clock = ENDLESS) -> Frame:
    # Widths that are set anew need no more than one width inside that stands for all.
    sizes = problem.sizes[-1:] if problem.widths else problem.sizes
    return frame(tuple(problem.vocabulary.values()), sizes, problem.values, goals, DETOURS, clock=clock)


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


class _Run:
    """One search for programs of a problem: drawn given what is cheap to ask, and more where most are refused.

    The story given that a program is accepted is the same story whether what accepts it is asked of the states that it is drawn by
    or of the finished program; so questions join the states only when most programs fail them, and the prior is tilted to cheap
    ops (or dear ones) only when most miss the budget.
    """

    def __init__(self, problem: Problem, goals: tuple[Value, ...], clock: Clock, rng: np.random.Generator | None) -> None:
        self.problem, self.goals, self.clock, self.rng = problem, goals, clock, rng
        self.draws = rng if rng is not None else np.random.default_rng(0)
        self.asked = tuple(_asked(problem, goals))
        self.kept: tuple[Asked, ...] = ()
        self.tilt = 0.0
        self.impossible = False

    def graphs(self) -> Iterator[Graph]:
        """Programs within the budget and the bounds that answer all questions, until it is of no use to go on."""
        misses = 0
        try:
            while misses < TRIES:
                grammar = self.grammar()
                if grammar is None:
                    self.impossible = True
                    return
                causes: Counter[Asked | Unfit | None] = Counter()
                for _ in range(BATCH):
                    found = self._candidate(grammar.sample(self.draws))
                    if isinstance(found, Graph):
                        yield found
                    causes[None if isinstance(found, Graph) else found] += 1
                    misses = 0 if isinstance(found, Graph) else misses + 1
                    self.clock.check(A_DRAW)
                if causes[None] < ENOUGH:
                    misses = 0 if self._refined(causes) else misses
        except TimeIsUp:
            return

    def grammar(self) -> Grammar | None:
        """The grammar by which programs are drawn; None if it accepts nothing. TimeIsUp if there is no time to make it."""
        here = within(_frame(self.problem, self.goals, self.clock), self.narrowest, self.problem.target.budget)
        return self._accepting(here, self.kept)

    @property
    def narrowest(self) -> int | None:
        return min(self.problem.widths, default=None)

    def _accepting(self, here: Frame, asked: tuple[Asked, ...]) -> Grammar | None:
        if not here.reachable:
            return None
        budget, clock = self.problem.target.budget, self.clock
        made = _grammar(here, asked, self.problem.max_length, narrowest=self.narrowest, budget=budget, tilt=self.tilt, clock=clock)
        return made if made.total else None

    def _candidate(self, term: Term) -> Graph | Asked | Unfit:
        """A term as a program that answers all questions and is within the budget and the bounds, or what it fails."""
        if sum(1 for _ in steps_of(term)) > LARGEST:
            return Unfit.LARGE
        graph = assembled(self.problem.values, term)
        return unmet(graph, self.asked) or sized(graph, self.problem.widths, self.problem.target.budget, self.rng)

    def _refined(self, causes: Counter[Asked | Unfit | None]) -> bool:
        """Asks one more question of the states, or tilts the prior, by what most programs failed; False if nothing is left."""
        for cause, _ in causes.most_common():
            if isinstance(cause, Asked) and cause not in self.kept:
                self.kept = tuple(each for each in self.asked if each in self.kept or each is cause)
                return True
            step = {Unfit.DEAR: 1.0, Unfit.CHEAP: -1.0}.get(cause, 0.0) if isinstance(cause, Unfit) else 0.0
            if step and abs(self.tilt) < STEEPEST_TILT:
                self.tilt = 4 * self.tilt if self.tilt * step > 0 else 0.0 if self.tilt else step
                return True
        return False

    def reason(self) -> Infeasible | GaveUp:
        """Why nothing was found."""
        if self.clock.is_up and not self.impossible:
            return GaveUp(f"{self.clock.reason} before a program was found within {self.problem.target.budget}", self.clock.seconds)
        if not self.impossible:
            reason = f"of {TRIES} programs in a row none had branches and kept {self.problem.target.budget}"
            return GaveUp(reason, self.clock.seconds)
        return Infeasible((*self._bounds(), *self._core()), self.clock.seconds)

    def _bounds(self) -> tuple[str, str]:
        """What is asked of every program, whatever the requirements."""
        ends = f"{', '.join(map(str, self.goals))} from {', '.join(map(str, self.problem.values))}"
        bodies = f"branches of at most {LONGEST_BODY}, {NESTING} blocks inside one another"
        return ends, f"at most {self.problem.max_length} steps, {bodies}"

    def _core(self) -> list[str]:
        """A smallest set of what is asked that nothing within the bounds meets, as far as the time allows."""
        budget = self.problem.target.budget
        limits = [name for name in ("params", "macs") if getattr(budget, name).high < math.inf]

        def excluded(parts: list[Asked | str]) -> bool:
            asked = tuple(each for each in parts if isinstance(each, Asked))
            limit = Budget(**{each: getattr(budget, each) for each in parts if isinstance(each, str)})
            try:
                here = within(_frame(self.problem, self.goals, self.clock), self.narrowest, limit)
                return self._accepting(here, asked) is None
            except TimeIsUp:
                return False

        parts: list[Asked | str] = [*self.asked, *limits]
        found = smallest_core(parts, excluded, is_late=lambda: self.clock.is_up)
        names = {"params": f"{budget.params} parameters", "macs": f"{budget.macs} MACs"}
        return list(dict.fromkeys(names[each] if isinstance(each, str) else each.question.label for each in found))


def _cheapest(problem: Problem, run: _Run, count: int) -> list[Graph]:
    """The cheapest of some programs, each with its smallest widths."""
    found = {graph.hash: graph for graph in itertools.islice(run.graphs(), max(CHEAP, 4 * count))}
    cost = cost_of(problem)
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
    if (
        isinstance(goals, Infeasible)
        or term is None
        or sum(1 for _ in steps_of(term)) > LARGEST
        or not _frame(problem, goals).reachable
    ):
        return 0.0
    return membership.probability(grammar_of(problem, goals), term)


def _widths_are_drawn(problem: Problem, graph: Graph) -> bool:
    found = sizes_of(graph)
    nominal = {value.channels for value in _frame(problem, tuple(graph.values[name] for name in graph.outputs)).values}
    free = set(itertools.chain.from_iterable(found.groups)) if problem.widths else set()
    for node in graph.nodes:
        sizes = {getattr(node.op, name) for name in size_fields(type(node.op))}
        if not sizes <= (set(problem.widths) if node.name in free else nominal):
            return False
    return True
