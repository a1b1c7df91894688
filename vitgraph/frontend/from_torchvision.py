"""Image classifiers of torchvision."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from importlib.metadata import version
from typing import Any, cast

from torch import nn

from vitgraph.errors import InputError
from vitgraph.frontend.hub import fetch
from vitgraph.frontend.source import Head, ModelArgs, near_misses
from vitgraph.frontend.weight_files import Convert


def list_names() -> list[str]:
    """List torchvision's image classifiers (its detectors, segmenters and video models live in modules below)."""
    models = import_module("torchvision.models")
    return cast(list[str], models.list_models(module=models))


class TorchvisionSource:
    """An image classifier of torchvision, by name."""

    size_argument = "image_size"
    class_argument = "num_classes"

    def __init__(self, name: str) -> None:
        """Look the name up; raise InputError where torchvision has no such image classifier."""
        if name not in list_names():
            raise InputError(f"model 'torchvision:{name}' is unknown{near_misses(name, list_names())}")
        self.name, self.kind = name, f"torchvision {version('torchvision')}"

    def make(self, arguments: ModelArgs, pretrained: bool) -> nn.Module:
        """Make the module; raise InputError where pretrained weights can't be had."""
        get_model: Callable[..., nn.Module] = import_module("torchvision.models").get_model
        if not pretrained:
            return get_model(self.name, weights=None, **arguments)
        return fetch(lambda: get_model(self.name, weights="DEFAULT", **arguments), f"torchvision:{self.name}")

    def preprocessing(self, module: nn.Module) -> Mapping[str, Any] | None:
        """Read the transform that torchvision ships with the model's default weights."""
        transform: Any = self._default_weights().transforms()
        crop, resize = transform.crop_size[0], transform.resize_size[0]
        return {
            "image_size": (crop, crop),
            "resize": (resize, resize),
            "mean": tuple(transform.mean),
            "std": tuple(transform.std),
            "interpolation": transform.interpolation.value,
        }

    def classes(self, module: nn.Module) -> int | None:
        """The output size of the last linear layer, which in torchvision's classifiers is the head."""
        linears = [layer for layer in module.modules() if isinstance(layer, nn.Linear)]
        return linears[-1].out_features if linears else None

    def class_names(self, module: nn.Module) -> Sequence[str] | None:
        """The categories of the default weights, where the module has as many classes."""
        names: list[str] = self._default_weights().meta["categories"]
        return names if len(names) == self.classes(module) else None

    def head(self, module: nn.Module) -> Head | None:
        """None: torchvision makes no model without one."""
        return None

    def notes(self, module: nn.Module) -> Sequence[str]:
        """Nothing is decided."""
        return ()

    def converter(self, module: nn.Module) -> Convert | None:
        """None: torchvision's own loading hooks rename what they know."""
        return None

    def _default_weights(self) -> Any:
        return import_module("torchvision.models").get_model_weights(self.name).DEFAULT
