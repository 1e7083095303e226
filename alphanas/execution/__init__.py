"""Execution: work that may crash, hang or eat the memory runs in worker processes, and what happened to it is a value.

    with LocalPool(workers=2, threads=1, env={}, memory_limit=None) as pool:
        handle = pool.submit("alphanas.scoring.tasks:train", {"graph": …}, limit_s=60.0)
        finished, unfinished = pool.wait([handle, …], timeout=1.0)        # returns as soon as one is finished, or after the timeout
        match handle.result():                                            # waits until it is finished
            case Completed(value, seconds): …
            case Failed(cause, message, log_tail, seconds): …
        for index, result in pool.map_unordered("package.module:function", payloads, limit_s=60.0): …
        handle.cancel()

A task is a top-level function named by its import path, `def train(payload: dict) -> dict`; payload and result are JSON values (NaN
and infinity included), files go by path. The worker imports the task's module when it is first asked for, nothing heavy before.

Causes of `Failed`: "crashed" (signal, exit), "timeout" (wall limit, since it began or got on), "out_of_memory" (the pool's limit,
MemoryError, or XLA's RESOURCE_EXHAUSTED), "error" (a Python exception), "bad_input" (a `UserError`), "disk_full", "read_only",
"cancelled", or what a task says by raising `TaskFailure(cause, message)`. `log_tail` is the end of what the worker printed, native
code included, and the traceback.

A task may say something while it runs (`notes.say`, heard by the pool's `on_note`), and takes turns with all other processes
where it times something (`turns.turn`): what it waits there is not counted against its limit. A slow task tells that it does
not hang (`notes.progress`): its limit counts from then on.

Tasks are begun in the order they were submitted. A worker that was lost is replaced; a task that it had not begun is given to the
next. Workers, and whatever they started, end when the pool is closed and when their parent dies, even by SIGKILL.
"""

from alphanas.execution.local import Handle, LocalPool
from alphanas.execution.notes import Note
from alphanas.execution.pool import Pool
from alphanas.execution.results import Completed, Failed, Result, TaskFailure
from alphanas.execution.threads import thread_environment

__all__ = ["Completed", "Failed", "Handle", "LocalPool", "Note", "Pool", "Result", "TaskFailure", "thread_environment"]
