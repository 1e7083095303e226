"""Laws of the pool, with real processes: whatever a task does to its worker is a value, and nothing is left behind."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest.mock import ANY

import pytest

from alphanas.execution import Completed, Failed, Handle, LocalPool, thread_environment
from tests.alphanas.execution import sample_tasks

TASKS = "sample_tasks"
HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def on_path() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(HERE))
        yield


@pytest.fixture(scope="module")
def pool(on_path: None) -> Iterator[LocalPool]:
    with LocalPool(2, env={"CHOSEN": "yes"}) as pool:
        yield pool


def submit(pool: LocalPool, name: str, payload: object = None, *, limit_s: float = 30.0) -> Handle:
    return pool.submit(f"{TASKS}:{name}", payload, limit_s=limit_s)


def running(pid: int) -> bool:
    """Whether a process exists and is not just waiting to be reaped."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False
    except ProcessLookupError:
        return False


def eventually(holds: Callable[[], bool], *, within_s: float = 10.0) -> bool:
    deadline = time.monotonic() + within_s
    while not holds() and time.monotonic() < deadline:
        time.sleep(0.02)
    return holds()


@pytest.mark.parametrize("value", [None, 3, "text", [1, [2.5, {"a": None}]], {"ö\n": "x" * 300_000}, float("inf")], ids=str)
def test_values_come_back(pool: LocalPool, value: object) -> None:
    result = submit(pool, "echo", value).result()
    assert isinstance(result, Completed)
    assert result.value == value


def test_not_a_number_comes_back(pool: LocalPool) -> None:
    result = submit(pool, "echo", float("nan")).result()
    assert isinstance(result, Completed) and math.isnan(result.value)


# task, payload, cause, text of the message, text of the log tail
FAILURES = [
    ("segfault", None, "crashed", "SIGSEGV", "before the crash"),
    ("hard_exit", 3, "crashed", "status 3", ""),
    ("soft_exit", 4, "crashed", "status 4", "SystemExit"),
    ("fork_and_die", None, "crashed", "status 5", ""),
    ("close_pipes", None, "crashed", "closed its pipe", ""),
    ("raises", "the key", "error", "KeyError: 'the key'", "in raises"),
    ("fails", "diverged", "diverged", "said by the task", ""),
    ("bad_input", "thing", "bad_input", "thing: a fault", ""),
    ("not_json", None, "error", "not JSON serializable", ""),
    ("memory_error", None, "out_of_memory", "MemoryError", ""),
    ("missing", None, "error", "no attribute 'missing'", ""),
    ("chatter_and_raise", 300_000, "error", "after chatter", "THE END"),
]


@pytest.mark.parametrize(("task", "payload", "cause", "message", "tail"), FAILURES, ids=[name for name, *_ in FAILURES])
def test_a_failure_is_a_value_and_the_next_task_runs(
    pool: LocalPool, task: str, payload: object, cause: str, message: str, tail: str
) -> None:
    result = submit(pool, task, payload).result(timeout=30)
    assert isinstance(result, Failed)
    assert result.cause == cause
    assert message in result.message
    assert tail in result.log_tail
    assert len(result.log_tail) <= 20_000
    after = [submit(pool, "echo", number).result(timeout=30) for number in range(3)]
    assert [one.value for one in after if isinstance(one, Completed)] == [0, 1, 2]


def test_an_unknown_module_is_a_value(pool: LocalPool) -> None:
    result = pool.submit("no_such_module:task", None).result()
    assert isinstance(result, Failed)
    assert (result.cause, "no_such_module" in result.message) == ("error", True)


@pytest.mark.parametrize("name", ["task", ":task", "module:", "module:1", "a:b.c"])
def test_a_wrong_name_is_the_callers_error(pool: LocalPool, name: str) -> None:
    with pytest.raises(ValueError, match="module:function"):
        pool.submit(name, None)


def test_a_payload_that_is_not_json_is_the_callers_error(pool: LocalPool) -> None:
    with pytest.raises(TypeError):
        submit(pool, "echo", object())


def test_a_slow_task_that_gets_on_is_told_from_one_that_hangs(pool: LocalPool) -> None:
    slow, hung = submit(pool, "get_on", (5, 0.6, 0.0), limit_s=1.8), submit(pool, "get_on", (2, 0.6, 3600.0), limit_s=1.8)
    assert slow.result(timeout=60) == Completed("done", ANY)
    result = hung.result(timeout=60)
    assert isinstance(result, Failed) and result.cause == "timeout" and "no progress for 1.8 s" in result.message
    assert result.seconds > 1.2 + 1.8


