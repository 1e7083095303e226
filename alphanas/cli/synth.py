"""`synth MODEL --region FIRST..LAST`: other programs for a piece of a model that do what it does."""

from __future__ import annotations

import argparse
import json
import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from alphanas.cli.common import add_json, add_model, duration, natural, positive, print_json
from alphanas.errors import FAILED, UserError, nearest

if TYPE_CHECKING:
    from synth import Region
    from synth.problem import Problem
    from synth.target import Target

HELP = """synthesize other programs for a region of a model

The programs have the region's output shape, at least its depth and its mixing, and keep the budget. They are drawn at random,
or, with --cheapest, those with the fewest parameters. Exit code 1 if there is no such program, or none was found in time."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `synth`."""
    add_model(parser)
    parser.add_argument("--region", required=True, metavar="FIRST..LAST", help="names of nodes: all on paths from FIRST to LAST")
    parser.add_argument("--method", default="exact", metavar="NAME", help="synthesis procedure (default: %(default)s)")
    parser.add_argument("--count", type=positive, default=5, metavar="N", help="programs wanted (default: %(default)s)")
    parser.add_argument("--min-params", type=natural, default=0, metavar="N", help="fewest parameters (default: 0)")
    parser.add_argument("--max-params", type=positive, metavar="N", help="most parameters")
    parser.add_argument("--max-macs", type=positive, metavar="N", help="most multiply-adds of one example")
    parser.add_argument("--max-length", type=positive, metavar="N", help="most ops (default: two more than the region)")
    parser.add_argument("--depth", type=natural, metavar="N", help="ask for at least this depth in place of the region's")
    parser.add_argument("--seed", type=natural, default=0, metavar="N", help="seed of the draw (default: %(default)s)")
    parser.add_argument("--cheapest", action="store_true", help="the programs with the fewest parameters in place of random ones")
    parser.add_argument("--time-limit", type=duration, default=30.0, metavar="TIME", help="such as 10s (default: 30s)")
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Synthesizes, and prints the programs."""
    import numpy as np

    from alphanas.cli.model import load_model, region_of
    from synth.procedures import METHODS, synthesize
    from synth.result import Found

    if arguments.method not in METHODS:
        saw = "no such synthesis procedure"
        raise UserError(f"--method {arguments.method}", saw=saw, remedy=nearest(arguments.method, METHODS))
    region = region_of(load_model(arguments).graph, arguments.region)
    problem = _problem(region, arguments)
    rng = None if arguments.cheapest else np.random.default_rng(arguments.seed)
    result = synthesize(problem, arguments.method, rng=rng, count=arguments.count, time_limit=arguments.time_limit)
    facts = {"region": _subject(region), "target": str(problem.target), "method": arguments.method, **_answer(result)}
    if arguments.json:
        print_json(facts)
    else:
        _print(facts)
    return 0 if isinstance(result, Found) else FAILED


def _problem(region: Region, arguments: argparse.Namespace) -> Problem:
    from synth import GraphError
    from synth.budget import UNLIMITED
    from synth.problem import Problem, widths_up_to

    target = _target(region, arguments)
    try:
        problem = Problem.of(region, target)
    except GraphError as error:
        remedy = "choose a region that one value goes into and one comes out of"
        raise UserError(f"--region {arguments.region}", saw=str(error), remedy=remedy) from error
    widths = widths_up_to(max(problem.sizes, default=0)) if target.budget != UNLIMITED else ()
    return replace(problem, max_length=arguments.max_length or problem.max_length, widths=widths)


def _target(region: Region, arguments: argparse.Namespace) -> Target:
    from properties import DepthRequirement
    from synth.budget import Budget, Interval
    from synth.target import Target

    most = arguments.max_params or math.inf
    if arguments.min_params > most:
        raise UserError(f"--min-params {arguments.min_params}", saw="more than --max-params", wanted=f"at most {most}")
    budget = Budget(Interval(arguments.min_params, most), Interval(0, arguments.max_macs or math.inf))
    target = Target.of(region, budget)
    if arguments.depth is None:
        return target
    asked = tuple(
        replace(each, minimum=arguments.depth) if isinstance(each, DepthRequirement) else each for each in target.requirements
    )
    return replace(target, requirements=asked)


def _subject(region: Region) -> dict[str, Any]:
    from synth.analysis import macs

    piece = region.subgraph()
    return {"name": str(region), "ops": [str(node.op) for node in region.nodes], "params": piece.params, "macs": macs(piece)}


def _answer(result: Any) -> dict[str, Any]:
    """What synthesis answered, as JSON."""
    from synth.result import Found, GaveUp, Infeasible

    match result:
        case Found(graphs=graphs, proofs=proofs, seconds=seconds, optimal=optimal):
            programs = [
                {
                    "ops": [str(node.op) for node in graph.nodes],
                    "params": proof.params,
                    "macs": proof.macs,
                    "distance": proof.distance,
                    "graph": json.loads(graph.to_json()),
                }
                for graph, proof in zip(graphs, proofs, strict=True)
            ]
            return {"status": "found", "optimal": optimal, "seconds": seconds, "programs": programs}
        case Infeasible(core=core, seconds=seconds):
            return {"status": "infeasible", "core": list(core), "seconds": seconds, "programs": []}
        case GaveUp(reason=reason, seconds=seconds):
            return {"status": "gave_up", "reason": reason, "seconds": seconds, "programs": []}
        case _:
            raise TypeError(f"synthesis answered {result!r}")


def _print(facts: dict[str, Any]) -> None:
    region = facts["region"]
    print(f"region  {region['name']}: {' → '.join(region['ops'])}")
    print(f"        {region['params']:,} parameters, {region['macs']:,} MACs")
    print(f"target  {facts['target']}")
    if facts["status"] == "infeasible":
        print(f"no program meets {' together with '.join(facts['core'])} ({facts['seconds']:.2f} s)")
    if facts["status"] == "gave_up":
        print(f"gave up after {facts['seconds']:.2f} s: {facts['reason']}")
    for number, program in enumerate(facts["programs"], start=1):
        print(f"{number:>6}  {' → '.join(program['ops'])}\n        {program['params']:,} parameters, {program['macs']:,} MACs")
    if facts["programs"]:
        first = ", the first is the cheapest there is" if facts["optimal"] else ""
        print(f"{len(facts['programs'])} programs in {facts['seconds']:.2f} s, each checked against its jaxpr{first}")
