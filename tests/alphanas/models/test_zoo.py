"""The zoo: published parameter counts, shapes, and names."""

import pytest

from alphanas.errors import UserError
from alphanas.models import zoo

PUBLISHED = {
    ("cifar_cnn", (32, 32, 3), 10): 2_192_458,
    ("resnet8", (32, 32, 3), 10): 78_042,
    ("resnet18", (224, 224, 3), 1000): 11_689_512,
    ("resnet34", (224, 224, 3), 1000): 21_797_672,
    ("resnet50", (224, 224, 3), 1000): 25_557_032,
    ("vgg16", (224, 224, 3), 1000): 138_357_544,
    ("resnet101", (224, 224, 3), 1000): 44_549_160,
}


@pytest.mark.parametrize(("name", "shape", "classes"), PUBLISHED)
def test_parameter_counts_are_the_published_ones(name, shape, classes):
    assert zoo.build(name, input_shape=shape, num_classes=classes).params == PUBLISHED[name, shape, classes]


@pytest.mark.parametrize("name", zoo.names())
def test_models_map_pictures_to_classes(name):
    graph = zoo.build(name, input_shape=(1, 32, 32, 3), num_classes=7)
    assert graph.values[graph.outputs[0]].shape == (None, 7)
    assert graph.hash == zoo.build(name, input_shape=(32, 32, 3), num_classes=7).hash


@pytest.mark.parametrize("shape", [(8, 8, 1), (28, 28, 1)])
def test_the_seed_of_the_digits_search_is_small(shape):
    assert 75_000 <= zoo.build("resnet8", input_shape=shape, num_classes=10).params <= 78_000


def test_bad_names_and_shapes_are_one_error_each():
    with pytest.raises(UserError, match="did you mean 'resnet18'"):
        zoo.build("resnet17")
    with pytest.raises(UserError, match="input shape"):
        zoo.build("resnet8", input_shape=(8, 8, 0), num_classes=10)
    with pytest.raises(UserError, match="num_classes"):
        zoo.build("resnet8", input_shape=(8, 8, 1), num_classes=0)
    with pytest.raises(UserError, match="resnet8"):
        zoo.build("resnet8", input_shape=(64,), num_classes=10)
