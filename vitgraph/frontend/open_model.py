"""What a request for a model comes to: a loaded model, a saved program or an ONNX file in place of one, or a captured program."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from vitgraph.errors import InputError
from vitgraph.frontend.capture import capture_model
from vitgraph.frontend.from_onnx.open_onnx import open_onnx
from vitgraph.frontend.model_request import ModelRequest
from vitgraph.frontend.models import LoadedModel, load_model
from vitgraph.frontend.saved_programs import (
    SavedModel,
    batch_of,
    describe_saved,
    is_onnx,
    is_program,
    on_cpu,
    read_graph_text,
    read_program,
    takes_any_batch,
)
from vitgraph.ir.batch import ONE_IMAGE, Batch
from vitgraph.ir.fixed_batch import fix_batch
from vitgraph.ir.program import Program


def open_model(request: ModelRequest) -> LoadedModel | SavedModel:
    """The model with its weights, or the saved program that stands for it; `InputError` where neither can be had."""
    return open_saved(request) or load(request)


def open_saved(request: ModelRequest) -> SavedModel | None:
    """The program that is handed in or was saved; None where the request names a model."""
    if isinstance(request.model, Program):
        return describe_saved(on_cpu(request.model), _without_settings(request, request.model.name))
    path = _saved_at(request)
    if path is None:
        return None
    if path.suffix == ".txt":
        raise InputError(
            f"{path}: a graph's text has no weights; `vitgraph opt` reads it, and saves a program with -o FILE.safetensors"
        )
    if is_onnx(path):
        return _read_onnx(path, request)
    return describe_saved(read_program(path), _without_settings(request, str(path)))


def open_program(request: ModelRequest, batch: Batch | None = None, values: bool = True) -> Program:
    """What the request names, captured or read; `InputError` where it is neither.

    Without `values`, a model's weights have shapes only, unless the request names some.
    """
    path = _saved_at(request)
    if path is None:
        return capture_model(load(request, values), batch or ONE_IMAGE)
    if is_onnx(path):
        return _for_batch(_read_onnx(path, request).program, batch)
    given = request.given() + ["--batch"] * (batch is not None)
    if given:
        raise InputError(f"{path} is a saved program, it has these settings in it; leave out {', '.join(given)}")
    return read_graph_text(path, request.seed) if path.suffix == ".txt" else read_program(path)


def load(
    request: ModelRequest,
    values: bool = True,
    input_shape: tuple[int, ...] | None = None,
    input_dtype: torch.dtype = torch.float32,
) -> LoadedModel:
    """The model that is named or handed in; without `values`, with shapes of weights only, unless some are named.

    `input_shape` is the (C, H, W) of images that were handed in with it, or the (L,) of tokens, which are int64.
    """
    assert isinstance(request.model, str | nn.Module)
    return load_model(
        request.model,
        weights=request.weights or ("pretrained" if values else None),
        model_args=request.model_args,
        preprocessing=request.preprocessing,
        seed=request.seed,
        input_shape=input_shape,
        input_dtype=input_dtype,
    )


class Handover:
    """A model until somebody takes it. Weights are large and a builder needs their room, so nobody else may hold them."""

    def __init__(self, model: LoadedModel | SavedModel) -> None:
        self._models = [model]

    def take(self) -> LoadedModel | SavedModel:
        """The model, once; `IndexError` afterwards."""
        return self._models.pop()


def program_of(model: LoadedModel | SavedModel, batch: Batch) -> Program:
    """The program that a compilation starts from: a model captured for these batch sizes, or the saved one for them."""
    if isinstance(model, LoadedModel):
        return capture_model(model, batch)
    if batch.dynamic or not takes_any_batch(model.program):
        return model.program
    return fix_batch(model.program, batch.best)


def batch_for(model: LoadedModel | SavedModel, asked: Batch | None) -> Batch:
    """The batch sizes to compile for: of a model those asked for, or one image; of a program its own."""
    return batch_of(model.program, asked) if isinstance(model, SavedModel) else asked or ONE_IMAGE


def _saved_at(request: ModelRequest) -> Path | None:
    """Where the program is that the request names; None where it names a model."""
    if not isinstance(request.model, str | Path):
        return None
    path = Path(request.model)
    if is_program(path):
        return path
    if is_onnx(path):
        raise InputError(f"{path}: there is no such ONNX file; check the path")
    if isinstance(request.model, Path):
        raise InputError(
            f"{path}: no saved program is there; give a file of `vitgraph opt -o`, or a model's name as text"
        )
    return None


def _read_onnx(path: Path, request: ModelRequest) -> SavedModel:
    """The program of an ONNX file, which keeps what the request says of its images."""
    asked = _without_settings(request, str(path), "an ONNX file")
    options = asked.preprocessing
    model = describe_saved(open_onnx(path, None if options is None else options.image_size), asked)
    if model.preprocessing is None:
        return model
    model.program.provenance["preprocessing"] = json.loads(model.preprocessing.to_json())
    return describe_saved(model.program, replace(asked, preprocessing=None))


def _for_batch(program: Program, asked: Batch | None) -> Program:
    """The program as it is, or for the batch size that is asked for."""
    sizes = batch_of(program, asked)
    return program if asked is None or sizes.dynamic or not takes_any_batch(program) else fix_batch(program, sizes.best)


def _without_settings(request: ModelRequest, name: str, kind: str = "a saved program") -> ModelRequest:
    given = [each for each in request.given() if each not in request.given_preprocessing()]
    if given:
        raise InputError(f"{name} is {kind}, it has these settings in it; leave out {', '.join(given)}")
    return request
