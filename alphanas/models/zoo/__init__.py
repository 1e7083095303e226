"""The zoo: functions from an input shape and a number of classes to a graph, by name.

A new model is a function in a family's file and a line in the table.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from alphanas.errors import UserError, nearest
from alphanas.models.zoo import cnn, mlp, mobilenet, resnet, vit
from synth.graph import Graph
from synth.op import ShapeMismatch

Shape = tuple[int, ...]
Factory = Callable[[Shape, int], Graph]

MODELS: dict[str, Factory] = {
    "cifar_cnn": cnn.cifar_cnn,
    "mlp": mlp.mlp,
    "mobilenet_nano": mobilenet.mobilenet_nano,
    "resnet8": resnet.resnet8,
    "resnet18": resnet.resnet18,
    "resnet34": resnet.resnet34,
    "resnet50": resnet.resnet50,
    "resnet101": resnet.resnet101,
    "vgg16": cnn.vgg16,
    "vit_nano": vit.vit_nano,
}


def names() -> tuple[str, ...]:
    """The names that `build` knows, in order."""
    return tuple(sorted(MODELS))


def build(name: str, *, input_shape: Sequence[int | None] = (224, 224, 3), num_classes: int = 1000) -> Graph:
    """The graph of a zoo model.

    `input_shape` is (height, width, channels), with or without a leading batch axis, which is dropped: the batch is free.
    Raises UserError for a name that is not in the zoo and for a shape that the model does not fit.
    """
    factory = MODELS.get(name)
    if factory is None:
        raise UserError(f"zoo:{name}", saw="no such model in the zoo", remedy=nearest(name, MODELS))
    if num_classes < 1:
        raise UserError("num_classes", saw=str(num_classes), wanted="at least 1")
    shape = without_batch(input_shape)
    try:
        return factory(shape, num_classes)
    except ShapeMismatch as error:
        raise UserError(f"zoo:{name}", saw=f"an input of shape {shape}, which it does not fit: {error}") from error


def without_batch(input_shape: Sequence[int | None]) -> Shape:
    """An input's shape without its batch axis: rank 3 is height, width, channels, rank 1 is features; one more is the batch."""
    shape = tuple(input_shape)[1:] if len(input_shape) in (2, 4) else tuple(input_shape)
    sizes = tuple(size for size in shape if size is not None and size > 0)
    if sizes != shape or len(sizes) not in (1, 3):
        raise UserError(
            "input shape",
            saw=str(tuple(input_shape)),
            wanted="height, width, channels (8,8,1), or the same with a batch axis in front (1,8,8,1), all at least 1",
        )
    return sizes


__all__ = ["MODELS", "build", "names", "without_batch"]
