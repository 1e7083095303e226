"""A study trains by the formulations that it trained by first, whatever is measured later."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from alphanas.driver import stages
from alphanas.driver.run import Run
from alphanas.study import create_study, resume_study

START: dict[str, Any] = {"config": {}, "config_toml": "", "key": 0, "fingerprint": "", "environment": {}}
FIRST, LATER = ["dense", "dense", "split"], ["native", "native", "native"]


def test_the_first_plan_of_a_shape_stays_also_when_the_study_goes_on(tmp_path: Path) -> None:
    with create_study(tmp_path / "run", **START) as recorder:
        run = cast(Run, SimpleNamespace(recorder=recorder))
        assert stages._kernels(run) == {}
        stages._keep_kernels(run, {"a": FIRST})
        stages._keep_kernels(run, {"a": LATER, "b": LATER})
        stages._keep_kernels(run, {"a": LATER})
        stages._keep_kernels(run, {})
        assert len(recorder.study.decisions("kernels")) == 2
    with resume_study(tmp_path / "run") as recorder:
        assert stages._kernels(cast(Run, SimpleNamespace(recorder=recorder))) == {"a": FIRST, "b": LATER}
