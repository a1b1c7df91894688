"""Image classifiers of transformers, from a folder on disk; nothing is fetched and no code in the folder is run."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

from torch import Tensor, nn

from vitgraph.errors import InputError
from vitgraph.frontend.source import ModelArgs
from vitgraph.frontend.weight_files import Convert, StateDict
from vitgraph.images.preprocess import Preprocessing, build
from vitgraph.reading import SETTINGS, read_json


class TransformersSource:
    """An image classifier of transformers, made from a folder with a `config.json`."""

    class_argument = "num_labels"
    _RESAMPLING = ("nearest", "lanczos", "bilinear", "bicubic", "box", "hamming")  # by PIL's number

    def __init__(self, folder: Path) -> None:
        """Read the config; raise InputError where there is none, or none of an image classifier."""
        if not (folder / "config.json").is_file():
            raise InputError(f"model 'transformers:{folder}': no config.json there; give the folder that holds it")
        transformers = import_module("transformers")
        import_module(
            "transformers.utils.logging"
        ).disable_progress_bar()  # it would run through the command line's own output
        try:
            self.config: Any = transformers.AutoConfig.from_pretrained(folder, local_files_only=True)
        except (ValueError, OSError, KeyError, TypeError) as error:
            raise InputError(f"model 'transformers:{folder}': config.json cannot be used: {error}") from error
        self.folder, self.kind = folder, f"transformers {version('transformers')}"

    @property
    def size_argument(self) -> str | None:
        """The config's `image_size`, where it has one."""
        return "image_size" if hasattr(self.config, "image_size") else None

    def make(self, arguments: ModelArgs, pretrained: bool) -> nn.Module:
        """Make the module, returning the logits tensor alone; its module paths stay what they are."""
        auto = import_module("transformers").AutoModelForImageClassification
        config = self._config(arguments)
        if not pretrained:
            try:
                return return_logits(auto.from_config(config))
            except ValueError as error:
                name = type(config).__name__
                raise InputError(f"model 'transformers:{self.folder}': {name} is of no image classifier") from error
        if not (self.folder / "model.safetensors").is_file():
            raise InputError(
                f"model 'transformers:{self.folder}': no model.safetensors in the folder; put it there, or use "
                "--weights FILE or --weights random"
            )
        try:
            module, info = auto.from_pretrained(
                self.folder, config=config, local_files_only=True, use_safetensors=True, output_loading_info=True
            )
        except Exception as error:
            raise InputError(f"weights {self.folder / 'model.safetensors'} cannot be loaded: {error}") from error
        if lacking := sorted(map(str, [*info["missing_keys"], *info["mismatched_keys"]])):
            raise InputError(
                f"weights {self.folder / 'model.safetensors'}: without {', '.join(lacking[:4])}: not this model's"
            )
        return return_logits(module)

    def preprocessing(self, module: nn.Module) -> Preprocessing | None:
        """Read `preprocessor_config.json`; without one, ImageNet's mean and standard deviation of 0.5, no crop."""
        file = self.folder / "preprocessor_config.json"
        stored: dict[str, Any] = read_json(file, SETTINGS) if file.exists() else {}
        side: Any = getattr(cast(Any, module).config, "image_size", 224)
        size: tuple[int, int] = (side, side) if isinstance(side, int) else (side[0], side[1])
        scaled, keeps_aspect = read_size(stored.get("size"), size)
        crops = bool(stored.get("do_center_crop", keeps_aspect))
        fit = "cover" if keeps_aspect else "exact"
        channels = int(getattr(cast(Any, module).config, "num_channels", 3))
        return build(
            {
                "image_size": size,
                "resize": scaled if crops else size,
                "fit": fit if crops else "exact",
                "crop": "center" if crops else "none",
                "mean": tuple(stored.get("image_mean", (0.5,) * channels)),
                "std": tuple(stored.get("image_std", (0.5,) * channels)),
                "interpolation": self._RESAMPLING[int(stored.get("resample", 2))],
            },
            str(file),
        )

    def classes(self, module: nn.Module) -> int | None:
        """The config's `num_labels`."""
        return int(cast(Any, module).config.num_labels)

    def class_names(self, module: nn.Module) -> Sequence[str] | None:
        """The config's `id2label`, in order."""
        names: dict[int, str] = cast(Any, module).config.id2label
        return [names[index] for index in sorted(names)]

    def converter(self, module: nn.Module) -> Convert | None:
        """Transformers' own loading: the names in its files are not the names in its modules."""

        def convert(state: StateDict, module: nn.Module) -> object:
            model = cast(Any, type(module).__mro__[1])
            config = cast(Any, module).config
            loaded, info = model.from_pretrained(None, config=config, state_dict=state, output_loading_info=True)
            faults = [*info["missing_keys"], *info["unexpected_keys"], *info["mismatched_keys"]]
            return None if faults else loaded.state_dict()

        return convert

    def _config(self, arguments: ModelArgs) -> Any:
        from copy import deepcopy

        unknown = [name for name in arguments if not hasattr(self.config, name)]
        if unknown:
            raise TypeError(f"{type(self.config).__name__} has no {', '.join(unknown)}")
        config = deepcopy(self.config)
        for name, value in arguments.items():
            setattr(config, name, value)
        return config


def return_logits(model: nn.Module) -> nn.Module:
    """Make the model return its logits [B, classes] and nothing else.

    Its class becomes a subclass of what it was: a wrapper module would put its own name before every module path.
    """
    base: Any = type(model)

    def forward(self: nn.Module, pixel_values: Tensor) -> Tensor:
        return cast(Tensor, base.forward(self, pixel_values=pixel_values).logits)

    model.__class__ = type(base.__name__, (base,), {"forward": forward, "__module__": base.__module__})
    return model


def read_size(stored: Any, image_size: tuple[int, int]) -> tuple[tuple[int, int], bool]:
    """Read a processor's `size`: (height, width) to resize to, and whether the image keeps its aspect."""
    if isinstance(stored, int):
        return (stored, stored), False
    if isinstance(stored, dict):
        size = cast(dict[str, int], stored)
        if "shortest_edge" in size:
            return (size["shortest_edge"], size["shortest_edge"]), True
        if "height" in size and "width" in size:
            return (size["height"], size["width"]), False
    return image_size, False
