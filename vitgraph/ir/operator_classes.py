"""What each operator of the dialect does to values, in one table, and the classes that passes and analyses go by."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import Flag, auto
from typing import Any

import torch

from vitgraph.ir.dialect import aten, attention, dequantize, fake_quantize, log2_quantize, mask


class Trait(Flag):
    """One thing that an operator does; an operator may do several."""

    VIEWS = auto()
    """The same elements, or some of them, read in another order: a kernel reads or writes them so at no cost."""
    WHOLE = auto()
    """A view of all elements, each once."""
    MOVES = auto()
    """Elements of one value in other places, none of them changed. All views do."""
    JOINS = auto()
    """Elements of a value, unchanged, among others."""
    GATHERS = auto()
    """Elements picked by index, window or repetition, which no analysis follows."""
    CASTS = auto()
    """Another type."""
    SIZES = auto()
    """A size, no tensor."""
    CODES = auto()
    """Rounds to the codes of a format or reads such codes: within half a step the same value."""
    ROUNDS = auto()
    """A quantizer that can be read past: what rounds its first argument."""
    FOLDS = auto()
    """On weights alone: no engine computes it."""
    CONTRACTS = auto()
    """Sums products: a matrix product or a convolution."""
    WEIGHTED = auto()
    """Has a trained weight as an argument."""
    SOFTMAX = auto()
    """Takes a softmax."""
    NORMALIZES = auto()
    """A normalization with a learned scale."""
    REDUCES = auto()
    """Sums or compares along dimensions."""
    POOLS = auto()
    """Pools or samples an image."""
    POINTWISE = auto()
    """Acts on each element by itself: fused into the kernel upstream of it."""
    ACTIVATION = auto()
    """An activation function."""
    SCALES = auto()
    """Multiplies or divides."""
    LINEAR = auto()
    """Arithmetic that leaves a product linear in its factors, normalizers included."""


_VIEW = Trait.VIEWS | Trait.MOVES
_PRODUCT = Trait.CONTRACTS | Trait.WEIGHTED
_ACTIVATION = Trait.ACTIVATION | Trait.POINTWISE
_ARITHMETIC = Trait.LINEAR | Trait.POINTWISE


def _each(operators: Iterable[Any], traits: Trait) -> dict[Any, Trait]:
    return dict.fromkeys(operators, traits)


TRAITS: Mapping[Any, Trait] = {
    # layout
    **_each((aten.reshape.default, aten.permute.default), _VIEW | Trait.WHOLE),
    **_each((aten.expand.default, aten.slice.Tensor, aten.select.int), _VIEW),
    aten.roll.default: Trait.MOVES,
    **_each((aten.cat.default, aten.pad.default), Trait.JOINS),
    **_each(
        (
            aten.flip.default, aten.repeat.default, aten.index.Tensor, aten.index_select.default, aten.gather.default,
            aten.unfold.default, aten.im2col.default, aten.pixel_shuffle.default, aten.pixel_unshuffle.default,
        ),
        Trait.GATHERS,
    ),
    aten.to.dtype: Trait.CASTS,
    aten.sym_size.int: Trait.SIZES,
    # weights in, weights out
    **_each(
        (aten.linear.default, aten.conv1d.default, aten.conv2d.default, aten.conv_transpose2d.input), _PRODUCT
    ),
    **_each((aten.matmul.default, aten.einsum.default), Trait.CONTRACTS),
    aten.embedding.default: Trait.GATHERS | Trait.WEIGHTED,
    # normalization
    **_each((aten.layer_norm.default, aten.group_norm.default, aten.rms_norm.default), Trait.NORMALIZES),
    aten.batch_norm.default: Trait.NORMALIZES | Trait.POINTWISE,
    aten.linalg_vector_norm.default: Trait.REDUCES,
    # attention's parts
    **_each((aten.scaled_dot_product_attention.default, attention), Trait.CONTRACTS | Trait.SOFTMAX),
    **_each((aten.softmax.int, aten.log_softmax.int), Trait.SOFTMAX),
    # arithmetic
    **_each((aten.add.Tensor, aten.sub.Tensor, aten.neg.default, aten.reciprocal.default), _ARITHMETIC),
    **_each((aten.mul.Tensor, aten.div.Tensor), _ARITHMETIC | Trait.SCALES),
    **_each(
        (
            aten.pow.Tensor_Scalar, aten.pow.Tensor_Tensor, aten.div.Tensor_mode, aten.fmod.Tensor, aten.abs.default, aten.exp.default, aten.log.default, aten.sqrt.default,
            aten.rsqrt.default, aten.sin.default, aten.cos.default, aten.erf.default, aten.floor.default,
            aten.ceil.default, aten.sign.default, aten.eq.Tensor, aten.ne.Tensor,
            aten.round.default, aten.maximum.default, aten.minimum.default, aten.where.self, aten.masked_fill.Scalar,
            aten.eq.Scalar, aten.ne.Scalar, aten.lt.Tensor, aten.le.Tensor, aten.gt.Tensor, aten.ge.Tensor,
            aten.logical_not.default, aten.logical_and.default, aten.logical_or.default,
        ),
        Trait.POINTWISE,
    ),
    # activations
    **_each(
        (
            aten.gelu.default, aten.relu.default, aten.silu.default, aten.sigmoid.default, aten.tanh.default,
            aten.hardswish.default, aten.hardsigmoid.default, aten.leaky_relu.default, aten.elu.default,
            aten.softplus.default, aten.mish.default, aten.clamp.default,
        ),
        _ACTIVATION,
    ),
    aten.prelu.default: _ACTIVATION | Trait.WEIGHTED,
    # reductions and pooling
    **_each(
        (
            aten.mean.dim, aten.sum.dim_IntList, aten.prod.dim_int, aten.amax.default, aten.amin.default, aten.argmax.default,
            aten.var.correction, aten.cumsum.default, aten.topk.default,
        ),
        Trait.REDUCES,
    ),
    **_each(
        (
            aten.max_pool2d.default, aten.avg_pool2d.default, aten.adaptive_avg_pool2d.default,
            aten.upsample_bilinear2d.vec, aten.upsample_bicubic2d.vec,
            aten.upsample_nearest2d.vec, aten._upsample_nearest_exact2d.vec, aten.grid_sampler.default,
        ),
        Trait.POOLS,
    ),
    # vitgraph's own
    mask: Trait.FOLDS,
    fake_quantize: Trait.CODES | Trait.ROUNDS | Trait.POINTWISE,
    dequantize: Trait.CODES | Trait.FOLDS,
    log2_quantize: Trait.ROUNDS | Trait.POINTWISE,
}  # fmt: skip
"""Every operator of the dialect."""


def operators_with(traits: Trait, without: Trait | None = None) -> frozenset[Any]:
    """The operators that have at least one of these traits, and none of those `without`."""
    return frozenset(each for each, found in TRAITS.items() if found & traits and not (without and found & without))


def is_pointwise(target: Any) -> bool:
    """Whether an operator acts on each element by itself; of one that is not of the dialect torch's tag says so."""
    if target in TRAITS:
        return Trait.POINTWISE in TRAITS[target]
    return torch.Tag.pointwise in getattr(target, "tags", ())


