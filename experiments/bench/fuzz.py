"""Damaged configs, graph files and run folders, thousands of them: `python -m experiments.bench.fuzz` prints JSON.

Each case takes something whole and damages it: bytes flipped, cut, doubled; values exchanged for others of every kind; rows,
columns and tables of a store changed or dropped. What reads it must give a clear refusal (a `UserError` of one line a fault) or a
correct reading: one that survives being written and read again. Everything else is counted and shown: any other exception, more
than `--limit` seconds, any file written outside of the case's folder, any program started, any connection made, any module of the
case's folder run. The exit code is 1 if there was any. Cases are numbered: `--only 1234` runs one alone, with its traceback.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import io
import json
import os
import random
import shutil
import signal
import sqlite3
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import tomli_w

from alphanas.config import Config, load_config
from alphanas.driver.replay import replay
from alphanas.errors import UserError
from alphanas.export import open_graph
from alphanas.export.graph import read_graph
from alphanas.models import zoo
from alphanas.models.weights import save
from alphanas.study import create_study, open_study
from synth.graph import Graph

CANARY = "raise SystemExit('this code must not run')\n"
NASTY: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 3, 2**31, 2**63, -(2**70), 10**400, 0.5, -0.0, 1e308, float("nan"), float("inf")),
    *("", "x", "../../secret", "\0", "\ud800", "é" * 300, "a" * 100_000, "canary.py:factory", "canary:factory", "zoo:nothing"),
    *("npz:/etc/passwd", "1h", "9" * 5000, "postgresql://u:p@127.0.0.1:1/d", "relu", "float64", "params"),
    *([], {}, [[]], [None], {"a": 1}, [1, "x", {}], {"": {"": {}}}),
)
TOKENS = (
    *(b"\0", b"\xff\xfe", b"[" * 3000, b'{"a":' * 3000, b"NaN", b"-Infinity", b"1e999", b"9" * 6000),
    *(b'"', b"\\u0000", b"\n\n", b"=", b"'''"),
)
WRITES = {
    "os.mkdir",
    "os.rename",
    "os.remove",
    "os.rmdir",
    "os.symlink",
    "os.link",
    "os.truncate",
    "shutil.copyfile",
    "shutil.move",
}
STARTS = {"subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork", "socket.connect"}


def main() -> None:
    """Runs the cases and prints one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=10_000, help="cases, a third of each kind (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--limit", type=float, default=20.0, help="seconds that a case may take (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop after this time, with what was done till then")
    parser.add_argument("--only", type=int, metavar="CASE", help="run one case alone, and show its traceback")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="alphanas-fuzz-") as scratch:
        found = run(Path(scratch), arguments.count, arguments.seed, arguments.limit, arguments.only, arguments.seconds)
    print(json.dumps(found, indent=2))
    sys.exit(1 if found["wrong"] else 0)


def run(
    scratch: Path, count: int, seed: int = 0, limit: float = 20.0, only: int | None = None, seconds: float = float("inf")
) -> dict[str, Any]:
    """Counts of what became of so many cases, and the first of those that went wrong."""
    whole = scratch / "whole"
    make_whole(whole)
    kinds: tuple[tuple[str, Callable[[Path, random.Random], None]], ...] = (("config", config), ("graph", graph), ("store", store))
    counts: dict[str, Counter[str]] = {name: Counter() for name, _ in kinds}
    wrong: list[dict[str, Any]] = []
    began = time.monotonic()
    watch = Watch(scratch)
    for case in range(count) if only is None else [only]:
        if time.monotonic() - began > seconds:
            break
        name, act = kinds[case % len(kinds)]
        folder = scratch / "case"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(whole, folder)
        said = io.StringIO()
        with watch.over(folder) as seen, contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            verdict, detail = judged(lambda: act(folder, random.Random(f"{seed}:{case}")), limit, show=only is not None)  # noqa: B023
        if seen:
            verdict, detail = "touched", "; ".join(sorted(seen)[:3])
        counts[name][verdict] += 1
        if verdict not in ("read", "refused") and len(wrong) < 20:
            wrong.append({"case": case, "kind": name, "verdict": verdict, "detail": detail})
    return {
        "seed": seed,
        "cases": sum(seen.total() for seen in counts.values()),
        "counts": {name: dict(sorted(seen.items())) for name, seen in counts.items()},
        "wrong": wrong,
        "seconds": round(time.monotonic() - began, 1),
    }


class Hang(BaseException):
    """A case took too long."""


def judged(act: Callable[[], None], limit: float, *, show: bool) -> tuple[str, str]:
    """(read, refused, hang or the exception's name; what was said)."""

    def ring(number: int, frame: object) -> None:
        raise Hang

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, limit)
    try:
        act()
        return "read", ""
    except UserError as error:
        text = str(error)
        clear = bool(text.strip()) and all("\n" not in str(fault) and str(fault).isprintable() for fault in error.faults)
        return ("refused", "") if clear else ("unclear", text[:300])
    except Hang:
        return "hang", ""
    except BaseException as error:
        if show:
            traceback.print_exc(file=sys.__stderr__)
        return type(error).__name__, f"{error}"[:300]
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


