"""Arguments that torch's kernels take on trust, checked for graphs from files.

With some sizes and numbers a kernel reads past the end of its tensors, divides by zero or leaves its result unwritten,
though fake tensors of these sizes agree to the call; so the verifier can't see it. Others make a normalization write into
its running statistics, which no schema says.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import fx

from vitgraph.ir.call_arguments import arguments
from vitgraph.ir.operator_schema import opname
from vitgraph.ir.tensor_type import Size, TensorType

Bound = Mapping[str, Any]
"""The arguments of a call by name."""


def check_trusted(node: fx.Node) -> None:
    """`ValueError` where a call has sizes or numbers that its kernel would go wrong with."""
    name = opname(node.target)
    check = _CHECKS.get(name)
    if check is not None:
        check(name, arguments(node))


def _normalization(name: str, bound: Bound) -> None:
    image = _shape(bound["input"])
    if image is None or len(image) < 2:
        raise ValueError(f"{name} takes a tensor of two dimensions at least, the second of which are its channels")
    for each in ("weight", "bias", "running_mean", "running_var"):
        shape = _shape(bound.get(each))
        if shape is not None and shape != (image[1],):
            raise ValueError(f"{name} takes one number a channel, [{image[1]}], as {each}, not [{_words(shape)}]")
    by_itself = bound.get("training", bound.get("use_input_stats", False))
    if by_itself and any(bound.get(each) is not None for each in ("running_mean", "running_var")):
        raise ValueError(f"{name} in training writes into its running statistics; give False, or None for them")


def _root_mean_square(name: str, bound: Bound) -> None:
    weight, sizes = _shape(bound["weight"]), bound["normalized_shape"]
    if weight is not None and list(weight) != sizes:
        raise ValueError(f"{name} over {sizes} takes a weight of this shape, not [{_words(weight)}]")


def _attention(name: str, bound: Bound) -> None:
    key, value = _shape(bound["key"]), _shape(bound["value"])
    if key is None or value is None or min(len(key), len(value)) < 2:
        raise ValueError(f"{name} takes keys and values of two dimensions at least")
    if key[-2] != value[-2]:
        raise ValueError(f"{name} takes as many values as keys, not {value[-2]} and {key[-2]}")


def _resize(name: str, bound: Bound) -> None:
    """A scale given beside a size is the one that leads to that size; kernels place their windows by it unseen."""
    scales = [bound[each] for each in ("scales", "scales_d", "scales_h", "scales_w") if each in bound]
    if all(scale is None for scale in scales):
        return
    image, given = _shape(bound.get("input", bound.get("self"))), bound["output_size"]
    sizes = list[object](given) if isinstance(given, list) else []  # pyright: ignore[reportUnknownArgumentType]
    if image is None or len(image) <= len(scales) or len(sizes) != len(scales):
        raise ValueError(f"{name} takes a tensor and, for each of its last dimensions, a size and a scale")
    for scale, old, new in zip(scales, image[-len(scales) :], sizes, strict=True):
        if scale is not None and not _leads(scale, old, new):
            raise ValueError(f"{name} from {old} to {new} has no scale {scale}; leave it out")


def _leads(scale: Any, old: object, new: object) -> bool:
    """Whether a size times this scale, rounded down, is the new size."""
    if not isinstance(old, int) or not isinstance(new, int) or not isinstance(scale, int | float):
        return False
    return 0 <= old * scale - new < 1


def _sampling(name: str, bound: Bound) -> None:
    for each in ("interpolation_mode", "padding_mode"):
        if bound[each] not in (0, 1, 2):
            raise ValueError(f"{name} has {each} 0, 1 or 2, not {bound[each]}")


def _shape(value: Any) -> tuple[Size, ...] | None:
    """The shape of a tensor's node; None for anything else, of which the operator itself has something to say."""
    kind = value.meta["type"] if isinstance(value, fx.Node) else None
    return kind.shape if isinstance(kind, TensorType) else None


def _words(shape: tuple[Size, ...]) -> str:
    return ", ".join(map(str, shape))


_CHECKS: Mapping[str, Callable[[str, Bound], None]] = {
    **dict.fromkeys(("batch_norm", "instance_norm", "_native_batch_norm_legit_no_training"), _normalization),
    "_fused_rms_norm": _root_mean_square,
    "scaled_dot_product_attention": _attention,
    **dict.fromkeys(
        ("upsample_bicubic2d", "_upsample_bicubic2d_aa", "upsample_bilinear2d", "_upsample_bilinear2d_aa", "upsample_linear1d",
         "upsample_nearest1d", "upsample_nearest2d", "_upsample_nearest_exact2d"),
        _resize,
    ),
    **dict.fromkeys(("grid_sampler", "grid_sampler_2d"), _sampling),
}  # fmt: skip
