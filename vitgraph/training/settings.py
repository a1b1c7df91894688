"""What training is told: how long, how fast, from what it learns, and what becomes of masks and scales meanwhile.

Names are those of timm's training script where it has one for the thing. A recipe (`vitgraph.finetuning.recipe`) sets them stage by
stage; the defaults here are what a stage has that sets nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from difflib import get_close_matches
from typing import Any, Literal, get_type_hints

from vitgraph.domains import (
    BatchSize,
    Fraction,
    ImageCount,
    NonNegative,
    Positive,
    ProperFraction,
    Repeats,
    RepeatsOrNone,
    Selectors,
    Share,
    hold,
    hold_fields,
    shortened,
)
from vitgraph.errors import InputError

ScaleRule = Literal["learnt", "observed", "fixed"]
FeatureWeights = Literal["residual", "equal"]


@dataclass(frozen=True)
class Optimization:
    """Steps, and how large they are."""

    epochs: Repeats = 10
    """How often all images are seen."""
    epoch_images: ImageCount | None = None
    """How many images an epoch has; as many as there are unless given."""
    batch_size: BatchSize = 64
    """Images a process takes at once."""
    grad_accum_steps: Repeats = 1
    """Batches whose gradients are added up for a step."""
    opt: str = "adamw"
    """One of timm's optimizers."""
    lr: Share = 5e-4
    """The learning rate at its highest."""
    min_lr: Fraction = 1e-6
    """And at the end."""
    sched: Literal["cosine", "tanh", "step", "poly", "wsd"] = "cosine"
    """How it falls."""
    warmup_epochs: NonNegative = 0.5
    """For how long it rises at first."""
    warmup_lr: Fraction = 1e-6
    """From where."""
    weight_decay: NonNegative = 0.05
    """Of matrices; biases, norms and scales do not decay."""
    momentum: ProperFraction = 0.9
    """Of optimizers that have one setting for it."""
    clip_grad: Positive | None = 5.0
    """The gradient's largest norm."""
    layer_decay: Share | None = None
    """The learning rate of a block over that of the next one."""
    drop_path: ProperFraction = 0.0
    """Share of images that skip the last residual branch; it rises from 0 at the first (stochastic depth)."""
    model_ema: bool = False
    """Whether the result is a moving average of the weights."""
    model_ema_decay: ProperFraction = 0.999
    """How slowly that average moves."""

    def __post_init__(self) -> None:
        hold_fields(self)


@dataclass(frozen=True)
class Augmentation:
    """How images vary from one look to the next."""

    crop_scale: tuple[Share, Share] = (0.35, 1.0)
    """Smallest and largest share of an image that is cut out of it (timm: scale)."""
    ratio: tuple[Positive, Positive] = (3 / 4, 4 / 3)
    """Smallest and largest width over height of that."""
    hflip: Fraction = 0.5
    """Share of images that are mirrored."""
    vflip: Fraction = 0.0
    """Share that is turned upside down."""
    color_jitter: NonNegative = 0.0
    """By what factor brightness, contrast and saturation vary."""
    aa: str | None = None
    """One of timm's policies, as rand-m9-mstd0.5-inc1."""
    reprob: Fraction = 0.0
    """Share of images of which a rectangle is erased."""
    mixup: NonNegative = 0.0
    """Alpha of mixup."""
    cutmix: NonNegative = 0.0
    """Alpha of cutmix."""
    mixup_prob: Fraction = 1.0
    """Share of batches that are mixed, where mixup or cutmix is on."""
    mixup_switch_prob: Fraction = 0.5
    """Share of those that cutmix mixes, where both are."""

    def __post_init__(self) -> None:
        hold_fields(self)
        for name in ("crop_scale", "ratio"):
            least, most = getattr(self, name)
            if least > most:
                raise InputError(f"{name}: {least:g} to {most:g}; write the smaller first")


