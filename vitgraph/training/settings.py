"""Settings of training: optimization, augmentation, distillation, and what happens to masks and scales.

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
    """Optimizer, schedule and batches."""

    epochs: Repeats = 10
    """Passes over the training images."""
    epoch_images: ImageCount | None = None
    """Images in an epoch; all of them unless given."""
    batch_size: BatchSize = 64
    """Images in a batch, for each process."""
    grad_accum_steps: Repeats = 1
    """Batches whose gradients are accumulated for a step."""
    opt: str = "adamw"
    """Optimizer, by timm's name."""
    lr: Share = 5e-4
    """Peak learning rate."""
    min_lr: Fraction = 1e-6
    """Final learning rate."""
    sched: Literal["cosine", "tanh", "step", "poly", "wsd"] = "cosine"
    """Learning-rate schedule."""
    warmup_epochs: NonNegative = 0.5
    """Epochs of linear warm-up."""
    warmup_lr: Fraction = 1e-6
    """Learning rate at the start of the warm-up."""
    weight_decay: NonNegative = 0.05
    """Weight decay of matrices; biases, norms and scales have none."""
    momentum: ProperFraction = 0.9
    """Momentum, for optimizers that have it."""
    clip_grad: Positive | None = 5.0
    """Largest norm of the gradient."""
    layer_decay: Share | None = None
    """Learning rate of each block relative to the next one."""
    drop_path: ProperFraction = 0.0
    """Stochastic depth: probability that the last residual branch is skipped; 0 at the first, linear in between."""
    model_ema: bool = False
    """Keep an exponential moving average of the weights, and return that."""
    model_ema_decay: ProperFraction = 0.999
    """Decay of that average."""

    def __post_init__(self) -> None:
        hold_fields(self)


@dataclass(frozen=True)
class Augmentation:
    """How images vary from one look to the next."""

    crop_scale: tuple[Share, Share] = (0.35, 1.0)
    """Smallest and largest area of the random crop, as shares of the image (timm: scale)."""
    ratio: tuple[Positive, Positive] = (3 / 4, 4 / 3)
    """Smallest and largest aspect ratio of the crop."""
    hflip: Fraction = 0.5
    """Probability of a horizontal flip."""
    vflip: Fraction = 0.0
    """Probability of a vertical flip."""
    color_jitter: NonNegative = 0.0
    """Strength of the jitter of brightness, contrast and saturation."""
    aa: str | None = None
    """AutoAugment policy, by timm's name, as rand-m9-mstd0.5-inc1."""
    reprob: Fraction = 0.0
    """Probability of random erasing."""
    mixup: NonNegative = 0.0
    """Alpha of mixup; 0: off."""
    cutmix: NonNegative = 0.0
    """Alpha of CutMix; 0: off."""
    mixup_prob: Fraction = 1.0
    """Probability that a batch is mixed, where mixup or CutMix is on."""
    mixup_switch_prob: Fraction = 0.5
    """Probability of CutMix instead of mixup, where both are on."""

    def __post_init__(self) -> None:
        hold_fields(self)
        for name in ("crop_scale", "ratio"):
            least, most = getattr(self, name)
            if least > most:
                raise InputError(f"{name}: {least:g} to {most:g}; write the smaller first")


@dataclass(frozen=True)
class Distillation:
    """The terms of the loss and their weights; after GPUSQ-ViT's mixed distillation (arXiv 2305.10727).

    The weights 1, 10, 5 are our reading: the paper's could not be verified.
    """

    hard: NonNegative = 1.0
    """Weight of the cross-entropy with the labels, for labelled images."""
    soft: NonNegative = 10.0
    """Weight of the Kullback–Leibler divergence from the teacher's logits."""
    temperature: Positive = 1.0
    """Distillation temperature."""
    feature: NonNegative = 5.0
    """Weight of the feature loss: squared distance from the teacher's features relative to their own norm, mean over sites."""
    feature_sites: Selectors = ()
    """Blocks whose outputs are compared (globs of module paths); the last of each stage, or the last third, unless given."""
    feature_weights: FeatureWeights = "residual"
    """residual: the second stage weights each site by the feature loss that the first left; equal: all the same."""
    smoothing: ProperFraction = 0.0
    """Label smoothing."""

    def __post_init__(self) -> None:
        hold_fields(self)
        if not (self.hard or self.soft or self.feature):
            raise InputError("hard, soft and feature are all 0: there is nothing to learn from; give one a weight")


@dataclass(frozen=True)
class Compression:
    """Masks and scales during training."""

    scales: ScaleRule = "learnt"
    """learnt: by gradient (LSQ, arXiv 1902.08153); observed: from the largest magnitudes; fixed: as calibrated."""
    scale_lr: Share = 1e-3
    """Learning rate of the logarithms of scales."""
    rechoose_until: Fraction = 0.0
    """Share of the steps in which N:M masks are chosen again (SR-STE, arXiv 2102.04010)."""
    rechoose_every: Repeats = 1
    """Steps between two choices."""
    rechoose_decay: NonNegative = 2e-4
    """Decay of masked weights meanwhile (SR-STE's lambda)."""

    def __post_init__(self) -> None:
        hold_fields(self)


@dataclass(frozen=True)
class Settings:
    """All settings of a training stage."""

    optimization: Optimization = field(default_factory=Optimization)
    augmentation: Augmentation = field(default_factory=Augmentation)
    distillation: Distillation = field(default_factory=Distillation)
    compression: Compression = field(default_factory=Compression)
    patience: RepeatsOrNone = 0
    """Epochs without improvement after which a stage ends; 0: never."""

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
