"""`export SOURCE`: a candidate of a study, or any model, in the form that another tool reads."""

from __future__ import annotations

import argparse
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from alphanas.cli.common import MODEL_HELP, add_json, natural, positive, print_json, shape
from alphanas.errors import FAILED, Fault, UserError

if TYPE_CHECKING:
    from synth.graph import Graph, Variables

DEFAULT_THREADS = min(2, os.cpu_count() or 1)
FORMATS = ("flax", "stablehlo", "onnx", "tvm", "graph")

HELP = """write a model as Flax source, StableHLO, ONNX, a compiled TVM module, or graph

flax:      model.py, readable Flax NNX source that needs flax and jax alone, and weights.safetensors
onnx:      model.onnx, weights inside, batch free; needs the extra 'onnx'
tvm:       a library for one batch size and one target, and load.py, which needs tvm and numpy alone
stablehlo: model.stablehlo for jax.export, weights inside, batch free; JAX reads it for six months
graph:     graph.json and weights.safetensors, which every later version of this program opens

Each is run beside the model on random inputs before it is put in place; export.json says what was checked. --out is a folder; for
onnx and stablehlo it may be a file of that ending. Files that no export wrote are never replaced."""


@dataclass(frozen=True)
class _Subject:
    """What is exported, and how it is called in the output."""

    facts: dict[str, object]
    graph: Graph
    variables: Variables

    def __str__(self) -> str:
        return ", ".join(f"{name} {value}" for name, value in self.facts.items())


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `export`."""
    parser.add_argument(
        "model", metavar="SOURCE", help=f"run folder of a search, folder of a graph export, or a model: {MODEL_HELP}"
    )
    parser.add_argument("--candidate", type=natural, metavar="ID", help="which one of a run folder; without it the best")
    parser.add_argument("--format", choices=FORMATS, required=True, help="form to write")
    parser.add_argument("--out", required=True, metavar="PATH", help="folder or file to write")
    parser.add_argument("--input", type=shape, metavar="SHAPE", help="shape of a model's input, batch first, such as 1,32,32,3")
    parser.add_argument(
        "--classes", type=positive, default=10, metavar="N", help="classes of a model of the zoo (default: %(default)s)"
    )
    parser.add_argument(
        "--weights", metavar="PATH", help="a model's weights: a safetensors file or an Orbax checkpoint; without it its own"
    )
    parser.add_argument("--batch", type=positive, default=1, metavar="N", help="batch size, for tvm (default: %(default)s)")
    parser.add_argument(
        "--threads", type=positive, metavar="N", help=f"threads, for tvm (default: {DEFAULT_THREADS}, as for latency and tune)"
    )
    parser.add_argument(
        "--target", metavar="NAME", help="for tvm: a CPU that LLVM knows, or TRIPLE/CPU to cross-compile; without it this machine"
    )
    parser.add_argument(
        "--records",
        type=Path,
        metavar="PATH",
        help="for tvm: file of known kernels, read and filled (default: the one in the cache folder)",
    )
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Exports, and prints what was written."""
    _refuse_idle_options(arguments)
    if arguments.records is not None and arguments.records.exists():
        from alphanas.hardware.records import Records

        Records.open(arguments.records).close()  # what is wrong with the file is said before anything is done
    subject = _subject(arguments)
    out = Path(arguments.out)

    from alphanas.export import Options, export

    threads = arguments.threads or DEFAULT_THREADS
    options = Options(batch=arguments.batch, target=arguments.target, threads=threads, records=arguments.records)
    exported = export(subject.graph, subject.variables, arguments.format, out, options=options)
    if arguments.json:
        print_json({**subject.facts, **exported.to_dict(), "out": str(out)})
        return 0
    folder = out.parent if out.is_file() else out
    print(f"{subject} as {exported.format}, largest error {exported.max_error:.1e} in {exported.checked_by}:")
    if "note" in exported.details:
        print(f"  ({exported.details['note']})")
    record = f"{out.stem}.export.json" if out.is_file() else "export.json"
    for name in (*exported.files, record):
        print(f"  {folder / name}")
    return 0


def _refuse_idle_options(arguments: argparse.Namespace) -> None:
    """An option that would change nothing is a misunderstanding."""
    is_model = ":" in arguments.model and not Path(arguments.model).exists()
    idle = [
        (arguments.candidate is not None and is_model, "--candidate", "a run folder"),
        (arguments.input is not None and not is_model, "--input", f"a model ({MODEL_HELP})"),
        (arguments.weights is not None and not is_model, "--weights", f"a model ({MODEL_HELP})"),
        (arguments.target is not None and arguments.format != "tvm", "--target", "--format tvm"),
        (arguments.threads is not None and arguments.format != "tvm", "--threads", "--format tvm"),
        (arguments.records is not None and arguments.format != "tvm", "--records", "--format tvm"),
        (arguments.records is not None and arguments.target is not None, "--records", "this machine's kernels, without --target"),
        (arguments.batch != 1 and arguments.format != "tvm", "--batch", "--format tvm: the batch of all others is free"),
    ]
    faults = [Fault(option, saw="it has no effect here", wanted=f"it with {wanted}") for applies, option, wanted in idle if applies]
    if is_model and arguments.input is None:
        faults.append(Fault(f"export {arguments.model}", saw="no shape of its input", wanted="--input such as 1,32,32,3"))
    if faults:
        raise UserError(faults, cause="bad_usage")


def _subject(arguments: argparse.Namespace) -> _Subject:
    folder = Path(arguments.model)
    if arguments.input is not None:
        return _model(arguments)
    from alphanas.study import holds_study

    if (folder / "graph.json").is_file() and not holds_study(folder):
        from alphanas.export import open_graph

        return _Subject({"graph": str(folder)}, *open_graph(folder))
    return _candidate(folder, arguments.candidate)


def _model(arguments: argparse.Namespace) -> _Subject:
    import jax

    from alphanas.cli.model import load_model

    lifted = load_model(arguments)
    variables = lifted.variables
    if variables is None:
        variables = lifted.graph.init(jax.random.key(0))
    own = "initial" if lifted.variables is None else "its own"
    return _Subject({"model": arguments.model, "weights": arguments.weights or own}, lifted.graph, variables)


def _candidate(folder: Path, number: int | None) -> _Subject:
    from alphanas.models import weights
    from alphanas.study import open_study

    study = open_study(folder)
    candidate = study.best() if number is None else study.candidate(number)
    path = candidate.weights()
    if path is None:
        saw = "no weights: it was not trained" + ("" if candidate.status == "ok" else f", it is {candidate.status}")
        raise UserError(f"candidate {candidate.id}", saw=saw, remedy="choose one that was", exit_code=FAILED, cause="not_trained")
    graph = candidate.graph()
    return _Subject({"candidate": candidate.id}, graph, weights.load(path, graph))
