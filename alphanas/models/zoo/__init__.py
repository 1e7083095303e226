"""The zoo: functions from an input shape and a number of classes to a graph, by name.

A new model is a function in a family's file and a line in the table. Weights start as their ops say: convolutions he-normal by
fan-in, dense layers lecun-normal, biases zero, norms one and zero; what is published otherwise is in the family's file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from alphanas.errors import UserError, nearest
from alphanas.models.zoo import cnn, convnext, densenet, mlp, mobilenet, nasbench201, resnet, vit
from synth.graph import Graph
from synth.op import ShapeMismatch

Shape = tuple[int, ...]
Factory = Callable[[Shape, int], Graph]

MODELS: dict[str, Factory] = {
    "cifar_cnn": cnn.cifar_cnn,
    "convnext_t": convnext.convnext_t,
    "densenet121": densenet.densenet121,
    "densenet161": densenet.densenet161,
    "densenet169": densenet.densenet169,
    "densenet201": densenet.densenet201,
    "efficientnet_b0": mobilenet.efficientnet_b0,
    "mixer_b16": vit.mixer_b16,
    "mlp": mlp.mlp,
    "mobilenet_nano": mobilenet.mobilenet_nano,
    "mobilenet_v2": mobilenet.mobilenet_v2,
    "mobilenet_v3_large": mobilenet.mobilenet_v3_large,
    "nasbench201": nasbench201.nasbench201,
    "resnet8": resnet.resnet8,
    "resnet18": resnet.resnet18,
    "resnet18_cifar": resnet.resnet18_cifar,
    "resnet34": resnet.resnet34,
    "resnet34_cifar": resnet.resnet34_cifar,
    "resnet50": resnet.resnet50,
    "resnet50_cifar": resnet.resnet50_cifar,
    "resnet101": resnet.resnet101,
    "resnet101_cifar": resnet.resnet101_cifar,
    "resnext29_2x64d": resnet.resnext29_2x64d,
    "resnext50_32x4d": resnet.resnext50_32x4d,
    "vgg16": cnn.vgg16,
    "vit_b16": vit.vit_b16,
    "vit_nano": vit.vit_nano,
    "vit_s16": vit.vit_s16,
    "vit_ti16": vit.vit_ti16,
    "wrn_40_2": resnet.wrn_40_2,
}

VARIANTS: Mapping[str, Callable[[Shape, int, str], Graph]] = {
    "nasbench201": nasbench201.nasbench201,
    "resnet18": resnet.resnet18,
    "resnet18_cifar": resnet.resnet18_cifar,
    "resnet34": resnet.resnet34,
    "resnet34_cifar": resnet.resnet34_cifar,
    "resnet50": resnet.resnet50,
    "resnet50_cifar": resnet.resnet50_cifar,
    "resnet101": resnet.resnet101,
    "resnet101_cifar": resnet.resnet101_cifar,
}
"""Models whose name says more after a colon: a cell in `nasbench201:|nor_conv_3x3~0|+|…|`, the first width in `resnet18:16`."""


def names() -> tuple[str, ...]:
    """The names that `build` knows, in order."""
    return tuple(sorted(MODELS))


def build(name: str, *, input_shape: Sequence[int | None] = (224, 224, 3), num_classes: int = 1000) -> Graph:
    """The graph of a zoo model.

    `name` counts without case and punctuation: `vit_b16` is `ViT-B/16`. `nasbench201:CELL` is the network of a cell string, and
    `resnet18:16` a ResNet whose first stage has 16 channels, the next ones 32, 64, 128.
    `input_shape` is (height, width, channels), with or without a leading batch axis, which is dropped: the batch is free.
    Raises UserError for a name that is not in the zoo and for a shape that the model does not fit.
    """
    model, colon, variant = name.partition(":")
    known = {_plain(each): each for each in MODELS}.get(_plain(model))
    if known is None:
        raise UserError(f"zoo:{name}", saw="no such model in the zoo", remedy=nearest(model, MODELS))
    if colon and known not in VARIANTS:
        raise UserError(f"zoo:{name}", saw=f"{known} has no variants", wanted=f"zoo:{known}")
    if num_classes < 1:
        raise UserError("num_classes", saw=str(num_classes), wanted="at least 1")
    shape = without_batch(input_shape)
    try:
        return VARIANTS[known](shape, num_classes, variant) if colon else MODELS[known](shape, num_classes)
    except ShapeMismatch as error:
        raise UserError(f"zoo:{name}", saw=f"an input of shape {shape}, which it does not fit: {error}") from error


def _plain(name: str) -> str:
    return "".join(character for character in name.lower() if character.isalnum())


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
