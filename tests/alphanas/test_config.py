"""Laws of the configuration: whatever goes in comes back, or is refused with the key's name."""

from __future__ import annotations

import math
import tomllib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alphanas.config import FREE_TO_CHANGE, Config, keys, load_config, resumed
from alphanas.errors import Fault, UserError, nearest
from alphanas.options import format_duration, parse_duration
from alphanas.sources import SOURCES, source_fault

DEFAULTS = Config()

# (mapping, key that the fault names, text that the fault contains)
FAULTY = [
    ({"modle": "zoo:resnet8"}, "modle", "did you mean 'model'?"),
    ({"batch_size": 3}, "batch_size", "did you mean 'training.batch_size'?"),
    ({"data": {"validaton": 0.2}}, "data.validaton", "did you mean 'data.validation'?"),
    ({"qqqq": 1}, "qqqq", "known: "),
    ({"model": 3}, "model", "zoo:NAME"),
    ({"model": "resnet8"}, "model", "zoo:NAME"),
    ({"model": ""}, "model", "zoo:NAME"),
    ({"seed": -1}, "seed", "a whole number of at least 0"),
    ({"seed": 1.0}, "seed", "a whole number"),
    ({"seed": True}, "seed", "a whole number"),
    ({"workers": 0}, "workers", "at least 1"),
    ({"workers": "two"}, "workers", "'two'"),
    ({"time_limit": "5x"}, "time_limit", '"5m"'),
    ({"time_limit": "0s"}, "time_limit", "1 ms"),
    ({"time_limit": -3}, "time_limit", "1 ms"),
    ({"time_limit": math.inf}, "time_limit", "1 ms"),
    ({"time_limit": math.nan}, "time_limit", "1 ms"),
    ({"time_limit": True}, "time_limit", "1 ms"),
    ({"data": {"validation": 1}}, "data.validation", "below 1.0"),
    ({"data": {"validation": 0.0}}, "data.validation", "above 0.0"),
    ({"data": {"test": math.nan}}, "data.test", "a number"),
    ({"data": {"source": "digit"}}, "data.source", "did you mean 'digits'?"),
    ({"data": {"source": "npz"}}, "data.source", "npz:PATH"),
    ({"data": {"source": "digits:9"}}, "data.source", "digits"),
    ({"data": 3}, "data", "a table [data]"),
    ({"data": {"train_limit": 10}}, "data.train_limit", "training.batch_size = 64"),
    ({"search": {"objectives": []}}, "search.objectives", "at least 1"),
    ({"search": {"objectives": "error"}}, "search.objectives", "a list"),
    ({"search": {"objectives": ["error", "parms"]}}, "search.objectives", "did you mean 'params'?"),
    ({"search": {"objectives": ["error", "error"]}}, "search.objectives", "without repetitions"),
    ({"search": {"region_min": 9}}, "search.region_min", "search.region_max = 8"),
    ({"search": {"max_candidates": 2}}, "search.max_candidates", "finish.finalists = 3"),
    ({"synthesis": {"params_ratio": [3, 1]}}, "synthesis.params_ratio", "low not above high"),
    ({"synthesis": {"params_ratio": [1]}}, "synthesis.params_ratio", "a pair"),
    ({"training": {"epochs": 10**30}}, "training.epochs", "a whole number of at least 1"),
    ({"\x1b[31m": 1}, "\x1b[31m", "unknown key"),
    ({"training": {"inherit": 1}}, "training.inherit", "true or false"),
    ({"training": {"optimizer": "adamm"}}, "training.optimizer", "did you mean 'adam"),
    ({"training": {"learning_rate": 10**400}}, "training.learning_rate", "a number"),
    ({"training": {"short_epochs": 31}}, "training.short_epochs", "training.epochs = 30"),
    ({"hardware": {"backends": ["tvm", 3]}}, "hardware.backends", "item 1"),
    ({"hardware": {"records": 3}}, "hardware.records", "path"),
    ({"training": {"stall_limit": 0}}, "training.stall_limit", "1 ms"),
    ({"hardware": {"tune_limit": "soon"}}, "hardware.tune_limit", "90s"),
    ({"training": {"rungs": [2, 1]}}, "training.rungs", "rising order"),
    ({"training": {"rungs": [5]}}, "training.rungs", "below training.short_epochs = 5"),
    ({"constraints": 3}, "constraints", "a table such as"),
    ({"constraints": {"prams": "at most 3"}}, "constraints", "no 'prams'"),
    ({"constraints": {"params": 20}}, "constraints", "at most 20k"),
    ({"constraints": {"params": "less than 20"}}, "constraints", "at most …"),
    ({"constraints": {"params": "at most 20ms"}}, "constraints", "(k, M, G)"),
    ({"constraints": {"params": "at most 0"}}, "constraints", "nothing has params at most 0"),
    ({"constraints": {"latency": "at most 2"}}, "constraints", "(us, µs, ms, s)"),
    ({"constraints": {"macs": "between 3k and 2k"}}, "constraints", "LOW not above HIGH"),
    ({"constraints": {"error": "at most 3%"}}, "constraints", "a share that says of what"),
    ({"constraints": {"error": "at most 3"}}, "constraints", "from 0 to 1"),
    ({"constraints": {"a.py:f": "at most two"}}, "constraints", "'two'"),
]


