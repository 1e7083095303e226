"""What every procedure does with its candidates: prove them by interpreting the whole program, and answer."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from synth.analysis import macs
from synth.canonical import canonical
from synth.clock import Clock
from synth.effect import summary
from synth.equivalence import equivalent
from synth.graph import Graph
from synth.memory import peak_bytes
from synth.problem import Problem, left_to_proof
from synth.result import Found, GaveUp, Infeasible, Proof, Result
from synth.target import describe
from synth.tracing import interpret

A_NODE = 5
"""Steps that proving a program takes, for each of its nodes."""

PATIENCE = 40
"""Candidates in a row that may be repetitions before a procedure is held to have no others."""

REFUSALS = 1000
"""Candidates that may turn out not to meet the target before a procedure gives up."""


def prove(problem: Problem, graph: Graph) -> Proof:
    """What interpreting the program's whole jaxpr says about it."""
    found = interpret(graph, problem.asked)
    params, work, memory = graph.params, macs(graph), peak_bytes(graph)
    return Proof(found, problem.target.distance_of(found, params, work, memory), params, work, memory)


def _proven(problem: Problem, graph: Graph) -> tuple[Graph, Proof] | None:
    proof = prove(problem, graph)
    return (graph, proof) if proof.distance == 0 else None


def _is_readied(graph: Graph, clock: Clock) -> bool:
    """Whether there was the time to find out what each op of a program does; the proof of the whole then takes little more."""
    for node in graph.nodes:
        if not clock.take(A_NODE):
            return False
        summary(node.op, graph.input_values(node))
    return True


def answer(
    problem: Problem,
    candidates: Iterable[Graph],
    count: int,
    clock: Clock,
    *,
    optimal: bool = False,
    diverse: bool = False,
    otherwise: Callable[[], Infeasible | GaveUp],
) -> Result:
    """The first `count` candidates that are proven to meet the target, no two of one canonical form; `otherwise` says why if there
    are none.

    They come out canonical, unless what changes nothing is what meets the target. With `diverse`, no two are known to compute the
    same either.
    """
    found: dict[str, tuple[Graph, Proof]] = {}
    repeated = refused = 0
    for graph in candidates:
        if not _is_readied(graph, clock):
            break
        form = canonical(graph)
        known = form.hash in found or (diverse and any(equivalent(form, other) for other, _ in found.values()))
        repeated = repeated + 1 if known else 0
        proven = None if known else _proven(problem, form) or (None if form == graph else _proven(problem, graph))
        refused += not known and proven is None
        if proven is not None:
            found[form.hash] = proven
        if len(found) == count or repeated > PATIENCE or refused == REFUSALS or clock.is_up:
            break
    if found:
        graphs, proofs = zip(*found.values(), strict=True)
        return Found(graphs, proofs, clock.seconds, optimal=optimal)
    unproven = [describe(each) for each in problem.target.requirements if left_to_proof(each)]
    if unproven and refused:
        return GaveUp(f"none of {refused} programs that meet the rest of the target has {' and '.join(unproven)}", clock.seconds)
    if refused == REFUSALS:
        return GaveUp(f"none of {refused} candidates was proven to meet the target", clock.seconds)
    if clock.is_up:
        return GaveUp(f"{clock.reason} before a program was found within {problem.target.budget}", clock.seconds)
    return otherwise()
