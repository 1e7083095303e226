"""Synthesis: success, optimality, time, cost and memory. Prints JSON: `python -m experiments.bench.synthesis [SECTION …]`.

Targets (a) to (e) are those on which the ancestor was measured. Every result is proven by interpreting its program; times are wall
times in milliseconds, medians over draws in one process unless said otherwise. `cold` is a fresh process in which JAX is imported:
with nothing on disk (`nothing`), with what a process left there that worked on a target of other shapes (`formulas`), and with what
one left that worked on this target (`recalled`). Each section goes to stderr when it is done, all of them to stdout at the end.

procedures  exact against progressive and enumerative on each target: success, time, cost, and the ratios
exact       op kinds and whole results once the space is warm, in a block alone and inside a network
cold        the first space of a process
proposals   the search's region move on networks of the zoo: found, infeasible or given up, and times
complete    random satisfiable targets from hidden programs, all to be met; impossible ones, all to be infeasible
optimal     the least cost against brute force
memory      the space of the whole vocabulary at length 12
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import jax
import numpy as np

import alphanas
from alphanas.search.moves import Options, replace_region
from alphanas.search.proposal import New
from experiments.bench.hidden import hidden_targets, impossible_targets, small_targets
from synth import (
    Budget,
    Found,
    Graph,
    Infeasible,
    Interval,
    Op,
    Problem,
    Target,
    Value,
    chain,
    macs,
    regions,
    synthesize,
    verify,
    widths_up_to,
)
from synth.exact import solution_space
from synth.ops import (
    AvgPool,
    BatchNorm,
    Conv,
    Dense,
    DepthwiseConv,
    Gelu,
    LayerNorm,
    MultiHeadAttention,
    Relu,
    Silu,
)
from synth.product import Product

DRAWS = 20
METHODS = ("exact", "progressive", "enumerative")


def _unit(features: int, kernel: int = 3) -> list[Op]:
    return [Conv(features=features, kernel=kernel), BatchNorm(), Relu()]


Targets = Mapping[str, tuple[Value, Sequence[Op]]]

TARGETS: Targets = {
    "a conv3-relu": (Value((None, 32, 32, 32)), [Conv(features=64), Relu()]),
    "b conv3-relu-pool": (Value((None, 32, 32, 32)), [Conv(features=64), Relu(), AvgPool()]),
    "c conv-bn-relu": (Value((None, 16, 16, 64)), _unit(64)),
    "d conv-bn-relu-conv-bn": (Value((None, 16, 16, 64)), [*_unit(64), Conv(features=64), BatchNorm()]),
    "e bottleneck": (
        Value((None, 16, 16, 256)),
        [*_unit(64, 1), *_unit(64), Conv(features=256, kernel=1), BatchNorm()],
    ),
    "f vit": (
        Value((None, 64, 96)),
        [LayerNorm(), MultiHeadAttention(heads=4), LayerNorm(), Dense(features=192), Gelu(), Dense(features=96)],
    ),
    "g mbconv": (
        Value((None, 16, 16, 32)),
        [Conv(features=64, kernel=1), BatchNorm(), Silu(), DepthwiseConv(), BatchNorm(), Silu(), Conv(features=32, kernel=1)],
    ),
    "h gated mlp": (Value((None, 64, 96)), [LayerNorm(), Dense(features=192), Gelu(), Conv(features=192), Dense(features=96)]),
}


def procedures(draws: int, targets: Targets) -> dict[str, Any]:
    """Every procedure on every target, and how many times the others take and cost what exact does."""
    table = {}
    for name, (value, ops) in targets.items():
        problem = Problem.of(chain(value, ops))
        rows = {method: _row(problem, method, draws) for method in METHODS}
        cheapest = synthesize(problem)
        least = cheapest.proofs[0].params if isinstance(cheapest, Found) else None
        table[name] = {
            "least_params": least,
            **rows,
            "ratios": {other: _ratios(rows[other], rows["exact"], least) for other in METHODS[1:]},
        }
    return table


def _row(problem: Problem, method: str, draws: int) -> dict[str, Any]:
    # Enumeration takes as long as it is given on long targets, and its order does not depend on the draw.
    draws, limit = (2, 10.0) if method == "enumerative" else (draws, 20.0)
    synthesize(problem, method, rng=np.random.default_rng(draws), time_limit=limit)
    times, costs = [], []
    for seed in range(draws):
        result, took = _timed(lambda seed=seed: synthesize(problem, method, rng=np.random.default_rng(seed), time_limit=limit))
        times.append(took)
        if isinstance(result, Found):
            costs.append(result.proofs[0].params)
    row = {"success": len(costs) / draws, "attempts": draws, "median_ms": _median(times), "p99_ms": float(np.percentile(times, 99))}
    return row | {"median_params": _median(costs) if costs else None}


def _ratios(other: dict[str, Any], exact: dict[str, Any], least: int | None) -> dict[str, float | None]:
    """The other procedure's figures beside those of exact; its median cost beside the least there is."""
    cost = other["median_params"]
    return {
        "success_exact_to_other": exact["success"] / other["success"] if other["success"] else None,
        "time_other_to_exact": other["median_ms"] / exact["median_ms"],
        "params_other_to_least": None if cost is None or not least else cost / least,
        "params_other_over_least": None if cost is None or least is None else cost - least,
    }


