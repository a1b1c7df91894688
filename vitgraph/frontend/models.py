"""A model by its name or handed in, with its weights: ready to capture."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from vitgraph.errors import InputError, VitgraphError
from vitgraph.frontend.find import find_source
from vitgraph.frontend.from_code import OwnModule
from vitgraph.frontend.source import ModelArgs, Source
from vitgraph.frontend.weight_files import hash_state, read_weights
from vitgraph.frontend.weight_fit import infer_classes, load_weights, take_own
from vitgraph.images.image_size import check_runs, near_sizes, own_size, times
from vitgraph.images.preprocess import Preprocessing, PreprocessingOptions, build, override


@dataclass(frozen=True)
class ModelFacts:
    """What is known about a model besides its weights."""

    name: str
    source: str
    """Where the architecture comes from, with the version: `timm 1.0.31`."""
    weights: str
    """`pretrained`, `random, seed 0`, `as made by its own code`, or the file they were read from."""
    preprocessing: Preprocessing | None
    """None where nobody says how images are normalized: then they have to be handed in as tensors."""
    input_shape: tuple[int, ...]
    """(C, H, W) of one input; (L,) of tokens."""
    classes: int | None
    """How many classes it tells apart; 0 where it gives features, None where only running it could tell."""
    class_names: tuple[str, ...] | None
    weights_sha256: str
    parameters: int
    notes: tuple[str, ...] = ()
    """What was decided for the user, in sentences for the report."""
    input_dtype: torch.dtype = torch.float32
    """int64 of tokens."""

    def facts(self) -> ModelFacts:
        """These alone, so that nothing holds the weights any more."""
        return ModelFacts(**{each.name: getattr(self, each.name) for each in fields(ModelFacts)})


@dataclass(frozen=True, kw_only=True)
class LoadedModel(ModelFacts):
    """A float32 module in eval mode, and what is known about it."""

    module: nn.Module


@dataclass(frozen=True)
class _Order:
    """What was asked for: enough to make the module again with one more argument."""

    source: Source
    name: str
    arguments: dict[str, Any]
    image_size: tuple[int, int] | None
    pretrained: bool
    seed: int
    values: bool = True
    """False for weights that have shapes only."""


def load_model(
    spec: str | nn.Module,
    *,
    weights: str | Path | None = "pretrained",
    model_args: ModelArgs | None = None,
    preprocessing: PreprocessingOptions | None = None,
    seed: int = 0,
    input_shape: tuple[int, ...] | None = None,
    input_dtype: torch.dtype = torch.float32,
) -> LoadedModel:
    """Make the model `spec` names (see `vitgraph.frontend.find`) and give it its weights.

    `weights` is `pretrained` (for the user's own code: as that code made them), `random` (seeded: the same call gives
    the same bytes) or a file; None makes weights without values, on torch's `meta` device, for counting. Raises `InputError` for an unknown model, arguments it does not take, weights that are
    absent, corrupt or another model's, and an image size it cannot run at. `input_shape` is the (C, H, W) of images that
    were handed in, for the user's own code that tells no image size, or with `input_dtype` int64 the (L,) of tokens.
    """
    source = find_source(spec)
    name = spec if isinstance(spec, str) else type(spec).__name__
    options = _with_size_argument(preprocessing or PreprocessingOptions(), dict(model_args or {}), source)
    order = _Order(
        source, name, dict(model_args or {}), options.image_size, weights == "pretrained", seed, weights is not None
    )
    notes: list[str] = []
    file = Path(weights) if weights not in ("pretrained", "random", None) else None
    module = (_make(order) if file is None else _make_with_file(order, file, notes)).float().eval()
    if weights == "random" and not isinstance(source, OwnModule):
        _redraw_zeros(module, seed, notes)
    notes += source.notes(module)
    shape, plan = input_shape or (), None
    if input_dtype.is_floating_point:
        plan = _plan_preprocessing(order, module, options, input_shape)
        images = _three(input_shape, name) if plan is None else plan.input_shape
        _check_size(order, module, images, options)
        shape = images
    names, classes = source.class_names(module), source.classes(module)
    return LoadedModel(
        module=module,
        name=name,
        source=source.kind,
        weights=_describe(source, weights, seed),
        preprocessing=plan,
        input_shape=shape,
        classes=classes,
        class_names=tuple(names) if names is not None and classes in (None, len(names)) else None,
        weights_sha256=hash_state(module.state_dict()) if weights is not None else "",
        parameters=sum(parameter.numel() for parameter in module.parameters()),
        notes=tuple(notes),
        input_dtype=input_dtype,
    )


def _check_size(order: _Order, module: nn.Module, shape: tuple[int, int, int], options: PreprocessingOptions) -> None:
    """Raise `InputError` where the model does not run at a size that is not the one it was made for."""
    asked = options.image_size is not None
    if not asked and own_size(module) in (None, shape[1:]):
        return
    who = "--image-size" if asked else "its own pre-processing's"
    check_runs(module, shape, order.name, lambda size: _make(replace(order, image_size=size, pretrained=False)), who)


def tells_input(model: object, options: PreprocessingOptions | None) -> bool:
    """Whether the shape of a model's input is known without an image: a module that is handed in may not tell it."""
    if not isinstance(model, nn.Module) or (options is not None and options.image_size is not None):
        return True
    return OwnModule().preprocessing(model) is not None


