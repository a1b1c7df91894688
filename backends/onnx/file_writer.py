"""Writing an ONNX file whole or not at all, without a second copy of the weights in memory.

The graph without its constants is small and goes through protobuf. The constants are streamed after it one by one:
into the same file, or into `<name>.data` beside it where together they pass what one protobuf message may hold (2 GiB).
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import onnx
import torch
from torch import Tensor

from vitgraph.backends.onnx.graph_builder import INT4, ONNX_TYPES, Initializer
from vitgraph.ir.formats import pack_int4
from vitgraph.outputs.disk import writing

EXTERNAL_BYTES = 1_900_000_000
"""From this many bytes of constants on, they go to a file of their own."""

_KEPT_INSIDE = 1024
"""Constants under this many bytes stay in the graph: shapes and axes are read while types are inferred."""

_ALIGNMENT = 4096
"""External tensors start at a page, so that runtimes can map them."""

_MODEL_GRAPH, _GRAPH_INITIALIZER, _TENSOR_RAW_DATA = 7, 5, 9
"""Field numbers of onnx.proto."""


def write_model(
    model: onnx.ModelProto, initializers: Sequence[Initializer], path: Path, external_bytes: int = EXTERNAL_BYTES
) -> list[Path]:
    """Write the model and return the files: `path`, and `<path>.data` where constants pass `external_bytes`.

    Raises `InputError` where the folder can't be written. A stale `.data` file of an earlier model is removed.
    """
    external = sum(each.nbytes for each in initializers) >= external_bytes
    outside = [each for each in initializers if external and each.nbytes >= _KEPT_INSIDE]
    data = path.with_name(path.name + ".data")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
        try:
            with (folder / path.name).open("wb") as file:
                _write_graph(model, initializers, _places(outside), data.name, file)
            if outside:
                with (folder / data.name).open("wb") as file:
                    _write_data(outside, file)
                os.replace(folder / data.name, data)
            else:
                data.unlink(missing_ok=True)
            os.replace(folder / path.name, path)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    return [path, data] if outside else [path]


def _places(outside: Iterable[Initializer]) -> dict[str, int]:
    """Where each external constant starts in the data file."""
    places, offset = dict[str, int](), 0
    for each in outside:
        places[each.name] = offset
        offset = _aligned(offset + each.nbytes)
    return places


def _write_graph(
    model: onnx.ModelProto, initializers: Sequence[Initializer], places: Mapping[str, int], data: str, file: BinaryIO
) -> None:
    """The model with its constants or where they lie: the protobuf encoding, put together by hand where it gets large."""
    graph = _serialize(model.graph)
    shell = onnx.ModelProto()
    shell.CopyFrom(model)
    shell.ClearField("graph")
    heads = [_tensor_head(each, places.get(each.name), data) for each in initializers]
    sizes = [
        len(head) + (0 if each.name in places else each.nbytes) for head, each in zip(heads, initializers, strict=True)
    ]
    inner = sum(len(_prefix(_GRAPH_INITIALIZER, size)) + size for size in sizes)
    file.write(_serialize(shell))
    file.write(_prefix(_MODEL_GRAPH, len(graph) + inner))
    file.write(graph)
    for each, head, size in zip(initializers, heads, sizes, strict=True):
        file.write(_prefix(_GRAPH_INITIALIZER, size))
        file.write(head)
        if each.name not in places:
            _write_values(each, file)


def _serialize(message: Any) -> bytes:
    """The same bytes for the same message."""
    data: bytes = message.SerializeToString(deterministic=True)
    return data


def _tensor_head(each: Initializer, offset: int | None, data: str) -> bytes:
    """A TensorProto up to the bytes of its values, or all of it where those lie in the data file at `offset`."""
    tensor = onnx.TensorProto(name=each.name, dims=each.shape, data_type=int(ONNX_TYPES[each.dtype]))
    if offset is None:
        return _serialize(tensor) + _prefix(_TENSOR_RAW_DATA, each.nbytes)
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, value in (("location", data), ("offset", str(offset)), ("length", str(each.nbytes))):
        tensor.external_data.add(key=key, value=value)
    return _serialize(tensor)


def _write_data(initializers: Iterable[Initializer], file: BinaryIO) -> None:
    for each in initializers:
        file.write(b"\0" * (_aligned(file.tell()) - file.tell()))
        _write_values(each, file)


def _write_values(each: Initializer, file: BinaryIO) -> None:
    """The values of one constant, which are released right after."""
    tensor = each.read()
    packed = each.dtype is INT4
    assert tensor.dtype == (torch.int8 if packed else each.dtype), each.name
    assert tuple(tensor.shape) == each.shape, each.name
    file.write(tensor_bytes(pack_int4(tensor) if packed else tensor))


def tensor_bytes(tensor: Tensor) -> memoryview:
    """Its values in row order, little-endian, without a copy where they lie so already."""
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    values: Any = flat.view(torch.uint8).numpy()
    return memoryview(values)


def _aligned(offset: int) -> int:
    return -(-offset // _ALIGNMENT) * _ALIGNMENT


def _prefix(number: int, length: int) -> bytes:
    """Tag and length of a length-delimited protobuf field."""
    return _varint(number << 3 | 2) + _varint(length)


def _varint(value: int) -> bytes:
    """Seven bits a byte, the lowest first; all but the last have the high bit set."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