@pytest.mark.parametrize(("mapping", "key", "text"), FAULTY, ids=[f"{key}-{number}" for number, (_, key, _) in enumerate(FAULTY)])
def test_a_faulty_key_is_named_with_what_is_wanted(mapping: dict[str, object], key: str, text: str) -> None:
    with pytest.raises(UserError) as caught:
        Config.from_mapping(mapping)
    (fault,) = caught.value.faults
    assert fault.thing == key
    assert text in str(fault)
    assert str(fault).isprintable()
    assert caught.value.exit_code == 2


def test_all_faults_come_at_once() -> None:
    with pytest.raises(UserError) as caught:
        Config.from_mapping({"modle": 1, "seed": "x", "data": {"test": 2, "sauce": 1}, "training": {"epochs": 0}})
    assert {fault.thing for fault in caught.value.faults} == {"modle", "seed", "data.test", "data.sauce", "training.epochs"}
    assert str(caught.value).count("\n") == 5


def test_every_key_comes_back_from_toml() -> None:
    config = Config.from_mapping(
        {
            "model": "my.models:build",
            "time_limit": "1h30m",
            "seed": 7,
            "data": {"source": "npz:/tmp/a b.npz", "validation": 0.123456789},
            "search": {"objectives": ["macs", "error"], "max_candidates": 5},
            "synthesis": {"time_limit": "250ms", "params_ratio": [0, 2]},
            "hardware": {"backends": []},
        }
    )
    assert Config.from_mapping(tomllib.loads(config.to_toml())) == config
    assert Config.from_mapping(config.to_mapping()) == config
    assert config.time_limit == 5400.0
    assert set(config.difference(DEFAULTS)) == {
        "model",
        "time_limit",
        "seed",
        "data.source",
        "data.validation",
        "search.objectives",
        "search.max_candidates",
        "synthesis.time_limit",
        "synthesis.params_ratio",
        "hardware.backends",
    }


def test_every_default_is_valid_and_documented() -> None:
    assert Config.from_mapping({}) == DEFAULTS
    for key, (_, help, _) in keys().items():
        assert help, key


def test_a_config_hashes_and_replaces_strictly() -> None:
    assert hash(DEFAULTS) == hash(Config.from_mapping({}))
    assert DEFAULTS.replace(seed=4).seed == 4
    with pytest.raises(UserError):
        DEFAULTS.replace(seed=-4)


@given(st.floats(min_value=0.001, max_value=1e8))
def test_a_duration_comes_back_exactly(seconds: float) -> None:
    assert parse_duration(format_duration(seconds)) == seconds


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("5m", 300), ("1h30m", 5400), ("2.5", 2.5), ("100ms", 0.1), ("1d", 86400), (" 5m ", 300)]
    + [(text, None) for text in ("", "m", "5 m", "-5m", "5m!", "1e3s", "٣s", "5mm", "nan", "9" * 400 + "s")],
)
def test_durations(text: str, seconds: float | None) -> None:
    assert parse_duration(text) == seconds


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["digits", "npz:x", "5m", "tvm"])
)
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3))
KEYS = st.sampled_from([*keys(), *(key.partition(".")[0] for key in keys())]) | st.text(max_size=8)


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(KEYS, VALUES, max_size=6))
def test_any_mapping_is_read_or_refused(flat: dict[str, object]) -> None:
    mapping: dict[str, object] = {}
    for key, value in flat.items():
        section, _, leaf = key.partition(".")
        inner = mapping.setdefault(section, {}) if leaf else None
        if isinstance(inner, dict):
            inner[leaf] = value
        elif not leaf:
            mapping[section] = value
    try:
        config = Config.from_mapping(mapping)
    except UserError as error:
        assert error.faults
        return
    assert Config.from_mapping(tomllib.loads(config.to_toml())) == config


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_overrides_are_toml_or_text(tmp_path: Path) -> None:
    path = write(tmp_path / "c.toml", "seed = 3\n[training]\nepochs = 9\nshort_epochs = 2\n")
    overrides = ["training.epochs=20", "time_limit=2m", 'search.objectives=["error"]', "model=zoo:vit", "training.inherit=false"]
    config = load_config(path, overrides)
    assert (config.seed, config.training.epochs, config.training.short_epochs, config.time_limit) == (3, 20, 2, 120.0)
    assert (config.search.objectives, config.model, config.training.inherit) == (("error",), "zoo:vit", False)


