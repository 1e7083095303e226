"""Choosing every task's knobs by timing its candidates, and remembering what was chosen in the records of this device."""

from __future__ import annotations

import dataclasses
import functools
import math
import statistics
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alphanas.hardware import pace
from alphanas.hardware.compiled import symbol
from alphanas.hardware.contest import Contest
from alphanas.hardware.emit import Emitted
from alphanas.hardware.lowering import Lowered
from alphanas.hardware.machine import Machine
from alphanas.hardware.predicting import SMALL_NETWORK_S, Pace, complete
from alphanas.hardware.records import METASCHEDULE, TEMPLATE, Device, Record, Records, device
from alphanas.hardware.schedules import Knobs, choices, scheduled, thread_choices
from alphanas.hardware.timing import Latency

PARALLEL_MARGIN = 1.1
"""Threads must make a kernel faster by this factor to be used."""
POLL_S = 0.05
_LATELY: deque[Pace] = deque(maxlen=6)
"""The pace beside this kernel and the last ones."""


@dataclass(frozen=True)
class Tuned:
    """The knobs of every task, the seconds of those that were timed, and how many candidates were built for it."""

    knobs: tuple[Knobs, ...]
    seconds: tuple[float | None, ...]
    built: int
    complete: bool
    notes: tuple[str, ...] = ()
    """What of the records a user should know."""


def device_of(machine: Machine) -> Device:
    """What records of this machine are found by."""
    return device(machine.name, machine.lanes, machine.registers, machine.threads)


def untuned(lowered: Lowered, machine: Machine) -> Tuned:
    """The likeliest knobs, nothing timed."""
    knobs = tuple(choices(task, machine.registers, machine.threads)[0] for task in lowered.tasks)
    return Tuned(knobs, (None,) * len(knobs), 0, False)


def tune(lowered: Lowered, machine: Machine, *, limit_s: float, records: Path | None = None, every: bool = False) -> Tuned:
    """Times the candidates of every task that no record knows, the heaviest first, until the time is up.

    What is not reached keeps its likeliest knobs, and `complete` says so. A task that another process tunes now is left to it and
    read from its record. With `every`, a task that has but one candidate is timed too, so that there is a record of it.
    """
    with Records.open(records) as store:
        return tune_with(store, lowered, machine, limit_s=limit_s, every=every)


def tune_with(store: Records, lowered: Lowered, machine: Machine, *, limit_s: float, every: bool = False) -> Tuned:
    """`tune`, with records that are open."""
    wanted = [n for n in heaviest_first(lowered) if every or several(lowered.tasks[n], machine)]
    found = fill(store, lowered, machine, wanted, end=time.monotonic() + limit_s)
    start = untuned(lowered, machine)
    knobs, seconds = list(start.knobs), list(start.seconds)
    for number, (record, _) in found.items():
        knobs[number], seconds[number] = Knobs(**record.schedule), record.seconds
    built, complete = sum(tried for _, tried in found.values()), len(found) == len(wanted)
    return Tuned(tuple(knobs), tuple(seconds), built, complete, tuple(store.notes))


def heaviest_first(lowered: Lowered) -> list[int]:
    """The tasks by the work that they are in the whole network, the most first."""
    calls = [call.task for call in lowered.calls]
    return sorted(range(len(lowered.tasks)), key=lambda n: -lowered.tasks[n].geometry.work * calls.count(n))