def test_a_hang_ends_at_its_limit(pool: LocalPool) -> None:
    # The limit has the start of the worker in it, which is to come as far as saying so.
    result = submit(pool, "hang", limit_s=5.0).result(timeout=60)
    assert isinstance(result, Failed)
    assert (result.cause, result.log_tail) == ("timeout", "hanging")
    assert result.seconds >= 5.0


@pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc")
def test_a_worker_that_reads_nothing_ends_at_the_limit(on_path: None) -> None:
    with LocalPool(1) as pool:
        idle = submit(pool, "pid").result()
        assert isinstance(idle, Completed)
        os.kill(idle.value, signal.SIGSTOP)
        result = submit(pool, "echo", "x" * 1_000_000, limit_s=0.5).result(timeout=10)
        assert isinstance(result, Failed) and result.cause == "timeout"
        assert isinstance(submit(pool, "echo", "x" * 1_000_000).result(timeout=30), Completed)
        stopped = submit(pool, "stop", limit_s=0.5).result(timeout=10)
        assert isinstance(stopped, Failed) and stopped.cause == "timeout"


def test_a_hang_takes_what_it_started_with_it(pool: LocalPool, tmp_path: Path) -> None:
    note = tmp_path / "pids"
    handle = submit(pool, "child_then_hang", str(note))
    assert eventually(lambda: note.exists() and len(note.read_text().split()) == 2)
    pids = [int(text) for text in note.read_text().split()]
    assert all(map(running, pids))
    handle.cancel()
    result = handle.result(timeout=10)
    assert isinstance(result, Failed) and result.cause == "cancelled"
    assert eventually(lambda: not any(map(running, pids)))


def test_a_long_log_neither_blocks_nor_grows(pool: LocalPool) -> None:
    result = submit(pool, "chatter", 5_000_000).result(timeout=30)
    assert isinstance(result, Completed)


def test_a_killed_worker_is_told_from_a_limit(pool: LocalPool) -> None:
    idle = submit(pool, "pid").result()
    assert isinstance(idle, Completed)
    os.kill(idle.value, signal.SIGKILL)
    results = [submit(pool, "echo", number).result(timeout=30) for number in range(4)]
    assert all(isinstance(result, Completed) for result in results)


def test_a_worker_imports_nothing_heavy_and_works_alone_in_its_threads(pool: LocalPool) -> None:
    modules = submit(pool, "modules").result()
    assert isinstance(modules, Completed)
    assert not {"numpy", "jax", "flax", "tvm", "z3", "sqlalchemy", "sklearn"} & set(modules.value)
    seen = submit(pool, "environment", ["CHOSEN", *thread_environment(1)]).result()
    assert isinstance(seen, Completed)
    assert seen.value == {"CHOSEN": "yes", **thread_environment(1)}


def test_two_workers_work_at_once_in_order_of_submission(pool: LocalPool) -> None:
    started = time.monotonic()
    slow, quick = submit(pool, "sleep", 0.6), submit(pool, "sleep", 0.1)
    finished, unfinished = pool.wait([slow, quick], timeout=20)
    assert (finished, unfinished) == ([quick], [slow])
    assert pool.wait([slow], timeout=0.0)[0] == []
    assert isinstance(slow.result(), Completed)
    assert time.monotonic() - started < 20
    assert pool.wait([], timeout=5) == ([], [])


def test_map_unordered_gives_every_index_once(pool: LocalPool) -> None:
    results = dict(pool.map_unordered(f"{TASKS}:echo", range(200), limit_s=30))
    assert {index: result.value for index, result in results.items() if isinstance(result, Completed)} == {i: i for i in range(200)}


def test_a_result_that_does_not_come_in_time_raises(pool: LocalPool) -> None:
    handle = submit(pool, "sleep", 1.5)
    with pytest.raises(TimeoutError):
        handle.result(timeout=0.05)
    assert isinstance(handle.result(), Completed)


@pytest.mark.skipif(sys.platform != "linux", reason="memory is watched through /proc")
def test_who_eats_too_much_is_ended(on_path: None) -> None:
    with LocalPool(1, memory_limit=120 << 20) as pool:
        result = submit(pool, "eat", 300).result(timeout=30)
        assert isinstance(result, Failed)
        assert result.cause == "out_of_memory"
        assert "above the limit of 120 MiB" in result.message
        assert isinstance(submit(pool, "echo", 1).result(), Completed)


@pytest.mark.skipif(sys.platform != "linux", reason="memory is watched through /proc")
def test_what_a_task_starts_eats_from_its_memory(on_path: None) -> None:
    with LocalPool(1, memory_limit=120 << 20) as pool:
        result = submit(pool, "family_eats", 300).result(timeout=30)
        assert isinstance(result, Failed)
        assert result.cause == "out_of_memory"


