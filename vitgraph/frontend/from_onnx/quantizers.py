"""ONNX's pairs of QuantizeLinear and DequantizeLinear as the program's own.

What a program says is taken: signed INT8 and FP8 around zero, with one scale for all or one for each index of an axis.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import fx

from vitgraph.frontend.from_onnx.importing import Importer, Rule
from vitgraph.frontend.from_onnx.node import OnnxNode
from vitgraph.frontend.from_onnx.values import Codes, Known, Refusal, Value, type_of
from vitgraph.ir.dialect import dequantize, fake_quantize

_FORMATS = {torch.int8: "int8", torch.float8_e4m3fn: "fp8"}
_REMEDY = "quantize it symmetrically to INT8, or export the model without Q/DQ and let a recipe quantize it"


def _quantize(im: Importer, n: OnnxNode) -> Value:
    zero = n.get(2)
    kind = torch.uint8 if zero is None else type_of(zero).dtype
    x = n[0]
    scale, axis = _scale(n, type_of(x).rank)
    return Codes(x, scale, axis, _format(kind, zero))


def _dequantize(im: Importer, n: OnnxNode) -> Value:
    codes, zero = n.value(0), n.get(2)
    if isinstance(codes, Codes):
        scale, axis = _scale(n, type_of(codes.source).rank)
        _format({form: kind for kind, form in _FORMATS.items()}[codes.format], zero)
        if not torch.equal(scale.samples[0], codes.scale.samples[0]) or axis != codes.axis:
            raise Refusal("it has another scale than the QuantizeLinear ahead of it")
        return _pair(im, fake_quantize, codes.source, codes.scale, axis, codes.format)
    if isinstance(codes, fx.Node) or codes.constant is None:
        raise Refusal("it reads codes that are computed otherwise than by a QuantizeLinear")
    scale, axis = _scale(n, codes.type.rank)
    return _pair(im, dequantize, codes, scale, axis, _format(codes.constant.dtype, zero))


def _pair(im: Importer, target: Any, source: fx.Node | Known, scale: Known, axis: int | None, form: str) -> fx.Node:
    """The call, remembered where it is a weight's."""
    node = im.emit(target, im.node(source, "weight"), im.node(scale, "scale"), axis, form)
    if isinstance(source, Known) and source.constant is not None:
        im.weights[node] = (target, source, scale, axis, form)
    return node


def _scale(n: OnnxNode, rank: int) -> tuple[Known, int | None]:
    scale = n.known(1, "scale")
    if scale.constant is None or scale.type.rank > 1 or n.whole("block_size"):
        raise Refusal(f"its scale is one for each block; {_REMEDY}")
    if scale.constant.numel() == 1:
        return Known((scale.constant.reshape(()),), scale.name), None
    return scale, n.whole("axis", 1) % max(rank, 1)


def _format(kind: torch.dtype, zero: fx.Node | Known | None) -> str:
    if kind not in _FORMATS:
        raise Refusal(f"its codes are {str(kind).removeprefix('torch.')}; {_REMEDY}")
    if zero is not None:
        constant = zero.constant if isinstance(zero, Known) else None
        if constant is None or bool(constant.float().any()):
            raise Refusal(f"its zero point is not 0; {_REMEDY}")
    return _FORMATS[kind]


QUANTIZERS: Mapping[str, Rule] = {"QuantizeLinear": _quantize, "DequantizeLinear": _dequantize}
