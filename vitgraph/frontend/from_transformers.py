"""Models of images of transformers, from a folder on disk; nothing is fetched and no code in the folder is run."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import replace
from importlib import import_module
from importlib.metadata import version
from inspect import signature
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from vitgraph.errors import InputError
from vitgraph.frontend.processor_config import read_processor
from vitgraph.frontend.source import Head, ModelArgs
from vitgraph.frontend.transformers_class import LOGITS, POOLER, ModelClass, choose_outputs, find_class, take
from vitgraph.frontend.weight_files import Convert, StateDict, first_names
from vitgraph.images.image_size import own_size, vision_config
from vitgraph.ir.model_output import NO_CLASSES
from vitgraph.reading import SETTINGS, WEIGHTS, check_file, read_json

_SIZE = "image_size"
_INTERPOLATE = "interpolate_pos_encoding"
_OUTPUT = "output"
_CLASSIFIES, _NOTES = "vitgraph_classifies", "vitgraph_notes"
"""What a made module's class keeps: whether it returns scores of classes, and notes."""


class TransformersSource:
    """A model of transformers, made from a folder with a `config.json`."""

    class_argument = "num_labels"

    def __init__(self, folder: Path) -> None:
        """Read the config; raise InputError where there is none, or none of a model."""
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
        """Make the module, returning tensors alone; its module paths stay what they are.

        Of a classifier they are its logits; of another model `output=NAME,NAME` says which, else see `choose_outputs`.
        """
        settings, chosen = self._settings(arguments)
        if not pretrained:
            return self._taking(self._from_config(chosen, settings), chosen, arguments)
        file = self.folder / "model.safetensors"
        if not file.is_file():
            raise InputError(
                f"model {self._name!r}: no model.safetensors in the folder; put it there, or use "
                "--weights FILE or --weights random"
            )
        check_file(file, WEIGHTS)
        module, lacking = self._load(chosen, settings, file)
        if lacking and chosen.takes_pooler and POOLER not in settings and all(".pooler." in f".{k}" for k in lacking):
            note = f"{file.name} has no pooler, so the model was made without one"
            settings, chosen = {POOLER: False}, replace(chosen, notes=(*chosen.notes, note))
            module, lacking = self._load(chosen, settings, file)
        if lacking:
            head = self.head(return_outputs(module, (LOGITS,), True)) if chosen.classifies else None
            remedy = f"; {head.without}" if head is not None and head.holds_all(lacking) else ""
            raise InputError(
                f"weights {file}: {len(lacking)} missing ({first_names(lacking)}): not this model's{remedy}"
            )
        return self._taking(module, chosen, arguments)

    def _load(self, chosen: ModelClass, settings: Mapping[str, Any], file: Path) -> tuple[nn.Module, list[str]]:
        """The module with the folder's weights, and what the file lacks: that is drawn at random."""
        quiet: Any = import_module("transformers.utils.logging")
        told = quiet.get_verbosity()
        quiet.set_verbosity_error()  # what is missing and what is left over is told here
        try:
            module, info = chosen.kind.from_pretrained(
                self.folder,
                config=chosen.config,
                local_files_only=True,
                use_safetensors=True,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # they are told below, with their shapes
                trust_remote_code=False,
                **settings,
            )
        except Exception as error:
            raise InputError(f"weights {file} cannot be loaded: {_first_line(error)}") from error
        finally:
            quiet.set_verbosity(told)
        if other := [f"{key} {list(found)}, the model's is {list(own)}" for key, found, own in info["mismatched_keys"]]:
            raise InputError(f"weights {file}: {len(other)} of another shape ({first_names(other)}): not this model's")
        return module, sorted(info["missing_keys"])

    def preprocessing(self, module: nn.Module) -> Mapping[str, Any] | None:
        """Read `preprocessor_config.json`; without one, a mean and standard deviation of 0.5, no crop."""
        config = vision_config(cast(Any, module).config)
        processor = read_processor(self.folder / "preprocessor_config.json")
        return processor.fields(own_size(module), int(getattr(config, "num_channels", 3)))

    def classes(self, module: nn.Module) -> int | None:
        """The config's `num_labels`; none of a model of another class than a classifier's."""
        return int(cast(Any, module).config.num_labels) if _classifies(module) else NO_CLASSES

    def class_names(self, module: nn.Module) -> Sequence[str] | None:
        """The config's `id2label`, in order; None where it has none."""
        if not _classifies(module):
            return None
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

    def head(self, module: nn.Module) -> Head | None:
        """All of a classifier but the model that its class is built on."""
        base = cast(Any, module).base_model_prefix
        children = dict(module.named_children())
        if not _classifies(module) or base not in children:
            return None
        headless = type(children[base]).__name__
        remedy = f'a model without a head has "architectures": ["{headless}"] in config.json, or another headless class'
        return Head(tuple(name for name in children if name != base), remedy)

    def notes(self, module: nn.Module) -> Sequence[str]:
        """Which class was made, where config.json does not name it, and which output was taken."""
        return cast(Sequence[str], getattr(module, _NOTES, ()))

    def _taking(self, module: nn.Module, chosen: ModelClass, arguments: ModelArgs) -> nn.Module:
        """The module, returning what is asked for."""
        asked = arguments.get(_OUTPUT)
        if chosen.classifies:
            return return_outputs(module, (LOGITS,), True, chosen.notes)
        size = own_size(module) or (224, 224)
        channels = getattr(vision_config(cast(Any, module).config), "num_channels", 3)
        outputs = choose_outputs(module.eval(), size, channels, asked, f"model {self._name!r}")
        note = f"{type(module).__name__} does not classify images: its {' and '.join(outputs)} taken"
        return return_outputs(module, outputs, False, (*chosen.notes, note))

    def _from_config(self, chosen: ModelClass, settings: Mapping[str, Any]) -> nn.Module:
        with self._telling(
            f"{type(chosen.config).__name__} makes no {'image classifier' if chosen.classifies else chosen.kind.__name__}"
        ):
            if chosen.classifies:
                made: nn.Module = chosen.kind.from_config(chosen.config, trust_remote_code=False)
                return made
            return cast(nn.Module, chosen.kind(chosen.config, **settings))

    def _settings(self, arguments: ModelArgs) -> tuple[dict[str, Any], ModelClass]:
        """What its class is called with beside the config, and the class, with a config that has the other arguments.

        A model that fits its positions to an image keeps those that it was trained with.
        """
        config, where = deepcopy(self.config), f"model {self._name!r}"
        chosen = find_class(config, where)
        settings = {POOLER: arguments[POOLER]} if POOLER in arguments and chosen.takes_pooler else {}
        rest = {name: value for name, value in arguments.items() if name not in settings and name != _OUTPUT}
        if _OUTPUT in arguments and chosen.classifies:
            raise TypeError(f"output={arguments[_OUTPUT]} is for models that do not classify")
        if self.class_argument in rest and not chosen.classifies:
            raise TypeError(f"{chosen.kind.__name__} has no classes; name a classifier in architectures")
        for name, value in rest.items():
            part = vision_config(chosen.config) if name == _SIZE else chosen.config
            if not hasattr(part, name):
                raise TypeError(f"{type(config).__name__} has no {name}")
            if name != _SIZE or not self._runs_at(chosen, settings, value):
                setattr(part, name, value)
        return settings, chosen

    def _runs_at(self, chosen: ModelClass, settings: Mapping[str, Any], size: int | tuple[int, int]) -> bool:
        """Whether the model of this config takes images of another size; asked of one without values."""
        height, width = (size, size) if isinstance(size, int) else size
        channels = getattr(vision_config(chosen.config), "num_channels", 3)
        try:
            with torch.device("meta"), torch.no_grad():
                module = return_outputs(self._from_config(chosen, settings), None, False).eval()
                module(torch.zeros(1, channels, height, width))
        except Exception:  # noqa: BLE001 - whatever it raises, it does not run
            return False
        return True

    @property
    def _name(self) -> str:
        return f"transformers:{self.folder}"

    @contextmanager
    def _telling(self, what: str) -> Generator[None]:
        """Tell whatever a library raises for a user's file: a fault in it may come up anywhere."""
        try:
            yield
        except Exception as error:
            raise InputError(
                f"model 'transformers:{self.folder}': {what}: {_first_line(error)}; mend config.json, or install what it asks for"
            ) from error


def _first_line(error: Exception) -> str:
    text = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    return f"{type(error).__name__} {text}".rstrip() if isinstance(error, KeyError) else text or type(error).__name__


def return_outputs(
    model: nn.Module, outputs: Sequence[str] | None, classifies: bool, notes: Sequence[str] = ()
) -> nn.Module:
    """Make the model return these tensors and nothing else (None: all), at any image size that its positions can be fitted to.

    Its class becomes a subclass of what it was: a wrapper module would put its own name before every module path.
    """
    base: Any = type(model)
    fits_positions = _INTERPOLATE in signature(base.forward).parameters
    trained_at = own_size(model)

    def forward(self: nn.Module, pixel_values: Tensor) -> Any:
        fitted = fits_positions and tuple(pixel_values.shape[-2:]) != trained_at
        options = {_INTERPOLATE: True} if fitted else {}
        found = base.forward(self, pixel_values=pixel_values, **options)
        return found if outputs is None else take(found, outputs)

    own = {"forward": forward, "__module__": base.__module__, _CLASSIFIES: classifies, _NOTES: tuple(notes)}
    model.__class__ = type(base.__name__, (base,), own)
    return model


def _classifies(module: nn.Module) -> bool:
    return bool(getattr(module, _CLASSIFIES))
