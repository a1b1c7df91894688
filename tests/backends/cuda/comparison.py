"""How far a kernel's results are from the reference's; each function says what is wrong, or None."""

import torch
from torch import Tensor

from vitgraph.backends.cuda import reference


def not_equal(found: Tensor, wanted: Tensor) -> str | None:
    """What differs in type, shape or any number."""
    if found.dtype != wanted.dtype or found.shape != wanted.shape:
        return f"{found.dtype} {list(found.shape)}, not {wanted.dtype} {list(wanted.shape)}"
    different = int((found != wanted).sum())
    return f"{different} of {found.numel()} numbers differ" if different else None


def not_rounded(found: Tensor, value: Tensor, scale: float | None, tolerance: Tensor | float) -> str | None:
    """Numbers that are not the rounding of any value within `tolerance` of `value`, FP32, to a code of `scale` or to FP16."""
    wanted = reference.stored(value, scale)
    if found.dtype != wanted.dtype or found.shape != wanted.shape:
        return not_equal(found, wanted)
    steps, allowed = value.double(), torch.as_tensor(tolerance, dtype=torch.float64).expand(value.shape)
    if scale is None:
        allowed = allowed + steps.abs() * 2.0**-11 + 2.0**-25  # half a step of FP16
        apart = (found.double() - steps).abs().where(~(found.isinf() & (found == wanted)), 0.0)
    else:
        allowed = allowed / scale + 0.5
        apart = (found.double() - (steps / scale).clamp(-128, 127)).abs()
    far = int((~(apart <= allowed * (1 + 1e-6))).sum())
    return f"{far} of {found.numel()} numbers are too far" if far else None


def gelu_tolerance(value: Tensor) -> Tensor:
    """How far from GELU's FP64 value the kernels may be."""
    return 5e-7 + value.double().abs() * 2.0**-22


def norm_tolerance(value: Tensor, bias: Tensor) -> Tensor:
    """How far from the FP64 value the normalization may be."""
    return 4e-6 * (value.double().abs().amax(-1, keepdim=True) + bias.double().abs().max())


def attention_fault(
    found: Tensor,
    qkv: Tensor,
    *,
    score_factor: float,
    probability_scale: float,
    value_scale: float,
    out_scale: float | None = None,
) -> str | None:
    """Numbers that no choice of the codes in doubt explains; a probability within 2⁻¹⁶ of halfway between two is in doubt.

    Results rise with each product of code and value, so the least and the largest come of the choices that each value's sign
    makes worst: they bound what was found.
    """
    q, k, v = qkv.unbind(2)
    steps = reference.probability_steps(q, k, score_factor=score_factor, probability_scale=probability_scale).clamp(
        0, 127
    )
    least = (steps * (1 - 2.0**-16)).round()
    most = (steps * (1 + 2.0**-16)).clamp(0, 127).round()
    positive, negative = v.clamp(min=0), v.clamp(max=0)
    factor = value_scale * probability_scale
    ends = list[Tensor]()
    for first, second in ((least, most), (most, least)):
        product = torch.einsum("bhts,bshd->bthd", first, positive.double())
        product += torch.einsum("bhts,bshd->bthd", second, negative.double())
        ends.append(reference.attention_result(product, factor, out_scale))
    low, high = ends
    if found.dtype != low.dtype or found.shape != low.shape:
        return not_equal(found, low)
    outside = int(((found < low) | (found > high)).sum())
    return f"{outside} of {found.numel()} numbers are out of bounds" if outside else None