def test_a_worker_is_as_nice_as_the_session_of_its_parent(pool: LocalPool) -> None:
    group = sample_tasks.niceness(None)
    if group is None:
        pytest.skip("the system groups no sessions")
    result = submit(pool, "niceness").result()
    assert isinstance(result, Completed)
    assert result.value == group


@pytest.mark.skipif(sys.platform != "linux", reason="memory is watched through /proc")
def test_a_grown_worker_is_replaced(on_path: None) -> None:
    with LocalPool(1, recycle_bytes=0) as small, LocalPool(1) as large:
        replaced = [submit(small, "pid").result() for _ in range(2)]
        kept = [submit(large, "pid").result() for _ in range(2)]
        values = [one.value for one in (*replaced, *kept) if isinstance(one, Completed)]
        assert len(values) == 4
        assert values[0] != values[1]
        assert values[2] == values[3]


def test_workers_share_an_accelerator_unless_the_user_says_otherwise(on_path: None, monkeypatch: pytest.MonkeyPatch) -> None:
    name = "XLA_PYTHON_CLIENT_PREALLOCATE"
    monkeypatch.delenv(name, raising=False)
    with LocalPool(1) as pool:
        assert submit(pool, "environment", [name]).result() == Completed({name: "false"}, ANY)
    monkeypatch.setenv(name, "true")
    with LocalPool(1) as pool:
        assert submit(pool, "environment", [name]).result() == Completed({name: "true"}, ANY)


def test_workers_take_large_arrays_in_huge_pages_unless_the_user_says_otherwise(
    on_path: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "GLIBC_TUNABLES"
    cases = {
        "": "glibc.malloc.hugetlb=1",
        "glibc.malloc.check=1": "glibc.malloc.check=1:glibc.malloc.hugetlb=1",
        "glibc.malloc.hugetlb=0": "glibc.malloc.hugetlb=0",
    }
    for chosen, wanted in cases.items():
        monkeypatch.setenv(name, chosen)
        with LocalPool(1) as pool:
            assert submit(pool, "environment", [name]).result() == Completed({name: wanted}, ANY)


def test_closing_cancels_what_is_left_and_leaves_no_process(on_path: None, tmp_path: Path) -> None:
    note = tmp_path / "pids"
    with LocalPool(1) as pool:
        begun, queued = submit(pool, "child_then_hang", str(note)), submit(pool, "echo", 1)
        assert eventually(lambda: note.exists() and len(note.read_text().split()) == 2)
        pids = [int(text) for text in note.read_text().split()]
    for handle in (begun, queued):
        result = handle.result(timeout=0)
        assert isinstance(result, Failed) and result.cause == "cancelled"
    assert eventually(lambda: not any(map(running, pids)))
    with pytest.raises(RuntimeError, match="closed"):
        pool.submit("a:b", None)
    pool.close()


PARENT = """
import sys, time
sys.path.insert(0, {here!r})
from alphanas.execution import LocalPool
pool = LocalPool(2)
pool.submit("sample_tasks:pid", None).result()
handles = [pool.submit("sample_tasks:child_then_hang", sys.argv[1] + name) for name in ("a", "b")]
print("ready", flush=True)
time.sleep(3600)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT], ids=lambda one: one.name)
def test_the_death_of_the_parent_leaves_no_orphan(tmp_path: Path, how: signal.Signals) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    code = PARENT.format(here=str(HERE))
    parent = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "pids-")], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment
    )
    try:
        assert parent.stdout is not None and parent.stdout.readline() == b"ready\n"
        notes = [tmp_path / "pids-a", tmp_path / "pids-b"]
        assert eventually(lambda: all(note.exists() and len(note.read_text().split()) == 2 for note in notes))
        pids = [int(text) for note in notes for text in note.read_text().split()]
        wardens = [int(text) for text in Path(f"/proc/{parent.pid}/task/{parent.pid}/children").read_text().split()]
        assert all(map(running, pids))
        parent.send_signal(how)
        parent.wait(timeout=10)
        assert eventually(lambda: not any(map(running, [*pids, *wardens])))
    finally:
        parent.kill()
        parent.wait()
        parent.stdout.close()  # type: ignore[union-attr]


def test_a_pool_needs_workers_and_threads() -> None:
    with pytest.raises(ValueError, match="workers"):
        LocalPool(0)
    with pytest.raises(ValueError, match="threads"):
        thread_environment(0)
