"""`measured.json`: how long the products of linears take on one GPU, by size and format, as `vitgraph tune` writes it.

    {"format": "vitgraph measured products 1",
     "device":   {"card": "NVIDIA H200", "compute_capability": "9.0", "driver": …, "cuda": …, "torch": …, "triton": …},
     "method":   {"clock": "…", "cache": "rotated", "rounds": 20},
     "products": [{"rows": 25216, "n": 2304, "k": 768,
                   "used": [{"batch": 128, "sites": ["blocks.0.attn.qkv", …]}],
                   "times": [{"form": "int8 2:4", "us": 76.1, "quartiles": [75.9, 76.4], "kernel": "…",
                              "covers": "site", "output": "fp16", "why": null}, …]}]}

Times are medians in microseconds; one is null where `why` says why. Files come from strangers: every number has a domain,
every text is one short line, and a key that is not known is refused.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from vitgraph.domains import BatchSize, Count, Microseconds, Repeats

Form = Literal["fp16", "fp16 2:4", "int8", "int8 2:4", "fp8"]
"""Number format and sparsity of a product."""
Line = Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f]{1,200}$")]
Path256 = Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f]{0,256}$")]
MOST_PRODUCTS = 4096
PADDING = 32
"""Rows are padded to a multiple of this for a sparse product, so sizes that differ by less are one."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class MeasuredDevice(_Part):
    """What was measured on; None where nobody wrote it down."""

    card: Line
    compute_capability: Annotated[str, Field(pattern=r"^\d{1,2}\.\d$")]
    driver: Line | None = None
    cuda: Line | None = None
    torch: Line | None = None
    triton: Line | None = None


class MeasuredMethod(_Part):
    """How it was measured."""

    clock: Line
    cache: Literal["rotated", "warm"]
    """Whether operands take turns so that the second-level cache does not hold them, or a small product finds its own there."""
    rounds: Repeats | None
    """How often each was timed, in turns; None where that is not known."""


class MeasuredTime(_Part):
    """One product in one form."""

    form: Form
    us: Microseconds | None
    """The median."""
    quartiles: tuple[Microseconds, Microseconds] | None = None
    """None where the spread was not written down."""
    kernel: Line
    covers: Literal["site", "product"] = "site"
    """Whether scale, bias and the FP16 result are in it, or passes over memory are left to be done."""
    output: Literal["fp16", "int32"] = "fp16"
    why: Line | None = None
    """Why there is no time."""

    @model_validator(mode="before")
    @classmethod
    def _pair(cls, given: Any) -> Any:
        """JSON has no tuples."""
        if isinstance(given, dict) and isinstance(given.get("quartiles"), list):  # pyright: ignore[reportUnknownMemberType]
            return {**given, "quartiles": tuple(given["quartiles"])}  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
        return given  # pyright: ignore[reportUnknownVariableType]

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if (self.us is None) != (self.why is not None):
            raise ValueError("a time is there, or `why` says why it is null")
        if self.us is not None and self.quartiles is not None:
            low, high = self.quartiles
            if not low <= self.us <= high:
                raise ValueError("the median lies between its quartiles")
        return self


class Used(_Part):
    """Where a plan has a product of this size."""

    batch: BatchSize
    sites: list[Path256]


class MeasuredProduct(_Part):
    """`[rows, k]` by `[k, n]` in every form that was tried."""

    rows: Count
    n: Count
    k: Count
    used: list[Used] = []
    times: list[MeasuredTime]

    @model_validator(mode="after")
    def _once(self) -> Self:
        forms = [each.form for each in self.times]
        if len(forms) != len(set(forms)):
            raise ValueError("each form is there once")
        return self

    @property
    def padded(self) -> tuple[int, int, int]:
        """What tells one size from another."""
        return padded_rows(self.rows), self.n, self.k


class Measured(_Part):
    """A whole file."""

    format: Literal["vitgraph measured products 1"] = "vitgraph measured products 1"
    device: MeasuredDevice
    method: MeasuredMethod
    products: Annotated[list[MeasuredProduct], Field(min_length=1, max_length=MOST_PRODUCTS)]

    @model_validator(mode="after")
    def _different(self) -> Self:
        sizes = [each.padded for each in self.products]
        if len(sizes) != len(set(sizes)):
            raise ValueError(f"each size is there once, rows padded to a multiple of {PADDING}")
        return self

    def to_json(self) -> str:
        """The text of the file, one line a product; the same measurements have the same bytes."""
        content = self.model_dump(mode="json")
        products = ",\n".join(json.dumps(each, allow_nan=False) for each in content.pop("products"))
        return f'{json.dumps(content, indent=1).removesuffix("}").rstrip()},\n "products": [\n{products}\n ]\n}}\n'

    def of_site(self, path: str, batch: int) -> list[MeasuredProduct]:
        """The products of a plan's site at a batch size: one, none where it was not measured, several where a module has several linears."""
        return [
            product
            for product in self.products
            if any(used.batch == batch and path in used.sites for used in product.used)
        ]


def padded_rows(rows: int) -> int:
    """Rows as a sparse product takes them."""
    return -(-rows // PADDING) * PADDING
