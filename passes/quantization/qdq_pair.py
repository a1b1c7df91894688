"""A quantize/dequantize pair on an activation."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import fx

from vitgraph.ir import dialect
from vitgraph.ir.calls import QuantizeCall
from vitgraph.ir.formats import FORMATS, Format
from vitgraph.ir.program import Program


def insert_pair(
    program: Program,
    point: fx.Node,
    readers: Iterable[fx.Node],
    name: str,
    scale: float,
    grid: Format = FORMATS["int8"],
    shift: fx.Node | None = None,
) -> fx.Node:
    """Insert a pair after `point`, which these readers read from then on; `name` is that of its scale."""
    after = (point if shift is None else max(point, shift)).next
    constant = program.constant_node(after, name, torch.tensor(scale, dtype=torch.float32))
    arguments = QuantizeCall.written(point, constant, None, grid, shift)
    pair = program.insert(after, dialect.fake_quantize, *arguments, path=point.meta.get("path", ""))
    for reader in readers:
        reader.replace_input_with(point, pair)
    return pair