def parse_model_args(texts: Sequence[str]) -> dict[str, Any]:
    """Read `key=value …` as written after --model-args: Python literals where they are such, otherwise words."""
    arguments: dict[str, Any] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key.isidentifier():
            raise InputError(f"--model-args {text!r} is not key=value, as in num_classes=10")
        try:
            arguments[key] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            arguments[key] = value
    return arguments


def _make(order: _Order) -> nn.Module:
    """Make the module at the size that was asked for; raise InputError where it does not take its arguments."""
    size = order.image_size
    key = order.source.size_argument
    arguments = order.arguments
    if size is not None and key is not None and key not in arguments:
        arguments = arguments | {key: size[0] if size[0] == size[1] else size}
    try:
        return _make_seeded(order, arguments)
    except VitgraphError:
        raise
    except TypeError as error:
        if size is None or f"'{key}'" not in str(error) or key in order.arguments:
            raise _refused(order, error) from error
        return _make_plainly(order)  # a model that runs at any size has no argument for it
    except Exception as error:
        if size is not None:
            fits = " or ".join(times(near) for near in near_sizes(size, None))
            raise InputError(
                f"model {order.name!r} cannot be made for --image-size {times(size)} ({error}); "
                f"the nearest multiples of 32 are {fits}"
            ) from error
        raise _refused(order, error) from error


def _make_plainly(order: _Order) -> nn.Module:
    try:
        return _make_seeded(order, order.arguments)
    except VitgraphError:
        raise
    except Exception as error:
        raise _refused(order, error) from error


def _make_seeded(order: _Order, arguments: ModelArgs) -> nn.Module:
    random: Any = torch.random
    with random.fork_rng(devices=[]):
        random.manual_seed(order.seed)
        with torch.device("cpu" if order.values else "meta"):
            return order.source.make(arguments, order.pretrained)


def _refused(order: _Order, error: Exception) -> InputError:
    given = " ".join(f"{key}={value}" for key, value in order.arguments.items())
    why = (str(error).splitlines() or [type(error).__name__])[0]
    if given:
        return InputError(f"model {order.name!r} does not accept --model-args {given}: {why}")
    return InputError(f"model {order.name!r} cannot be made: {why}")


