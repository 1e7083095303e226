"""`synth MODEL --region FIRST..LAST`, other programs for a piece of a model; `synth MODEL --resize`, other sizes for all of it."""

from __future__ import annotations

import argparse
import json
import math
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alphanas.cli.amounts import Amount, amount, share
from alphanas.cli.common import add_json, add_model, duration, natural, positive, print_json, words
from alphanas.errors import FAILED, Fault, UserError, nearest

if TYPE_CHECKING:
    from synth import Graph, Region
    from synth.budget import Budget
    from synth.problem import Problem
    from synth.result import Proof, Result
    from synth.target import Target

HELP = """synthesize other programs for a region of a model, or other sizes for the whole model

With --region: programs that have the region's output shape, at least its depth and its mixing, and keep the budget; or that meet
the target of a TOML file. They are drawn at random, or, with --cheapest, those with the fewest parameters.

With --resize: all widths of the model at once, with the ties that sums, gates and concatenations impose, so that the most capacity
is kept within the budget (or what --objective says), to a proven optimum or with the gap that is left.

Exit code 1 if there is no such program, or none was found in time."""

ONLY = {
    "--region": ("method", "count", "min_params", "max_length", "depth", "cheapest", "target"),
    "--resize": ("multiple", "keep_rank", "keep", "objective", "free"),
}
"""Arguments that make sense with one of the two only; all have no value unless given."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `synth`."""
    add_model(parser)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--region", metavar="FIRST..LAST", help="names of nodes: all on paths from FIRST to LAST")
    what.add_argument("--resize", action="store_true", help="all sizes of the model at once")
    limits = parser.add_argument_group("budget (numbers, or shares of what the region or model has, such as 40%)")
    limits.add_argument("--min-params", type=amount, metavar="N", help="fewest parameters; with --region")
    limits.add_argument("--max-params", type=amount, metavar="N", help="most parameters")
    limits.add_argument("--max-macs", type=amount, metavar="N", help="most multiply-adds of one example")
    limits.add_argument("--max-bytes", type=amount, metavar="N", help="most bytes of values alive at once, of one example")
    region = parser.add_argument_group("with --region")
    region.add_argument("--target", type=Path, metavar="FILE", help="TOML with what to meet in place of the region's properties")
    region.add_argument("--depth", type=natural, metavar="N", help="ask for at least this depth in place of the region's")
    region.add_argument("--method", metavar="NAME", help="synthesis procedure (default: exact)")
    region.add_argument("--count", type=positive, metavar="N", help="programs wanted (default: 5)")
    region.add_argument("--max-length", type=positive, metavar="N", help="most ops (default: two more than the region)")
    region.add_argument("--cheapest", action="store_const", const=True, help="those with the fewest parameters")
    region.add_argument("--seed", type=natural, default=0, metavar="N", help="seed of the draw (default: %(default)s)")
    sizes = parser.add_argument_group("with --resize")
    sizes.add_argument("--multiple", type=positive, metavar="N", help="widths are multiples of N (default: 8)")
    sizes.add_argument(
        "--keep-rank",
        type=share,
        nargs="?",
        const=1.0,
        metavar="SHARE",
        help="keep this share of every stage's rank bound (alone: all)",
    )
    sizes.add_argument("--keep", type=share, metavar="SHARE", help="keep at least this share of the capacity")
    sizes.add_argument("--objective", metavar="NAME", help="capacity (default), proportional, params or macs")
    sizes.add_argument("--free", type=words, metavar="LIST", help="of widths, depths, groups, heads, kernel … (default: widths)")
    parser.add_argument("--out", type=Path, metavar="PATH", help="write the whole model's graphs: a folder, or one file *.json")
    parser.add_argument("--time-limit", type=duration, metavar="TIME", help="such as 10s (default: 30s; 10s with --resize)")
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Synthesizes, and prints the programs."""
    from alphanas.cli.model import load_model, region_of
    from synth.result import Found

    _check_words(arguments)
    graph = load_model(arguments).graph
    if arguments.resize:
        result, facts, wholes = _resize(graph, arguments)
    else:
        result, facts, wholes = _replace(region_of(graph, arguments.region), arguments)
    facts["files"] = _written(wholes, arguments.out) if wholes and arguments.out is not None else []
    if arguments.json:
        print_json(facts)
    else:
        _print(facts)
    return 0 if isinstance(result, Found) else FAILED


def _check_words(arguments: argparse.Namespace) -> None:
    """Refuses arguments that go together with the other of --region and --resize only, all at once."""
    chosen, other = ("--resize", "--region") if arguments.resize else ("--region", "--resize")
    faults = [
        Fault(f"--{name.replace('_', '-')}", saw=f"together with {chosen}", wanted=f"it with {other} only")
        for name in ONLY[other]
        if getattr(arguments, name) is not None
    ]
    budget = ("min_params", "max_params", "max_macs", "max_bytes", "depth")
    if arguments.target is not None:
        faults += [
            Fault(f"--{name.replace('_', '-')}", saw="together with --target", remedy="say it in the file")
            for name in budget
            if getattr(arguments, name) is not None
        ]
    if faults:
        raise UserError(faults)


def _replace(region: Region, arguments: argparse.Namespace) -> tuple[Result, dict[str, Any], list[Graph]]:
    """Other programs for a region: the answer, what is to be said, and the whole model with each of them."""
    import numpy as np

    from synth import splice
    from synth.procedures import METHODS, SEVERAL_ENDS, synthesize
    from synth.result import Found

    method = arguments.method or "exact"
    if method not in METHODS:
        raise UserError(f"--method {method}", saw="no such synthesis procedure", remedy=nearest(method, METHODS))
    if method not in SEVERAL_ENDS and (len(region.inputs), len(region.outputs)) != (1, 1):
        remedy = "--method branches, or a region that one value goes into and one comes out of"
        raise UserError(f"--region {arguments.region}", saw=region.ends(), wanted=f"for {method} one of each", remedy=remedy)
    problem = _problem(region, arguments)
    rng = None if arguments.cheapest else np.random.default_rng(arguments.seed)
    limit = arguments.time_limit or 30.0
    result = synthesize(problem, method, rng=rng, count=arguments.count or 5, time_limit=limit)
    facts = {"region": _subject(region), "target": str(problem.target), "method": method, **_answer(result)}
    wholes = [splice(region.graph, region, piece) for piece in result.graphs] if isinstance(result, Found) else []
    return result, facts, wholes


def _resize(graph: Graph, arguments: argparse.Namespace) -> tuple[Result, dict[str, Any], list[Graph]]:
    """Other sizes for a whole graph."""
    from synth import resize
    from synth.analysis import macs
    from synth.memory import peak_bytes
    from synth.resizing import OBJECTIVES
    from synth.result import Found
    from synth.ties import ties

    objective = arguments.objective or "capacity"
    if objective not in OBJECTIVES:
        raise UserError(f"--objective {objective}", saw="no such objective", remedy=nearest(objective, OBJECTIVES))
    budget = _budget(arguments, graph)
    try:
        result = resize(
            graph,
            budget,
            multiple=arguments.multiple or 8,
            keep_rank=arguments.keep_rank or 0.0,
            keep=arguments.keep or 0.0,
            objective=objective,
            free=arguments.free or ("widths",),
            time_limit=arguments.time_limit or 10.0,
        )
    except ValueError as error:
        raise UserError("--resize", saw=str(error)) from error
    whole = {"name": arguments.model, "params": graph.params, "macs": macs(graph), "peak_bytes": peak_bytes(graph)}
    facts = {"model": whole, "target": str(budget), "objective": objective, **_answer(result)}
    if not isinstance(result, Found):
        return result, facts, []
    facts |= {"value": result.value, "gap": result.gap}
    after = result.graph.by_name
    facts["widths"] = [
        {"nodes": [name for name, _ in width.setters], "before": width.size, "after": getattr(after[kept[0]].op, kept[1])}
        for width in ties(graph).widths
        if (kept := next((setter for setter in width.setters if setter[0] in after), None)) is not None
    ]
    facts["left_out"] = [name for name in graph.by_name if name not in after]
    return result, facts, [result.graph]


def _problem(region: Region, arguments: argparse.Namespace) -> Problem:
    from synth import GraphError
    from synth.budget import UNLIMITED
    from synth.problem import Problem, widths_up_to

    target = _from_file(region, arguments.target) if arguments.target is not None else _target(region, arguments)
    try:
        problem = Problem.of(region, target)
    except GraphError as error:
        raise UserError(f"--region {arguments.region}", saw=str(error), remedy="choose a region that reads a value") from error
    widths = widths_up_to(max(problem.sizes, default=0)) if target.budget != UNLIMITED else ()
    return replace(problem, max_length=arguments.max_length or problem.max_length, widths=widths)


def _target(region: Region, arguments: argparse.Namespace) -> Target:
    from properties import DepthRequirement
    from synth.target import Target

    target = Target.of(region, _budget(arguments, region.subgraph()))
    if arguments.depth is None:
        return target
    asked = tuple(
        replace(each, minimum=arguments.depth) if isinstance(each, DepthRequirement) else each for each in target.requirements
    )
    return replace(target, requirements=asked)


def _from_file(region: Region, path: Path) -> Target:
    """The target of a TOML file; the shape is the region's unless the file says another."""
    from synth.target import Target

    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"--target {path}", saw=error.strerror or "it cannot be read", wanted="a TOML file") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"--target {path}", saw=f"no TOML: {error}") from error
    try:
        return Target.from_table(table, region.graph.values[region.outputs[0]].shape)
    except ValueError as error:
        raise UserError(f"--target {path}", saw=str(error)) from error


