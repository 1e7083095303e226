"""The store under load: `python -m experiments.bench.store` prints JSON.

Outcomes a second, each a committed transaction of its own, and in groups of 50; then a simulated study of 100,000 candidates with
four outcomes each (graphs are texts of a typical length, costs and errors are drawn): the largest memory of the process, which
holds the study twice, as its writer and as a reader; the time to open it; and that of `pareto()`, asked again, and with one
candidate more recorded before. With `--postgres URL` the first part also runs on that database.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from sqlalchemy import Table, insert

from alphanas.study import Recorder, create_study, open_study, schema

BLOCK = 5000
START: dict[str, Any] = {"config": {}, "config_toml": "", "key": 0, "fingerprint": "f", "environment": {}}
GRAPH = json.dumps({"nodes": [{"name": f"node{number}", "op": "conv", "inputs": ["x"], "features": 16} for number in range(40)]})
PROPOSAL = {
    "kind": "synthesis",
    "region": ["a", "b", "c"],
    "changes": [{"property": "depth", "before": 4, "after": 2}],
    "method": "exact",
}


def main() -> None:
    """Measures and prints one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--candidates", type=int, default=100_000, help="of the simulated study (default: %(default)s)")
    parser.add_argument("--outcomes", type=int, default=1000, help="of each run that measures their rate (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--postgres", metavar="URL", help="measure the rate on this database, too")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        found: dict[str, Any] = {"outcomes_per_second": rates(root / "rate", "", arguments)}
        if arguments.postgres:
            found["outcomes_per_second_postgres"] = rates(root / "remote", arguments.postgres, arguments)
        found["simulated_study"] = simulated(root / "large", arguments.candidates)
    print(json.dumps(found, indent=2))


def rates(folder: Path, store: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """Outcomes a second, one by one and together; medians over repeats with the range."""
    with create_study(folder, **START, store=store, name=f"bench-{time.time_ns()}" if store else "") as recorder:
        for number in range(10):
            recorder.candidate(number, graph_json=GRAPH, graph_hash=str(number))
        single, grouped, busy = [], [], []
        for repeat in range(arguments.repeats):
            processor = time.process_time()
            single.append(arguments.outcomes / timed(lambda: one_by_one(recorder, arguments.outcomes, f"s{repeat}")))  # noqa: B023
            busy.append(arguments.outcomes / (time.process_time() - processor))
            grouped.append(arguments.outcomes / timed(lambda: together(recorder, arguments.outcomes, f"g{repeat}")))  # noqa: B023
    return {
        "one_transaction_each": spread(single),
        "one_transaction_each_per_processor_second": spread(busy),
        "groups_of_50": spread(grouped),
        "outcomes": arguments.outcomes,
    }


def one_by_one(recorder: Recorder, count: int, name: str) -> None:
    """Every outcome a transaction."""
    for number in range(count):
        recorder.outcome(
            number % 10, "full", discriminator=f"{name}-{number}", values={"accuracy": 0.5, "loss": 1.5, "seconds": 3.0}
        )


def together(recorder: Recorder, count: int, name: str) -> None:
    """Fifty outcomes a transaction."""
    for first in range(0, count, 50):
        with recorder.transaction():
            one_by_one(recorder, 50, f"{name}-{first}")


def simulated(folder: Path, count: int) -> dict[str, Any]:
    """A study of so many candidates, its rows put in at once, then opened, asked, and gone on with."""
    chance = random.Random(0)
    with create_study(folder, **START) as recorder:
        for first in range(0, count, BLOCK):
            rows = [row for number in range(first, min(first + BLOCK, count)) for row in facts(number, chance)]
            with recorder.transaction() as connection:
                for table in (schema.candidates, schema.outcomes):
                    connection.execute(insert(table), [values for kind, values in rows if kind is table])
        reader = open_study(folder)
        opened = timed(reader.pareto)
        again = [timed(reader.pareto) for _ in range(20)]
        recorder.study.pareto()
        after = [timed(lambda: new(recorder, count + number, chance)) for number in range(20)]  # noqa: B023
        summary = timed(reader.summary)
        front = len(reader.pareto())
    return {
        "candidates": count,
        "peak_memory_mib": round(peak_bytes() / 2**20),
        "studies_in_memory": 2,
        "database_mib": round((folder / "study.sqlite").stat().st_size / 2**20),
        "front": front,
        "opening_seconds": round(opened, 2),
        "pareto_ms": {"again": spread(again, 1000), "with_one_candidate_more": spread(after, 1000)},
        "summary_ms": round(1000 * summary, 1),
    }


def facts(number: int, chance: random.Random) -> Iterator[tuple[Table, dict[str, Any]]]:
    """One candidate with what its stages said; larger ones err less, on the whole."""
    params = int(10 ** chance.uniform(3, 6))
    error = min(0.95, max(0.01, 0.5 - 0.07 * len(str(params)) + chance.gauss(0, 0.05)))
    yield (
        schema.candidates,
        {
            "id": number,
            "parent": chance.randrange(number) if number else None,
            "generation": number // 8,
            "graph_hash": f"{number:064}",
            "graph_json": GRAPH,
            "proposal": PROPOSAL,
            "method": "exact",
            "seconds": 0.1,
            "status": "ok",
            "time": 0.0,
        },
    )
    for stage, values in (
        ("synthesis", {"seconds": 0.1}),
        ("cost", {"params": params, "macs": int(params * chance.uniform(5, 50)), "peak_bytes": params * 4}),
        ("score", {"score": chance.gauss(0, 1)}),
        ("short", {"accuracy": 1 - error, "seconds_per_epoch": 1.0}),
    ):
        fresh = {"candidate": number, "stage": stage, "discriminator": "", "status": "ok", "values": values}
        yield schema.outcomes, fresh


def new(recorder: Recorder, number: int, chance: random.Random) -> None:
    """One candidate more, recorded as a search does, and the front with it."""
    recorder.candidate(number, graph_json=GRAPH, graph_hash=f"{number:064}", parent=0, proposal=PROPOSAL)
    for table, row in facts(number, chance):
        if table is schema.outcomes and row["stage"] != "synthesis":
            recorder.outcome(number, row["stage"], values=row["values"])
    recorder.study.pareto()


def timed(act: Callable[[], object]) -> float:
    """Seconds of a call."""
    began = time.perf_counter()
    act()
    return time.perf_counter() - began


def spread(values: list[float], scale: float = 1.0) -> dict[str, float]:
    """Median and range."""
    return {
        "median": round(scale * statistics.median(values), 2),
        "min": round(scale * min(values), 2),
        "max": round(scale * max(values), 2),
    }


def peak_bytes() -> int:
    """The largest resident size of this process so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


if __name__ == "__main__":
    main()
