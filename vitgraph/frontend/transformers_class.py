"""Which class of transformers a folder's config names, what it gives, and which of its outputs is taken."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from inspect import isclass, signature
from typing import Any, cast

import torch
from torch import Tensor, nn

from vitgraph.errors import InputError
from vitgraph.images.image_size import device_of, vision_config

LOGITS = "logits"
CLASS_TOKEN = "class_token"
FEATURES = ("image_embeds", "pooler_output", "last_hidden_state")
"""Outputs that hold features, the one for all of an image first."""
POOLER = "add_pooling_layer"
"""The argument of classes that can be made without a pooler, as some models were saved."""


@dataclass(frozen=True)
class ModelClass:
    """A class to make, of which config, and why that one where nobody named it."""

    kind: Any
    """Something with `from_config` or a class of models."""
    config: Any
    classifies: bool
    notes: tuple[str, ...] = ()

    @property
    def takes_pooler(self) -> bool:
        """Whether it can be made without a pooler."""
        return not self.classifies and POOLER in signature(self.kind.__init__).parameters


def find_class(config: Any, where: str) -> ModelClass:
    """The class that `architectures` names; an image classifier where it names none that transformers has.

    Of a model of images and texts its part about images. Raises `InputError` for a class that takes no images, or another
    config.
    """
    name = next(iter(getattr(config, "architectures", None) or ()), None)
    kind = _named(name)
    if kind is None:
        return _classifier(config, name)
    if kind in _classifiers(config):
        return ModelClass(_auto(), config, True)
    own = next((each for each in (config, vision_config(config)) if isinstance(each, _config_of(kind))), None)
    if own is None:
        raise InputError(f"{where}: architectures names {name}, which is not made of a {type(config).__name__}")
    if kind.main_input_name == "pixel_values":
        return ModelClass(kind, own, False)
    if vision_config(config) is config:
        raise InputError(f"{where}: architectures names {name}, which takes {kind.main_input_name} and no images")
    with torch.device("meta"):
        tower = cast(Any, type(_library().AutoModel.from_config(vision_config(config), trust_remote_code=False)))
    return ModelClass(
        tower, vision_config(config), False, (f"{name}: its part about images alone, {tower.__name__}, was taken",)
    )


def _classifier(config: Any, name: object) -> ModelClass:
    said = "architectures names no class" if name is None else f"transformers has no {name}"
    note = f"config.json: {said}, so an image classifier of {getattr(config, 'num_labels', 'its')} classes was made"
    return ModelClass(_auto(), config, True, (note,))


def choose_output(module: nn.Module, size: tuple[int, int], channels: int, asked: str | None, where: str) -> str:
    """The output to take of a model without classes: the one asked for, else the first of `FEATURES` that it has.

    The model is run on an empty image. Raises `InputError` where it does not run, or has no such output.
    """
    try:
        with torch.no_grad():
            found: Mapping[str, Any] = module(torch.zeros(1, channels, *size, device=device_of(module)))
            shapes = {name: tuple(value.shape) for name, value in found.items() if isinstance(value, Tensor)}
    except Exception as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(f"{where}: {type(module).__name__} does not run on an image: {first}") from error
    if len(shapes.get("last_hidden_state", ())) == 3:
        shapes[CLASS_TOKEN] = (1, shapes["last_hidden_state"][2])
    if asked is not None and asked not in shapes:
        raise InputError(f"{where}: output={asked}: {type(module).__name__} has {', '.join(shapes) or 'none'}")
    taken = asked or next((name for name in FEATURES if name in shapes), None)
    if taken is None:
        raise InputError(
            f"{where}: {type(module).__name__} gives neither classes nor features, but {', '.join(shapes)}; name one with "
            "--model-args output=NAME, or another class in architectures"
        )
    return taken


def take(found: Any, output: str) -> Tensor:
    """One tensor of what a model returns."""
    tensor: Tensor = found["last_hidden_state"][:, 0] if output == CLASS_TOKEN else found[output]
    return tensor


def _named(name: Any) -> Any:
    """The class of models that transformers has by this name, if it has one."""
    found = getattr(_library(), name, None) if isinstance(name, str) else None
    return found if isclass(found) and issubclass(found, _library().PreTrainedModel) else None


def _auto() -> Any:
    return _library().AutoModelForImageClassification


def _library() -> Any:
    return import_module("transformers")


def _classifiers(config: Any) -> tuple[Any, ...]:
    """The image classifiers of transformers that are made of this config: several of some, none of others."""
    found: Any = _library().MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING.get(type(config), ())
    return tuple(found) if isinstance(found, tuple | list) else (found,)  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]


def _config_of(kind: Any) -> type:
    return kind.config_class if isinstance(kind.config_class, type) else object
