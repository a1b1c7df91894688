"""An ONNX file opened: bounded, its external data beside it, its functions inlined; nothing of it is run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, cast

from vitgraph.errors import InputError, VitgraphError
from vitgraph.ir.file_bounds import MAX_LINES
from vitgraph.reading import ONNX, ONNX_DATA, check_file

OPSETS = range(11, 26)
"""Versions of ONNX's operator set that are read."""
_EXPORT = "export it again with an opset from 11 to 25"


@dataclass(frozen=True)
class OnnxFile:
    """A graph, and where it comes from."""

    path: Path
    graph: Any
    opset: int
    producer: str


def read_file(path: Path) -> OnnxFile:
    """The graph of a file; `InputError` where it can't be read, or is of an operator set that is not known."""
    check_file(path, ONNX)
    ir = cast(Any, import_module("onnx_ir"))
    try:
        model = ir.load(path)
        if model.functions:
            _check_calls(path, model)
            model = import_module("onnx_ir.passes.common").InlinePass()(model).model
    except VitgraphError:
        raise
    except Exception as error:  # protobuf, the file system and onnx_ir each have exceptions of their own
        said = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise InputError(f"{path}: can't be read as ONNX: {said}; export it again") from error
    opset = model.graph.opset_imports.get("", model.graph.opset_imports.get("ai.onnx"))
    if opset is None:
        raise InputError(f"{path}: is no ONNX model: it names no operator set; {_EXPORT}")
    if opset not in OPSETS:
        raise InputError(f"{path}: is of opset {opset}; {_EXPORT}")
    count = sum(1 for _ in model.graph)
    if count > MAX_LINES:
        raise InputError(f"{path}: has {count:,} nodes, over the {MAX_LINES:,} that are read; is it a model of images?")
    for tensor in _tensors(model.graph):
        _check_external(path, ir, tensor)
    producer = " ".join(str(each) for each in (model.producer_name, model.producer_version) if each)
    return OnnxFile(path, model.graph, int(opset), producer[:100])


def _tensors(graph: Any) -> Iterator[Any]:
    """The constants of a graph, in its nodes too."""
    for value in graph.initializers.values():
        if value.const_value is not None:
            yield value.const_value
    for node in graph:
        for attribute in node.attributes.values():
            if attribute.type.name == "TENSOR":
                yield attribute.value


def _check_external(path: Path, ir: Any, tensor: Any) -> None:
    """Raise `InputError` unless data outside the file lie in its folder and are there."""
    if not isinstance(tensor, ir.ExternalTensor):
        return
    folder = path.resolve().parent
    try:
        place = (folder / str(tensor.location)).resolve()
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: external data {str(tensor.location)[:80]!r} is no path; export it again") from error
    if not place.is_relative_to(folder):
        raise InputError(
            f"{path}: external data {str(tensor.location)[:80]!r} lies outside the file's folder; put it beside the file"
        )
    check_file(place, ONNX_DATA)
    end = (tensor.offset or 0) + (tensor.length or tensor.nbytes)
    if not 0 <= (tensor.offset or 0) <= end <= place.stat().st_size or (tensor.length or tensor.nbytes) < tensor.nbytes:
        raise InputError(
            f"{path}: {tensor.name}: its external data end at byte {end:,}, and {place.name} has {place.stat().st_size:,}; "
            "copy the whole file"
        )


def _check_calls(path: Path, model: Any) -> None:
    """Raise `InputError` where functions call themselves, or come to more nodes than are read once they are written out."""
    sizes = dict[Any, int]()
    open_calls = set[Any]()

    def size(nodes: Iterable[Any], depth: int) -> int:
        if depth > 32:
            raise InputError(f"{path}: its functions call each other over 32 deep; export it again without functions")
        total = 0
        for node in nodes:
            called = (node.domain, node.op_type, node.overload)
            function = model.functions.get(called)
            if function is None:
                total += 1
            elif called in open_calls:
                raise InputError(f"{path}: function {node.op_type} calls itself; export it again without functions")
            else:
                if called not in sizes:
                    open_calls.add(called)
                    sizes[called] = size(function, depth + 1)
                    open_calls.discard(called)
                total += sizes[called]
        return total

    if (count := size(model.graph, 0)) > MAX_LINES:
        raise InputError(f"{path}: its functions come to {count:,} nodes, over the {MAX_LINES:,} that are read")