@dataclass(frozen=True)
class Distillation:
    """What the student learns from, each with its weight; after GPUSQ-ViT's mixed distillation (arXiv 2305.10727).

    The weights 1, 10, 5 are our reading: the paper's could not be verified.
    """

    hard: NonNegative = 1.0
    """Cross-entropy with the labels, of images that have one."""
    soft: NonNegative = 10.0
    """Divergence from the teacher's classes."""
    temperature: Positive = 1.0
    """By which both answers are divided for it."""
    feature: NonNegative = 5.0
    """Squared distance from the teacher's features over their own square, mean over the sites."""
    feature_sites: Selectors = ()
    """Blocks whose output is compared (globs over module paths); unless given the last of each stage, or the last third."""
    feature_weights: FeatureWeights = "residual"
    """residual: in the second stage a site weighs as much as it is still off after the first; equal: all the same."""
    smoothing: ProperFraction = 0.0
    """Of the labels."""

    def __post_init__(self) -> None:
        hold_fields(self)
        if not (self.hard or self.soft or self.feature):
            raise InputError("hard, soft and feature are all 0: there is nothing to learn from; give one a weight")


@dataclass(frozen=True)
class Compression:
    """What becomes of masks and scales while the weights move."""

    scales: ScaleRule = "learnt"
    """learnt: by gradient (LSQ, arXiv 1902.08153); observed: they follow the largest magnitudes; fixed: as calibrated."""
    scale_lr: Share = 1e-3
    """The learning rate of a scale's logarithm."""
    rechoose_until: Fraction = 0.0
    """Share of the steps in which masks are chosen anew (SR-STE, arXiv 2102.04010)."""
    rechoose_every: Repeats = 1
    """Steps from one choice to the next."""
    rechoose_decay: NonNegative = 2e-4
    """By how much what is masked is drawn to zero meanwhile."""

    def __post_init__(self) -> None:
        hold_fields(self)


@dataclass(frozen=True)
class Settings:
    """Everything that a stage of training is told."""

    optimization: Optimization = field(default_factory=Optimization)
    augmentation: Augmentation = field(default_factory=Augmentation)
    distillation: Distillation = field(default_factory=Distillation)
    compression: Compression = field(default_factory=Compression)
    patience: RepeatsOrNone = 0
    """Epochs without a better result after which a stage ends; 0: never."""

    def __post_init__(self) -> None:
        hold("patience", RepeatsOrNone, self.patience, strict=True)

    def with_values(self, given: Mapping[str, Any]) -> Settings:
        """The same with some values set by their names; `InputError` for a name that is none, or a value out of its domain."""
        groups = dict[str, dict[str, Any]]()
        for name, value in given.items():
            group = PLACES.get(name)
            if group is None:
                close = get_close_matches(name, PLACES, 3)
                hint = f"did you mean {', '.join(close)}?" if close else f"there are {', '.join(PLACES)}"
                raise InputError(f"there is no setting {shortened(name)} of training; {hint}")
            groups.setdefault(group, {})[name] = hold(name, _kind(group, name), value)
        changed = {group: replace(getattr(self, group), **values) for group, values in groups.items() if group}
        return replace(self, **changed, **groups.get("", {}))

    def values(self) -> dict[str, Any]:
        """All values by name."""
        return {name: getattr(getattr(self, group) if group else self, name) for name, group in PLACES.items()}

    def plain(self) -> dict[str, Any]:
        """The same as JSON has it: lists for tuples."""
        values: dict[str, Any] = self.values()
        return {name: [*value] if isinstance(value, tuple) else value for name, value in values.items()}  # pyright: ignore


GROUPS: Mapping[str, Any] = {
    "optimization": Optimization,
    "augmentation": Augmentation,
    "distillation": Distillation,
    "compression": Compression,
}
PLACES: Mapping[str, str] = {
    **{each.name: group for group, kind in GROUPS.items() for each in fields(kind)},
    "patience": "",
}
"""Each setting's name, and the group that it is in."""


def _kind(group: str, name: str) -> Any:
    return get_type_hints(GROUPS.get(group, Settings), include_extras=True)[name]
