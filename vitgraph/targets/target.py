"""A target: one device, and what its compute capability can do, as data.

Passes and backends ask a target for an ability (`target.supports_nm(2, 4)`, `target.attention("int8")`), never for its
name. Figures of a device are in `devices/NAME.yaml`, what its kernels can do is in `capabilities/sm_NN.yaml`. A figure that
is not known is null, and the device's `unknown` says why.
"""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError

from vitgraph.domains import Count, Positive, Share
from vitgraph.errors import InputError
from vitgraph.ir.packing import GATHERED, Packing
from vitgraph.reading import TARGET, read_text
from vitgraph.targets.capability import Capability, FrozenModel, Kind
from vitgraph.targets.target_file import packaged, read_device

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
Line = Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f]{1,200}$")]
"""Printed, and written into the script that builds on the device: one line, no control characters."""
SHOWN = 8
"""How many faults of a file are told at once."""


class Rate(FrozenModel):
    """Peak arithmetic rate of one type in tera-operations per second; null where the hardware has none or none is published."""

    dense: Positive | None
    sparse: Positive | None
    reached: Share | None = None
    """What share of the dense peak dense products of matrices reach here, where that was measured; None for what the cost model takes everywhere."""


class Chip(FrozenModel):
    """What `vitgraph.cost.roofline` wants to know beside rates, bandwidth and power; null where nothing published was found."""

    multiprocessors: Count
    l2_gb_s: Positive | None
    """Read bandwidth of the second-level cache."""
    memory_pj_per_bit: Positive | None
    """Energy of moving one bit to or from memory."""
    source: str


class Target(Capability):
    """One device. Rates in tera-operations per second, bandwidth in GB/s, memory in GB, power in W."""

    name: Name
    title: Line
    device: Line
    rates: dict[str, Rate]
    bandwidth_gb_s: Positive | None
    memory_gb: Positive | None = None
    power_w: Positive | None
    chip: Chip | None = None
    unknown: dict[str, str] = Field(default_factory=dict[str, str])
    sources: dict[str, str]

    def supports_nm(self, n: int, m: int, group_size: int = 1, v: int = 1) -> bool:
        """Whether the device multiplies weights of which n in each m along K are kept, `group_size` neighbours as one.

        Pairs are how sparse INT4 products read them, so those ask for such a rate. Where `v` rows share their columns, the
        device multiplies n of the four columns that are gathered.
        """
        pairs = group_size == 2 and "int4" in self.rates and self.rates["int4"].sparse is not None
        pattern = (n, m if v == 1 else GATHERED)
        return self.sparse is not None and pattern in self.sparse.patterns and (group_size == 1 or pairs)

    def nm_refusal(self, pattern: Packing, k: int) -> str | None:
        """Why weights with K inputs can't be multiplied in this pattern, or None where they can."""
        if self.sparse is None or not self.supports_nm(pattern.n, pattern.m, pattern.group_size, pattern.v):
            return f"{self.name} runs no {pattern} pattern"
        read = k if pattern.v == 1 else k * GATHERED // pattern.m
        multiple = self.sparse.k_multiple * pattern.group_size
        return (
            f"{self.name} takes a K that is a multiple of {multiple}, and {pattern} leaves {read}"
            if read % multiple
            else None
        )

    def supports_type(self, kind: str) -> bool:
        """Whether matrix products in `kind` (fp32, tf32, fp16, bf16, int8, fp8, fp4, int4) have hardware here."""
        return kind in self.rates

    def product_refusal(self, weights: str, activations: str, grouped: bool = False) -> str | None:
        """Why a linear can't be built of weights and activations in these number formats, or None where it can."""
        kind: Kind = "grouped" if grouped else "types"
        why = self.quantized.refusal(weights, activations, "types") or self.quantized.refusal(
            weights, activations, kind
        )
        if why is None:
            return None
        what = f"{weights} weights{' in groups' if grouped else ''} with {activations} activations"
        own = ", ".join(getattr(self.quantized, kind))
        having = ", ".join(t.name for t in all_targets() if t.quantized.refusal(weights, activations, kind) is None)
        return f"{self.name} has no product of {what}: {why}; take one it has ({own or 'none'}), or a target that has it ({having})"

    def convolution_refusal(self, weights: str, activations: str) -> str | None:
        """Why a convolution can't be built of these number formats, or None where it can."""
        why = self.quantized.refusal(weights, activations, "convolutions")
        return (
            None
            if why is None
            else f"{self.name} has no convolution of {weights} weights with {activations} activations: {why}"
        )

    def attention_refusal(
        self,
        kind: str,
        head_dim: int,
        tokens: int,
        value_dim: int | None = None,
        *,
        queries: int | None = None,
        heads: int | None = None,
        matrices: int | None = None,
    ) -> str | None:
        """Why attention in `kind` cannot be one fused kernel here, or None where it can; a size not given is not asked about."""
        kernel = self.attention(kind)
        if kernel is None:
            return f"{self.name} has no fused {kind} attention"
        return kernel.refusal(head_dim, tokens, value_dim, queries=queries, heads=heads, matrices=matrices)


