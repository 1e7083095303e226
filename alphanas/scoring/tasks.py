"""The tasks that worker processes run: JSON-able in, JSON-able out. Data sets are read once for each process."""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from alphanas import data
from alphanas.config import Data
from alphanas.models import weights
from alphanas.scoring import curves, inheritance, kernels, own, proxies, training
from alphanas.scoring.compiled import share_compilations
from alphanas.scoring.distillation import Teacher
from alphanas.scoring.recipe import Recipe
from synth import Graph
from synth.graph import Variables
from synth.ops.formulations import Plan

Payload = Mapping[str, Any]


def train(payload: Payload) -> dict[str, Any]:
    """Trains a graph once for each seed and evaluates it.

    Payload: `graph` (JSON), `data` (the configuration's data table), `recipe` (its training table), `seeds`; and optionally
    `evaluate` ("validation", the default, or "test"), `inherit` (a weights file of the parent, or null) with `parent` (its graph,
    JSON), `teacher` (a weights file to learn from, or null) with `teacher_graph` (JSON), `fold` (which parting of the pictures,
    0 by default), `weights_out` (where the weights of the first seed go that did not diverge), `time_limit` (seconds for the whole
    task), `compilations` (a folder of compiled functions that workers share, or null), `lessons` (a folder of what the teacher
    says, that its students share, or null), `curve` (what the learning curve is watched for, as in `curves.Watch`, or null),
    `kernels` (formulations of convolutions that the study trained by before, as in the result; they count before what is
    measured).

    Result, with one entry for each seed in the lists: `accuracy` and `loss` on the part asked for, `validation_accuracy`,
    `train_loss`, null where a seed diverged or was not reached; `stopped` ("finished", "diverged", "hopeless" or "time_limit");
    `curve` (errors on the validation part after each epoch, null where it was not watched). `diverged`, `hopeless` (any seed was),
    `epochs` (in all), `inherited` (nodes that took over weights), `pictures` (trained on), `validation_pictures`, `seconds` (in
    all), `seconds_per_epoch` (of the fastest: without compilation), `weights` (the file, or null), `kernels` (formulations of
    convolutions that were measured or given, by shape).
    """
    began = time.monotonic()
    if payload.get("compilations"):
        share_compilations(payload["compilations"])
    graph, pictures = Graph.from_json(payload["graph"]), _data_set(payload["data"], payload.get("fold", 0))
    recipe, seeds = Recipe.from_mapping(payload["recipe"]), payload["seeds"]
    limit = payload.get("time_limit")
    deadline = None if limit is None else began + float(limit)
    rows: list[dict[str, Any]] = []
    teacher = _teacher(payload)
    planned = _planned(graph, recipe, min(recipe.batch_size, len(pictures.y_train)), payload.get("kernels"))
    kept: Variables | None = None
    epochs = taken = 0
    seconds: list[float] = []
    for seed in seeds:
        if deadline is not None and rows and time.monotonic() > deadline:
            rows.append(_unfinished("time_limit"))
            continue
        start, taken = _start(graph, payload, seed)
        watch = curves.Watch.from_json(payload["curve"]) if payload.get("curve") else None
        run = training.train(
            graph,
            pictures.x_train,
            pictures.y_train,
            recipe,
            seed=seed,
            start=start,
            teacher=teacher,
            kept=Path(payload["lessons"]) if payload.get("lessons") else None,
            deadline=deadline,
            kernels=planned,
            hopeless=None if watch is None else partial(_hopeless, watch, recipe.epochs, graph, pictures),
        )
        epochs += run.epochs
        seconds += run.seconds
        if run.stopped == "diverged":
            rows.append(_unfinished("diverged"))
            continue
        errors = None if watch is None else watch.errors
        kept = kept or run.variables
        rows.append({**_finished(graph, run, pictures, payload.get("evaluate", "validation")), "curve": errors})
    path = payload.get("weights_out") if kept else None
    if path and kept:
        weights.save(kept, path)
    return {
        **{name: [row[name] for row in rows] for name in ("accuracy", "loss", "validation_accuracy", "train_loss", "stopped")},
        "diverged": any(row["stopped"] == "diverged" for row in rows),
        "hopeless": any(row["stopped"] == "hopeless" for row in rows),
        "curve": [row["curve"] for row in rows],
        "epochs": epochs,
        "inherited": taken,
        "pictures": len(pictures.y_train),
        "validation_pictures": len(pictures.y_valid),
        "seconds": time.monotonic() - began,
        "seconds_per_epoch": min(seconds, default=None),
        "weights": path,
        "kernels": {key: kernels.named(plan) for key, plan in planned.items()},
    }


