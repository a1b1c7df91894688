"""vitgraph's own operators. With the ATen operators in `ATEN`, they are the dialect: what a canonical graph may hold.

Each is registered with `torch.library` as a composition of ATen operators, so that it runs on every device, has a
gradient and works on fake tensors without more being said:

- `vitgraph.attention(q, k, v, bias, scale, probability_scale, probability_format)`: softmax(scale q kᵀ + bias) v, and the
  place of a quantizer on the softmax's output
- `vitgraph.mask(weight, keep)`: an N:M or block mask on a weight, until `materialize` folds it
- `vitgraph.fake_quantize(x, scale, axis, format, shift)`: quantize to a number format (`vitgraph.ir.formats`; INT8 unless another
  is named) and dequantize, straight-through gradient; with a shift, what lies around it gets the codes around zero, until
  `materialize` moves it into biases
- `vitgraph.dequantize(q, scale, axis, format)`: a constant of codes back to floating point
- `vitgraph.log2_quantize(x, scale, rule, low, high)`: a positive value to a power of two, straight-through gradient
"""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import Tensor

from vitgraph.ir.formats import FORMATS, Format, number_format, spread

aten = torch.ops.aten

_library: Any = torch.library.Library("vitgraph", "DEF")  # its methods have no annotations
_library.define(
    "attention(Tensor q, Tensor k, Tensor v, Tensor? bias, float scale, Tensor? probability_scale=None, "
    "str probability_format='int8') -> Tensor"
)
_library.define("mask(Tensor weight, Tensor keep) -> Tensor")
_library.define(
    "fake_quantize(Tensor x, Tensor scale, int? axis=None, str format='int8', Tensor? shift=None) -> Tensor"
)
_library.define("dequantize(Tensor q, Tensor scale, int? axis=None, str format='int8') -> Tensor")
_library.define("log2_quantize(Tensor x, Tensor? scale=None, str rule='nearest', int low=-6, int high=9) -> Tensor")

QMIN, QMAX = int(FORMATS["int8"].low), int(FORMATS["int8"].high)
"""What a signed INT8 Q/DQ pair keeps, in ONNX and in TensorRT."""


class _FakeQuantize(torch.autograd.Function):
    """Round to the grid; pass the gradient where nothing was clipped (straight-through, Bengio et al. 2013).

    A scale that is trained gets LSQ's gradient (Esser et al., arXiv 1902.08153): code - x / scale where nothing was
    clipped, the outermost code elsewhere.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, grid: Format) -> Tensor:
        steps = x / scale
        codes = grid.nearest(steps)
        learns_scale = ctx.needs_input_grad[1]
        if ctx.needs_input_grad[0] or learns_scale:
            inside = (
                steps.clamp(grid.low, grid.high) == steps if grid.dtype.is_floating_point else steps.round() == codes
            )
            ctx.save_for_backward(inside, *([codes - steps * inside] if learns_scale else []))
        ctx.scale_shape = scale.shape
        return codes * scale if learns_scale else codes.mul_(scale)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor | None, None]:
        inside, *slope = ctx.saved_tensors
        of_scale = (grads[0] * slope[0]).sum_to_size(ctx.scale_shape) if slope else None
        return grads[0] * inside, of_scale, None


def quantize_values(x: Tensor, scale: Tensor, axis: int | None = None, format: str = "int8") -> Tensor:
    """The codes that `fake_quantize` rounds to, in the format's own type, of the shape of `x`."""
    grid = number_format(format)
    return grid.nearest(x / spread(scale, axis, x.shape)).to(grid.dtype)


def _fake_quantize(
    x: Tensor, scale: Tensor, axis: int | None = None, format: str = "int8", shift: Tensor | None = None
) -> Tensor:
    centred = x if shift is None else x - shift
    rounded: Tensor = _FakeQuantize.apply(centred, spread(scale, axis, x.shape), number_format(format))
    return rounded if shift is None else rounded + shift


def _dequantize(q: Tensor, scale: Tensor, axis: int | None = None, format: str = "int8") -> Tensor:
    if q.dtype != number_format(format).dtype:
        raise ValueError(f"dequantize: {format} codes are {number_format(format).dtype}, not {q.dtype}")
    return q.to(scale.dtype) * spread(scale, axis, q.shape)


