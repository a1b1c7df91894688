"""What a student is to make small: mixed distillation, after GPUSQ-ViT's (arXiv 2305.10727).

    L = hard · CE(student, label) + soft · T² KL(teacher ∥ student at T) + feature · mean over sites of w |s - t|² / |t|²

Without labels the first term is left out; an image without one has none. What exact forms and weights the paper has could not be
verified; these are the usual ones (Hinton et al., arXiv 1503.02531), and the feature distance is relative, so that no site counts
for its size.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from vitgraph.training.settings import Distillation


@dataclass(frozen=True)
class Loss:
    """The sum, to go down by, and its terms as they are told: hard, soft and each site's feature distance, without weights."""

    total: Tensor
    terms: Mapping[str, Tensor]


@dataclass(frozen=True)
class Objective:
    """The loss of a stage."""

    settings: Distillation
    sites: tuple[str, ...] = ()
    """Paths of the blocks whose features are compared."""
    site_weights: tuple[float, ...] = ()
    """How much each counts; their mean is 1."""

    @property
    def needs_teacher(self) -> bool:
        """Whether anything is learnt from a teacher."""
        return bool(self.settings.soft or (self.settings.feature and self.sites))

    def loss(
        self,
        logits: Tensor,
        features: Sequence[Tensor],
        teacher: tuple[Tensor, Sequence[Tensor]] | None,
        targets: Tensor | None,
    ) -> Loss:
        """Of logits `[B, classes]` and features; `targets` `[B, classes]` are shares of classes, a row of zeros for an image without a label."""
        terms, total = dict[str, Tensor](), logits.new_zeros((), dtype=torch.float32)
        if self.settings.hard and targets is not None:
            terms["hard"] = hard_loss(logits.float(), targets)
            total = total + self.settings.hard * terms["hard"]
        if teacher is not None and self.settings.soft:
            terms["soft"] = soft_loss(logits.float(), teacher[0].float(), self.settings.temperature)
            total = total + self.settings.soft * terms["soft"]
        if teacher is not None and self.settings.feature and self.sites:
            distances = [feature_loss(s, t) for s, t in zip(features, teacher[1], strict=True)]
            weighted = [w * d for w, d in zip(self.site_weights, distances, strict=True)]
            total = total + self.settings.feature * torch.stack(weighted).mean()
            terms |= {f"feature {path}": each for path, each in zip(self.sites, distances, strict=True)}
        return Loss(total, {name: value.detach() for name, value in terms.items()})


def hard_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy with shares of classes, in nats: its mean over the images that have a label; 0 where none has."""
    labelled = targets.sum(-1)
    each = -(targets * functional.log_softmax(logits, -1)).sum(-1)
    return each.sum() / labelled.sum().clamp(min=1e-6)


def soft_loss(logits: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Kullback–Leibler divergence from the teacher's classes, both at a temperature, times its square: in nats, a mean over images."""
    wanted = functional.log_softmax(teacher / temperature, -1)
    found = functional.log_softmax(logits / temperature, -1)
    return temperature**2 * functional.kl_div(found, wanted, reduction="batchmean", log_target=True)


def feature_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Squared distance over the teacher's squared norm, both `[B, …]`: a mean over images."""
    wanted = teacher.float().flatten(1)
    off, size = (student.float().flatten(1) - wanted).square().sum(1), wanted.square().sum(1)
    return (off / size.clamp(min=1e-12)).mean()


def residual_weights(distances: Sequence[float]) -> tuple[float, ...]:
    """Weights of sites by how far off each still is; their mean is 1 (GPUSQ-ViT's sparse-distillation-aware factor, our reading).

    >>> residual_weights([1.0, 3.0])
    (0.5, 1.5)
    """
    total = sum(distances)
    return tuple(len(distances) * each / total if total else 1.0 for each in distances)
