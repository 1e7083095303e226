"""The report of a study as one HTML file that opens offline: figures, pictures, and nothing that was not measured."""

from __future__ import annotations

import html
import json
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alphanas.report import cascade, failures, history, lineage, models, plot, tree
from alphanas.report.markup import (
    Markup,
    accuracy_text,
    conditions_text,
    faster_markup,
    latency_text,
    markup,
    percent,
    percentiles_text,
    points,
    ratio_text,
    table,
)

if TYPE_CHECKING:
    from alphanas.study import Candidate, Study

TIP_SCRIPT = """
const tip = document.getElementById("tip");
document.addEventListener("mousemove", event => {
  const dot = event.target.closest ? event.target.closest("[data-tip]") : null;
  tip.style.display = dot ? "block" : "none";
  if (!dot) return;
  tip.textContent = dot.dataset.tip;
  const left = Math.min(event.pageX + 14, document.documentElement.clientWidth - tip.offsetWidth - 8);
  tip.style.left = left + "px"; tip.style.top = (event.pageY + 14) + "px";
});
"""


def report_html(study: Study, *, script: str = "") -> str:
    """The whole page, with a script beyond that of the tips where it is to be live."""
    summary = study.summary()
    name = study.folder.resolve().name
    sections = (
        headline(study, summary),
        section("Candidates", candidates(study)),
        section("Seed and best", models.side_by_side(study)),
        section("How the best came about", lineage.story(study)),
        section("How the search went", history.story(study) + tree.family(study)),
        section("How the stages ranked", cascade.story(study)),
        section("Finalists", finalists(study)),
        section("Baselines at equal budget", baselines(study)),
        section("Outcomes and failures", failures.overview(study, summary["counts"])),
        section("Environment and config", environment(study, summary)),
    )
    return document(f"alphanas: {name}", "".join(sections), script=script)


def document(title: str, body: str, *, script: str = "") -> str:
    """A page that stands alone: no file and no network is needed to show it."""
    style = resources.files("alphanas.report").joinpath("report.css").read_text(encoding="utf-8")
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(title)}</title><style>{style}</style></head><body><main>{body}</main>"
        f'<div id="tip"></div><script>{TIP_SCRIPT}{script}</script></body></html>\n'
    )


def section(title: str, body: str) -> str:
    """A section with its heading; nothing where there is nothing to say."""
    return f"<section><h2>{html.escape(title)}</h2>{body}</section>" if body else ""


def headline(study: Study, summary: Mapping[str, Any]) -> str:
    """What was gained, in one line and four cards."""
    config = study.config
    folder, status = study.folder.resolve().name, summary["status"]
    data = str(config.get("data", {}).get("source", ""))
    source = f"{Path(data).name if data.startswith('npz:') else data}"
    intro = f"{config.get('model', 'a model')} on {source} · study {folder} · {status}"
    resume = (
        f" · go on with <code>python -m alphanas resume {html.escape(folder)}</code>"
        if status in ("interrupted", "stopped")
        else ""
    )
    seed, best = summary["seed"], summary["best"]
    tolerance = float(config.get("finish", {}).get("tolerance", 0.0))
    cards = _cards(seed, best, tolerance) if seed and best else ""
    return (
        f"<header><h1>{html.escape(_claim(seed, best, str(status)))}</h1>"
        f'<p class="soft">{html.escape(intro)}{resume}</p>{cards}</header>'
    )


def _claim(seed: Mapping[str, Any] | None, best: Mapping[str, Any] | None, status: str) -> str:
    if seed is None or best is None:
        return "Nothing has been measured yet"
    if best["id"] == seed["id"]:
        return "No smaller model that is as accurate has been found" + (" yet" if status == "running" else "")
    parts = []
    for key, word in (("params", "parameters"), ("macs", "multiply-adds")):
        if seed[key] and best[key]:
            ratio = seed[key] / best[key]
            parts.append(f"{ratio:.1f}× fewer {word}" if ratio >= 1.05 else f"{1 / ratio:.2f}× the {word}")
    if seed["accuracy"] and best["accuracy"]:
        parts.append(f"{points(best['accuracy']['mean'] - seed['accuracy']['mean'])} of test accuracy")
    return ", ".join(parts)


def _cards(seed: Mapping[str, Any], best: Mapping[str, Any], tolerance: float) -> str:
    ours, theirs = best["latency_ms"], seed["latency_ms"]
    times = faster_markup((ours or {}).get("ratio_to_seed"))
    notes = [conditions_text(ours), percentiles_text(ours)] if ours else []
    cards = (
        ("Parameters", best["params"], seed["params"], ratio_text(seed["params"], best["params"], less="fewer", more="more"), ""),
        ("Multiply-adds", best["macs"], seed["macs"], ratio_text(seed["macs"], best["macs"], less="fewer", more="more"), ""),
        ("Test accuracy", *_accuracies(seed, best, tolerance)),
        ("Latency", _median(ours), _median(theirs), times, "; ".join(note for note in notes if note)),
    )
    return f'<div class="cards">{"".join(_card(*card, is_seed=best["id"] == seed["id"]) for card in cards)}</div>'


def _accuracies(seed: Mapping[str, Any], best: Mapping[str, Any], tolerance: float) -> tuple[Any, Any, Markup | None, str]:
    after, before = best["accuracy"], seed["accuracy"]
    if after is None or before is None:
        return after and percent(after["mean"]), before and percent(before["mean"]), None, ""
    gain = after["mean"] - before["mean"]
    kind = "better" if gain >= 0 else "worse" if gain < -tolerance else ""
    count = len(after["per_seed"])
    note = f"mean of {count} training seed{'s' if count > 1 else ''}"
    return percent(after["mean"]), percent(before["mean"]), Markup(f'<span class="{kind}">{points(gain)}</span>'), note


