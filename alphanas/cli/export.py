"""`export DIR`: a candidate of a study in the form that another tool reads."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

from alphanas.cli.common import add_json, natural, print_json
from alphanas.errors import FAILED, UserError

FORMATS = ("flax", "stablehlo", "onnx", "tvm", "graph")

HELP = """write a candidate as Flax source, StableHLO, ONNX, a compiled TVM module, or graph

flax: a folder with model.py (Flax NNX; needs flax and jax alone) and weights.safetensors"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `export`."""
    parser.add_argument("folder", metavar="DIR", help="run folder of a search")
    parser.add_argument("--candidate", type=natural, metavar="ID", help="which one; without it the best")
    parser.add_argument("--format", choices=FORMATS, required=True, help="form to write")
    parser.add_argument("--out", required=True, metavar="PATH", help="file or folder to write")
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Exports, and prints what was written."""
    folder, out = Path(arguments.folder), Path(arguments.out)

    from alphanas.study import open_study

    study = open_study(folder)
    candidate = study.best() if arguments.candidate is None else study.candidate(arguments.candidate)
    path = candidate.weights()
    if path is None:
        saw = "no weights: it was not trained" + ("" if candidate.status == "ok" else f", it is {candidate.status}")
        raise UserError(f"candidate {candidate.id}", saw=saw, remedy="choose one that was", exit_code=FAILED, cause="not_trained")

    from alphanas.export import export
    from alphanas.models import weights

    graph = candidate.graph()
    exported = export(graph, weights.load(path, graph), arguments.format, out)
    if arguments.json:
        print_json({"candidate": candidate.id, **dataclasses.asdict(exported), "out": str(out)})
        return 0
    print(f"candidate {candidate.id} as {exported.format}, largest error {exported.max_error:.1e}:")
    for name in exported.files:
        print(f"  {out / name}")
    return 0