def evaluate(payload: Payload) -> dict[str, Any]:
    """Evaluates trained weights: `graph` (JSON), `data`, `weights` (a file), `evaluate` ("validation", the default, or "test").

    Result: `accuracy`, `loss` (null if it is no number), `examples` (evaluated on), `seconds`.
    """
    began = time.monotonic()
    graph, pictures = Graph.from_json(payload["graph"]), _data_set(payload["data"])
    parts = {"validation": (pictures.x_valid, pictures.y_valid), "test": (pictures.x_test, pictures.y_test)}
    shown, labels = parts[payload.get("evaluate", "validation")]
    found = training.evaluate(graph, weights.load(payload["weights"], graph), shown, labels)
    loss = found.loss if np.isfinite(found.loss) else None
    return {"accuracy": found.accuracy, "loss": loss, "examples": len(labels), "seconds": time.monotonic() - began}


def score(payload: Payload) -> dict[str, Any]:
    """Zero-cost scores of a graph.

    Payload: `graph` (JSON), `data`, `seed`, `kind` (a name in `proxies.PROXIES`, or several joined by +); and optionally `batch`
    (pictures), `repeats` (initialisations that the means are over) and `compilations` (a folder of compiled functions to share).

    Result: `scores` by name, higher is better, null where undefined; `score`, that of the first name; `seconds`.
    """
    began = time.monotonic()
    if payload.get("compilations"):
        share_compilations(payload["compilations"])
    graph, pictures = Graph.from_json(payload["graph"]), _data_set(payload["data"])
    shown = minibatch(pictures, payload.get("batch", 64), payload["seed"])
    repeats = payload.get("repeats", 1)
    values = {
        name: proxies.score(graph, *shown, kind=name, seed=payload["seed"], repeats=repeats)
        for name in proxies.parts(payload["kind"])
    }
    return {"score": next(iter(values.values())), "scores": values, "seconds": time.monotonic() - began}


def objective(payload: Payload) -> dict[str, Any]:
    """One's own number of a graph: `graph` (JSON) and `function`, "file.py:NAME" or "package.module:NAME".

    Result: `value`, `seconds`. What the function raises is the task's failure, as is a value that is no finite number.
    """
    began = time.monotonic()
    found = own.load(payload["function"])(Graph.from_json(payload["graph"]))
    value = float(found)
    if not np.isfinite(value):
        raise ValueError(f"objective {payload['function']!r} returned {found!r:.200}; wanted a finite number")
    return {"value": value, "seconds": time.monotonic() - began}


def minibatch(pictures: data.DataSet, size: int, seed: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """The training pictures and labels that every candidate of a study is scored on."""
    chosen = np.random.default_rng([seed, len(pictures.y_train)]).permutation(len(pictures.y_train))[:size]
    return pictures.x_train[chosen], pictures.y_train[chosen]


def _finished(graph: Graph, run: training.Trained, pictures: data.DataSet, part: str) -> dict[str, Any]:
    valid = training.evaluate(graph, run.variables, pictures.x_valid, pictures.y_valid)
    reported = {
        "validation": lambda: valid,
        "test": lambda: training.evaluate(graph, run.variables, pictures.x_test, pictures.y_test),
    }
    chosen = reported[part]()
    return {
        "accuracy": chosen.accuracy,
        "loss": chosen.loss if np.isfinite(chosen.loss) else None,
        "validation_accuracy": valid.accuracy,
        "train_loss": run.losses[-1] if run.losses else None,
        "stopped": run.stopped,
    }


def _planned(graph: Graph, recipe: Recipe, batch: int, recorded: Mapping[str, Any] | None) -> dict[str, Plan]:
    return kernels.plans(graph, batch, recorded=recorded) if recipe.kernels == "measured" else {}


def _unfinished(stopped: str) -> dict[str, Any]:
    return {"accuracy": None, "loss": None, "validation_accuracy": None, "train_loss": None, "stopped": stopped, "curve": None}


def _hopeless(watch: curves.Watch, epochs: int, graph: Graph, pictures: data.DataSet, variables: Variables) -> bool:
    return watch.hopeless(1 - training.evaluate(graph, variables, pictures.x_valid, pictures.y_valid).accuracy, epochs)


def _start(graph: Graph, payload: Payload, seed: int) -> tuple[Variables | None, int]:
    """(initial weights, or None for fresh ones; the number of nodes that inherit)"""
    if not payload.get("inherit"):
        return None, 0
    parent = Graph.from_json(payload["parent"])
    return inheritance.inherited(graph, graph.init(jax.random.key(seed)), parent, weights.load(payload["inherit"], parent))


def _teacher(payload: Payload) -> Teacher | None:
    if not payload.get("teacher"):
        return None
    graph = Graph.from_json(payload["teacher_graph"])
    return Teacher(graph, weights.load(payload["teacher"], graph))


def _data_set(options: Payload, fold: int = 0) -> data.DataSet:
    return _loaded(json.dumps(dict(options), sort_keys=True), fold)


@functools.lru_cache(maxsize=4)
def _loaded(options: str, fold: int) -> data.DataSet:
    return data.load(Data(**json.loads(options)), fold=fold)