class Watch:
    """Sees through Python's audit events what a case does to the world."""

    def __init__(self, scratch: Path) -> None:
        self._scratch, self._folder, self._seen = str(scratch), "", set[str]()
        self._active = False
        sys.addaudithook(self._hook)

    @contextlib.contextmanager
    def over(self, folder: Path) -> Iterator[set[str]]:
        """What is done while this is open that should not be."""
        self._folder, self._seen, self._active = str(folder), set(), True
        try:
            yield self._seen
        finally:
            self._active = False

    def _hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self._active:
            return
        if event in STARTS:
            self._seen.add(f"{event} {arguments!r}"[:200])
        if event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            self._wrote(arguments[0])
        if event in WRITES:
            self._wrote(arguments[0])
        if event == "exec" and self._folder in str(getattr(arguments[0], "co_filename", "")):
            self._seen.add(f"ran {arguments[0].co_filename}")

    def _wrote(self, path: Any) -> None:
        if isinstance(path, str | bytes | os.PathLike):
            place = os.path.abspath(os.fsdecode(path))
            temporary = place.startswith(os.path.join(tempfile.gettempdir(), "alphanas-")) and not place.startswith(self._scratch)
            if not place.startswith(self._folder) and place != os.devnull and not temporary:
                self._seen.add(f"wrote {place}"[:200])


def make_whole(folder: Path) -> None:
    """A small study with real graphs, its config, a graph file, and code that must not run."""
    settings = Config()
    start = {
        "config": settings.to_mapping(),
        "config_toml": settings.to_toml(),
        "key": 0,
        "fingerprint": "f" * 64,
        "environment": {"cores": 2},
    }
    with create_study(folder, **start) as recorder:  # type: ignore[arg-type]
        for number, name in enumerate(("mlp", "resnet8")):
            built = zoo.build(name, input_shape=(8, 8, 1), num_classes=10)
            recorder.candidate(
                number, graph_json=built.to_json(), graph_hash=built.hash, parent=0 if number else None, generation=number
            )
            recorder.outcome(number, "cost", values={"params": built.params, "macs": 5, "peak_bytes": 7})
            recorder.outcome(number, "short", values={"accuracy": 0.5}, artifacts={"weights/short": b"w" * 50})
        recorder.candidate(2, status="infeasible", parent=0, generation=1, cause="infeasible")
        recorder.decide("generation", {"number": 1, "ids": [1, 2]})
        recorder.decide("best", {"candidate": 1})
        recorder.finish("done")
    (folder / "summary.json").write_text(json.dumps(open_study(folder).summary()))
    model = zoo.build("mlp", input_shape=(8, 8, 1), num_classes=10)
    (folder / "graph.json").write_text(model.to_json())
    save(model.init(jax.random.key(0)), folder / "weights.safetensors")
    (folder / "canary.py").write_text(CANARY)
    shutil.rmtree(folder / "scratch")


def config(folder: Path, chance: random.Random) -> None:
    """A config file, read as `search` reads it."""
    path = folder / "config.toml"
    if chance.random() < 0.5:
        path.write_bytes(damaged(path.read_bytes(), chance))
    else:
        mapping = changed(Config().to_mapping(), chance)
        with contextlib.suppress(TypeError, ValueError, UnicodeEncodeError, RecursionError):  # what TOML does not have
            path.write_bytes(tomli_w.dumps(mapping).encode())
    read = load_config(path)
    # The password of a store is not written down.
    assert Config.from_mapping(read.to_mapping()).to_mapping() == read.to_mapping()


def graph(folder: Path, chance: random.Random) -> None:
    """A graph file, opened as `export` and `latency` open it."""
    path = folder / "graph.json"
    if chance.random() < 0.3:
        path.write_bytes(damaged(path.read_bytes(), chance))
    else:
        path.write_text(json.dumps(changed(json.loads(path.read_text()), chance)), errors="surrogatepass")
    weights = folder / "weights.safetensors"
    if chance.random() < 0.1:
        weights.write_bytes(damaged(weights.read_bytes(), chance))
        open_graph(folder)
    read = read_graph(path)
    assert Graph.from_json(read.to_json()) == read and read.hash == Graph.from_json(read.to_json()).hash


def store(folder: Path, chance: random.Random) -> None:
    """A run folder, looked at from all sides."""
    damage_store(folder, chance)
    study = open_study(folder)
    try:
        summary = json.dumps(study.summary(), allow_nan=False)
        study._repr_html_()
        for one in study.candidates():
            one.lineage()
            one.outcomes()
            one.graph_json()
        replay(folder, proposals=False)
        assert json.dumps(open_study(folder).summary(), allow_nan=False) == summary
    finally:
        study.close()


