"""Typed views of the dialect's calls: `AttentionCall(node).probability_scale` in place of `node.args[5]`.

A view names the arguments and knows their defaults, wherever they stand. Assigning one writes it into the call:
`LinearCall(node).weight = masked`. Where the trailing arguments of a new call hang on one another, the view writes them too:
`program.insert(before, fake_quantize, *QuantizeCall.written(x, scale, None, grid))`.
"""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import fx

from vitgraph.ir import dialect
from vitgraph.ir.call_arguments import argument, arguments
from vitgraph.ir.call_view import Argument, CallView
from vitgraph.ir.dialect import aten
from vitgraph.ir.formats import Format, number_format

# products


class WeightedCall(CallView):
    """A product with a weight: a linear or a convolution."""

    operators = frozenset({aten.linear.default, aten.conv1d.default, aten.conv2d.default})
    data = Argument[fx.Node]("input")
    weight = Argument[fx.Node]("weight")
    """`[N, K]` of a linear, `[out, in / groups, …]` of a convolution."""
    bias = Argument[fx.Node | None]("bias")

    @property
    def operands(self) -> tuple[fx.Node, fx.Node]:
        """Data and weight."""
        return self.data, self.weight

    @property
    def groups(self) -> int:
        """Into how many groups the channels fall; one for a linear."""
        found: int = arguments(self.node).get("groups", 1)
        return found

    @property
    def pads(self) -> bool:
        """Whether zeros are laid around its input."""
        return any(arguments(self.node).get("padding", ()))


class LinearCall(WeightedCall):
    """`aten.linear`."""

    operators = frozenset({aten.linear.default})


class ConvCall(WeightedCall):
    """A convolution; strides and the like are one number for each axis."""

    operators = frozenset({aten.conv1d.default, aten.conv2d.default})
    stride = Argument[list[int]]("stride")
    padding = Argument[list[int]]("padding")
    dilation = Argument[list[int]]("dilation")


class MatmulCall(CallView):
    """A product of two computed values."""

    operators = frozenset({aten.matmul.default})
    left = Argument[fx.Node]("self")
    right = Argument[fx.Node]("other")

    @property
    def operands(self) -> tuple[fx.Node, fx.Node]:
        """Left and right."""
        return self.left, self.right


class AttentionCall(CallView):
    """`vitgraph.attention`: softmax(scale q kᵀ + bias) v, the probabilities rounded where they have a scale."""

    operators = frozenset({dialect.attention})
    q = Argument[fx.Node]("q")
    k = Argument[fx.Node]("k")
    v = Argument[fx.Node]("v")
    bias = Argument[fx.Node | None]("bias")
    scale = Argument[float]("scale")
    probability_scale = Argument[fx.Node | None]("probability_scale")

    @property
    def operands(self) -> tuple[fx.Node, fx.Node, fx.Node]:
        """q, k and v."""
        return self.q, self.k, self.v

    @property
    def is_rounded(self) -> bool:
        """Whether the probabilities are rounded to a number format."""
        return self.probability_scale is not None

    @property
    def probability_format(self) -> Format | None:
        """The number format that the probabilities are rounded to; None where they are not."""
        return number_format(argument(self.node, "probability_format")) if self.is_rounded else None

    def round_probabilities(self, scale: fx.Node, grid: Format) -> None:
        """Let the probabilities be rounded."""
        self.leave_probabilities()
        self.node.args = (*self.node.args, scale, *_trailing(grid))

    def leave_probabilities(self) -> None:
        """Let the probabilities be as they are computed."""
        self.node.args, self.node.kwargs = (*self.operands, self.bias, self.scale), {}


class SdpaCall(CallView):
    """`aten.scaled_dot_product_attention`, which `fuse-attention` reads."""

    operators = frozenset({aten.scaled_dot_product_attention.default})
    q = Argument[fx.Node]("query")
    k = Argument[fx.Node]("key")
    v = Argument[fx.Node]("value")
    bias = Argument[fx.Node | None]("attn_mask")
    """What is added to the scores; of booleans, those that count."""
    is_causal = Argument[bool]("is_causal")
    scale = Argument[float | None]("scale")
    """None for 1 / √(head dimension)."""
    dropout = Argument[float]("dropout_p")
    is_grouped = Argument[bool]("enable_gqa")

    @property
    def operands(self) -> tuple[fx.Node, fx.Node, fx.Node]:
        """q, k and v."""
        return self.q, self.k, self.v