@cache
def offered_targets() -> Mapping[str, str]:
    """The targets of other packages by name, and where each is (`module:attribute`): the entry-point group `vitgraph.targets`.

    The attribute is a `Target`, or the path of a device's YAML file. A packaged name cannot be taken.
    """
    own = packaged("devices")
    return {point.name: point.value for point in entry_points(group="vitgraph.targets") if point.name not in own}


def target_names() -> tuple[str, ...]:
    """The names of the packaged targets, sorted, and then those of other packages."""
    return (*packaged("devices"), *offered_targets())


def parse_target(text: str, origin: str) -> Target:
    """Read a target from YAML text; `origin` names it in the InputError a bad one raises."""
    try:
        return Target.model_validate(read_device(text, origin))
    except ValidationError as error:
        faults = [f"{'.'.join(map(str, e['loc'])) or 'file'}: {e['msg']}" for e in error.errors()]
        more = f"; and {len(faults) - SHOWN} more" if len(faults) > SHOWN else ""
        raise InputError(f"{origin} does not describe a target: {'; '.join(faults[:SHOWN])}{more}") from error


def get_target(name: str) -> Target:
    """The target called `name`, of this package or another's, or that of a `.yaml` file; InputError with near misses."""
    if name in packaged("devices"):
        return _packaged_target(name)
    if name.endswith((".yaml", ".yml")):
        return parse_target(read_text(Path(name), TARGET), name)
    if name in offered_targets():
        return _offered_target(name)
    names = target_names()
    near = get_close_matches(name.lower().replace("_", "-"), names, n=3, cutoff=0.4)
    hint = f"did you mean {' or '.join(near)}?" if near else f"known targets: {', '.join(names)}"
    raise InputError(f"unknown target {name!r}; {hint} (`vitgraph targets` lists them all, or give a .yaml file)")


def all_targets() -> tuple[Target, ...]:
    """Every packaged target by name, then those of other packages that can be loaded (`vitgraph targets` names the rest)."""
    own = tuple(_packaged_target(name) for name in packaged("devices"))
    return (*own, *(target for target in map(_or_none, offered_targets()) if target is not None))


@cache
def _packaged_target(name: str) -> Target:
    origin = f"target {name!r}"
    return parse_target(read_text(packaged("devices")[name], TARGET), origin)


def _offered_target(name: str) -> Target:
    """The target that an entry point offers; InputError names the entry point where it offers none."""
    place = offered_targets()[name]
    origin = f"target {name!r} of entry point {place}"
    module, _, attribute = place.partition(":")
    try:
        found: Any = getattr(import_module(module), attribute)
    except Exception as error:  # a package of somebody else's may fail in any way
        raise InputError(
            f"{origin} cannot be loaded: {type(error).__name__}: {error}; mend or remove the package"
        ) from error
    target = parse_target(read_text(Path(found), TARGET), origin) if isinstance(found, str | Path) else found
    if not isinstance(target, Target):
        raise InputError(f"{origin} is neither a Target nor the path of a YAML file; it is a {type(target).__name__}")
    if target.name != name:
        raise InputError(f"{origin} calls itself {target.name!r}; give the entry point and the device one name")
    return target


def _or_none(name: str) -> Target | None:
    try:
        return _offered_target(name)
    except InputError:
        return None
