"""The forms of each kernel that are compiled ahead: types of arguments, which of them are multiples of 16, block sizes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from vitgraph.backends.cuda.kernels.activation import activation_kernel
from vitgraph.backends.cuda.kernels.attention import attention_kernel
from vitgraph.backends.cuda.kernels.linear import FEW_ROWS, NARROW, ODD, SQUARE, WIDE, Blocks, linear_kernel
from vitgraph.backends.cuda.kernels.normalize import normalize_kernel

ROW_SIZES = {"columns", "inner", "width", "depth"}
_STRIDES = {f"{tensor}_{part}": "i32" for tensor in "qkv" for part in ("batch", "token", "head")}


@dataclass(frozen=True)
class Variant:
    """A kernel and how it is compiled.

    An argument that is neither in `types` nor in `constants` is None.
    """

    name: str
    kernel: Any
    types: Mapping[str, str]
    """Type of each argument that is known at a launch: `*i8` for an array of INT8, `i32`, `fp32`."""
    constants: Mapping[str, Any]
    options: Mapping[str, int]
    aligned: bool = True
    """Whether arrays begin at multiples of 16 bytes and rows are multiples of 16: loads are then wide and asynchronous."""

    def signature(self) -> dict[str, str]:
        """Triton's type of every argument, in order."""
        return {name: self.types.get(name, "constexpr") for name in self.kernel.arg_names}

    def constexprs(self) -> dict[str, Any]:
        """The value of every argument that is known at compile time."""
        return {name: self.constants.get(name) for name in self.kernel.arg_names if name not in self.types}

    def attributes(self) -> dict[tuple[int], list[list[Any]]]:
        """What is promised of arguments by position, in Triton's words."""
        promised = [["tt.divisibility", 16]]
        known = {name for name, kind in self.types.items() if kind.startswith("*")} | ROW_SIZES | set(_STRIDES)
        names = self.kernel.arg_names if self.aligned else ()
        return {(at,): promised for at, name in enumerate(names) if name in known & set(self.types)}


def variants(shared_memory: int) -> Iterator[Variant]:
    """Every variant for a device whose thread blocks take `shared_memory` bytes."""
    for name, blocks in (("wide", WIDE), ("square", SQUARE), ("narrow", NARROW), ("few-rows", FEW_ROWS)):
        if blocks.shared_memory <= shared_memory:
            yield _linear(f"linear-{name}-gelu-int8", blocks, gelu=True, codes=True)
            yield _linear(f"linear-{name}-residual-fp16", blocks, gelu=False, codes=False)
    yield _linear("linear-narrow-rest-gelu-int8", NARROW, gelu=True, codes=True, whole=False)
    yield _linear("linear-square-adjusted-gelu-int8", SQUARE, gelu=True, codes=True, adjusted=("multiplier", "offset"))
    yield _linear("linear-odd-gelu-int8", ODD, gelu=True, codes=True, whole=False, aligned=False)
    for width in (256, 1024, 4096):
        yield _normalize(width, codes=True)
    yield _normalize(1024, codes=False)
    yield _activation(codes=True)
    yield _activation(codes=False)
    yield _activation(codes=True, adjusted=("multiplier", "offset"))
    for keys, depth in ((256, 64), (64, 32), (64, 64), (64, 128)):
        yield _attention(keys, depth, codes=True)
    yield _attention(64, 64, codes=False)


def _linear(
    name: str,
    blocks: Blocks,
    *,
    gelu: bool,
    codes: bool,
    whole: bool = True,
    aligned: bool = True,
    adjusted: tuple[str, ...] = (),
) -> Variant:
    types = {"x": "*i8", "w": "*i8", "scale": "*fp32", "bias": "*fp32", "rows": "i32", "columns": "i32", "inner": "i32"}
    types |= dict.fromkeys(adjusted, "*fp32")
    types |= {"out": "*i8", "out_scale": "fp32"} if codes else {"out": "*fp16", "residual": "*fp16"}
    sizes = {"ROWS": blocks.rows, "COLUMNS": blocks.columns, "INNER": blocks.inner, "GROUP": blocks.group}
    options = {"num_warps": blocks.warps, "num_stages": blocks.stages}
    return Variant(name, linear_kernel, types, {"GELU": gelu, "WHOLE": whole, **sizes}, options, aligned)


def _normalize(width: int, *, codes: bool) -> Variant:
    types = {"x": "*fp16", "weight": "*fp32", "bias": "*fp32", "rows": "i32", "width": "i32", "eps": "fp32"}
    types |= {"residual": "*fp16", "total": "*fp16", "out": "*i8", "scale": "fp32"} if codes else {"out": "*fp16"}
    name = f"normalize-{width}-{'residual-int8' if codes else 'fp16'}"
    return Variant(name, normalize_kernel, types, {"ROWS": 4096 // width, "WIDTH": width}, {"num_warps": 4})


def _activation(*, codes: bool, adjusted: tuple[str, ...] = ()) -> Variant:
    types = {"x": "*fp16", "rows": "i32", "columns": "i32", **dict.fromkeys(adjusted, "*fp32")}
    types |= {"bias": "*fp32", "out": "*i8", "scale": "fp32"} if codes else {"out": "*fp16"}
    constants = {"GELU": codes, "ROWS": 16, "COLUMNS": 256}
    name = f"activation-{'adjusted-' if adjusted else ''}{'gelu-int8' if codes else 'fp16'}"
    return Variant(name, activation_kernel, types, constants, {"num_warps": 4})


def _attention(keys: int, depth: int, *, codes: bool) -> Variant:
    types = {
        "q": "*i8",
        "k": "*i8",
        "v": "*i8",
        "queries": "i32",
        "keys": "i32",
        "heads": "i32",
        "depth": "i32",
        **_STRIDES,
    }
    types |= {"exponent": "fp32", "probability_scale": "fp32", "value_factor": "fp32"}
    types |= {"out": "*i8", "out_scale": "fp32"} if codes else {"out": "*fp16"}
    constants = {"ONE_BLOCK": keys > 64, "QUERIES": 64, "KEYS": keys, "DEPTH": depth}
    name = f"attention-{keys}-keys-{depth}-deep-{'int8' if codes else 'fp16'}"
    return Variant(name, attention_kernel, types, constants, {"num_warps": 4})
