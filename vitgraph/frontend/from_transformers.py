"""Image classifiers of transformers, from a folder on disk; nothing is fetched and no code in the folder is run."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from importlib import import_module
from importlib.metadata import version
from inspect import signature
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from vitgraph.errors import InputError
from vitgraph.frontend.processor_config import read_processor
from vitgraph.frontend.source import ModelArgs
from vitgraph.frontend.weight_files import Convert, StateDict, first_names
from vitgraph.images.image_size import own_size, vision_config
from vitgraph.reading import SETTINGS, WEIGHTS, check_file, read_json

_SIZE = "image_size"
_INTERPOLATE = "interpolate_pos_encoding"


class TransformersSource:
    """An image classifier of transformers, made from a folder with a `config.json`."""

    class_argument = "num_labels"

    def __init__(self, folder: Path) -> None:
        """Read the config; raise InputError where there is none, or none of an image classifier."""
        if not (folder / "config.json").is_file():
            raise InputError(f"model 'transformers:{folder}': no config.json there; give the folder that holds it")
        transformers = import_module("transformers")
        import_module(
            "transformers.utils.logging"
        ).disable_progress_bar()  # it would run through the command line's own output
        self.folder, self.kind = folder, f"transformers {version('transformers')}"
        read_json(folder / "config.json", SETTINGS, nan=True)
        with self._telling("config.json cannot be used"):
            self.config: Any = transformers.AutoConfig.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False
            )

    @property
    def size_argument(self) -> str | None:
        """The config's `image_size`, where it has one."""
        return _SIZE if hasattr(vision_config(self.config), _SIZE) else None

    def make(self, arguments: ModelArgs, pretrained: bool) -> nn.Module:
        """Make the module, returning the logits tensor alone; its module paths stay what they are."""
        config = self._config(arguments)
        if not pretrained:
            return self._from_config(config)
        file = self.folder / "model.safetensors"
        if not file.is_file():
            raise InputError(
                f"model 'transformers:{self.folder}': no model.safetensors in the folder; put it there, or use "
                "--weights FILE or --weights random"
            )
        check_file(file, WEIGHTS)
        try:
            module, info = _auto().from_pretrained(
                self.folder,
                config=config,
                local_files_only=True,
                use_safetensors=True,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # they are told below, with their shapes
                trust_remote_code=False,
            )
        except Exception as error:
            raise InputError(f"weights {file} cannot be loaded: {_first_line(error)}") from error
        if lacking := sorted(info["missing_keys"]):
            raise InputError(f"weights {file}: {len(lacking)} missing ({first_names(lacking)}): not this model's")
        if other := [f"{key} {list(found)}, the model's is {list(own)}" for key, found, own in info["mismatched_keys"]]:
            raise InputError(f"weights {file}: {len(other)} of another shape ({first_names(other)}): not this model's")
        return return_logits(module)

    def preprocessing(self, module: nn.Module) -> Mapping[str, Any] | None:
        """Read `preprocessor_config.json`; without one, a mean and standard deviation of 0.5, no crop."""
        config = vision_config(cast(Any, module).config)
        processor = read_processor(self.folder / "preprocessor_config.json")
        return processor.fields(own_size(module), int(getattr(config, "num_channels", 3)))

    def classes(self, module: nn.Module) -> int | None:
        """The config's `num_labels`."""
        return int(cast(Any, module).config.num_labels)

    def class_names(self, module: nn.Module) -> Sequence[str] | None:
        """The config's `id2label`, in order; None where it has none."""
        names: dict[int, str] | None = cast(Any, module).config.id2label
        return [str(names[index]) for index in sorted(names)] if names else None

    def converter(self, module: nn.Module) -> Convert | None:
        """Transformers' own loading: the names in its files are not the names in its modules."""

        def convert(state: StateDict, module: nn.Module) -> object:
            model = cast(Any, type(module).__mro__[1])
            config = cast(Any, module).config
            loaded, info = model.from_pretrained(None, config=config, state_dict=state, output_loading_info=True)
            faults = [*info["missing_keys"], *info["unexpected_keys"], *info["mismatched_keys"]]
            return None if faults else loaded.state_dict()

        return convert

    def _from_config(self, config: Any) -> nn.Module:
        with self._telling(f"{type(config).__name__} makes no image classifier"):
            return return_logits(_auto().from_config(config, trust_remote_code=False))

    def _config(self, arguments: ModelArgs) -> Any:
        """The config with these arguments. A model that fits its positions to an image keeps those that it was trained with."""
        config = deepcopy(self.config)
        for name, value in arguments.items():
            part = vision_config(config) if name == _SIZE else config
            if not hasattr(part, name):
                raise TypeError(f"{type(config).__name__} has no {name}")
            if name != _SIZE or not self._runs_at(config, value):
                setattr(part, name, value)
        return config

    def _runs_at(self, config: Any, size: int | tuple[int, int]) -> bool:
        """Whether the model of this config takes images of another size; asked of one without values."""
        height, width = (size, size) if isinstance(size, int) else size
        channels = getattr(vision_config(config), "num_channels", 3)
        try:
            with torch.device("meta"), torch.no_grad():
                self._from_config(config).eval()(torch.zeros(1, channels, height, width))
        except Exception:  # noqa: BLE001 - whatever it raises, it does not run
            return False
        return True

    @contextmanager
    def _telling(self, what: str) -> Generator[None]:
        """Tell whatever a library raises for a user's file: a fault in it may come up anywhere."""
        try:
            yield
        except Exception as error:
            raise InputError(
                f"model 'transformers:{self.folder}': {what}: {_first_line(error)}; mend config.json, or install what it asks for"
            ) from error


def _auto() -> Any:
    return import_module("transformers").AutoModelForImageClassification


def _first_line(error: Exception) -> str:
    text = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    return f"{type(error).__name__} {text}".rstrip() if isinstance(error, KeyError) else text or type(error).__name__


def return_logits(model: nn.Module) -> nn.Module:
    """Make the model return its logits [B, classes] and nothing else, at any image size that its positions can be fitted to.

    Its class becomes a subclass of what it was: a wrapper module would put its own name before every module path.
    """
    base: Any = type(model)
    fits_positions = _INTERPOLATE in signature(base.forward).parameters
    trained_at = own_size(model)

    def forward(self: nn.Module, pixel_values: Tensor) -> Tensor:
        fitted = fits_positions and tuple(pixel_values.shape[-2:]) != trained_at
        options = {_INTERPOLATE: True} if fitted else {}
        return cast(Tensor, base.forward(self, pixel_values=pixel_values, **options).logits)

    model.__class__ = type(base.__name__, (base,), {"forward": forward, "__module__": base.__module__})
    return model