RELAYS = operators_with(Trait.WHOLE)
"""Give a value another shape or order: a weight stays that weight."""
MOVES = operators_with(Trait.MOVES)
"""Only move the elements of one value: channels can be followed through them."""
LAYOUT = operators_with(Trait.MOVES | Trait.JOINS | Trait.CASTS) | {fake_quantize}
"""Move values without changing them (rounding aside)."""
FREE = operators_with(Trait.VIEWS | Trait.CASTS | Trait.SIZES | Trait.FOLDS)
"""Cost nothing: the producer's kernel writes, or the consumer's reads, in another order or type."""
KEEPS_CODES = operators_with(Trait.MOVES | Trait.CASTS) | {mask}
"""What a quantizer rounded is still of its format downstream of these."""
ACTIVATIONS = operators_with(Trait.ACTIVATION, without=Trait.WEIGHTED)
"""The same function on every element: channels stay what they are, and may change places."""
NONLINEAR = operators_with(Trait.ACTIVATION)
"""All activations, those with a slope for each channel among them."""
NONLINEAR_POINTWISE = operators_with(Trait.POINTWISE, without=Trait.LINEAR | Trait.NORMALIZES | Trait.ROUNDS)
"""All functions of single elements that are not linear in them: activations, powers, comparisons."""
WEIGHTED = operators_with(Trait.WEIGHTED)
"""What has a trained weight as an argument."""
BETWEEN_PRODUCTS = LAYOUT | operators_with(Trait.LINEAR | Trait.ROUNDS)
"""What may stand between the two products of an attention and leave it linear: layout, quantizers, scales and sums."""
NORMS = operators_with(Trait.NORMALIZES)
SCALES = operators_with(Trait.SCALES)
PAIRS = operators_with(Trait.CODES)
"""`fake_quantize` and `dequantize`: their codes have a number format."""
ROUNDS = operators_with(Trait.ROUNDS)
"""What rounds its first argument and can be read past."""
LINEARS = frozenset({aten.linear.default, aten.conv2d.default})
"""The products with a weight that are sites: those that masks and quantizers are put on."""
