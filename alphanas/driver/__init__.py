"""The driver: wires what is proposed, scored, measured, exported and reported to the study and to the workers.

    study = search(config, out="runs/digits", progress=…)      # a path of a TOML file, a mapping, or a Config
    study = resume("runs/digits", progress=…)

Both may be killed at any instant; `resume` loses nothing that was finished and does nothing twice. With equal seeds, the same
candidates are proposed whatever the number of workers, and across a resume: a generation sees finished generations only. The
exception is a synthesis that runs into `synthesis.time_limit`, a safety net far beyond `synthesis.steps`; the log tells of it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alphanas.config import Config, load_config

if TYPE_CHECKING:
    from alphanas.report.progress import Progress
    from alphanas.study import Study

__all__ = ["resume", "search"]


def search(
    config: Config | Mapping[str, Any] | str | os.PathLike[str],
    *,
    out: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
) -> Study:
    """Runs a search to its end and returns its study; the run folder is `out`, or `runs/NAME` of the config file.

    Raises UserError for bad configs, data, models and folders, before anything is written.
    """
    from alphanas.driver.start import begin

    settled, name = _settled(config)
    return begin(settled, Path(out) if out is not None else Path("runs") / name, progress)


def resume(folder: str | os.PathLike[str], *, progress: Progress | None = None) -> Study:
    """Goes on with the search of a run folder, or only rewrites its report if it was finished; returns its study.

    Raises UserError if the folder holds no study, or one that another process is writing.
    """
    from alphanas.driver.start import go_on

    return go_on(Path(folder), progress)


def _settled(config: Config | Mapping[str, Any] | str | os.PathLike[str]) -> tuple[Config, str]:
    if isinstance(config, Config):
        return config, "search"
    if isinstance(config, Mapping):
        return Config.from_mapping(config), "search"
    return load_config(Path(config)), Path(config).stem