def operands_of(product: fx.Node) -> tuple[fx.Node, ...]:
    """What a product multiplies: data and weight, left and right, or q, k and v; `TypeError` for another call."""
    call = WeightedCall.of(product) or MatmulCall.of(product) or AttentionCall.of(product) or SdpaCall(product)
    return call.operands


# quantizers and masks


class PairCall(CallView):
    """A call whose codes have a number format: `fake_quantize`, or the `dequantize` of a constant."""

    operators = frozenset({dialect.fake_quantize, dialect.dequantize})
    scale = Argument[fx.Node]("scale")
    axis = Argument[int | None]("axis")
    """Along which the scales lie; None for one scale."""
    format_name = Argument[str]("format")

    @property
    def format(self) -> Format:
        """The number format of the codes."""
        return number_format(self.format_name)


class QuantizeCall(PairCall):
    """`fake_quantize`: a Q/DQ pair."""

    operators = frozenset({dialect.fake_quantize})
    data = Argument[fx.Node]("x")
    shift = Argument[fx.Node | None]("shift")
    """The constant that values are rounded around, None for zero."""

    @staticmethod
    def written(
        data: fx.Node, scale: fx.Node, axis: int | None, grid: Format, shift: fx.Node | None = None
    ) -> tuple[Any, ...]:
        """The arguments of such a call; INT8 around zero, the default, is not written out."""
        return (data, scale, axis, *_trailing(grid, shift))


class DequantizeCall(PairCall):
    """`dequantize`: a constant of codes back to floating point."""

    operators = frozenset({dialect.dequantize})
    codes = Argument[fx.Node]("q")

    @staticmethod
    def written(codes: fx.Node, scale: fx.Node, axis: int | None, grid: Format) -> tuple[Any, ...]:
        """The arguments of such a call; INT8, the default, is not written out."""
        return (codes, scale, axis, *_trailing(grid))


def _trailing(grid: Format, shift: fx.Node | None = None) -> tuple[Any, ...]:
    if shift is not None:
        return (grid.name, shift)
    return () if grid.name == "int8" else (grid.name,)


class MaskCall(CallView):
    """`mask`: an N:M or block mask on a weight."""

    operators = frozenset({dialect.mask})
    weight = Argument[fx.Node]("weight")
    keep = Argument[fx.Node]("keep")
    """Which elements stay, of the weight's shape."""


# normalization and reductions


class LayerNormCall(CallView):
    """`aten.layer_norm`."""

    operators = frozenset({aten.layer_norm.default})
    data = Argument[fx.Node]("input")
    weight = Argument[fx.Node | None]("weight")
    bias = Argument[fx.Node | None]("bias")


class RmsNormCall(CallView):
    """`aten.rms_norm`."""

    operators = frozenset({aten.rms_norm.default})
    data = Argument[fx.Node]("input")
    sizes = Argument[list[int]]("normalized_shape")
    weight = Argument[fx.Node | None]("weight")
    eps = Argument[float | None]("eps")
    """None for the machine epsilon of the type that it is computed in."""

    @property
    def added(self) -> float:
        """What is added to the mean square."""
        return rms_epsilon(self.data.meta["type"].dtype) if self.eps is None else self.eps


def rms_epsilon(dtype: torch.dtype) -> float:
    """What torch adds where nothing is said: half types are computed in FP32."""
    return torch.finfo(dtype if dtype == torch.float64 else torch.float32).eps


class BatchNormCall(CallView):
    """`aten.batch_norm` at inference."""

    operators = frozenset({aten.batch_norm.default})
    data = Argument[fx.Node]("input")
    weight = Argument[fx.Node | None]("weight")
    bias = Argument[fx.Node | None]("bias")
    mean = Argument[fx.Node]("running_mean")
    var = Argument[fx.Node]("running_var")
    eps = Argument[float]("eps")

    @property
    def constants(self) -> tuple[fx.Node | None, fx.Node | None, fx.Node, fx.Node]:
        """Weight, bias, mean and variance."""
        return self.weight, self.bias, self.mean, self.var