def fill(
    store: Records,
    lowered: Lowered,
    machine: Machine,
    wanted: Sequence[int],
    *,
    end: float,
    steadier_than: float = math.inf,
    among: bool = False,
) -> dict[int, tuple[Record, int]]:
    """The record of each of these tasks, and how many candidates were timed for it; tasks not reached before `end` are missing.

    A record that spreads by `steadier_than` of its seconds or more is as good as none. With `among`, each is completed by what
    other data in the caches cost, which predictions want to know.
    """

    def usable(record: Record) -> bool:
        return readable(record) and record.unsteadiness < steadier_than

    here = device_of(machine)
    known = {kernel: record for kernel, record in store.known(here, TEMPLATE).items() if usable(record)}
    found: dict[int, tuple[Record, int]] = {}
    left = deque(wanted)
    busy = 0
    while left:
        number = left.popleft()
        key = lowered.keys[number]
        record = known.get(key)
        if among and record is not None and record.exchange is None:
            record = None  # of a version that did not measure it: its seconds cannot be added to others'
        if record is None:
            if time.monotonic() > end:
                continue
            with store.claim(here, key) as mine:
                again = store.find(here, key)  # another process may have found it meanwhile
                if again is not None and usable(again) and not (among and again.exchange is None):
                    record = again
                elif mine:
                    record, tried = fastest(lowered.tasks[number], key, machine, among=among)
                    store.add(here, record)
                    found[number] = (record, tried)
            if record is None:
                left.append(number)
                busy += 1
                if busy >= len(left):  # all that is left is with others
                    time.sleep(POLL_S)
                continue
        if among and not complete(record):
            record = completed(lowered.tasks[number], record, machine)
            store.add(here, record)
        known[key] = record
        found[number] = (record, found[number][1] if number in found else 0)
        busy = 0
    return found


def readable(record: Record) -> bool:
    """Whether a template's record has the knobs that templates have now."""
    return set(record.schedule) == {each.name for each in dataclasses.fields(Knobs)}


@dataclass(frozen=True)
class Kernels:
    """A network's kernels, one a task: their names, their forms, and how each function is made."""

    symbols: tuple[str, ...]
    forms: tuple[str, ...]
    functions: Mapping[str, Callable[[], Any]]


def kernels_of(lowered: Lowered, knobs: Sequence[Knobs], others: Mapping[int, Record] | None = None) -> Kernels:
    """The kernels of a network under these knobs; MetaSchedule's in place of ours for the tasks that `others` has."""
    symbols, forms, functions = [], [], {}
    for number, (task, exact, chosen) in enumerate(zip(lowered.tasks, lowered.exacts, knobs, strict=True)):
        record = (others or {}).get(number)
        if record is None:
            name, make = symbol(exact, repr(chosen)), functools.partial(scheduled, task, chosen)
        else:
            name, make = symbol(exact, record.schedule["function"]), functools.partial(_metaschedule, record)
        symbols.append(name)
        forms.append(chosen.form if record is None else "")
        functions[name] = make
    return Kernels(tuple(symbols), tuple(forms), functions)


def metaschedules(store: Records, lowered: Lowered, machine: Machine) -> dict[int, Record]:
    """MetaSchedule's records by task, where they are on record for just this kernel and faster than ours."""
    known = store.known(device_of(machine))
    found = {}
    for number, (key, exact) in enumerate(zip(lowered.keys, lowered.exacts, strict=True)):
        record = known.get(key)
        if record is not None and record.how == METASCHEDULE and record.schedule.get("exact") == exact:
            found[number] = record
    return found


def _metaschedule(record: Record) -> Any:
    from alphanas.hardware import metaschedule

    return metaschedule.function_of(record)


def several(task: Emitted, machine: Machine) -> bool:
    """Whether a task has more than one candidate."""
    tiles = choices(task, machine.registers, machine.threads)
    return len(tiles) > 1 or len(thread_choices(task.geometry, machine.threads)) > 1