def test_faults_of_file_overrides_and_paths_come_together(tmp_path: Path) -> None:
    path = write(tmp_path / "c.toml", 'sead = 3\nmodel = "gone.py:build"\n[data]\nsource = "npz:gone.npz"\n')
    with pytest.raises(UserError) as caught:
        load_config(path, ["nonsense", "training.epoch=3", "seed.x=1", "sead.y=1"])
    things = {fault.thing for fault in caught.value.faults}
    assert things == {"sead", "model", "data.source", "--set nonsense", "training.epoch", "seed", "--set sead.y"}
    assert str(tmp_path / "gone.npz") in str(caught.value)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (None, "no such file"),
        (b"a = ", "not TOML"),
        (b"\xff\xfe", "not TOML"),
        (b"a = " + b"9" * 9999, "not TOML"),
        (b"a = " + b"[" * 9999, "not TOML"),
    ],
)
def test_an_unreadable_config_is_one_line(tmp_path: Path, content: bytes | None, text: str) -> None:
    path = tmp_path / "c.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=text) as caught:
        load_config(path)
    assert "\n" not in str(caught.value)


def test_a_folder_is_no_config(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="TOML file"):
        load_config(tmp_path)


def test_paths_in_a_file_start_at_the_file_then_at_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = tmp_path / "here"
    config = write(tmp_path / "configs" / "c.toml", '[data]\nsource = "npz:d.npz"\n')
    beside, current = write(tmp_path / "configs" / "d.npz", ""), write(here / "d.npz", "")
    monkeypatch.chdir(here)
    assert load_config(config).data.source == f"npz:{beside}"
    assert load_config(config, ["data.source=npz:d.npz"]).data.source == f"npz:{current}"
    beside.unlink()
    assert load_config(config).data.source == f"npz:{current}"
    factory = write(here / "m.py", "")
    assert load_config(config, ["model=m.py:build"]).model == f"{factory}:build"


def test_a_stored_config_opens_without_its_files() -> None:
    assert Config.from_mapping({"data": {"source": "npz:/nowhere.npz"}}).data.source == "npz:/nowhere.npz"


def test_a_resumed_study_may_run_longer_elsewhere_but_not_search_otherwise() -> None:
    longer = Config.from_mapping({"time_limit": "1h", "workers": 4, "data": {"source": "npz:/moved.npz"}})
    assert resumed(DEFAULTS, longer) == longer
    assert set(keys()) >= FREE_TO_CHANGE
    with pytest.raises(UserError) as caught:
        resumed(DEFAULTS, Config.from_mapping({"time_limit": "1h", "seed": 1, "training": {"epochs": 31}}))
    assert {fault.thing for fault in caught.value.faults} == {"seed", "training.epochs"}


def test_every_source_has_a_form() -> None:
    for name, source in SOURCES.items():
        assert source_fault(f"{name}:{source.argument}" if source.argument else name) is None


def test_an_error_tells_thing_saw_wanted_remedy_on_one_line() -> None:
    error = UserError("thing", saw="a\nb", wanted="c", remedy="d")
    assert str(error) == "thing: a b; wanted c; d"
    assert str(Fault("alone")) == "alone"
    assert nearest("trianing", ["training", "data"]) == "did you mean 'training'?"


def test_an_error_survives_the_way_between_processes() -> None:
    import pickle

    error = UserError([Fault("a", "b"), Fault("c")], exit_code=1, cause="disk_full")
    again = pickle.loads(pickle.dumps(error))
    assert (again.faults, again.exit_code, again.cause, str(again)) == (error.faults, 1, "disk_full", str(error))


def test_a_path_longer_than_any_file_name_is_a_missing_file(tmp_path: Path) -> None:
    path = tmp_path / "long.toml"
    path.write_text(f'weights = "{"a" * 5000}"')
    with pytest.raises(UserError, match="no file") as caught:
        load_config(path)
    assert [fault.thing for fault in caught.value.faults] == ["weights"]
