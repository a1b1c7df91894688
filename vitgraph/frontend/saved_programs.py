"""Saved programs: where one is, reading it back, and what it knows about the model it came from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import fx

from vitgraph.errors import InputError
from vitgraph.frontend.model_request import ModelRequest
from vitgraph.frontend.models import ModelFacts
from vitgraph.frontend.weight_files import hash_state
from vitgraph.images.preprocess import Preprocessing, PreprocessingOptions, build
from vitgraph.ir.batch import ONE_IMAGE, Batch
from vitgraph.ir.dialect import dequantize, fake_quantize, log2_quantize
from vitgraph.ir.model_output import NO_CLASSES, gives_features
from vitgraph.ir.parser import TextError, parse
from vitgraph.ir.program import Program
from vitgraph.ir.program_file import load
from vitgraph.ir.tensor_type import Dim, Size, TensorType
from vitgraph.ir.verify import check_read
from vitgraph.reading import GRAPH_TEXT, read_text

QUANTIZED = "is quantized already"
"""Of a program whose weights are FP32 still: types are yet to be chosen."""


@dataclass(frozen=True, kw_only=True)
class SavedModel(ModelFacts):
    """A program in place of a model, and what its provenance tells."""

    program: Program


def is_program(path: Path) -> bool:
    """Is there a saved program at this path? A folder counts where it holds one."""
    return path.is_file() or program_file(path) is not None


def is_onnx(path: Path) -> bool:
    """Whether a path names an ONNX file, which is read as a program."""
    return path.suffix == ".onnx" and not path.is_dir()


def program_file(folder: Path) -> Path | None:
    """The program in a folder: one that was saved there, or the one `vitgraph compile` left."""
    places = (folder / "program.safetensors", folder / "program" / "program.safetensors")
    return next((place for place in places if place.is_file()), None)


def program_at(path: Path) -> Path | None:
    """The file of the program that is saved at this path; None where none is."""
    return path if path.is_file() and not is_onnx(path) else program_file(path)


def read_program(path: Path) -> Program:
    """Read a saved program or the one in a folder."""
    return load(program_file(path) or path)


def read_graph_text(path: Path, seed: int) -> Program:
    """Read a graph's text; its weights are drawn by the seed."""
    text = read_text(path, GRAPH_TEXT)
    try:
        return check_read(parse(text, seed=seed), str(path), masks=True)
    except TextError as error:
        raise InputError(f"{path}: its graph can't be read: {error}") from error


def describe_saved(program: Program, request: ModelRequest) -> SavedModel:
    """A program in place of a model; `InputError` where it lacks what a compilation has to know."""
    stored = program.provenance
    names: list[str] | None = stored.get("class_names")
    return SavedModel(
        name=program.name,
        source=stored.get("source", "a program"),
        weights=stored.get("weights", "as they stand in the program"),
        preprocessing=_preprocessing(program, request),
        input_shape=_input_shape(program),
        classes=len(names) if names else _classes(program),
        class_names=tuple(names) if names else None,
        weights_sha256=stored.get("weights_sha256") or hash_state(program.tensors()),
        parameters=sum(each.numel() for each in program.tensors().values() if each.is_floating_point()),
        notes=(*stored.get("notes", ()), _note(program, request)),
        input_dtype=program.input_types()[0].dtype,
        program=program,
    )


def batch_of(program: Program, asked: Batch | None) -> Batch:
    """The batch sizes to compile it for: its own where it is fixed; where it is open those asked for, or one image.

    Raises `InputError` where a fixed one is asked for another.
    """
    own = _batch_size(program)
    if isinstance(own, Dim):
        return asked or ONE_IMAGE
    if asked not in (None, Batch(own, own, own)):
        raise InputError(
            f"{program.name}: was captured for a batch of {own}, not {asked}; leave --batch out, or capture it again from its model"
        )
    return Batch(own, own, own)


def takes_any_batch(program: Program) -> bool:
    """Whether its batch is open."""
    return isinstance(_batch_size(program), Dim)


