"""The operators that a graph from a file may call: those listed here and no others, so that nothing runs by surprise.

The dialect is part of the list. The rest is what torch.export leaves of models: arithmetic, layout, reductions,
normalization, convolution, pooling. No operator here reads or writes files, writes into its arguments, draws random
numbers, hands out memory that nothing has written, or takes Python objects; of `operator` there are arithmetic on sizes
and `getitem`. Forms that torch keeps for itself and that take their arguments' sizes on trust, such as
`native_batch_norm`, are left out: no capture gives them.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from typing import Any

import torch

from vitgraph.ir.dialect import ATEN, INTEGER, OWN
from vitgraph.ir.operator_schema import opname, schema_of

_GROUPS = {
    "layout and shape": (
        "adjoint alias as_strided broadcast_to cat channel_shuffle chunk clone col2im constant_pad_nd contiguous "
        "copy detach diag diag_embed diagonal diagonal_copy expand expand_as expand_copy flatten flip fliplr flipud hsplit "
        "hstack im2col lift lift_fresh lift_fresh_copy matrix_H meshgrid moveaxis movedim mT narrow "
        "native_channel_shuffle numpy_T pad permute permute_copy pixel_shuffle pixel_unshuffle positive ravel "
        "reflection_pad1d reflection_pad2d reflection_pad3d repeat repeat_interleave replication_pad1d "
        "replication_pad2d replication_pad3d reshape reshape_as _reshape_copy resolve_conj resolve_neg roll rot90 "
        "select select_scatter slice slice_scatter split split_with_sizes squeeze squeeze_copy stack swapaxes "
        "swapdims sym_numel sym_size t tensor_split tile transpose transpose_copy tril triu unbind unflatten "
        "unfold unsafe_chunk unsafe_split unsafe_split_with_sizes _unsafe_view unsqueeze unsqueeze_copy view "
        "view_as view_copy vsplit vstack"
    ),
    "types and constants": (
        "arange eye fill full full_like linspace new_full new_ones new_zeros ones ones_like scalar_tensor to _to_copy "
        "one_hot tril_indices triu_indices type_as zero zeros zeros_like"
    ),
    "choosing": (
        "argsort gather index index_add index_copy index_fill index_put index_select masked_fill masked_scatter "
        "scatter scatter_add scatter_reduce sort take_along_dim topk where"
    ),
    "products": (
        "addbmm addmm addmv baddbmm bilinear bmm conv1d conv2d conv3d conv_transpose1d conv_transpose2d "
        "conv_transpose3d _convolution convolution dot einsum embedding linear matmul mm mv outer "
        "scaled_dot_product_attention _scaled_dot_product_attention_math inner tensordot"
    ),
    "normalization and softmax": (
        "batch_norm cosine_similarity _fused_rms_norm group_norm instance_norm layer_norm "
        "linalg_norm linalg_vector_norm _log_softmax log_softmax "
        "_native_batch_norm_legit_no_training native_group_norm native_layer_norm norm rms_norm _softmax softmax"
    ),
    "arithmetic": (
        "__and__ __or__ __xor__ abs absolute acos acosh add addcdiv addcmul arccos arcsin arctan arctan2 asin asinh atan atan2 atanh "
        "bitwise_and bitwise_not bitwise_or bitwise_xor ceil clamp clamp_max clamp_min clip cos cosh cumprod "
        "cumsum deg2rad div divide erf erfc exp exp2 expm1 float_power floor floor_divide fmax fmin fmod frac "
        "hypot lerp log log10 log1p log2 logaddexp logaddexp2 maximum minimum mul multiply nan_to_num neg "
        "negative pow rad2deg reciprocal remainder round rsqrt rsub sgn sign sin sinc sinh special_expit special_i0 sqrt square "
        "sub subtract tan true_divide trunc xlogy"
    ),
    "comparison": (
        "eq fmax ge greater greater_equal gt isfinite isinf isnan le less less_equal logical_and logical_not "
        "logical_or logical_xor lt ne not_equal"
    ),
    "activations": (
        "alpha_dropout celu dropout elu feature_dropout gelu glu hardshrink hardsigmoid hardswish hardtanh "
        "leaky_relu log_sigmoid logit mish native_dropout prelu relu relu6 selu sigmoid silu softplus softshrink "
        "tanh threshold"
    ),
    "reductions": (
        "all amax amin aminmax any argmax argmin count_nonzero cummax cummin logcumsumexp logsumexp max mean "
        "median min nansum prod std std_mean sum var var_mean"
    ),
    "pooling and resampling": (
        "adaptive_avg_pool1d adaptive_avg_pool2d _adaptive_avg_pool2d adaptive_avg_pool3d _adaptive_avg_pool3d "
        "adaptive_max_pool1d adaptive_max_pool2d affine_grid_generator avg_pool1d avg_pool2d avg_pool3d "
        "grid_sampler grid_sampler_2d max_pool1d max_pool2d max_pool2d_with_indices max_pool3d upsample_bicubic2d "
        "_upsample_bicubic2d_aa upsample_bilinear2d _upsample_bilinear2d_aa upsample_linear1d upsample_nearest1d "
        "upsample_nearest2d _upsample_nearest_exact2d"
    ),
    "complex numbers, of rotary embeddings": (
        "complex _conj conj conj_physical imag polar real view_as_complex view_as_real"
    ),
}
"""Names of ATen operators beyond the dialect; dropout does nothing in eval mode."""
ATEN_NAMES = {name for names in _GROUPS.values() for name in names.split()} | {opname(target) for target in ATEN}
_SCRIPT = re.compile(r"^prim_|hacked_twin$")
"""Overloads that only TorchScript's interpreter calls: some end the process that calls them otherwise."""
_SIZES = ("sym_size", "sym_numel")
_PLAIN = frozenset(
    {"Tensor", "int", "float", "bool", "number", "Scalar", "str", "SymInt", "Device", "Layout", "MemoryFormat", "ScalarType"}
)  # fmt: skip
"""What an argument may be, alone, optional or in lists."""
NUMBERS: dict[str, Callable[..., Any]] = {opname(target): target for target in INTEGER}
"""The functions of Python's `operator` that a graph may call on whole numbers."""