def _make_with_file(order: _Order, file: Path, notes: list[str]) -> nn.Module:
    """Make the module with as many classes as the file's head has, and load the file into it."""
    state = read_weights(file)
    module = _make(order)
    key = order.source.class_argument
    classes = infer_classes(module, take_own(module, state, file, order.source.head(module))[0])
    if classes is not None and key is not None and key not in order.arguments:
        module = _make(replace(order, arguments=order.arguments | {key: classes}))
        notes.append(f"{key}={classes} was read from the head in {file.name}")
    notes += load_weights(module, state, file, order.source.converter(module), order.source.head(module))
    return module


def _redraw_zeros(module: nn.Module, seed: int, notes: list[str]) -> None:
    """Give all-zero matrices of a random model values from N(0, 0.02²), as some authors start their heads at zero.

    With a zero head every input has the same logits, and no comparison of outputs could fail.
    """
    generator = torch.Generator().manual_seed(seed)
    redrawn: list[str] = []
    for name, parameter in module.named_parameters():
        if parameter.dim() >= 2 and not bool(parameter.any()):
            torch.nn.init.normal_(parameter.data, std=0.02, generator=generator)
            redrawn.append(name)
    if redrawn:
        notes.append(f"random weights: {len(redrawn)} all-zero tensors were redrawn ({', '.join(redrawn[:3])}…)")


def _plan_preprocessing(
    order: _Order, module: nn.Module, options: PreprocessingOptions, input_shape: tuple[int, ...] | None
) -> Preprocessing | None:
    """Take the model's own data config, for as many channels as its first convolution has, and override it.

    None where there is none, and only the shape of its input is known.
    """
    own = order.source.preprocessing(module)
    first = next((layer for layer in module.modules() if isinstance(layer, nn.Conv2d)), None)
    channels = first.in_channels if first is not None else len(own["mean"]) if own is not None else 3
    if channels not in (1, 3):
        raise InputError(f"model {order.name!r} takes {channels} channels; images have 1 (grayscale) or 3 (RGB)")
    if own is None:
        size = options.image_size or (input_shape[-2:] if input_shape else None)
        if size is None:
            raise InputError(
                f"model {order.name!r} does not tell its image size: give --image-size, and --mean and --std, or in Python "
                "hand in images as tensors"
            )
        if options.image_size is None and (options.mean is None or options.std is None):
            return None
        middle = (0.5,) * channels
        own = {"image_size": size, "resize": size, "mean": middle, "std": middle}
    for key in ("mean", "std"):
        if len(own[key]) != channels:
            own = {**own, key: (sum(own[key]) / len(own[key]),) * channels}
    whose = "its own settings" if options == PreprocessingOptions() else "its own settings and the options given"
    return build(override(own, options), f"pre-processing of {order.name!r}: {whose}")


def _three(shape: tuple[int, ...] | None, name: str) -> tuple[int, int, int]:
    """The shape of one image, `(C, H, W)`."""
    if shape is None or len(shape) != 3:
        raise InputError(f"model {name!r}: one input has shape {shape}; an image is [C, H, W]")
    return shape[0], shape[1], shape[2]


def _with_size_argument(
    options: PreprocessingOptions, arguments: dict[str, Any], source: Source
) -> PreprocessingOptions:
    """Let a size given among the model's arguments (`img_size=240`) be the size of its images too."""
    size: Any = arguments.get(source.size_argument or "")
    if size is None or options.image_size is not None:
        return options
    try:
        height, width = (size, size) if isinstance(size, int) else size
        return replace(options, image_size=(int(height), int(width)))
    except (TypeError, ValueError) as error:
        raise InputError(
            f"--model-args {source.size_argument}={size!r} is not a size: write 224 or (224,196)"
        ) from error


def _describe(source: Source, weights: str | Path | None, seed: int) -> str:
    if weights is None:
        return "not loaded, shapes only"
    if isinstance(source, OwnModule) and weights in ("pretrained", "random"):
        return "as made by its own code"
    return f"random, seed {seed}" if weights == "random" else str(weights)
