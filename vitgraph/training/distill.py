"""Training by distillation: a student learns to answer as its teacher does, on images whose labels nobody needs.

The loss is the cross-entropy with the teacher's softmax (Hinton et al., arXiv 1503.02531, at temperature 1), as ELSA trains its
supernet; AdamW with warm-up and a cosine. The teacher answers for the very images that the student sees, mirrored and shifted,
so nothing is stored. Every step depends on its number alone: training that was stopped goes on in the same bytes.

With `accelerate` (an extra: a GPU, or several processes) each process takes its part of every batch and gradients are averaged.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from vitgraph.domains import BatchSize, Fraction, NonNegative, Positive, Repeats, Seed, Share, hold_fields
from vitgraph.images.image_set import ImageSet
from vitgraph.training.processes import Processes
from vitgraph.training.random_states import seeded

Arguments = Callable[[int], tuple[Any, ...]]
"""What the student is called with beside the images, by the number of the step."""

SHIFT = 8
"""Images are shifted by up to an eighth of their size."""


@dataclass(frozen=True)
class Schedule:
    """How long and how fast; the defaults are those of ELSA's code, but for the epochs."""

    epochs: Repeats = 3
    batch: BatchSize = 64
    learning_rate: Share = 5e-4
    least: Fraction = 5e-6
    """The learning rate at the end."""
    warmup: Fraction = 20 / 300
    """Share of the steps in which the learning rate rises."""
    weight_decay: NonNegative = 0.05
    clip: Positive = 5.0
    """Of the gradient's norm."""
    augment: bool = True
    """Mirror and shift images."""
    seed: Seed = 0

    def __post_init__(self) -> None:
        hold_fields(self)

    def rate(self, step: int, steps: int) -> float:
        """The learning rate of one of `steps` steps: a line up, then half a cosine down."""
        rising = self.warmup * steps
        if step < rising:
            return self.learning_rate * (step + 1) / (rising + 1)
        done = (step - rising) / max(1.0, steps - rising)
        return self.least + (self.learning_rate - self.least) * (1 + math.cos(math.pi * done)) / 2


class Distiller:
    """A student in training: its optimizer, its teacher (a copy of the model as it is now), and the images."""

    def __init__(
        self, student: nn.Module, model: nn.Module, images: ImageSet, schedule: Schedule, processes: Processes
    ) -> None:
        self.images, self.schedule, self.processes = images, schedule, processes
        self.steps_an_epoch = max(1, len(images) // schedule.batch)
        self.steps = schedule.epochs * self.steps_an_epoch
        self.teacher = copy.deepcopy(model).eval().requires_grad_(False).to(processes.device)
        self.plain = student
        optimizer = torch.optim.AdamW(_groups(student, schedule), lr=schedule.learning_rate)
        self.student, self.optimizer = processes.prepare(student, optimizer)

    def train(self, first: int, last: int, arguments: Arguments, told: Callable[[int], None]) -> float:
        """Take the steps from `first` up to `last`, telling each one's number; their mean loss."""
        self.student.train()
        losses = list[float]()
        random: Any = torch.random
        with random.fork_rng():
            for step, pixels in self._batches(first, last):
                random.manual_seed(self._number(step))  # for a model's own drop path
                for group in self.optimizer.param_groups:
                    group["lr"] = self.schedule.rate(step, self.steps)
                losses.append(self._step(pixels, arguments(step)))
                told(step + 1)
        return sum(losses) / max(1, len(losses))

    def _step(self, pixels: Tensor, arguments: tuple[Any, ...]) -> float:
        loss = soft_cross_entropy(self.student(pixels, *arguments), self.teacher(pixels))
        self.optimizer.zero_grad()
        self.processes.backward(loss)
        nn.utils.clip_grad_norm_(self.student.parameters(), self.schedule.clip)
        self.optimizer.step()
        return loss.item()

    def _batches(self, first: int, last: int) -> Iterator[tuple[int, Tensor]]:
        """The number and this process's images of each step; an epoch takes every image once at most, in an order of its own."""
        order, epoch = torch.empty(0), -1
        for step in range(first, last):
            if step // self.steps_an_epoch != epoch:
                epoch = step // self.steps_an_epoch
                order = torch.randperm(len(self.images), generator=seeded(self.schedule.seed, "order", epoch))
            place = step % self.steps_an_epoch * self.schedule.batch
            mine = order[place : place + self.schedule.batch][self.processes.rank :: self.processes.count]
            rows = [int(row) for row in mine]
            pixels, _ = next(self.images.take(rows).batches(len(rows)))
            if self.schedule.augment:
                pixels = augment(pixels, seeded(self.schedule.seed, "variation", self._number(step)))
            yield step, pixels.to(self.processes.device)

    def _number(self, step: int) -> int:
        return step * self.processes.count + self.processes.rank

    def state(self) -> dict[str, Tensor]:
        """Weights and what the optimizer knows, as tensors on the CPU."""
        found = {f"weight.{name}": value for name, value in self.plain.state_dict().items()}
        for name, parameter in self.plain.named_parameters():
            for key, value in self.optimizer.state.get(parameter, {}).items():
                found[f"{key}.{name}"] = torch.as_tensor(value)
        return {name: value.detach().cpu().clone() for name, value in found.items()}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Take over what `state` gave."""
        self.plain.load_state_dict({n.removeprefix("weight."): v for n, v in state.items() if n.startswith("weight.")})
        for name, parameter in self.plain.named_parameters():
            kept = {
                key: state[f"{key}.{name}"] for key in ("step", "exp_avg", "exp_avg_sq") if f"{key}.{name}" in state
            }
            self.optimizer.state[parameter] = {
                key: value.clone() if key == "step" else value.to(self.processes.device, copy=True)
                for key, value in kept.items()
            }


def soft_cross_entropy(logits: Tensor, teacher: Tensor) -> Tensor:
    """Mean over images of -Σ softmax(teacher) · log softmax(logits), both `[images, classes]`; in nats."""
    return -(teacher.softmax(-1) * functional.log_softmax(logits, -1)).sum(-1).mean()


def augment(images: Tensor, generator: torch.Generator) -> Tensor:
    """Mirror half of the images `[B, C, H, W]` and shift each by up to an eighth, with mirrored borders."""
    count, _, height, width = images.shape
    images = torch.where(torch.rand(count, 1, 1, 1, generator=generator) < 0.5, images, images.flip(3))
    down, right = height // SHIFT, width // SHIFT
    padded = functional.pad(images, (right, right, down, down), mode="reflect")
    tops, lefts = (torch.randint(2 * each + 1, (count,), generator=generator) for each in (down, right))
    corners = [(int(top), int(left)) for top, left in zip(tops, lefts, strict=True)]
    cut = [image[:, y : y + height, x : x + width] for image, (y, x) in zip(padded, corners, strict=True)]
    return torch.stack(cut)


def _groups(student: nn.Module, schedule: Schedule) -> list[dict[str, Any]]:
    """Matrices decay; biases, scales of norms and other vectors do not."""
    parameters = [each for each in student.parameters() if each.requires_grad]
    return [
        {"params": [each for each in parameters if each.dim() > 1], "weight_decay": schedule.weight_decay},
        {"params": [each for each in parameters if each.dim() <= 1], "weight_decay": 0.0},
    ]
