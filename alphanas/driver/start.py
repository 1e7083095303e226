"""The start of a search and of its continuation: data, seed model, study, workers."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from alphanas import data
from alphanas.config import Config
from alphanas.driver.finish import finish
from alphanas.driver.loop import search_generations
from alphanas.driver.run import Run
from alphanas.errors import Fault, UserError
from alphanas.execution import LocalPool
from alphanas.models.lifting import Lifted
from alphanas.models.resolve import resolve_with_report
from alphanas.report.progress import Progress, Silent
from alphanas.study import Recorder, Study, create_study, environment, open_study, resume_study


@dataclass(frozen=True)
class Opening:
    """What a search starts from: the data, and the seed model with its weights if it came with any."""

    data: data.DataSet
    seed: Lifted


def begin(config: Config, folder: Path, progress: Progress | None) -> Study:
    """A new search in a new folder."""
    started = time.monotonic()
    opening = open_inputs(config)
    recorder = create_study(
        folder,
        config=config.to_mapping(),
        config_toml=config.to_toml(),
        key=config.seed,
        fingerprint=opening.data.fingerprint,
        environment=environment(),
    )
    with recorder:
        _conduct(config, recorder, opening, progress or Silent(), started, spent=0.0)
    return open_study(folder)


def go_on(folder: Path, progress: Progress | None) -> Study:
    """The search of a run folder, from where it stopped."""
    started = time.monotonic()
    with resume_study(folder) as recorder:
        config = Config.from_mapping(recorder.study.config)
        opening = open_inputs(config)
        if opening.data.fingerprint != recorder.study.fingerprint:
            wanted = f"the data that the study of {folder} was started with"
            raise UserError(f"data.source {config.data.source}", saw="other data than before", wanted=wanted, cause="other_study")
        sessions = recorder.study.decisions("elapsed")
        _conduct(
            config, recorder, opening, progress or Silent(), started, spent=sessions[-1].payload["seconds"] if sessions else 0.0
        )
    return open_study(folder)


def open_inputs(config: Config) -> Opening:
    """Data and seed model, each checked against the other."""
    pictures = data.load(config.data)
    lifted = resolve_with_report(config.model, (1, *pictures.input_shape), num_classes=pictures.num_classes)
    graph = lifted.graph
    faults = [
        Fault(f"model {config.model}", saw=f"{len(values)} {end}", wanted=f"one {end.removesuffix('s')}")
        for end, values in (("inputs", graph.inputs), ("outputs", graph.outputs))
        if len(values) != 1
    ]
    if faults:
        raise UserError(faults)
    logits = graph.values[graph.outputs[0]]
    if logits.shape != (None, pictures.num_classes):
        wanted = f"a batch of {pictures.num_classes} logits for the classes of {pictures.name}"
        raise UserError(f"model {config.model}", saw=f"an output of shape {logits}", wanted=wanted)
    return Opening(pictures, lifted)


def _conduct(config: Config, recorder: Recorder, opening: Opening, progress: Progress, started: float, spent: float) -> None:
    with LocalPool(workers=config.workers, threads=config.execution.threads, memory_limit=_memory(config)) as pool:
        run = Run(config, recorder, pool, progress, examples=len(opening.data.y_valid), spent=spent, started=started)
        try:
            search_generations(run, opening.seed)
            finish(run)
        finally:
            recorder.decide("elapsed", {"seconds": run.elapsed})


def _memory(config: Config) -> int | None:
    return config.execution.memory * 2**20 or None
