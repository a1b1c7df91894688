"""ONNX operators that make sizes, positions and constants: known while the file is read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from vitgraph.frontend.from_onnx.element_types import as_tensor
from vitgraph.frontend.from_onnx.importing import Importer, Rule, number_of
from vitgraph.frontend.from_onnx.node import OnnxNode
from vitgraph.frontend.from_onnx.values import Known, Refusal, Value, joined, through, type_of
from vitgraph.ir.dialect import aten
from vitgraph.ir.tensor_type import SAMPLES, Dim


def _shape(im: Importer, n: OnnxNode) -> Value:
    sizes = type_of(n[0]).shape
    end = n.given("end")
    sizes = sizes[n.whole("start") : len(sizes) if end is None else int(end)]
    return _at_samples([[size.at(batch) if isinstance(size, Dim) else size for size in sizes] for batch in SAMPLES])


def _size(im: Importer, n: OnnxNode) -> Value:
    kind = type_of(n[0])
    return _at_samples([torch.Size(kind.at(batch)).numel() for batch in SAMPLES])


def _at_samples(values: list[Any]) -> Known:
    return joined([torch.tensor(each, dtype=torch.int64) for each in values])


def _constant(im: Importer, n: OnnxNode) -> Value:
    for name, kind in (
        ("value_float", torch.float32),
        ("value_floats", torch.float32),
        ("value_int", torch.int64),
        ("value_ints", torch.int64),
    ):
        if n.given(name) is not None:
            return Known((torch.tensor(n.given(name), dtype=kind),))
    if n.given("value") is None:
        raise Refusal("a constant that is text or sparse")
    return Known((as_tensor(n.given("value")),), str(n.raw.outputs[0].name or ""))


def _filled(im: Importer, n: OnnxNode) -> Value:
    sizes = im.sizes(n[0], "shape")
    value = n.given("value")
    filler = torch.zeros(1) if value is None else as_tensor(value)
    return im.call(aten.full.default, sizes, filler.reshape(()).item(), dtype=filler.dtype)


def _range(im: Importer, n: OnnxNode) -> Value:
    kind = type_of(n[0]).dtype
    bounds: list[Any] = []
    for position, what in enumerate(("start", "limit", "delta")):
        known = n.known(position, what)
        number = number_of(known)
        bounds.append(through([int(each) for each in known.samples]) if number is None else number)
    if bounds[2] == 0:
        raise Refusal("a range in steps of 0 has no end")
    return im.call(aten.arange.start_step, bounds[0], bounds[1], bounds[2], dtype=kind)


def _one_hot(im: Importer, n: OnnxNode) -> Value:
    """Along the last axis, of indices that are known."""
    indices, depth, values = n.known(0, "indices").constant, n.numbers(1, "depth") or [0], n.known(2, "values").constant
    if indices is None or values is None or n.whole("axis", -1) not in (-1, indices.dim()) or bool((indices < 0).any()):
        raise Refusal("one-hot codes along another axis than the last, or of indices that are negative or computed")
    places = Known((torch.arange(depth[0]),))
    hit = im.call(aten.eq.Tensor, Known((indices.unsqueeze(-1),)), places)
    return im.call(aten.where.self, hit, Known((values[1],)), Known((values[0],)))


def _identity(im: Importer, n: OnnxNode) -> Value:
    return n.value(0)


def _dropout(im: Importer, n: OnnxNode) -> tuple[Value, ...]:
    """Nothing, in evaluation."""
    training = n.get(2)
    if training is not None and number_of(training) not in (0, None):
        raise Refusal("it is in training; export the model in eval mode")
    return (n[0],)


SHAPES: Mapping[str, Rule] = {
    "Shape": _shape,
    "Size": _size,
    "Constant": _constant,
    "ConstantOfShape": _filled,
    "Range": _range,
    "OneHot": _one_hot,
    "Identity": _identity,
    "Dropout": _dropout,
}