class SoftmaxCall(CallView):
    """`aten.softmax` or `aten.log_softmax`."""

    operators = frozenset({aten.softmax.int, aten.log_softmax.int})
    data = Argument[fx.Node]("self")
    dim = Argument[int]("dim")


class ReductionCall(CallView):
    """A mean, sum, maximum, minimum or variance along dimensions."""

    operators = frozenset(
        {aten.mean.dim, aten.sum.dim_IntList, aten.amax.default, aten.amin.default, aten.var.correction}
    )
    data = Argument[fx.Node]("self")
    dims = Argument[list[int]]("dim")
    keeps_dims = Argument[bool]("keepdim")


class VarianceCall(ReductionCall):
    """`aten.var`."""

    operators = frozenset({aten.var.correction})
    correction = Argument[float | None]("correction")
    """What is taken off the count: 0 for the biased variance, None for 1."""


# arithmetic and casts


class BinaryCall(CallView):
    """A sum, difference, product or quotient; numbers and weights stand on the right."""

    operators = frozenset({aten.add.Tensor, aten.sub.Tensor, aten.mul.Tensor, aten.div.Tensor})
    left = Argument[fx.Node]("self")
    right = Argument[fx.Node | int | float]("other")

    @property
    def divides(self) -> bool:
        """Whether this is a quotient."""
        return self.node.target is aten.div.Tensor

    @property
    def factor(self) -> int | float:
        """What the right operand of a sum or difference is multiplied by (`alpha`)."""
        found: int | float = arguments(self.node).get("alpha", 1)
        return found


class CastCall(CallView):
    """`aten.to`."""

    operators = frozenset({aten.to.dtype})
    data = Argument[fx.Node]("self")
    dtype = Argument[torch.dtype]("dtype")


# layout and sizes


class ReshapeCall(CallView):
    """`aten.reshape`."""

    operators = frozenset({aten.reshape.default})
    data = Argument[fx.Node]("self")
    sizes = Argument[list[Any]]("shape")
    """At most one -1; a size that is computed is a node."""


class ExpandCall(CallView):
    """`aten.expand`."""

    operators = frozenset({aten.expand.default})
    data = Argument[fx.Node]("self")
    sizes = Argument[list[Any]]("size")
    """-1 for what the input has already."""


class PermuteCall(CallView):
    """`aten.permute`."""

    operators = frozenset({aten.permute.default})
    data = Argument[fx.Node]("self")
    dims = Argument[list[int]]("dims")


class SliceCall(CallView):
    """`aten.slice`."""

    operators = frozenset({aten.slice.Tensor})
    data = Argument[fx.Node]("self")
    dim = Argument[int]("dim")
    start = Argument[Any]("start")
    """None for the beginning."""
    end = Argument[Any]("end")
    """None, or a number past the last element, for all that is left."""
    step = Argument[int]("step")


class SelectCall(CallView):
    """`aten.select`."""

    operators = frozenset({aten.select.int})
    data = Argument[fx.Node]("self")
    dim = Argument[int]("dim")
    index = Argument[int]("index")


class RollCall(CallView):
    """`aten.roll`."""

    operators = frozenset({aten.roll.default})
    data = Argument[fx.Node]("self")
    shifts = Argument[list[int]]("shifts")
    dims = Argument[list[int]]("dims")


class CatCall(CallView):
    """`aten.cat`."""

    operators = frozenset({aten.cat.default})
    tensors = Argument[list[fx.Node]]("tensors")
    dim = Argument[int]("dim")


class SizeCall(CallView):
    """`aten.sym_size`: a size that depends on the batch."""

    operators = frozenset({aten.sym_size.int})
    data = Argument[fx.Node]("self")
    dim = Argument[int]("dim")


class ItemCall(CallView):
    """`getitem`: one of the results of an operator that has several."""

    operators = frozenset({operator.getitem})
    results = Argument[fx.Node]("a")
    index = Argument[int]("b")
