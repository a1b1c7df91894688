"""Which class of transformers a folder's config names, what it gives, and which of its outputs is taken."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
PURPOSES = (
    ("logits", "pred_boxes", "pred_masks"),
    ("logits", "pred_boxes"),
    ("class_queries_logits", "masks_queries_logits"),
    ("predicted_depth",),
    ("image_embeds",),
    ("pooler_output",),
    ("last_hidden_state",),
)
"""Outputs that models without classes for a whole image are for, what says most first: objects, masks, depth, features."""
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


def choose_outputs(
    module: nn.Module, size: tuple[int, int], channels: int, asked: str | None, where: str
) -> tuple[str, ...]:
    """The outputs to take of a model that does not classify: those asked for (`A,B`), else the first of `PURPOSES` that it has.

    A map of classes (logits `[B, classes, H, W]`) comes first. The model is run on an empty image. Raises `InputError` where it does
    not run, or has no such output.
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
    if asked is not None:
        return _asked(asked, shapes, f"{where}: output={asked}: {type(module).__name__}")
    if len(shapes.get(LOGITS, ())) == 4:
        return (LOGITS,)
    taken = next((names for names in PURPOSES if shapes.keys() >= set(names)), None)
    if taken is None:
        raise InputError(
            f"{where}: {type(module).__name__} gives none of what is taken unasked, but {', '.join(shapes)}; name one with "
            "--model-args output=NAME, or another class in architectures"
        )
    return taken


def _asked(asked: str, shapes: Mapping[str, tuple[int, ...]], where: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in str(asked).split(","))
    if not shapes.keys() >= set(names) or len(set(names)) < len(names):
        raise InputError(f"{where} has {', '.join(shapes) or 'none'}; name each once")
    return names


def take(found: Any, outputs: Sequence[str]) -> Tensor | tuple[Tensor, ...]:
    """What a model returns under these names: one tensor alone, of several a tuple."""
    tensors = tuple(found["last_hidden_state"][:, 0] if name == CLASS_TOKEN else found[name] for name in outputs)
    return tensors[0] if len(tensors) == 1 else tensors


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
