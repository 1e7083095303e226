"""Replay: whether a study is what its log says, and what its seed and config make it.

Nothing is trained or measured again, and nothing is written. What hangs on the clock is counted, not compared: proposals that took
longer than `synthesis.time_limit`, then or now, and how many finalists there was time for, first and in the race.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from alphanas.config import Config, load_config, own_code, resumed
from alphanas.driver.cascade import Cascade
from alphanas.driver.choice import choose_best, choose_finalists, point, still_racing
from alphanas.driver.judging import turned_away_by_score
from alphanas.driver.learned import Learned
from alphanas.driver.standing import SEED
from alphanas.errors import UserError
from alphanas.scoring.cost import cost
from alphanas.scoring.reject import ScoreFilter
from alphanas.search import strategies
from alphanas.search.proposal import Failure, New, Proposal
from alphanas.study import STATUSES, Candidate, Study, open_study, pareto_front
from synth.graph import Graph, GraphError
from synth.op import ShapeMismatch


@dataclass(frozen=True)
class Difference:
    """One thing that is not as it should be."""

    thing: str
    recorded: str
    derived: str

    def __str__(self) -> str:
        return f"{self.thing}: recorded {self.recorded}, derived {self.derived}"


@dataclass
class Replay:
    """What a replay checked, how often, and what differs."""

    checked: dict[str, int] = field(default_factory=dict)
    differences: list[Difference] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)

    def check(self, what: str, thing: str, recorded: Any, derived: Any) -> None:
        """Counts a check of a kind, and notes a difference."""
        self.checked[what] = self.checked.get(what, 0) + 1
        if recorded != derived:
            self.differences.append(Difference(thing, _shown(recorded), _shown(derived)))


def replay(folder: str | Path, *, proposals: bool = True, run_code: bool = False) -> Replay:
    """Checks the study of a run folder against its log; `UserError` if it cannot be read at all.

    `proposals`: also make every proposal again, which takes about as long as it took. `run_code`: code that the config names by its
    import path is run for that; otherwise the proposals of such a study are left out.
    """
    study, found = open_study(folder), Replay()
    config = _config(study, found)
    graphs = dict(_graphs(study, found))
    _artifacts(study, found)
    _front(study, found)
    if config is None:
        return found
    _decisions(study, config, found)
    own = own_code(config)
    if proposals and own and not run_code:
        found.left_out.append(f"the proposals: they take code of the config, {', '.join(own)}")
    elif proposals and len(graphs) == sum(one.graph_hash is not None for one in study.candidates()):
        _proposals(study, config, found)
    return found


def _config(study: Study, found: Replay) -> Config | None:
    path = study.folder / "config.toml"
    try:
        config = Config.from_mapping(study.config)
    except UserError as error:
        found.differences.append(Difference("the study's config", "a config", str(error)))
        return None
    if path.is_file():
        try:
            resumed(config, load_config(path))
        except UserError as error:
            found.differences.append(Difference("config.toml", "the study's config", str(error)))
    found.check("config", "the study's key", study.key, config.seed)
    return config


def _graphs(study: Study, found: Replay) -> Iterator[tuple[int, Graph]]:
    """Every graph, its hash and its costs derived anew."""
    ids = {one.id for one in study.candidates()}
    for one in study.candidates():
        told = [outcome.status for outcome in one.outcomes("synthesis")]
        found.check("outcomes", f"candidate {one.id}, its synthesis", told, [one.status])
        for name, other in (("parent", one.parent), ("duplicate_of", one.duplicate_of)):
            if other is not None:
                found.check("lineage", f"candidate {one.id}, its {name} is an earlier one", other in ids and other < one.id, True)
        if one.graph_hash is None:
            continue
        try:
            graph = Graph.from_json(one.graph_json() or "")
        except (GraphError, ShapeMismatch) as error:
            found.differences.append(Difference(f"candidate {one.id}, its graph", "a graph", str(error)))
            continue
        found.check("graphs", f"candidate {one.id}, its graph's hash", one.graph_hash, graph.hash)
        derived = asdict(cost(graph))
        for values in [outcome.values for outcome in one.outcomes("cost") if outcome.ok]:
            for name, number in derived.items():
                found.check("costs", f"candidate {one.id}, {name}", values.get(name), number)
        yield one.id, graph


def _artifacts(study: Study, found: Replay) -> None:
    for one in study.candidates():
        for artifact in one.artifacts():
            try:
                study.verified(artifact)
                seen = "whole"
            except UserError as error:
                seen = str(error)
            found.check("artifacts", f"candidate {one.id}, {artifact.kind}", "whole", seen)


def _front(study: Study, found: Replay) -> None:
    """The front by comparing all with all, and what summary.json says of it."""
    names = study.objectives
    known = [(one.id, [one.objective(name) for name in names]) for one in study.candidates() if one.excess == 0]
    full = [(key, [float(number) for number in numbers if number is not None]) for key, numbers in known]
    points = [(key, numbers) for key, numbers in full if len(numbers) == len(names)]
    front = [points[index][0] for index in pareto_front([numbers for _, numbers in points])]
    found.check("front", "the Pareto front", [one.id for one in study.pareto()], front)
    path = study.folder / "summary.json"
    if study.status() != "done" or not path.is_file():
        return
    try:
        told = json.loads(path.read_text())
        ids = [one["id"] for one in told["pareto"]]
        best = told["best"]["id"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        found.differences.append(Difference("summary.json", "the study's figures", f"{type(error).__name__}: {error}"))
        return
    found.check("summary", "summary.json, pareto", ids, front)
    found.check("summary", "summary.json, best", best, study.best().id)


def _decisions(study: Study, config: Config, found: Replay) -> None:
    """The log: generations follow each other, and what was chosen last is what the outcomes say."""
    generations, next_id = study.decisions("generation"), SEED + 1
    for number, decision in enumerate(generations, start=1):
        ids = decision.payload.get("ids", [])
        found.check("log", f"generation {number}, its number", decision.payload.get("number"), number)
        made = [one.id for one in study.candidates() if one.generation == number]
        found.check("log", f"generation {number}, its candidates", ids, made or [next_id])
        next_id = 1 + max(ids, default=next_id)
    for late in study.decisions("late_outcome"):
        found.left_out.append(f"a late result of candidate {late.payload.get('candidate')}, which changed nothing")
    finalists, best = study.decisions("finalists"), study.decisions("best")
    if study.status() != "done" or not finalists or (generations and generations[-1].sequence > finalists[-1].sequence):
        return
    chosen, seed = finalists[-1].payload, point(study.seed())
    if seed is not None and "slack" in chosen:
        allowed = [candidate for candidate in study.candidates() if candidate.id != SEED and candidate.excess == 0]
        trained = [one for candidate in allowed if (one := point(candidate)) is not None]
        again = choose_finalists(seed, trained, count=len(chosen["ids"]), slack=chosen["slack"])
        found.check("decisions", "the finalists", chosen["ids"], again)
    if best and "seeds" not in best[-1].payload:
        found.left_out.append("the choice of the best: it was made by a rule that earlier versions went by")
    elif best:
        able = [study.candidate(one) for one in chosen["ids"]]
        derived = choose_best(study.seed(), able, config.finish)
        found.check("decisions", "the best", best[-1].payload.get("candidate"), derived["candidate"])

    _race(study, config, [study.candidate(one) for one in chosen["ids"]], finalists[-1].sequence, found)


def _race(study: Study, config: Config, racing: list[Candidate], since: int, found: Replay) -> None:
    """Who the time was divided among was in the race; whom there was time for hangs on the clock."""
    decided = {one.payload["seeds"]: one.payload for one in study.decisions("race") if one.sequence > since}
    for seeds in range(1, config.finish.seeds):
        racing = still_racing(study.seed(), racing, config.finish, seeds=seeds)
        if seeds not in decided:
            continue
        found.check("decisions", f"the race after {seeds} seeds", decided[seeds]["racing"], [one.id for one in racing])
        racing = [one for one in racing if one.id in decided[seeds]["ids"]]


def _proposals(study: Study, config: Config, found: Replay) -> None:
    """Every proposal made again, from the archive and the chance that it was made from; and whom the score turned away."""
    strategy, learned, cascade = strategies.build(config), Learned(config.search.objectives), Cascade(config)
    everyone = [one for one in study.candidates() if one.id != SEED]
    for number in sorted({one.generation for one in everyone}):
        generation = [one for one in everyone if one.generation == number]
        archive = learned.archive(study, before=generation[0].id)
        screen = cascade.screens(study, before=generation[0].id, generation=number).score
        for one in generation:
            proposal = strategy.propose(archive, np.random.default_rng([study.key, one.id]))
            _compare(study, config, one, proposal, found)
            _screened(study, config, one, screen, found)
            if one.graph_hash is not None:
                archive = archive.knowing([learned.proposed(one)])


def _compare(study: Study, config: Config, one: Candidate, proposal: Proposal, found: Replay) -> None:
    if max(one.seconds or 0.0, proposal.seconds) >= config.synthesis.time_limit:
        found.left_out.append(f"candidate {one.id}: its proposal took longer than synthesis.time_limit, then or now")
        return
    told = {key: value for key, value in one.proposal.items() if key != "seconds"}
    made = {key: value for key, value in json.loads(json.dumps(proposal.to_json())).items() if key != "seconds"}
    found.check("proposals", f"candidate {one.id}, its proposal", told, made)
    match proposal.answer:
        case New(graph):
            original = one if one.duplicate_of is None else study.candidate(one.duplicate_of)
            found.check("proposals", f"candidate {one.id}, the hash of what was proposed", original.graph_hash, graph.hash)
        case Failure(cause, _):
            found.check("proposals", f"candidate {one.id}, its status", one.status, cause if cause in STATUSES else "rejected")


def _screened(study: Study, config: Config, one: Candidate, screen: ScoreFilter | None, found: Replay) -> None:
    score, short = one.outcomes("score"), one.outcomes("short")
    if screen is None or one.params is None or not score or not score[0].ok or not short:
        return
    turned_away = short[0].status == "rejected" and short[0].cause == "low_score"
    found.check("screen", f"candidate {one.id}, turned away", turned_away, turned_away_by_score(study, config, one, screen))


def _shown(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return text if len(text) <= 200 else text[:199] + "…"
