"""Models of timm's registry, and pre-processing from any config written as timm writes them."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

from torch import nn

from vitgraph.errors import InputError
from vitgraph.frontend.hub import fetch
from vitgraph.frontend.source import Head, ModelArgs, near_misses
from vitgraph.frontend.weight_files import Convert
from vitgraph.images.image_size import own_size


class TimmSource:
    """A model of timm's registry, by name."""

    size_argument = "img_size"
    class_argument = "num_classes"

    def __init__(self, name: str, also_known: Sequence[str] = ()) -> None:
        """Look the name up; raise InputError where timm has no such model or tag."""
        import timm

        base, _, tag = name.partition(".")
        self.name, self.kind = name, f"timm {version('timm')}"
        if not timm.is_model(base):
            what = "is a path, not a model's name" if Path(name).exists() else "is unknown"
            known = [*timm.list_models(), *also_known]
            raise InputError(
                f"model {name!r} {what}{near_misses(base, known)}; a model is a timm name, torchvision:NAME, "
                "transformers:CONFIG-DIR, module.path:factory or digits-vit"
            )
        tags = [full.partition(".")[2] for full in timm.list_models(f"{base}.*", pretrained=True)]
        if tag and tag not in tags:
            raise InputError(
                f"model {name!r}: {base} has no weights tagged {tag!r}; it has {', '.join(tags) or 'none'}"
            )

    def make(self, arguments: ModelArgs, pretrained: bool) -> nn.Module:
        """Make the module; raise InputError where pretrained weights can't be had."""
        import timm

        if pretrained:
            self._check_head(arguments)

        def create() -> nn.Module:
            return timm.create_model(self.name, pretrained=pretrained, **arguments)

        return fetch(create, self.name) if pretrained else create()

    def _check_head(self, arguments: ModelArgs) -> None:
        """Raise `InputError` where pretrained weights have a head of other classes: timm would draw one at random."""
        import timm

        config: Any = timm.get_pretrained_cfg(self.name)
        own, asked = getattr(config, "num_classes", None), arguments.get("num_classes")
        if asked is not None and own is not None and asked not in (0, own):
            raise InputError(
                f"model {self.name!r}: its pretrained weights have a head of {own} classes, and one of {asked} would be drawn "
                "at random; leave num_classes out, take num_classes=0 for features, or give trained weights with --weights FILE"
            )

    def preprocessing(self, module: nn.Module) -> Mapping[str, Any] | None:
        """Read timm's data config of the module."""
        return read_timm_config(module)

    def classes(self, module: nn.Module) -> int | None:
        """timm's `num_classes`, which is 0 of a model without a head."""
        own = getattr(module, "num_classes", None)
        return None if own is None else int(own)

    def class_names(self, module: nn.Module) -> Sequence[str] | None:
        """ImageNet-1k's names for a model of 1,000 classes."""
        if self.classes(module) != 1000:
            return None
        from timm.data.imagenet_info import ImageNetInfo

        info = ImageNetInfo("imagenet-1k")
        return [info.index_to_description(index) for index in range(1000)]

    def head(self, module: nn.Module) -> Head | None:
        """What timm's config calls the classifier."""
        config: Mapping[str, Any] = getattr(module, "pretrained_cfg", None) or {}
        parts: str | Sequence[str] = config.get("classifier") or ()
        return Head(
            (parts,) if isinstance(parts, str) else tuple(parts),
            "--model-args num_classes=0 makes the model without a head",
        )

    def notes(self, module: nn.Module) -> Sequence[str]:
        """Nothing is decided."""
        return ()

    def converter(self, module: nn.Module) -> Convert | None:
        """The filter timm keeps beside the model: it knows the authors' key names, and resizes position embeddings."""
        home = sys.modules.get(type(module).__module__)
        return cast(Convert | None, getattr(home, "checkpoint_filter_fn", None))


def read_timm_config(module: nn.Module) -> dict[str, Any] | None:
    """Turn the module's timm data config into fields of a Preprocessing; None where it has no config.

    A model that was made for another size (`img_size=64`) still has its name's config: its own size holds.
    timm's `border` crop mode (padding to a square) has no counterpart here: a centre crop stands for it.
    """
    if not isinstance(getattr(module, "pretrained_cfg", getattr(module, "default_cfg", None)), Mapping):
        return None
    config: Mapping[str, Any] = import_module("timm.data.config").resolve_model_data_config(module)
    height, width = own_size(module) or config["input_size"][1:]
    squash = config.get("crop_mode") == "squash"
    interpolation = config["interpolation"]
    return {
        "image_size": (height, width),
        "resize": tuple(math.floor(side / config["crop_pct"]) for side in (height, width)),
        "fit": "exact" if squash else "cover",
        "mean": config["mean"],
        "std": config["std"],
        "interpolation": "bicubic" if interpolation == "random" else interpolation,
    }