def _budget(arguments: argparse.Namespace, graph: Graph) -> Budget:
    """The budget in numbers: shares are of what the graph has."""
    from synth.analysis import macs
    from synth.budget import Budget, Interval
    from synth.memory import peak_bytes

    def interval(low: Amount | None, high: Amount | None, whole: int, name: str) -> Interval:
        least = 0 if low is None else low.of(whole)
        most = math.inf if high is None else high.of(whole)
        if most < 1:
            raise UserError(f"--max-{name} {high}", saw=f"that is less than one of {whole:,}", wanted="at least one")
        if least > most:
            raise UserError(f"--min-{name} {low}", saw=f"{least:,}, more than --max-{name}", wanted=f"at most {most:,}")
        return Interval(least, most)

    return Budget(
        interval(arguments.min_params, arguments.max_params, graph.params, "params"),
        interval(None, arguments.max_macs, macs(graph), "macs"),
        interval(None, arguments.max_bytes, peak_bytes(graph), "bytes"),
    )


def _subject(region: Region) -> dict[str, Any]:
    from synth.analysis import macs
    from synth.memory import peak_bytes

    piece = region.subgraph()
    ops = [str(node.op) for node in region.nodes]
    return {"name": str(region), "ops": ops, "params": piece.params, "macs": macs(piece), "peak_bytes": peak_bytes(piece)}


