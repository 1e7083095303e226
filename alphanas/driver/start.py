"""The start of a search and of its continuation: data, seed model, study, workers."""

from __future__ import annotations

import time
from pathlib import Path

from alphanas import data
from alphanas.config import Config, load_config, own_code, resumed
from alphanas.driver.checks import check_stages
from alphanas.driver.finish import finish
from alphanas.driver.loop import search_generations
from alphanas.driver.predict import check_records
from alphanas.driver.run import Run
from alphanas.errors import Fault, UserError
from alphanas.execution import LocalPool
from alphanas.execution.limits import memory_share
from alphanas.execution.on_ray import RayPool
from alphanas.models.lifting import Lifted
from alphanas.models.resolve import resolve_with_report
from alphanas.report.progress import Progress, Silent
from alphanas.search import strategies
from alphanas.study import Patience, Recorder, Study, create_study, environment, holds_study, open_study, resume_study


def begin(config: Config, folder: Path, progress: Progress | None) -> Study:
    """A new search in a new folder."""
    started = time.monotonic()
    _name_code(config, progress)
    strategies.build(config)  # what it cannot work with is said before anything is written
    check_stages(config)
    check_records(config)
    pictures = data.load(config.data)
    seed = open_model(config, pictures)
    recorder = create_study(
        folder,
        config=config.to_mapping(),
        config_toml=config.to_toml(),
        key=config.seed,
        fingerprint=pictures.fingerprint,
        environment=environment(),
        store=config.study.store,
        name=config.study.name,
        patience=_patience(config, progress),
    )
    with recorder:
        _conduct(config, recorder, pictures, progress or Silent(), seed=seed, started=started, spent=0.0)
    return open_study(folder)


def go_on(folder: Path, progress: Progress | None) -> Study:
    """The search of a run folder, from where it stopped, under the folder's config.toml; the model's own source is not needed."""
    started = time.monotonic()
    path = folder / "config.toml"
    edited = load_config(path) if path.is_file() and holds_study(folder) else None
    with resume_study(folder, patience=_patience(edited or Config(), progress)) as recorder:
        stored = Config.from_mapping(recorder.study.config)
        config = resumed(stored, edited) if edited else stored
        _name_code(config, progress)
        pictures = data.load(config.data)
        if pictures.fingerprint != recorder.study.fingerprint:
            wanted = f"the data that the study of {folder} was started with"
            raise UserError(f"data.source {config.data.source}", saw="other data than before", wanted=wanted, cause="other_study")
        begun = bool(recorder.study.candidates())
        seed = None if begun else open_model(config, pictures)
        sessions = recorder.study.decisions("elapsed")
        spent = sessions[-1].payload["seconds"] if sessions else 0.0
        _conduct(config, recorder, pictures, progress or Silent(), seed=seed, started=started, spent=spent)
    return open_study(folder)


def _name_code(config: Config, progress: Progress | None) -> None:
    """Names the code that the config makes this process run, before it is run."""
    for text in own_code(config):
        (progress or Silent()).note(f"the config has this code run: {text}")


def _pool(config: Config, folder: Path, progress: Progress) -> LocalPool | RayPool:
    """The workers that the config asks for."""
    execution = config.execution
    memory = execution.memory * 2**20 or None
    if execution.engine == "local":
        return LocalPool(
            workers=config.workers,
            threads=execution.threads,
            memory_limit=memory or memory_share(config.workers),
            on_note=lambda note: progress.note(note.text) if note.text else None,
        )
    return RayPool(
        config.workers,
        threads=execution.threads,
        memory_limit=memory,
        gpus=execution.gpus,
        address=execution.address,
        marks=[(folder / "config.toml").resolve()],
        tell=progress.note,
        patience_s=config.study.patience,
    )


def _patience(config: Config, progress: Progress | None) -> Patience:
    """How long this study waits for what somebody can mend, and who is told."""
    return Patience(config.study.patience, (progress or Silent()).note)


def open_model(config: Config, pictures: data.DataSet) -> Lifted:
    """The seed model, checked against the data."""
    weights = config.weights or None
    lifted = resolve_with_report(config.model, (1, *pictures.input_shape), num_classes=pictures.num_classes, weights=weights)
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
    return lifted


def _conduct(
    config: Config,
    recorder: Recorder,
    pictures: data.DataSet,
    progress: Progress,
    *,
    seed: Lifted | None,
    started: float,
    spent: float,
) -> None:
    recorder.lead()
    with _pool(config, recorder.folder, progress) as pool:
        run = Run(config, recorder, pool, progress, examples=len(pictures.y_valid), spent=spent, started=started)
        try:
            search_generations(run, seed)
            finish(run)
        finally:
            recorder.decide("elapsed", {"seconds": run.elapsed})