def fastest(task: Emitted, key: str, machine: Machine, *, among: bool = False) -> tuple[Record, int]:
    """(the record of the fastest knobs, how many candidates were timed): the best tile first, then whether threads help it.

    With `among`, the record tells what other kernels cost this one.
    """
    tiles = choices(task, machine.registers, machine.threads)
    contests = [_contest(task, tiles, machine)]
    seconds = dict(zip(tiles, contests[0].best(), strict=True))
    tile = min(seconds, key=lambda knobs: seconds[knobs])
    others = [dataclasses.replace(tile, parallel=parallel) for parallel in thread_choices(task.geometry, machine.threads)]
    others = [knobs for knobs in others if knobs not in seconds]
    if others:
        contests.append(_contest(task, others, machine))
        seconds |= zip(others, contests[1].best(), strict=True)
    places = {knobs: (contests[0], n) for n, knobs in enumerate(tiles)} | {
        knobs: (contests[-1], n) for n, knobs in enumerate(others)
    }
    best = min(seconds, key=lambda knobs: seconds[knobs])
    alone = None
    if others:
        # In a loop of its own a kernel finds other threads awake, and in their caches what they read. Three quarters of the runs
        # count: where other work has the second core, threads wait for it now and then, a thousand times longer than they save.
        tried = [dataclasses.replace(best, parallel=parallel) for parallel in (False, True)]
        handed = {knobs: places[knobs][0].handed_over(places[knobs][1], weights_of(task, knobs)) for knobs in tried}
        best = min(tried, key=lambda knobs: handed[knobs][1] * (PARALLEL_MARGIN if knobs.parallel else 1.0))
        alone = handed[tried[0]][0] if best.parallel else None
    elif best.parallel and machine.threads > 1 and seconds[best] < SMALL_NETWORK_S:
        on_one = dataclasses.replace(best, parallel=False)
        alone = _contest(task, [on_one], machine).handed_over(0, weights_of(task, on_one))[0]
    contest, place = places[best]
    latency, paced = beside(machine, lambda: contest.steady(place, seconds[best]))
    record = recorded(task, key, TEMPLATE, dataclasses.asdict(best), latency, len(seconds))
    record = dataclasses.replace(record, alone=alone, pace=paced.alone, exchange=paced.exchange)
    return with_others(record, contest, place, weights_of(task, best)) if among else record, len(seconds)


def beside(machine: Machine, measure: Callable[[], Latency]) -> tuple[Latency, Pace]:
    """What was measured, and the machine's pace and exchange as they were around it.

    The median of the latest: what disturbs a few passes within milliseconds, and the machine's own changes last.
    """
    _LATELY.append(Pace(pace.now(machine), pace.exchange(machine)))
    latency = measure()
    _LATELY.append(Pace(pace.now(machine), pace.exchange(machine)))
    return latency, Pace(*(statistics.median(column) for column in zip(*map(dataclasses.astuple, _LATELY), strict=True)))


def completed(task: Emitted, record: Record, machine: Machine) -> Record:
    """A template's record with what other kernels cost this one: see `Record.caches` and `Record.handed`."""
    knobs = Knobs(**record.schedule)
    return with_others(record, _contest(task, [knobs], machine), 0, weights_of(task, knobs))


def with_others(record: Record, contest: Contest, place: int, weights: Sequence[int]) -> Record:
    """The record of a contest's function with what other kernels cost it; `weights` are positions of arguments."""
    handed = contest.handovers(place, weights, shares=record.shares)
    return dataclasses.replace(record, caches=contest.among(place, weights), handed=handed)


def weights_of(task: Emitted, knobs: Knobs) -> list[int]:
    """The positions of the constants among what the task's function reads."""
    reads = task.form(knobs.form).arguments
    return [place for place, argument in enumerate(reads) if argument.block or argument.winograd]


def recorded(task: Emitted, key: str, how: str, schedule: dict[str, Any], latency: Latency, trials: int) -> Record:
    """The record of a task."""
    kind, work = task.geometry.kind, task.geometry.work
    return Record(key, how, kind, work, task.storage, schedule, latency.quartiles[0], latency.spread, trials)


def _contest(task: Emitted, tried: Sequence[Knobs], machine: Machine) -> Contest:
    return Contest(task, [scheduled(task, knobs) for knobs in tried], machine)


def time_functions(task: Emitted, functions: Sequence[Any], machine: Machine) -> list[float]:
    """Seconds of one run of each function that computes the task, all timed in turns."""
    return Contest(task, functions, machine).best()


def on_one_thread(chosen: Sequence[Knobs]) -> list[Knobs]:
    """The same knobs with nothing shared among threads."""
    return [dataclasses.replace(knobs, parallel=False) for knobs in chosen]
