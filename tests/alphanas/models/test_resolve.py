"""MODEL strings: what they name, and one clear error for everything that goes wrong."""

import numpy as np
import pytest

from alphanas.errors import UserError
from alphanas.models.resolve import resolve

FILE = """
import numpy as np

def plain():
    return (lambda params, x: x.reshape(x.shape[0], -1) @ params["w"]), {"w": np.ones((16, 3), np.float32)}

def raises():
    raise RuntimeError("no luck")

def raises_inside():
    return np.zeros((2, 3)) @ np.zeros((2, 3))

def wants(width):
    return None

def nothing():
    return None
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "user_model.py"
    path.write_text(FILE)
    return path


def test_a_factory_in_a_file_is_lifted(file):
    graph, variables = resolve(f"{file}:plain", (4, 4, 1))
    np.testing.assert_allclose(graph.apply(variables, np.ones((2, 4, 4, 1), np.float32)), np.full((2, 3), 16.0))


def test_the_zoo_comes_without_variables():
    graph, variables = resolve("zoo:mlp", (1, 4, 4, 1), num_classes=3)
    assert graph.values[graph.outputs[0]].shape == (None, 3)
    assert variables is None


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("plan", "did you mean 'plain'"),
        ("raises", r"RuntimeError: no luck \(user_model.py:8\)"),
        ("raises_inside", r"ValueError.*\(user_model.py:11\)"),
        ("wants", "wants width"),
        ("nothing", "NoneType"),
    ],
)
def test_bad_factories_are_one_error_each(file, name, message):
    with pytest.raises(UserError, match=message):
        resolve(f"{file}:{name}", (4, 4, 1))


@pytest.mark.parametrize("model", ["nonsense", "zoo:resnt8", "no_such_package_of_ours:make", "no_such_file.py:make"])
def test_what_does_not_exist_is_one_error(model):
    with pytest.raises(UserError, match=r"model|zoo"):
        resolve(model, (4, 4, 1))


def test_an_input_that_does_not_fit_is_one_error(file):
    with pytest.raises(UserError, match="does not run on inputs of shape"):
        resolve(f"{file}:plain", (5, 4, 1))
