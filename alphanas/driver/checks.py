"""What a search cannot begin with, said before anything is written: a zero-cost score or a function of one's own that is none."""

from __future__ import annotations

from alphanas.config import Config
from alphanas.errors import Fault, UserError


def check_stages(config: Config) -> None:
    """Raises UserError, with all faults at once, for scores and functions that no candidate could be judged by."""
    from alphanas.scoring import own, proxies

    faults: list[Fault] = []
    if config.scoring.proxy != "none":
        try:
            proxies.parts(config.scoring.proxy)
        except ValueError as error:
            faults.append(Fault("scoring.proxy", str(error)))
    for name in config.own_functions:
        key = "search.objectives" if name in config.search.objectives else "constraints"
        try:
            own.load(name)
        except ValueError as error:
            faults.append(Fault(key, str(error)))
    if faults:
        raise UserError(faults, cause="bad_config")
