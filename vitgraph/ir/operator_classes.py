"""Classes of operators: which only move values, which are activations, which normalize."""

from __future__ import annotations

from vitgraph.ir.dialect import aten, fake_quantize

LAYOUT = frozenset(
    {
        aten.reshape.default, aten.permute.default, aten.slice.Tensor, aten.select.int, aten.roll.default,
        aten.pad.default, aten.expand.default, aten.to.dtype, aten.cat.default, fake_quantize,
    }
)  # fmt: skip
"""Operators that move values without changing them (rounding aside)."""
ACTIVATIONS = frozenset(
    {
        aten.gelu.default, aten.relu.default, aten.silu.default, aten.hardswish.default, aten.clamp.default,
        aten.tanh.default, aten.sigmoid.default, aten.mish.default, aten.leaky_relu.default, aten.elu.default,
        aten.softplus.default,
    }
)  # fmt: skip
NORMS = (aten.layer_norm.default, aten.batch_norm.default, aten.group_norm.default, aten.rms_norm.default)