def _answer(result: Result) -> dict[str, Any]:
    """What synthesis answered, as JSON."""
    from synth.result import Found, GaveUp, Infeasible

    match result:
        case Found(graphs=graphs, proofs=proofs, seconds=seconds, optimal=optimal):
            programs = [
                {
                    "ops": [str(node.op) for node in graph.nodes],
                    "params": proof.params,
                    "macs": proof.macs,
                    "peak_bytes": proof.peak_bytes,
                    "distance": proof.distance,
                    "proof": _proof(proof),
                    "graph": json.loads(graph.to_json()),
                }
                for graph, proof in zip(graphs, proofs, strict=True)
            ]
            return {"status": "found", "optimal": optimal, "seconds": seconds, "programs": programs}
        case Infeasible(core=core, seconds=seconds):
            return {"status": "infeasible", "core": list(core), "seconds": seconds, "programs": []}
        case GaveUp(reason=reason, seconds=seconds):
            return {"status": "gave_up", "reason": reason, "seconds": seconds, "programs": []}


def _proof(proof: Proof) -> dict[str, Any]:
    """What interpreting the whole jaxpr said: for one example, of the first input and output."""
    from synth.op import PROBE_BATCH

    found = proof.inference
    return {
        "output_shape": [None, *found.shape[0].shape[1:]],
        "depth": found.depth[0, 0],
        "mixing": found.mixing[0, 0].matrix.tolist(),
        "rank": found.rank[0, 0] // PROBE_BATCH,
    }