def damaged(data: bytes, chance: random.Random) -> bytes:
    """The same bytes, not quite."""
    content = bytearray(data)
    for _ in range(chance.choice([1, 1, 2, 8, 40])):
        place = chance.randrange(len(content) + 1)
        match chance.randrange(5):
            case 0 if place < len(content):
                content[place] = chance.randrange(256)
            case 1:
                del content[place : place + chance.choice([1, 10, 1000])]
            case 2:
                content[place:place] = chance.choice(TOKENS)
            case 3:
                content[place:place] = content[place : place + chance.choice([5, 100])]
            case _:
                end = chance.randrange(len(content) + 1)
                content[place:place] = content[end : end + 30]
    return bytes(content[: chance.randrange(len(content) + 1)] if chance.random() < 0.1 else content)


def changed(value: Any, chance: random.Random) -> Any:
    """The same tree with some of its entries exchanged, dropped, doubled or added."""
    tree = copy.deepcopy(value)
    for _ in range(chance.choice([1, 1, 1, 2, 5])):
        holder, key = chance.choice(list(places(tree)))
        match chance.randrange(6):
            case 0 if isinstance(holder, list):
                del holder[key]
            case 0:
                holder.pop(key)
            case 1 if isinstance(holder, list):
                holder.insert(key, copy.deepcopy(holder[key]))
            case 1:
                holder[chance.choice(["x", "", "model", "store", str(key) + "s"])] = chance.choice(NASTY)
            case 2:
                other, name = chance.choice(list(places(tree)))
                holder[key] = copy.deepcopy(other[name])
            case _:
                holder[key] = copy.deepcopy(chance.choice(NASTY))
        if not list(places(tree)):
            return tree
    return tree


def places(tree: Any) -> Iterator[tuple[Any, Any]]:
    """(container, key) of every entry."""
    entries = list(tree.items()) if isinstance(tree, dict) else list(enumerate(tree)) if isinstance(tree, list) else []
    for key, value in entries:
        yield tree, key
        yield from places(value)


def damage_store(folder: Path, chance: random.Random) -> None:
    """Damages one file of a run folder, mostly its database."""
    database = folder / "study.sqlite"
    match chance.randrange(10):
        case 0 | 1 | 2:
            database.write_bytes(damaged(database.read_bytes(), chance))
        case 3:
            database.unlink()
            pointer = {"store": "postgresql://u@127.0.0.1:1/d", "name": "x"}
            (folder / "store.json").write_text(json.dumps(changed(pointer, chance), default=str), errors="replace")
            text = (folder / "store.json").read_text()
            (folder / "store.json").write_text(text.replace("127.0.0.1:1", "127.0.0.1:x"))  # never an address that could be asked
        case 4:
            path = chance.choice([folder / "summary.json", folder / "config.toml", *(folder / "artifacts").rglob("*.safetensors")])
            path.write_bytes(damaged(path.read_bytes(), chance))
        case _:
            with contextlib.suppress(sqlite3.Error), contextlib.closing(sqlite3.connect(database)) as connection:
                change_rows(connection, chance)
                connection.commit()


def change_rows(connection: sqlite3.Connection, chance: random.Random) -> None:
    """Changes, drops or adds rows, columns and tables."""
    tables = [
        row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%'")
    ]
    for _ in range(chance.choice([1, 1, 2, 4])):
        table = chance.choice(tables)
        columns = [row[1] for row in connection.execute(f'PRAGMA table_info("{table}")')]
        column = chance.choice(columns)
        match chance.randrange(8):
            case 0:
                connection.execute(f'DELETE FROM "{table}" WHERE rowid % 2 = {chance.randrange(2)}')
            case 1:
                connection.execute(f'ALTER TABLE "{table}" DROP COLUMN "{column}"')
            case 2:
                connection.execute(f'ALTER TABLE "{table}" RENAME TO "{table}_"')
                query = f'WITH RECURSIVE r(x) AS (SELECT 1 UNION ALL SELECT x FROM r) SELECT x AS "{column}" FROM r'
                connection.execute(f'CREATE VIEW "{table}" AS {query}')
            case _:
                value = chance.choice([one for one in NASTY if not isinstance(one, list | dict)])
                value = json.dumps(changed({"a": [1], "b": {"c": 2}}, chance)) if chance.random() < 0.3 else value
                value = value.encode(errors="replace").decode() if isinstance(value, str) else value
                value = str(value) if isinstance(value, int) and abs(value) >= 2**63 else value
                connection.execute(f'UPDATE "{table}" SET "{column}" = ? WHERE rowid % 3 = ?', (value, chance.randrange(3)))


if __name__ == "__main__":
    main()