def find_operator(spelling: str) -> Callable[..., Any]:
    """The operator of this name, such as `aten.linear.default`; `ValueError` where it is none or not on the list."""
    namespace, *rest = spelling.split(".")
    if namespace == "operator" and len(rest) == 1 and (rest[0] in NUMBERS or rest[0] == "getitem"):
        return NUMBERS.get(rest[0], operator.getitem)
    if namespace not in ("aten", "vitgraph") or len(rest) != 2:
        raise ValueError(f"{spelling!r} is no operator of a graph; write for example aten.linear.default")
    name, overload = rest
    own = {(opname(target), "default"): target for target in OWN}
    if namespace == "vitgraph" and (name, overload) in own:
        return own[name, overload]
    if namespace == "vitgraph" or name not in ATEN_NAMES:
        raise ValueError(f"{spelling!r} is not among the operators that a graph from a file may call (SECURITY.md)")
    return _overload(name, overload, spelling)


def _overload(name: str, overload: str, spelling: str) -> Callable[..., Any]:
    packet = getattr(torch.ops.aten, name, None)
    if packet is None or overload not in packet.overloads():
        raise ValueError(f"{spelling!r} is no operator of torch {torch.__version__}")
    target: Callable[..., Any] = getattr(packet, overload)
    if _SCRIPT.search(overload):
        raise ValueError(f"{spelling!r} is TorchScript's own; no module is captured with it")
    if not (_takes_plain_values(target) and (_gives_tensors(target) or name in _SIZES)):
        raise ValueError(f"{spelling!r} writes into its arguments, or takes or gives no tensors")
    return target


def _takes_plain_values(target: Any) -> bool:
    schema = schema_of(target)
    return not schema.is_mutable and {_plain(str(each.real_type)) for each in schema.arguments} <= _PLAIN


def _gives_tensors(target: Any) -> bool:
    return all("Tensor" in str(each.type) for each in schema_of(target).returns)


def _plain(kind: str) -> str:
    """`int` of `Optional[List[int]]`."""
    return kind.replace("Optional[", "").replace("List[", "").rstrip("]?")
