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
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from vitgraph.domains import BatchSize, Count, Microseconds, Repeats
from vitgraph.errors import InputError
from vitgraph.reading import MEASURED, parse_json, read_text
from vitgraph.targets.target import Target

Form = Literal["fp16", "fp16 2:4", "int8", "int8 2:4", "fp8"]
"""Number format and sparsity of a product."""
Line = Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f]{1,200}$")]
Path256 = Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f]{0,256}$")]
NAME = "measured.json"
SHIPPED = ("h200",)
"""Words that stand for measurements which come with vitgraph."""
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


def is_measured(text: str) -> bool:
    """Whether a text looks like such a file: it may be a bad one."""
    return '"vitgraph measured products' in text


def parse_measured(text: str, origin: str) -> Measured:
    """What `vitgraph tune` wrote; `InputError` for anything else."""
    content = parse_json(text, origin)
    try:
        return Measured.model_validate(content)
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(map(str, fault["loc"])) or "the file"
        said = fault["msg"].removeprefix("Value error, ")
        raise InputError(f"{origin}: {where}: {said}; {MEASURED.remedy}") from error


def read_measured(file: Path) -> Measured:
    """The file; `InputError` where it can't be read or is none."""
    return parse_measured(read_text(file, MEASURED), str(file))


def open_measured(place: Path, origin: str = "") -> Measured | None:
    """The measurements that a file, a folder with measured.json, or a word of `SHIPPED` names; None where there is something else."""
    if str(place) in SHIPPED and not place.exists():
        return shipped(str(place))
    file = place / NAME if place.is_dir() else place
    if place.is_dir() and not file.is_file():
        return None
    text = read_text(file, MEASURED, origin)
    return parse_measured(text, origin or str(file)) if is_measured(text) else None


@cache
def shipped(name: str = "h200") -> Measured:
    """The measurements of a device that come with vitgraph."""
    text = read_text(resources.files("vitgraph.cost").joinpath("measurements", f"{name}.json"), MEASURED)
    return parse_measured(text, f"measurements of {name}")


def check_card(device: MeasuredDevice, target: Target, origin: str) -> str | None:
    """What to warn of where a file's card is not known to be the target; `InputError` where it can't be."""
    capability = target.compute_capability
    if capability != device.compute_capability:
        raise InputError(
            f"{origin}: was measured on {device.card} (compute capability {device.compute_capability}), and {target.name} is"
            f" {'no NVIDIA GPU' if capability is None else f'of {capability}'}; run `vitgraph tune` on such a device"
        )
    if _words(device.card) & _words(f"{target.name} {target.title} {target.device}"):
        return None
    return f"times were measured on {device.card}, which may be no {target.name}"


def _words(names: str) -> set[str]:
    """The words of a name that tell one card from another: neither maker, nor socket, nor memory."""
    text = "".join(each if each.isalnum() else " " for each in names.lower())
    common = ("nvidia", "gpu", "rtx", "sxm", "pcie", "hbm")
    return {word for word in text.split() if not word.startswith(common) and not word.endswith("gb")}
