"""Laws of data sets: parts are disjoint and stratified, nothing but the training part shapes them, faults are named."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from alphanas import data
from alphanas.config import Data
from alphanas.errors import UserError
from alphanas.sources import SOURCES


def pictures(count: int = 60, *, classes: int = 3, seed: int = 0, **changes: Any) -> dict[str, np.ndarray]:
    """Arrays of an .npz file in which every picture is different."""
    rng = np.random.default_rng(seed)
    arrays = {
        "x_train": rng.integers(0, 256, (count, 4, 5, 2), dtype=np.uint8),
        "y_train": np.arange(count) % classes,
        "x_test": rng.integers(0, 256, (count // 2, 4, 5, 2), dtype=np.uint8),
        "y_test": np.arange(count // 2) % classes,
    }
    return {key: value for key, value in (arrays | changes).items() if value is not None}


def saved(folder: Path, arrays: dict[str, np.ndarray]) -> str:
    path = folder / "pictures.npz"
    np.savez(path, **arrays)  # type: ignore[arg-type]
    return f"npz:{path}"


def rows(array: np.ndarray) -> set[bytes]:
    return {np.ascontiguousarray(row).tobytes() for row in array}


@pytest.fixture(scope="module")
def digits() -> data.DataSet:
    return data.load(Data())


def test_digits_are_all_there_once(digits: data.DataSet) -> None:
    assert sum(digits.sizes().values()) == 1797
    assert digits.sizes()["test"] == pytest.approx(0.3 * 1797, abs=5)
    assert digits.sizes()["validation"] == pytest.approx(0.2 * 0.7 * 1797, abs=8)
    assert (digits.num_classes, digits.input_shape) == (10, (8, 8, 1))
    parts = [rows(part) for part in (digits.x_train, digits.x_valid, digits.x_test)]
    assert sum(map(len, parts)) == len(set.union(*parts)) == 1797


def test_parts_keep_the_proportion_of_classes(digits: data.DataSet) -> None:
    shares = [np.bincount(part, minlength=10) / len(part) for part in (digits.y_train, digits.y_valid, digits.y_test)]
    assert np.ptp(shares, axis=0).max() < 0.01


def test_types_are_what_training_takes(digits: data.DataSet) -> None:
    for name in ("train", "valid", "test"):
        assert getattr(digits, f"x_{name}").dtype == np.float32
        assert getattr(digits, f"y_{name}").dtype == np.int32


def test_the_training_part_alone_is_standardised(digits: data.DataSet) -> None:
    assert abs(digits.x_train.mean(dtype=np.float64)) < 1e-5
    assert digits.x_train.std(dtype=np.float64) == pytest.approx(1, abs=1e-5)
    assert abs(digits.x_test.mean(dtype=np.float64)) > 1e-4


def test_standardisation_undoes_to_the_pixels(tmp_path: Path) -> None:
    arrays = pictures()
    found = data.load(Data(source=saved(tmp_path, arrays)))
    scale = found.standardisation
    pixels = (found.x_test * np.asarray(scale.std) + np.asarray(scale.mean)) * scale.scale
    np.testing.assert_allclose(pixels, arrays["x_test"], atol=1e-3)
    np.testing.assert_array_equal(found.y_test, arrays["y_test"])


def test_other_pixels_than_the_training_part_change_no_training_picture(tmp_path: Path) -> None:
    arrays = pictures()
    before = data.load(Data(source=saved(tmp_path, arrays)))
    after = data.load(Data(source=saved(tmp_path, arrays | {"x_test": arrays["x_test"] // 2})))
    np.testing.assert_array_equal(before.x_train, after.x_train)
    np.testing.assert_array_equal(before.x_valid, after.x_valid)
    assert before.fingerprint != after.fingerprint


def test_the_same_options_give_the_same_parts_and_another_seed_others(digits: data.DataSet) -> None:
    again, other = data.load(Data()), data.load(Data(seed=1))
    np.testing.assert_array_equal(digits.x_train, again.x_train)
    assert digits.fingerprint == again.fingerprint != other.fingerprint
    assert rows(digits.x_test) != rows(other.x_test)


def test_the_fingerprint_is_of_the_content_not_of_the_path(tmp_path: Path) -> None:
    first, second = tmp_path / "a", tmp_path / "b"
    first.mkdir()
    second.mkdir()
    one, two = (data.load(Data(source=saved(folder, pictures()))) for folder in (first, second))
    assert one.fingerprint == two.fingerprint
    assert one.fingerprint != data.load(Data(source=saved(first, pictures()), validation=0.3)).fingerprint


def test_a_limit_leaves_the_other_parts_alone(tmp_path: Path) -> None:
    source = saved(tmp_path, pictures(300))
    whole, limited = data.load(Data(source=source)), data.load(Data(source=source, train_limit=90))
    assert limited.sizes() == {**whole.sizes(), "train": 90}
    np.testing.assert_array_equal(whole.y_valid, limited.y_valid)
    assert np.bincount(limited.y_train).tolist() == [30, 30, 30]


def test_grey_pictures_without_channels_get_one(tmp_path: Path) -> None:
    arrays = pictures()
    grey = {key: value[..., 0] if key.startswith("x") else value for key, value in arrays.items()}
    assert data.load(Data(source=saved(tmp_path, grey))).input_shape == (4, 5, 1)


def test_floats_are_taken_as_they_are_and_a_constant_channel_stays_finite(tmp_path: Path) -> None:
    arrays = pictures()
    floats = {
        key: value.astype(np.float64) * [1.0, 0.0] + [0.0, 7.0] if key.startswith("x") else value for key, value in arrays.items()
    }
    found = data.load(Data(source=saved(tmp_path, floats)))
    assert found.standardisation.scale == 1.0
    assert np.isfinite(found.x_train).all()
    assert not found.x_train[..., 1].any()


def test_without_test_arrays_a_part_is_taken_off(tmp_path: Path) -> None:
    found = data.load(Data(source=saved(tmp_path, pictures(100, x_test=None, y_test=None)), test=0.5))
    assert found.sizes()["test"] == pytest.approx(50, abs=2)


PIXELS = pictures()["x_train"]
NOT_FINITE = np.where(np.arange(40) == 3, np.nan, 0.5).reshape(1, 4, 5, 2)
FAULTY: list[tuple[dict[str, Any], str]] = [
    ({"x_train": None}, "it holds .*y_train.*; wanted x_train"),
    ({"y_test": None}, "it holds"),
    ({"x_train": PIXELS.reshape(60, 40)}, r"x_train: shape \(60, 40\); wanted"),
    ({"x_train": PIXELS[:0], "y_train": np.arange(0)}, "which is empty"),
    ({"x_train": PIXELS[:, :0]}, "which is empty"),
    ({"x_train": PIXELS.astype(np.int64)}, "x_train: dtype int64; wanted uint8"),
    ({"x_train": PIXELS.astype(str)}, "x_train: dtype"),
    ({"x_train": np.repeat(NOT_FINITE, 60, 0)}, "not a number"),
    ({"x_train": np.float32(3)}, r"x_train: shape \(\)"),
    ({"y_train": np.arange(60)[:, None] % 3}, r"reshape\(-1\)"),
    ({"y_train": np.arange(59) % 3}, "59 labels for 60 pictures"),
    ({"y_train": np.arange(60) % 3 * 1.0}, "y_train: dtype float64; wanted whole numbers"),
    ({"y_train": np.arange(60) % 3 - 1}, "label -1; wanted labels 0"),
    ({"y_train": np.zeros(60, int)}, "single class"),
    ({"y_train": np.arange(60) % 3 * 2}, "none is 1"),
    ({"y_train": np.arange(60) % 3 * 10**15}, "none is 1"),
    ({"y_train": np.where(np.arange(60) == 0, 2, np.arange(60) % 2)}, "at least 2 a class"),
    ({"x_test": PIXELS[:30, :3]}, "x_test: pictures of shape"),
    ({"x_test": PIXELS[:30].astype(np.float32)}, "x_test: dtype float32"),
    ({"y_test": np.arange(30) % 4}, "y_test: label 3; wanted labels 0..2"),
]


@pytest.mark.parametrize(("changes", "text"), FAULTY, ids=[text[:24] for _, text in FAULTY])
def test_faulty_arrays_are_named(tmp_path: Path, changes: dict[str, Any], text: str) -> None:
    with pytest.raises(UserError, match=text) as caught:
        data.load(Data(source=saved(tmp_path, pictures(**changes))))
    assert "pictures.npz" in str(caught.value)
    assert len(caught.value.faults) == 1


def test_faults_of_several_arrays_come_at_once(tmp_path: Path) -> None:
    source = saved(tmp_path, pictures(x_train=PIXELS.astype(int), y_train=np.arange(60) * 1.0, y_test=np.arange(30) - 1))
    with pytest.raises(UserError) as caught:
        data.load(Data(source=source))
    assert len(caught.value.faults) == 3


def archive(**members: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name, content in members.items():
            file.writestr(f"{name}.npy", content)
    return buffer.getvalue()


def pickled() -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, x_train=np.array([{"a": 1}], dtype=object), y_train=np.arange(1))
    return buffer.getvalue()


def single() -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.arange(3))
    return buffer.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"PK",
        b"not a zip at all",
        archive(),
        archive(x_train=b"", y_train=b""),
        archive(x_train=b"\x93NUMPY", y_train=b"x"),
        pickled(),
        single(),
        archive(x_train=b"raw bytes", y_train=b"raw"),
    ],
    ids=["empty", "cut", "text", "no members", "empty members", "cut header", "pickled", "single array", "no header"],
)
def test_a_broken_file_is_one_line_and_runs_no_code(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.npz"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"broken\.npz") as caught:
        data.load(Data(source=f"npz:{path}"))
    assert "\n" not in str(caught.value)


def test_a_cut_file_is_refused(tmp_path: Path) -> None:
    path = Path(saved(tmp_path, pictures(600))[4:])
    whole = path.read_bytes()
    for share in (0.1, 0.5, 0.9):
        path.write_bytes(whole[: int(share * len(whole))])
        with pytest.raises(UserError, match="unreadable"):
            data.load(Data(source=f"npz:{path}"))
    flipped = bytearray(whole)
    flipped[len(whole) // 3] ^= 0xFF
    path.write_bytes(flipped)
    with pytest.raises(UserError, match="unreadable"):
        data.load(Data(source=f"npz:{path}"))


def test_a_file_with_random_bytes_is_read_or_refused(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    path = Path(saved(tmp_path, pictures(12))[4:])
    with zipfile.ZipFile(path) as file:
        members = {name.removesuffix(".npy"): file.read(name) for name in file.namelist()}
    refused = 0
    for _ in range(300):
        changed = {name: bytearray(content) for name, content in members.items()}
        for content in changed.values():
            for place in rng.integers(0, 100, rng.integers(0, 2)):
                content[place] = rng.choice(list(b"0123456789()[]{},'<>|:bifOSU \x00\xff"))
        path.write_bytes(archive(**{name: bytes(content) for name, content in changed.items()}))
        try:
            data.load(Data(source=f"npz:{path}"))
        except UserError:
            refused += 1
    assert refused > 100


def test_a_missing_file_and_a_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        data.load(Data(source=f"npz:{tmp_path / 'gone.npz'}"))
    with pytest.raises(UserError, match=str(tmp_path)):
        data.load(Data(source=f"npz:{tmp_path}"))
    with pytest.raises(UserError, match="unknown source"):
        data.load(Data(source="mnist"))


def test_every_source_in_the_table_has_its_reader() -> None:
    import importlib

    for source in SOURCES.values():
        assert callable(importlib.import_module(source.module).read)


def test_folds_part_the_rest_anew_and_leave_the_test_part_alone() -> None:
    first, second, again = (data.load(Data(source="digits", seed=1, train_limit=300), fold=fold) for fold in (0, 1, 1))
    assert np.array_equal(first.x_test, second.x_test) and np.array_equal(first.y_test, second.y_test)
    assert first.standardisation == second.standardisation and first.fingerprint == second.fingerprint
    assert first.sizes() == second.sizes()
    assert not np.array_equal(first.x_valid, second.x_valid)
    assert np.array_equal(second.x_valid, again.x_valid) and np.array_equal(second.x_train, again.x_train)
    rows = {part: {picture.tobytes() for picture in getattr(second, part)} for part in ("x_train", "x_valid", "x_test")}
    assert not rows["x_train"] & rows["x_valid"] and not rows["x_test"] & (rows["x_train"] | rows["x_valid"])


@pytest.mark.parametrize(("validation", "folds"), [(0.3, 3), (0.25, 4), (0.6, 1), (0.1, 10)])
def test_no_picture_is_in_two_validation_parts_before_the_others_were_in_one(validation: float, folds: int) -> None:
    parts = [data.load(Data(source="digits", seed=1, validation=validation), fold=fold) for fold in range(1, folds + 2)]
    rows = [{picture.tobytes() for picture in part.x_valid} for part in parts]
    for place, held in enumerate(rows[:folds]):
        assert not any(held & other for other in rows[:place])
    assert rows[0] != rows[folds]
    for part in parts:
        assert abs(len(part.y_valid) - len(parts[0].y_valid)) <= 10 and set(part.y_valid) == set(part.y_train) == set(range(10))
        assert len(part.y_valid) + len(part.y_train) == len(parts[0].y_valid) + len(parts[0].y_train)
