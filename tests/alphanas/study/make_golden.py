"""Writes the run folder that `test_versions` keeps of a schema version. Run once for a new one: make_golden.py golden/vN."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from alphanas.study import create_study, open_study

CONFIG = {"model": "zoo:resnet8", "seed": 5, "search": {"objectives": ["error", "params"]}, "finish": {"tolerance": 0.01}}


def main(folder: Path) -> None:
    start = {"config_toml": "seed = 5\n", "key": 5, "fingerprint": "f" * 64, "environment": {"cores": 2}}
    with create_study(folder, config=CONFIG, **start) as recorder:  # type: ignore[arg-type]
        for number, (params, accuracy) in enumerate([(100, 0.9), (50, 0.895), (20, 0.7)]):
            recorder.candidate(number, graph_json=json.dumps({"n": number}), graph_hash=f"h{number}", parent=0 if number else None)
            recorder.outcome(number, "cost", values={"params": params, "macs": 7 * params})
            weights = {"weights/short": f"weights of {number}".encode()}
            recorder.outcome(number, "short", values={"accuracy": accuracy}, discriminator=5, artifacts=weights)
        recorder.candidate(3, status="infeasible", parent=0, proposal={"property": "depth", "from": 2, "to": 3}, method="exact")
        recorder.candidate(4, graph_json="{}", graph_hash="h1", parent=0)
        recorder.outcome(1, "test", values={"accuracy": [0.8, 0.9]})
        recorder.outcome(1, "measure", values={"median_ms": 1.5, "backend": "tvm"}, discriminator="tvm")
        recorder.outcome(2, "full", "failed", cause="timeout", message="no result within 9 s")
        recorder.decide("best", {"candidate": 1})
        recorder.finish("done")
    study = open_study(folder)
    (folder / "summary.json").write_text(json.dumps(study.summary(), indent=1) + "\n")
    study.close()
    (folder / "study.lock").unlink()
    (folder / "scratch").rmdir()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
