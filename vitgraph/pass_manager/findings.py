"""What passes find out, typed: in the ledger it is plain JSON (key `found`), and this is the one place that reads it back.

A finding's keys are its fields, in order; a field with a default is left out where it has that. No two kinds have keys
that could be taken for each other's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from typing import Any, TypeVar

from vitgraph.ir.packing import Packing


@dataclass(frozen=True)
class Finding:
    """One thing that a pass found; subclasses are frozen dataclasses of plain values."""

    def to_json(self) -> dict[str, Any]:
        """The finding in the ledger."""
        values = {field.name: (getattr(self, field.name), field.default) for field in fields(self)}
        return {name: value for name, (value, default) in values.items() if value != default}


Kind = TypeVar("Kind", bound=Finding)


def findings_of(ledger: Sequence[Mapping[str, Any]], kind: type[Kind]) -> list[Kind]:
    """All findings of one kind in a ledger (or in a report's `passes`), in order."""
    entries = [each for step in ledger for each in step.get("found", ())]
    return [kind(**each) for each in entries if _is(kind, each)]


def _is(kind: type[Finding], entry: Mapping[str, Any]) -> bool:
    """Whether an entry of the ledger has the keys of this kind."""
    known = {field.name: field.default is MISSING for field in fields(kind)}
    return all(name in entry for name, required in known.items() if required) and entry.keys() <= known.keys()


@dataclass(frozen=True)
class MaskFinding(Finding):
    """An N:M mask that a linear was given."""

    masked: str
    """The path of the linear."""
    n: int
    m: int
    place: int = 0
    """How many linears of this path come before."""
    group_size: int = 1
    v: int = 1
    weights_lost: float | None = None
    """Share of the weight's squared norm; with scores that look at no images."""
    output_lost: float | None = None
    """Share of the output's squared norm on calibration images, on the inputs that the linear gets; with the others."""

    @classmethod
    def of(cls, place: tuple[str, int], pattern: Packing, **lost: float) -> MaskFinding:
        """The mask of this pattern on the linear at a place."""
        return cls(place[0], pattern.n, pattern.m, place[1], pattern.group_size, pattern.v, **lost)

    @property
    def pattern(self) -> Packing:
        """What stays of each group."""
        return Packing(self.n, self.m, self.group_size, self.v)

    @property
    def saliency_lost(self) -> float | None:
        """What the mask cost, by the images where there were some."""
        return self.weights_lost if self.output_lost is None else self.output_lost


@dataclass(frozen=True)
class HeldFinding(Finding):
    """An N:M pattern that a linear's weight came with, and is held to from here on."""

    held: str
    """The path of the linear."""
    n: int
    m: int
    place: int = 0
    """How many linears of this path come before."""
    group_size: int = 1
    v: int = 1

    @classmethod
    def of(cls, place: tuple[str, int], pattern: Packing) -> HeldFinding:
        """The pattern of the linear at a place."""
        return cls(place[0], pattern.n, pattern.m, place[1], pattern.group_size, pattern.v)


@dataclass(frozen=True)
class PermutedFinding(Finding):
    """A linear whose input channels have another order, and the share of saliency that a mask keeps before and after."""

    permuted: str
    kept_before: float
    kept: float


@dataclass(frozen=True)
class BudgetFinding(Finding):
    """What `block-prune` left of the model."""

    budget: str
    """Of what the shares are: flops, latency or energy."""
    asked: float
    left: float
    runs: str
    """What backends make of it, in words."""


@dataclass(frozen=True)
class PrunedFinding(Finding):
    """What `block-prune` left of one site."""

    pruned: str
    """The path of the linear."""
    of: str
    """What was pruned: tiles, hidden units or heads."""
    count: int
    left: int
    kept: float
    """Share of the weight's numbers."""
    saliency_lost: float
    cost_left: float
    output_lost: float | None = None
    """Share of the squared norm of what the linear output, without its bias, on calibration images: of units in the dense model, of tiles on the
    inputs that it gets; where what stays was refitted."""


@dataclass(frozen=True)
class RemovedFinding(Finding):
    """Hidden units or heads that `remove-pruned` took out."""

    removed: str
    """The path of the linear that read them."""
    units: str
    before: int
    after: int
    parameters: int
    """How many trained numbers left with them."""


@dataclass(frozen=True)
class PlacementFinding(Finding):
    """What `mixed-precision` came to for the model as a whole; drops are in points of top-1, expected without labels."""

    placement: str
    """met or missed."""
    max_drop: float | None
    expected_drop: float
    expected_drop_all_int8: float
    agreement: float
    kl: float
    kl_all_int8: float
    float_layers: int
    """How many sites fell back to floating point."""
    int8_linears: int
    images: int


@dataclass(frozen=True)
class SwitchFinding(Finding):
    """What `mixed-precision` measured and decided for one site."""

    site: str
    role: str
    kl_alone: float
    kl_all_but_one: float
    decision: str
    """int8 or float."""
    why: str


@dataclass(frozen=True)
class SegmentFinding(Finding):
    """The weighted squared error at the end of a part of the model, before and after `reconstruct` fitted it."""

    segment: str
    error_before: float
    error: float


@dataclass(frozen=True)
class SplitFinding(Finding):
    """Channels that `split-outliers` split, in words."""

    site: str
    split: str


@dataclass(frozen=True)
class LeftInFloatFinding(Finding):
    """What `quantize` left in floating point, where that is most of the model's work."""

    quantized_macs: float
    """Share of the multiply-accumulates with weights, of all products with weights."""
    left_in_float: str
    """The roles with most of the others, and their shares, in words."""
    remedy: str
    """Why they were left, and what would quantize them."""


@dataclass(frozen=True)
class AttentionFinding(Finding):
    """What kind an attention is: softmax, linear or other."""

    attention: str
    kind: str


@dataclass(frozen=True)
class SoftmaxFinding(Finding):
    """A softmax, and how it is spelled."""

    softmax: str
    spelling: str


@dataclass(frozen=True)
class RecipeFinding(Finding):
    """A recipe that this model was made for."""

    recipe: str
    why: str


@dataclass(frozen=True)
class OrderFinding(Finding):
    """The order in which an attention without softmax is multiplied, and what each would cost."""

    attention: str
    order: str
    macs_left: int
    macs_right: int