def exact(draws: int, targets: Targets) -> dict[str, Any]:
    """Op kinds alone, and whole results with sizes within a third of the parameters; the same region inside ResNet-18."""
    table = {name: _exact(chain(value, ops), draws) for name, (value, ops) in targets.items()}
    network = alphanas.zoo.build("resnet18", input_shape=(32, 32, 3), num_classes=10)
    kinds = ["conv", "batch_norm", "relu"]
    found = (region for region in regions(network, largest=3) if [node.op.kind() for node in region.nodes] == kinds)
    region = next(itertools.islice(found, 1, None))
    # The draws are the same in all three, so that what is new to the first is known to both that are compared.
    _exact(region.subgraph(), draws)
    inside, alone = _exact(region.subgraph(), draws, region=region), _exact(region.subgraph(), draws)
    return table | {
        "inside resnet18": inside | {"nodes": len(network.nodes)},
        "the same alone": alone | {"nodes": 3},
        "inside_to_alone": inside["sized_median_ms"] / alone["sized_median_ms"],
    }


def _exact(graph: Graph, draws: int, region: Any = None) -> dict[str, Any]:
    problem = Problem.of(graph)
    space = solution_space(problem, prior=True)
    assert isinstance(space, Product)
    rng = np.random.default_rng(0)
    lengths = [0.0, *(float(table[0] > 0) for table in space.counts(True)[1:])]
    kinds = [_timed(lambda: space.sample(rng, weighted=True, lengths=lengths))[1] for _ in range(200)]
    target = problem.target.within(Budget(Interval(0, max(1, graph.params // 3))))

    def whole() -> Any:
        asked = Problem.of(region if region is not None else graph, target, widths=widths_up_to(max(problem.sizes)))
        return synthesize(asked, rng=rng, time_limit=20)

    first = _timed(whole)[1]
    results, times = zip(*(_timed(whole) for _ in range(5 * draws)), strict=True)
    return {
        "states": len(space.values),
        "edges": len(space.next),
        "programs": float(sum(table[0] for table in space.counts(False))),
        "kinds_median_ms": _median(kinds),
        "sized_first_ms": first,
        "sized_median_ms": _median(times),
        "sized_p99_ms": float(np.percentile(times, 99)),
        "sized_found": sum(isinstance(result, Found) for result in results) / len(results),
    }


def cold(draws: int, targets: Targets) -> dict[str, Any]:
    """The first space of a process, and the first whole result; with nothing on disk and with what an earlier process left."""
    table = {}
    for name in [name for name in targets if name in list(TARGETS)[:5]]:
        with tempfile.TemporaryDirectory() as folder:
            nothing = [_child("_cold_child", name, os.path.join(folder, str(index))) for index in range(COLD_RUNS)]
            again = [_child("_cold_child", name, os.path.join(folder, str(index))) for index in range(COLD_RUNS)]
            others = [os.path.join(folder, f"other{index}") for index in range(COLD_RUNS)]
            for other in others:
                _child("_other_child", name, other)
            formulas = [_child("_cold_child", name, other) for other in others]
            table[name] = {
                state: {key: _median([run[key] for run in runs]) for key in runs[0]}
                for state, runs in (("nothing", nothing), ("formulas", formulas), ("recalled", again))
            }
    return table


COLD_RUNS = 3


def _other_child(name: str) -> dict[str, float]:
    """Works on the target's ops at another size, so that what is left on disk is true of all sizes but of no type of the target."""
    value, ops = TARGETS[name]
    smaller = Value((None, *(size - 5 for size in value.shape[1:-1] if size), value.channels))
    return {"states": len(solution_space(Problem.of(chain(smaller, ops)), prior=True).values)}


def _cold_child(name: str) -> dict[str, float]:
    jax.eval_shape(lambda x: x + 1, jax.ShapeDtypeStruct((3,), "float32"))
    graph = chain(*TARGETS[name])
    target, asked = _timed(lambda: Target.of(graph))
    problem = Problem.of(graph, target)
    processor = time.process_time()
    space, took = _timed(lambda: solution_space(problem, prior=True))
    processor = 1000 * (time.process_time() - processor)
    assert isinstance(space, Product)
    lengths = [0.0, *(float(table[0] > 0) for table in space.counts(True)[1:])]
    _, drawn = _timed(lambda: space.sample(np.random.default_rng(0), weighted=True, lengths=lengths))
    _, proven = _timed(lambda: synthesize(problem, rng=np.random.default_rng(0)))
    return {"target_ms": asked, "kinds_ms": took + drawn, "kinds_cpu_ms": processor, "proven_ms": proven}


def proposals(draws: int, targets: Targets) -> dict[str, Any]:
    """The search's region move: how it ends, and how long it takes with what earlier ones left in the process."""
    table = {}
    for name, shape in (("resnet8", (8, 8, 1)), ("resnet18", (32, 32, 3))):
        graph = alphanas.zoo.build(name, input_shape=shape, num_classes=10)
        times, answers = [], []
        for seed in range(10 * draws):
            attempt, took = _timed(lambda seed=seed, graph=graph: replace_region(graph, np.random.default_rng(seed), Options()))
            times.append(took)
            answers.append("found" if isinstance(attempt.answer, New) else attempt.answer.cause)
        share = {answer: count / len(answers) for answer, count in Counter(answers).items()}
        later = times[len(times) // 2 :]
        table[f"{name} {'x'.join(map(str, shape))}"] = {
            "proposals": len(answers),
            "share": share,
            "median_ms": _median(times),
            "p99_ms": float(np.percentile(times, 99)),
            "second_half_median_ms": _median(later),
            "second_half_p99_ms": float(np.percentile(later, 99)),
        }
    return table


def complete(draws: int, targets: Targets) -> dict[str, Any]:
    """Targets made from hidden programs, and targets that cannot be met."""
    met, times, families, missed = 0, [], Counter(), []
    targets = list(hidden_targets(np.random.default_rng(7), 16 * draws))
    for family, problem in targets:
        result, took = _timed(lambda problem=problem: synthesize(problem, rng=np.random.default_rng(0)))
        times.append(took)
        good = isinstance(result, Found) and _is_met(problem, result.graph)
        met += good
        families[family] += good
        missed += [] if good else [f"{family}: {problem.target}"]
    impossible = list(impossible_targets(np.random.default_rng(8), 5 * draws))
    shown = [(kind, synthesize(problem, rng=np.random.default_rng(0), time_limit=20)) for kind, problem in impossible]
    kinds = Counter(kind for kind, result in shown if isinstance(result, Infeasible))
    return {
        "satisfiable": {"targets": len(targets), "met": met, "by_family": families, "missed": missed, "median_ms": _median(times)},
        "impossible": {
            "targets": len(impossible),
            "infeasible": sum(kinds.values()),
            "by_kind": kinds,
            "median_core": _median([len(result.core) for _, result in shown if isinstance(result, Infeasible)]),
        },
    }


def _is_met(problem: Problem, graph: Graph) -> bool:
    """By tracing the whole program and interpreting its jaxpr."""
    return problem.target.distance_of(verify(graph), graph.params, macs(graph)) == 0


def optimal(draws: int, targets: Targets) -> dict[str, Any]:
    """The least parameters of exact synthesis and of brute force over all programs, lengths up to 4."""
    agree, total = 0, 0
    for problem, least in small_targets(np.random.default_rng(9), 3 * draws):
        result = synthesize(problem)
        agree += isinstance(result, Found) and result.proofs[0].params == least
        total += 1
    return {"targets": total, "equal_to_brute_force": agree}


def memory(draws: int, targets: Targets) -> dict[str, Any]:
    """How much a process grows by the space of the whole vocabulary, programs of up to 12 ops."""
    with tempfile.TemporaryDirectory() as folder:
        return {name: _child("_memory_child", name, folder) for name in ("c conv-bn-relu", "e bottleneck", "f vit")}


def _memory_child(name: str) -> dict[str, float]:
    problem = replace(Problem.of(chain(*TARGETS[name])), max_length=12)
    synthesize(replace(problem, max_length=2), rng=np.random.default_rng(0), time_limit=0.1)
    before = _resident()
    space, took = _timed(lambda: solution_space(problem, prior=True))
    assert isinstance(space, Product)
    found = synthesize(problem, rng=np.random.default_rng(0))
    return {
        "build_ms": took,
        "states": len(space.values),
        "edges": len(space.next),
        "programs": float(sum(table[0] for table in space.counts(False))),
        "found": float(isinstance(found, Found)),
        "grown_mb": _resident() - before,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def _resident() -> float:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def _child(function: str, name: str, folder: str) -> dict[str, float]:
    code = f"import json; from experiments.bench import synthesis; print(json.dumps(synthesis.{function}({name!r})))"
    ran = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "ALPHANAS_CACHE": folder}, capture_output=True, text=True, check=True
    )
    found: dict[str, float] = json.loads(ran.stdout.splitlines()[-1])
    return found


def _timed(call: Callable[[], Any]) -> tuple[Any, float]:
    started = time.perf_counter()
    result = call()
    return result, 1000 * (time.perf_counter() - started)


def _median(numbers: Sequence[float]) -> float:
    return float(np.median(numbers))


SECTIONS: dict[str, Callable[[int, Targets], dict[str, Any]]] = {
    each.__name__: each for each in (procedures, exact, cold, proposals, complete, optimal, memory)
}


def main() -> None:
    """Measures the sections that are asked for, or all, and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sections", nargs="*", help=f"of {', '.join(SECTIONS)}; all unless given")
    parser.add_argument("--draws", type=int, default=DRAWS, help="draws per figure, and the measure of how many targets")
    parser.add_argument("--targets", default="abcdefgh", help="letters of the targets for procedures, exact and cold")
    arguments = parser.parse_args()
    targets = {name: target for name, target in TARGETS.items() if name[0] in arguments.targets}
    unknown = sorted(set(arguments.sections) - set(SECTIONS))
    if unknown:
        parser.error(f"no section is called {', '.join(unknown)}; there are {', '.join(SECTIONS)}")
    conditions = {"jax": jax.__version__, "python": platform.python_version(), "cpus": os.cpu_count(), "load": os.getloadavg()[0]}
    found = {}
    for name in arguments.sections or SECTIONS:
        started = time.perf_counter()
        found[name] = SECTIONS[name](arguments.draws, targets) | {"seconds": time.perf_counter() - started}
        print(json.dumps({name: found[name]}), file=sys.stderr, flush=True)
    print(json.dumps({"conditions": conditions, "draws": arguments.draws, **found}, indent=1))


if __name__ == "__main__":
    main()
