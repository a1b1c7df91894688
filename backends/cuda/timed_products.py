"""One linear in each number format, as a plan runs it: from INT8 codes or FP16 to FP16, scale and bias included.

Operands are random, and there are several sets of them that take turns, so that none is found in the cache where the one before left it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from vitgraph.backends.cuda.executing import KernelFunction
from vitgraph.backends.cuda.linear_sizes import LinearSize
from vitgraph.backends.cuda.plan import PADDING
from vitgraph.cost.measured import Form

TUNED: tuple[Form, ...] = ("fp16", "int8", "int8 2:4", "fp8")
"""What is timed: the formats that the backend has kernels for, and FP8 by torch's own product."""
KERNELS: dict[Form, str] = {
    "fp16": "torch linear",
    "int8": "Triton linear",
    "int8 2:4": "cuSPARSELt, Triton activate",
    "fp8": "torch._scaled_mm",
}
FP8_PADDING = 16
MOST_SETS = 64
Product = Callable[[int], Tensor]
"""Runs the product on one set of operands."""


class Unavailable(Exception):
    """A format that this size or this device does not have, and why."""


@dataclass(frozen=True)
class Kernels:
    """What computes: `linear`, `sparse` and `activate` as a plan's kernels, and how a 2:4 weight is packed."""

    linear: KernelFunction
    sparse: KernelFunction
    activate: KernelFunction
    pack: Callable[[Tensor], Tensor]
    scaled_mm: KernelFunction


def bytes_of(size: LinearSize, form: Form) -> int:
    """What one set of operands takes: input, weight, and the result in FP16."""
    width = 2 if form == "fp16" else 1
    return width * (size.padded * size.k + size.n * size.k) + 2 * size.padded * size.n


def sets_for(size: LinearSize, form: Form, cache_bytes: int) -> int:
    """How many sets take turns so that together they are twice the second-level cache: two at least, `MOST_SETS` at most."""
    return min(MOST_SETS, max(2, -(-2 * cache_bytes // bytes_of(size, form))))


def objection(size: LinearSize, form: Form) -> str | None:
    """Why a size has no product in a format, on any device; None where it has."""
    if form == "int8 2:4" and (size.n % PADDING or size.k % PADDING):
        return f"{size.n} outputs and {size.k} inputs are no multiples of {PADDING}"
    if form == "fp8" and (size.n % FP8_PADDING or size.k % FP8_PADDING):
        return f"{size.n} outputs and {size.k} inputs are no multiples of {FP8_PADDING}"
    return None


def product_of(size: LinearSize, form: Form, kernels: Kernels, device: str, sets: int) -> Product:
    """The product on `sets` sets of random operands on the device; raises `Unavailable` where there is none."""
    why = objection(size, form)
    if why is not None:
        raise Unavailable(why)
    made = [_PRODUCTS[form](size, kernels, device) for _ in range(sets)]
    return lambda at: made[at % sets]()


def _half(size: LinearSize, kernels: Kernels, device: str) -> Callable[[], Tensor]:
    x, w, b = _random(size.rows, size.k, device), _random(size.n, size.k, device), _random(1, size.n, device)[0]
    return lambda: functional.linear(x, w, b)


def _dense(size: LinearSize, kernels: Kernels, device: str) -> Callable[[], Tensor]:
    x, w = _codes(size.rows, size.k, device), _codes(size.n, size.k, device)
    scale, bias, out = _scale(size, device), _bias(size, device), _result(size, device)
    return lambda: kernels.linear(x=x, w=w, scale=scale, bias=bias, out=out)


def _sparse(size: LinearSize, kernels: Kernels, device: str) -> Callable[[], Tensor]:
    """The rows of the input are padded, as a plan's are; the pass after the product reads those that count."""
    x, w = _codes(size.padded, size.k, device), kernels.pack(two_of_four(_codes(size.n, size.k, device)))
    scale, bias, out = _scale(size, device), _bias(size, device), _result(size, device)

    def run() -> Tensor:
        product: Tensor = kernels.sparse(x=x, w=w, scale=scale)
        result: Tensor = kernels.activate(x=product[: size.rows], bias=bias, gelu=False, out=out)
        return result

    return run


def _eight_bits(size: LinearSize, kernels: Kernels, device: str) -> Callable[[], Tensor]:
    kind = torch.float8_e4m3fn
    x, w = _random(size.padded, size.k, device).to(kind), _random(size.n, size.k, device).to(kind)
    one, bias = torch.ones((), device=device), _random(1, size.n, device)[0]
    return lambda: kernels.scaled_mm(
        x, w.t(), scale_a=one, scale_b=one, bias=bias, out_dtype=torch.float16, use_fast_accum=True
    )


_PRODUCTS: dict[Form, Callable[[LinearSize, Kernels, str], Callable[[], Tensor]]] = {
    "fp16": _half,
    "int8": _dense,
    "int8 2:4": _sparse,
    "fp8": _eight_bits,
}


def two_of_four(codes: Tensor) -> Tensor:
    """The codes `[N, K]` with two of each four along K at zero, at places drawn anew for each group."""
    groups = codes.reshape(codes.shape[0], -1, 4)
    dropped = torch.rand(groups.shape, device=codes.device).argsort(-1)[..., :2]
    return groups.scatter(-1, dropped, 0).reshape(codes.shape)


def _codes(rows: int, columns: int, device: str) -> Tensor:
    return torch.randint(-127, 128, (rows, columns), dtype=torch.int8, device=device)


def _random(rows: int, columns: int, device: str) -> Tensor:
    return torch.randn(rows, columns, dtype=torch.float16, device=device)


def _scale(size: LinearSize, device: str) -> Tensor:
    """Small enough that no result leaves FP16."""
    return torch.full((size.n,), 1e-3 / size.k, device=device)


def _bias(size: LinearSize, device: str) -> Tensor:
    return torch.randn(size.n, device=device)


def _result(size: LinearSize, device: str) -> Any:
    return torch.empty(size.rows, size.n, dtype=torch.float16, device=device)
