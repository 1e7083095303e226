"""Writes a study without end, and says what was committed as soon as it was. Run as: fill.py FOLDER."""

from __future__ import annotations

import sys

from alphanas.errors import UserError
from alphanas.study import create_study, resume_study


def main(folder: str) -> None:
    start = {"config": {"search": {}}, "config_toml": "", "key": 1, "fingerprint": "f", "environment": {}}
    try:
        recorder = create_study(folder, **start)  # type: ignore[arg-type]
    except UserError:  # the folder has a study: this is a later life of the process
        recorder = resume_study(folder)
    print("open", flush=True)
    number = len(recorder.study.candidates())
    while True:
        recorder.candidate(number, graph_json=f"graph {number}", graph_hash=f"hash {number}", parent=max(number - 1, 0))
        print(f"candidate {number}", flush=True)
        recorder.outcome(number, "cost", values={"params": number})
        print(f"cost {number}", flush=True)
        file = recorder.scratch(f"{number}.safetensors")
        file.write_bytes(content(number))
        recorder.outcome(number, "short", values={"accuracy": 0.5}, artifacts={"weights/short": file})
        print(f"short {number}", flush=True)
        with recorder.transaction():
            recorder.outcome(number, "full", values={"accuracy": 0.6})
            recorder.decide("pair", {"number": number})
        print(f"full {number}", flush=True)
        number += 1


def content(number: int) -> bytes:
    """What the weights of a candidate are."""
    return f"weights of {number} ".encode() * 2000


if __name__ == "__main__":
    main(sys.argv[1])
