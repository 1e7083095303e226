"""`tune MODEL…`: fills the records of this device ahead of a search, one kernel a task in a worker process."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alphanas.cli.common import MODEL_HELP, add_json, duration, natural, positive, print_json, print_table, shape
from alphanas.errors import FAILED, UserError

if TYPE_CHECKING:
    from alphanas.execution import LocalPool, Result

HELP = """time the kernels of models and keep the best schedules in this device's records

A search, `latency` and every later `tune` take what is on record and time only what is not. The packed templates come first;
--trials also lets TVM's MetaSchedule search, where that may save most time: N in all for these models, those on record counted.
It may be stopped at any time and run again: it goes on where it was. The batch is the first number of --input."""

SURVEY_LIMIT_S = 600.0
KERNEL_LIMIT_S = 120.0
"""Beyond this a kernel's templates have failed."""
TRIAL_LIMIT_S = 30.0
"""The same for one trial of MetaSchedule."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `tune`."""
    parser.add_argument("models", metavar="MODEL", nargs="+", help=MODEL_HELP)
    parser.add_argument(
        "--input", required=True, type=shape, metavar="SHAPE", help="shape of the input, batch first, such as 1,32,32,3"
    )
    parser.add_argument(
        "--classes", type=positive, default=10, metavar="N", help="classes of a model of the zoo (default: %(default)s)"
    )
    parser.add_argument(
        "--trials", type=natural, default=0, metavar="N", help="trials of TVM's MetaSchedule (default: 0, the templates alone)"
    )
    parser.add_argument("--time-limit", type=duration, metavar="TIME", help="stop after this long, such as 5m (default: none)")
    parser.add_argument(
        "--threads",
        type=positive,
        default=min(2, os.cpu_count() or 1),
        metavar="N",
        help="threads of a kernel (default: %(default)s)",
    )
    parser.add_argument(
        "--records", type=Path, metavar="PATH", help="file of the records (default: records.sqlite in the cache folder)"
    )
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Tunes, and prints one line a kernel; 1 if one of them failed."""
    from alphanas.execution import LocalPool
    from alphanas.execution.limits import memory_share
    from alphanas.execution.notes import Note
    from alphanas.hardware import devices
    from alphanas.hardware.records import Records, default_path

    path = arguments.records or default_path()
    if path is None:
        remedy = "give --records PATH, or take ALPHANAS_CACHE=off away"
        raise UserError("records", saw="ALPHANAS_CACHE=off, so that nothing would be kept", remedy=remedy)
    Records.open(path).close()  # what is wrong with the file is said before anything is done
    payload = {"models": _graphs(arguments), "batch": arguments.input[0], "threads": arguments.threads, "records": str(path)}

    def show(note: Note) -> None:
        if note.text:
            _say(note.text)

    environment = devices.environment(devices.CPU)
    with LocalPool(1, threads=arguments.threads, env=environment, memory_limit=memory_share(), on_note=show) as pool:
        tuning = _Tuning(pool, payload, arguments.time_limit)
        before = tuning.survey()
        for note in (*before["notes"], *_foreign(before["others"])):
            _say(note)
        tuning.templates(before["kernels"])
        if arguments.trials:
            tuning.trials(tuning.survey()["kernels"], arguments.trials)
        after = tuning.survey()
    _print(after, tuning, path, as_json=arguments.json)
    return FAILED if tuning.failures else 0


class _Tuning:
    """The tasks of one run of the verb, within its time limit."""

    def __init__(self, pool: LocalPool, payload: Mapping[str, Any], limit_s: float | None) -> None:
        self.failures: list[dict[str, str]] = []
        self.notes: list[str] = []
        self.timed = 0
        self._pool = pool
        self._payload = payload
        self._end = None if limit_s is None else time.monotonic() + limit_s
        self._started = time.monotonic()

    def survey(self) -> Mapping[str, Any]:
        """The kernels, and what is on record of them."""
        from alphanas.execution import Failed
        from alphanas.hardware.filling import SURVEY

        result = self._pool.submit(SURVEY, self._payload, limit_s=SURVEY_LIMIT_S).result()
        if isinstance(result, Failed):
            raise UserError("tune", saw=f"{result.cause}: {result.message}", exit_code=FAILED, cause=result.cause)
        found: Mapping[str, Any] = result.value
        return found

    def templates(self, kernels: list[dict[str, Any]]) -> None:
        """Knobs for what has none on record, the heaviest first."""
        from alphanas.hardware.filling import TUNE

        unknown = [kernel for kernel in kernels if kernel["template"] is None]
        unsteady = [kernel for kernel in kernels if kernel["template"] and not kernel["template"]["steady"]]
        missing = unknown + unsteady
        again = f", {len(unsteady)} to time again in more quiet" if unsteady else ""
        _say(f"{len(kernels)} distinct kernels, {len(kernels) - len(unknown)} on record, {len(unknown)} to tune{again}")
        for number, kernel in enumerate(missing, 1):
            limit_s = self._left(KERNEL_LIMIT_S)
            if limit_s <= 0:
                _say(f"time is up: {len(missing) - number + 1} kernels are left; run it again to go on")
                return
            result = self._one(TUNE, kernel, limit_s, within_s=limit_s)
            self._tell(kernel, result, f"{number}/{len(missing)}", "{candidates} candidates timed")

    def trials(self, kernels: list[dict[str, Any]], trials: int) -> None:
        """MetaSchedule where it may save most; trials on record count as spent."""
        from alphanas.hardware.filling import TRY
        from alphanas.hardware.spending import Need, shares

        able = {kernel["key"]: kernel for kernel in kernels if kernel["tunable"] and kernel["template"] is not None}
        had = {key: (kernel["metaschedule"] or {"trials": 0})["trials"] for key, kernel in able.items()}
        needs = [
            Need(key, kernel["count"], kernel["template"]["seconds"], kernel["work"], had[key]) for key, kernel in able.items()
        ]
        given = shares(needs, max(trials - sum(had.values()), 0))
        _say(f"MetaSchedule: {sum(had.values())} trials on record, {sum(given.values())} to spend on {len(given)} kernels")
        for number, (key, share) in enumerate(given.items(), 1):
            limit_s = self._left(60.0 + TRIAL_LIMIT_S * share)
            if limit_s <= 0:
                _say(f"time is up: {len(given) - number + 1} kernels are left; run it again to go on")
                return
            result = self._one(TRY, able[key], limit_s, trials=had[key] + share)
            self._tell(able[key], result, f"{number}/{len(given)}", f"{share} trials")

    def _one(self, task: str, kernel: Mapping[str, Any], limit_s: float, **more: Any) -> Result:
        return self._pool.submit(task, {**self._payload, "key": kernel["key"], **more}, limit_s=limit_s).result()

    def _left(self, most: float) -> float:
        return most if self._end is None else min(most, self._end - time.monotonic())

    def _tell(self, kernel: Mapping[str, Any], result: Result, place: str, what: str) -> None:
        from alphanas.execution import Completed

        elapsed = f"{time.monotonic() - self._started:.0f} s"
        if isinstance(result, Completed):
            self.timed += 1
            _say(f"[{place}, {elapsed}] {kernel['kernel']}: {what.format(**result.value)}")
            for note in result.value["notes"]:
                if note not in self.notes:
                    self.notes.append(note)
                    _say(note)
            return
        out_of_time = result.cause == "timeout" and self._left(1.0) <= 0
        if not out_of_time:
            self.failures.append({"kernel": kernel["kernel"], "cause": result.cause, "message": result.message})
        _say(f"[{place}, {elapsed}] {kernel['kernel']}: {'time is up' if out_of_time else f'{result.cause}: {result.message}'}")


def _graphs(arguments: argparse.Namespace) -> dict[str, str]:
    from alphanas.cli.model import load_model

    names = list(dict.fromkeys(arguments.models))
    return {name: load_model(argparse.Namespace(**{**vars(arguments), "model": name})).graph.to_json() for name in names}


def _foreign(others: Mapping[str, int]) -> list[str]:
    return [f"{count} records of {reason} stay in the file; they say nothing of this device" for reason, count in others.items()]


def _print(found: Mapping[str, Any], tuning: _Tuning, path: Path, *, as_json: bool) -> None:
    kernels = found["kernels"]
    unknown = sum(best(kernel) is None for kernel in kernels)
    if as_json:
        shown = {**found, "kernels": [{**kernel, "best": best(kernel)} for kernel in kernels]}
        print_json({**shown, "records": str(path), "unknown": unknown, "failures": tuning.failures})
        return
    columns = ("kernel", "count", "µs", "GF/s", "schedule", "trials")
    print_table(columns, [_row(kernel) for kernel in kernels], right=("count", "µs", "GF/s", "trials"))
    print()
    for name, predicted in found["models"].items():
        print(f"{name}: {'not all kernels are known' if predicted is None else f'{predicted:.4g} ms predicted from records'}")
    print(f"{len(kernels) - unknown} of {len(kernels)} kernels on record in {path}")


def best(kernel: Mapping[str, Any]) -> str | None:
    """Which of a kernel's schedules is the fastest: "template", "metaschedule", or None where none is known."""
    known = {how: kernel[how]["seconds"] for how in ("template", "metaschedule") if kernel[how] is not None}
    return min(known, key=lambda how: known[how]) if known else None


def _row(kernel: Mapping[str, Any]) -> tuple[Any, ...]:
    how = best(kernel)
    trials = kernel["metaschedule"]["trials"] if kernel["metaschedule"] else 0
    if how is None:
        return kernel["kernel"], kernel["count"], None, None, None, trials
    seconds = kernel[how]["seconds"]
    rate = f"{2e-9 * kernel['work'] / seconds:.1f}" if kernel["tunable"] else "–"
    knobs = " ".join(f"{name}={value}" for name, value in kernel[how]["schedule"].items())
    return kernel["kernel"], kernel["count"], f"{1e6 * seconds:.1f}", rate, f"{how} {knobs}".strip(), trials


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