def _median(latency: Mapping[str, Any] | None) -> str | None:
    return latency_text(None if latency is None else {"median": latency["median"]})


def _card(name: str, best: Any, seed: Any, change: Markup | None, note: str, *, is_seed: bool) -> str:
    detail = f"{markup(change)} · " if change else ""
    compared = "" if is_seed else f'<div class="was">{detail}seed {markup(seed)}</div>'
    notes = f'<div class="was">{html.escape(note)}</div>' if note else ""
    title = f"{name} of the seed" if is_seed else name
    head = f'<div class="name">{html.escape(title)}</div><div class="big">{markup(best)}</div>'
    return f'<div class="card">{head}{compared}{notes}</div>'


def candidates(study: Study) -> str:
    """The Pareto plot of everything that was trained, and the front as a table."""
    best, front = study.best(), study.pareto()
    fronts = {one.id for one in front}
    dots = []
    for one in study.candidates():
        if one.error is None or not one.params:
            continue
        kind = plot.SEED if one.id == 0 else plot.BEST if one.id == best.id else plot.FRONT if one.id in fronts else plot.OTHER
        dots.append(plot.Point(one.params, one.error, kind, history.tip(one), one.id))
    objectives = ", ".join(study.config.get("search", {}).get("objectives", ()))
    began = "its parent's" if study.config.get("training", {}).get("inherit", True) else "random"
    note = (
        f"<p>Every dot is a candidate with its error on the validation part, after a short training from {began} weights. "
        f"The Pareto front is over {html.escape(objectives)}; the stairs join what is best in the two numbers shown.</p>"
    )
    picture = plot.pareto_plot(dots, x_name="parameters", y_name="validation error after the short training")
    columns = ("candidate", "parameters", "MACs", "validation error", "made from", "generation")
    rows = [(f"#{one.id}", one.params, one.macs, percent(one.error), _parent(one), one.generation) for one in front]
    shown = table(
        columns, rows, numbers=columns[1:4] + columns[5:], best=[index for index, one in enumerate(front) if one.id == best.id]
    )
    listing = f"<details><summary>The Pareto front as a table ({len(front)})</summary>{shown}</details>" if front else ""
    return note + picture + listing


def _parent(one: Candidate) -> str:
    return "the user's model" if one.parent is None else f"#{one.parent}"


def finalists(study: Study) -> str:
    """The seed and all candidates that were trained in full, with accuracies on parts that selection did not see."""
    best = study.best()
    chosen = [one for one in study.candidates() if one.accuracies("full") or one.accuracies("test")]
    if not chosen:
        return ""
    rows = []
    for one in sorted(chosen, key=lambda one: (one.id != 0, one.params or 0)):
        facts = one.summary()
        validation = facts["validation_accuracy"] if one.accuracies("full") else None
        cells = (accuracy_text(validation), accuracy_text(facts["accuracy"]), latency_text(facts["latency_ms"]))
        rows.append(
            (f"#{one.id}" + (" seed" if one.id == 0 else " best" if one.id == best.id else ""), one.params, one.macs, *cells)
        )
    columns = ("candidate", "parameters", "MACs", "validation accuracy", "test accuracy", "latency")
    conditions = dict.fromkeys(conditions_text(facts) for one in chosen if (facts := one.summary()["latency_ms"]))
    caption = f"latency: {'; '.join(conditions)}" if conditions else ""
    tinted = [index for index, row in enumerate(rows) if row[0] == f"#{best.id} best"]
    note = (
        "<p>All were trained in full with the seed's recipe and the same training seeds. The choice among them used the validation "
        "part; the test part was looked at once, afterwards.</p>"
    )
    return note + table(columns, rows, numbers=columns[1:3], best=tinted, caption=caption)


def baselines(study: Study) -> str:
    """What else could be had for the same budget: the log's entries "baseline"."""
    rows = []
    for entry in study.decisions("baseline"):
        facts = entry.payload
        rows.append(
            (facts.get("name"), facts.get("params"), facts.get("macs"), accuracy_text(facts.get("accuracy")), facts.get("note", ""))
        )
    columns = ("baseline", "parameters", "MACs", "test accuracy", "note")
    return table(columns, rows, numbers=columns[1:3]) if rows else ""


def environment(study: Study, summary: Mapping[str, Any]) -> str:
    """What it ran on, and the whole config."""
    facts = dict(summary["environment"])
    versions = facts.pop("versions", {})
    rows: list[Sequence[Any]] = [(name, value) for name, value in facts.items() if value is not None]
    rows += [("data fingerprint", study.fingerprint[:16]), ("study key", str(study.key))]
    installed = [
        (name, value if value is not None else Markup('<span class="none">not installed</span>'))
        for name, value in versions.items()
    ]
    config = html.escape(_config_text(study))
    return (
        f'<div class="pair"><div>{table(("machine", ""), rows)}</div><div>{table(("package", "version"), installed)}</div></div>'
        f"<details><summary>Config</summary><pre>{config}</pre></details>"
    )


def _config_text(study: Study) -> str:
    """The config as TOML where the run folder has it, else as it is stored."""
    path = study.folder / "config.toml"
    return path.read_text(encoding="utf-8") if path.is_file() else json.dumps(study.config, indent=2)
