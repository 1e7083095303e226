"""What a teacher says is kept exactly, for the pictures and the teacher that it is of, and a student hears no difference."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import jax
import numpy as np
import pytest

from alphanas.scoring import lessons, training
from alphanas.scoring.distillation import Teacher, look
from alphanas.scoring.recipe import Recipe
from synth.graph import Builder, Graph
from synth.ops import BatchNorm, Conv, Dense, GlobalAvgPool, Relu


def network(features: int) -> Graph:
    build = Builder((6, 6, 1))
    x = build(Relu(), build(BatchNorm(), build(Conv(features=features), build.input, name="conv"), name="norm"), name="act")
    return build.graph(build(Dense(features=3), build(GlobalAvgPool(), x, name="pool"), name="head"))


def teacher(seed: int = 0) -> Teacher:
    graph = network(5)
    return Teacher(graph, graph.init(jax.random.key(seed)))


def pictures(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((count, 6, 6, 1)).astype(np.float32)


def mute(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("the teacher was asked again")

    monkeypatch.setattr(lessons, "look", refuse)


def test_what_is_kept_is_what_the_teacher_says_in_such_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown, one = pictures(12), teacher()
    wanted = np.concatenate([look(one, (), shown[first : first + 4])[0] for first in range(0, 12, 4)])
    np.testing.assert_array_equal(lessons.logits(one, shown, 4, None), wanted)
    np.testing.assert_array_equal(lessons.logits(one, shown, 4, tmp_path / "new"), wanted)
    mute(monkeypatch)
    np.testing.assert_array_equal(lessons.logits(one, shown, 4, tmp_path / "new"), wanted)
    assert len(list((tmp_path / "new").iterdir())) == 1


def test_another_teacher_other_pictures_and_other_batches_are_other_lessons(tmp_path: Path) -> None:
    shown = pictures(12)
    swapped = shown[::-1]
    for who, what, batch in ((teacher(), shown, 4), (teacher(1), shown, 4), (teacher(), swapped, 4), (teacher(), shown, 6)):
        found = lessons.logits(who, what, batch, tmp_path)
        np.testing.assert_array_equal(found, lessons.logits(who, what, batch, None))
    assert len(list(tmp_path.iterdir())) == 4


def test_what_is_damaged_is_made_anew_and_no_room_is_no_failure(tmp_path: Path) -> None:
    shown, one = pictures(8), teacher()
    wanted = lessons.logits(one, shown, 4, tmp_path)
    (file,) = tmp_path.iterdir()
    for content in (b"", b"no array", file.read_bytes()[:-8]):
        file.write_bytes(content)
        np.testing.assert_array_equal(lessons.logits(one, shown, 4, tmp_path), wanted)
    (tmp_path / "taken").write_text("")
    np.testing.assert_array_equal(lessons.logits(one, shown, 4, tmp_path / "taken" / "folder"), wanted)


def test_the_next_student_learns_from_what_was_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown, labels = pictures(40), np.arange(40) % 3
    recipe = Recipe(epochs=2, batch_size=16, soft_labels=0.5, augment="shift_flip")
    one = teacher()
    plain = training.train(network(4), shown, labels, recipe, seed=3, teacher=one)
    first = training.train(network(4), shown, labels, recipe, seed=3, teacher=one, kept=tmp_path)
    assert first.losses == plain.losses and len(list(tmp_path.iterdir())) == 2
    mute(monkeypatch)
    again = training.train(network(4), shown, labels, recipe, seed=3, teacher=one, kept=tmp_path)
    assert again.losses == plain.losses
    other = training.train(
        network(2), shown, labels, dataclasses.replace(recipe, learning_rate=0.1), seed=3, teacher=one, kept=tmp_path
    )
    assert other.stopped == "finished"