def _batch_size(program: Program) -> Size:
    """The first size of the first input; `InputError` where it has none."""
    kinds = program.input_types()
    if not kinds or not kinds[0].shape:
        raise InputError(
            f"{program.name}: a model takes one input [batch, 1 or 3, height, width]; this takes {_list(kinds)}"
        )
    return kinds[0].shape[0]


def on_cpu(program: Program) -> Program:
    """The program itself, or a copy of one that was moved to another device to be trained there."""
    if all(each.device.type in ("cpu", "meta") for each in program.tensors().values()):
        return program
    copy = program.copy()
    copy.own_tensors()
    return copy.to("cpu")


def lowered(program: Program) -> str | None:
    """Why a program is no FP32 one any more; None where it is."""
    kinds = {each.dtype for each in program.tensors().values() if each.is_floating_point()} - {torch.float32}
    if kinds:
        return f"has weights in {', '.join(sorted(str(kind).removeprefix('torch.') for kind in kinds))} already"
    return QUANTIZED if program.calls(fake_quantize, dequantize, log2_quantize) else None


def _input_shape(program: Program) -> tuple[int, ...]:
    kinds = program.input_types()
    shape = kinds[0].shape[1:] if kinds else ()
    images = len(shape) == 3 and shape[0] in (1, 3)
    if len(kinds) != 1 or not (images or _takes_tokens(program)):
        raise InputError(
            f"{program.name}: a model takes one input, images [batch, 1 or 3, height, width] or tokens [batch, length] of int64; "
            f"this one takes {_list(kinds)}"
        )
    return tuple(int(str(size)) for size in shape)


def _takes_tokens(program: Program) -> bool:
    (kind, *_) = program.input_types()
    return kind.dtype == torch.int64 and len(kind.shape) == 2


def _preprocessing(program: Program, request: ModelRequest) -> Preprocessing | None:
    """What was stored with it; else what the request says; None where neither says how images are normalized."""
    stored: Any = program.provenance.get("preprocessing")
    given = request.given_preprocessing()
    if stored is not None and given:
        raise InputError(f"{program.name}: the program has its pre-processing in it; leave out {', '.join(given)}")
    shape = _input_shape(program)
    if _takes_tokens(program):
        return None
    plan = (
        _assumed(program, request, shape)
        if stored is None
        else build(stored, f"{program.name}: its stored pre-processing settings")
    )
    if plan is not None and plan.input_shape != shape:
        raise InputError(
            f"{program.name}: its images are made [{_list(plan.input_shape)}], and its input is "
            f"{program.input_types()[0]}; capture it from its model again"
        )
    return plan


def _assumed(program: Program, request: ModelRequest, shape: tuple[int, ...]) -> Preprocessing | None:
    """By the options alone, for a program that stores nothing."""
    options = request.preprocessing or PreprocessingOptions()
    if options.mean is None or options.std is None:
        return None
    size, middle = shape[1:], (0.5,) * shape[0]
    own = build({"image_size": size, "resize": size, "mean": middle, "std": middle}, program.name)
    return own.override(options)


def _classes(program: Program) -> int | None:
    """The width of an output `[batch, classes]`; 0 where it gives features."""
    if gives_features(program):
        return NO_CLASSES
    last = program.output.args[0]
    kind: TensorType | None = last.meta["type"] if isinstance(last, fx.Node) else None
    width = kind.shape[1] if kind is not None and len(kind.shape) == 2 else None
    return width if isinstance(width, int) else None


def _note(program: Program, request: ModelRequest) -> str:
    kind = "ONNX file" if isinstance(request.model, str | Path) and is_onnx(Path(request.model)) else "saved program"
    where = "a program" if isinstance(request.model, Program) else f"the {kind} {request.model}"
    ran = ", ".join(entry["name"] for entry in program.ledger)
    return f"compiled from {where}" + (f", on which {ran} had run" if ran else "")


def _list(items: Any) -> str:
    return ", ".join(map(str, items))