def _written(graphs: list[Graph], out: Path) -> list[str]:
    """Writes graphs to a folder, or the first one to a file; the paths."""
    one = out.suffix == ".json"
    paths = [out] if one else [out / f"graph{number}.json" for number in range(1, len(graphs) + 1)]
    try:
        (out.parent if one else out).mkdir(parents=True, exist_ok=True)
        for path, graph in zip(paths, graphs, strict=False):
            path.write_text(graph.to_json(), encoding="utf-8")
    except OSError as error:
        raise UserError(f"--out {out}", saw=error.strerror or "it cannot be written", exit_code=FAILED) from error
    return [str(path) for path in paths[: len(graphs)]]


def _print(facts: dict[str, Any]) -> None:
    subject = facts.get("region") or facts["model"]
    kind = "region" if "region" in facts else "model "
    print(f"{kind}  {subject['name']}{': ' + ' → '.join(subject['ops']) if 'ops' in subject else ''}")
    print(f"        {_costs(subject)}")
    print(f"target  {facts['target']}")
    if facts["status"] == "infeasible":
        print(f"no program meets {' together with '.join(facts['core'])} ({facts['seconds']:.2f} s)")
    if facts["status"] == "gave_up":
        print(f"gave up after {facts['seconds']:.2f} s: {facts['reason']}")
    if facts["status"] == "found":
        (_print_sizes if "widths" in facts else _print_programs)(facts)
    for path in facts["files"]:
        print(f"written {path}")


def _print_programs(facts: dict[str, Any]) -> None:
    for number, program in enumerate(facts["programs"], start=1):
        print(f"{number:>6}  {' → '.join(program['ops']) or 'nothing'}\n        {_costs(program)}\n        {_claims(program)}")
    first = ", the first is the cheapest there is" if facts["optimal"] else ""
    print(f"{len(facts['programs'])} programs in {facts['seconds']:.2f} s, each checked against its jaxpr{first}")


def _print_sizes(facts: dict[str, Any]) -> None:
    (program,) = facts["programs"]
    for width in facts["widths"]:
        if width["before"] != width["after"]:
            print(f"{width['before']:>6} → {width['after']:<5} {', '.join(width['nodes'])}")
    if facts["left_out"]:
        print(f"left out: {', '.join(facts['left_out'])}")
    print(f"result  {_costs(program, facts['model'])}\n        {_claims(program)}")
    value = f"{facts['value']:.4f}" if facts["objective"] in ("capacity", "proportional") else f"{facts['value']:,.0f}"
    proven = "proven to be the best" if facts["optimal"] else f"at most {facts['gap']:.3%} from the best"
    print(f"{facts['objective']} {value}, {proven}; {facts['seconds']:.2f} s, checked against its jaxpr")


def _costs(program: dict[str, Any], before: dict[str, Any] | None = None) -> str:
    def figure(key: str, name: str) -> str:
        of = f" ({program[key] / before[key]:.1%})" if before and before[key] else ""
        return f"{program[key]:,} {name}{of}"

    return ", ".join((figure("params", "parameters"), figure("macs", "MACs"), figure("peak_bytes", "bytes alive at once")))


def _claims(program: dict[str, Any]) -> str:
    from synth.intent import LEVELS

    proof = program["proof"]
    mixing = " | ".join(" ".join(LEVELS[level] for level in row) for row in proof["mixing"])
    shape = "×".join("B" if size is None else str(size) for size in proof["output_shape"])
    return f"shape {shape}, depth {proof['depth']}, rank bound {proof['rank']}, mixing {mixing}; distance {program['distance']:g}"