LOG2_RULES = {"nearest": 2.0**0.5, "bit": 1.5}
"""From which mantissa on a value goes to the next power of two: the nearest in log2, or the bit below the leading one."""
UMAX = 255
"""The largest code of an unsigned 8-bit value."""


def log2_thresholds(rule: str, low: int, high: int) -> Tensor:
    """Where the exponent steps up, `[high - low]` float32: y is `low` plus how many thresholds x reaches."""
    if rule not in LOG2_RULES or low > high:
        raise ValueError(
            f"log2_quantize: rule={rule} low={low} high={high}: a rule of {', '.join(LOG2_RULES)}; low <= high"
        )
    exponents: Tensor = torch.exp2(torch.arange(low, high, dtype=torch.float32))
    return exponents * LOG2_RULES[rule]  # type: ignore[no-any-return]


class _Log2Quantize(torch.autograd.Function):
    """Round to a power of two; pass the gradient where nothing was clipped."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor | None, thresholds: Tensor, low: int) -> Tensor:
        codes = x if scale is None else torch.clamp(torch.round(x / scale), 1, UMAX) * scale
        steps = (codes.float().unsqueeze(-1) >= thresholds).sum(-1)
        ctx.save_for_backward((steps > 0) & (steps < len(thresholds)))
        return torch.exp2((steps + low).float()).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        (inside,) = ctx.saved_tensors
        return grads[0] * inside, None, None, None


def _log2_quantize(
    x: Tensor, scale: Tensor | None = None, rule: str = "nearest", low: int = -6, high: int = 9
) -> Tensor:
    """2^y, y the exponent in [low, high] that `rule` gives (Trio-ViT, arXiv 2405.03882: 16 exponents are 4 bits).

    With `scale`, x is rounded to unsigned 8-bit codes first. A code of 0 has no leading one: it counts as 1.
    """
    return _Log2Quantize.apply(x, scale, log2_thresholds(rule, low, high).to(x.device), low)  # type: ignore[no-any-return]


def _mask(weight: Tensor, keep: Tensor) -> Tensor:
    return weight * keep.to(weight.dtype)


def probabilities(q: Tensor, k: Tensor, bias: Tensor | None, scale: float) -> Tensor:
    """softmax(scale q kᵀ + bias): `[…, tokens, keys]`, each row sums to one."""
    scores = torch.matmul(q * scale, k.transpose(-2, -1))
    return torch.softmax(scores if bias is None else scores + bias, -1)


def _attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    bias: Tensor | None,
    scale: float,
    probability_scale: Tensor | None = None,
    probability_format: str = "int8",
) -> Tensor:
    weights = probabilities(q, k, bias, scale)
    if probability_scale is not None:
        weights = _fake_quantize(weights, probability_scale, None, probability_format)
    return torch.matmul(weights, v)


for _name, _body in {
    "attention": _attention,
    "mask": _mask,
    "fake_quantize": _fake_quantize,
    "dequantize": _dequantize,
    "log2_quantize": _log2_quantize,
}.items():
    _library.impl(_name, _body, "CompositeImplicitAutograd")

attention = torch.ops.vitgraph.attention.default
mask = torch.ops.vitgraph.mask.default
fake_quantize = torch.ops.vitgraph.fake_quantize.default
dequantize = torch.ops.vitgraph.dequantize.default
log2_quantize = torch.ops.vitgraph.log2_quantize.default
OWN = (attention, mask, fake_quantize, dequantize, log2_quantize)

ATEN: frozenset[Any] = frozenset(
    {
        # layout; sizes may hold one -1, and the batch only as -1 or as a sym_size
        aten.reshape.default,  # view, _unsafe_view, flatten, unflatten, squeeze, unsqueeze
        aten.permute.default,  # transpose, t, movedim
        aten.expand.default,  # expand_as, broadcast_to
        aten.slice.Tensor,  # (x, dim, start, end, step); split, chunk, narrow
        aten.select.int,  # unbind
        aten.cat.default,  # stack, slice_scatter
        aten.pad.default,  # (x, pads, mode, value); constant_pad_nd
        aten.roll.default,
        aten.flip.default,
        aten.repeat.default,  # where it is no expand; tile
        aten.index.Tensor,
        aten.index_select.default,
        aten.gather.default,
        aten.unfold.default,
        aten.im2col.default,
        aten.pixel_shuffle.default,
        aten.pixel_unshuffle.default,
        aten.to.dtype,  # _to_copy, type_as
        aten.sym_size.int,
        # weights in, weights out
        aten.linear.default,  # addmm, and matmul with a weight
        aten.conv1d.default,
        aten.conv2d.default,  # (x, w, b, stride, padding, dilation, groups), all given; convolution
        aten.conv_transpose2d.input,  # col2im
        aten.matmul.default,  # bmm, mm
        aten.einsum.default,
        aten.embedding.default,
        # normalization
        aten.layer_norm.default,  # (x, shape, w, b, eps)
        aten.batch_norm.default,  # (x, w, b, mean, var, False, momentum, eps, False)
        aten.group_norm.default,
        aten.rms_norm.default,
        aten.linalg_vector_norm.default,  # (x, p, dims, keepdim); norm
        # attention's parts
        aten.scaled_dot_product_attention.default,  # (q, k, v, mask, 0.0, is_causal, scale=), all given
        aten.softmax.int,  # _softmax
        aten.log_softmax.int,
        # arithmetic; a Python number stands where it can
        aten.add.Tensor,  # numbers and weights on the right; sub of a number
        aten.sub.Tensor,
        aten.mul.Tensor,
        aten.div.Tensor,
        aten.div.Tensor_mode,  # (x, y, rounding_mode="trunc") of whole numbers; //
        aten.fmod.Tensor,  # of tensors of one type; remainder
        aten.pow.Tensor_Scalar,
        aten.pow.Tensor_Tensor,
        aten.neg.default,
        aten.abs.default,
        aten.exp.default,
        aten.log.default,
        aten.sqrt.default,
        aten.rsqrt.default,
        aten.reciprocal.default,
        aten.sin.default,
        aten.cos.default,
        aten.erf.default,
        aten.floor.default,  # trunc, frac
        aten.ceil.default,
        aten.sign.default,
        aten.round.default,
        aten.maximum.default,
        aten.minimum.default,
        aten.clamp.default,  # clamp_min, clamp_max, hardtanh, relu6
        aten.where.self,
        aten.masked_fill.Scalar,
        aten.eq.Scalar,
        aten.ne.Scalar,
        aten.eq.Tensor,  # between tensors
        aten.ne.Tensor,  # logical_xor
        aten.lt.Tensor,  # a number is a constant here
        aten.le.Tensor,
        aten.gt.Tensor,
        aten.ge.Tensor,
        aten.logical_not.default,
        aten.logical_and.default,
        aten.logical_or.default,
        # activations
        aten.gelu.default,
        aten.relu.default,
        aten.silu.default,
        aten.sigmoid.default,
        aten.tanh.default,
        aten.hardswish.default,
        aten.hardsigmoid.default,
        aten.leaky_relu.default,
        aten.elu.default,
        aten.softplus.default,
        aten.mish.default,
        aten.prelu.default,
        # reductions and pooling
        aten.mean.dim,  # adaptive_avg_pool2d to 1x1, mean of everything
        aten.sum.dim_IntList,
        aten.prod.dim_int,
        aten.amax.default,  # any, adaptive_max_pool
        aten.amin.default,
        aten.argmax.default,
        aten.var.correction,
        aten.cumsum.default,
        aten.topk.default,
        aten.max_pool2d.default,  # max_pool1d
        aten.avg_pool2d.default,  # avg_pool1d
        aten.adaptive_avg_pool2d.default,  # adaptive_avg_pool1d
        aten.upsample_bilinear2d.vec,
        aten.upsample_bicubic2d.vec,
        aten.upsample_nearest2d.vec,
        aten._upsample_nearest_exact2d.vec,
        aten.grid_sampler.default,
    }
)
"""The ATen operators of the dialect, one spelling for each thing said; `canonicalize` brings a graph to them."""

INTEGER: tuple[Any, ...] = tuple(getattr(operator, name) for name in ("add", "sub", "mul", "floordiv"))
"""Arithmetic on sizes, where the batch is not known."""
