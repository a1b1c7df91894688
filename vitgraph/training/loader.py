"""The batches of training, step by step: picked, decoded and varied here or in worker processes.

A batch depends on its number, the seed and the division alone; so neither workers nor a restart change it, and the batches of
all processes together are those of one.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from vitgraph.errors import InputError
from vitgraph.training.augmentation import VariedImages
from vitgraph.training.division import Division
from vitgraph.training.mixing import Mixing, smoothed_targets
from vitgraph.training.mixture import Mixture
from vitgraph.training.random_states import kept_generators
from vitgraph.training.settings import Augmentation

AHEAD = 2
"""Batches that each worker makes before they are asked for."""


class TrainingBatch(NamedTuple):
    """What a process learns from at once."""

    pixels: Tensor
    """Normalized images [B, C, H, W] in float32."""
    targets: Tensor | None
    """[B, classes] in float32, zeros for an image without a label; None where labels are not learned from."""


class Batches(Dataset[TrainingBatch | InputError]):
    """This process's batches by number, those of a step one after the other."""

    def __init__(
        self,
        mixture: Mixture,
        settings: Augmentation,
        division: Division,
        seed: int,
        classes: int | None,
        smoothing: float,
    ) -> None:
        """Raise `InputError` for labels that `classes` classes can't have, and settings that don't fit the images."""
        self.mixture, self.division, self.seed, self.smoothing = mixture, division, seed, smoothing
        labelled = [source.images for source in mixture.sources if source.labelled]
        self.classes = classes if labelled else None
        if self.classes is not None:
            for images in labelled:
                images.check_labels(self.classes)
        self._mixing = Mixing(settings, division.batch_size, seed)
        self._varied = [VariedImages(source.images, settings, seed) for source in mixture.sources]

    def __getitem__(self, number: int) -> TrainingBatch | InputError:
        """One batch; as a value the error of an image that can't be read, which would leave a worker with its traceback."""
        step, batch = divmod(number, self.division.grad_accum_steps)
        try:
            with kept_generators():
                return self._make(step, batch)
        except InputError as error:
            return error

    def _make(self, step: int, batch: int) -> TrainingBatch:
        if self._mixing.on:
            positions = self.division.paired_positions(step, batch, self.seed)
        else:
            positions = self.division.positions(step, batch)
        picked = [self.mixture.pick(position) for position in positions]
        images = [self._varied[at].pixels(row, position) for (at, row), position in zip(picked, positions, strict=True)]
        targets = None
        if self.classes is not None:
            labels = [self._label(source, row) for source, row in picked]
            targets = smoothed_targets(labels, self.classes, self.smoothing)
        return TrainingBatch(*self._mixing(torch.stack(images), targets, step))

    def _label(self, source: int, row: int) -> int | None:
        labels = self.mixture.sources[source].images.labels
        return labels[row] if labels is not None and self.mixture.sources[source].labelled else None


class Loader:
    """Makes the batches of this process, `workers` of them at a time in processes of their own; 0 makes them here."""

    def __init__(
        self,
        mixture: Mixture,
        settings: Augmentation,
        division: Division,
        seed: int,
        classes: int | None = None,
        smoothing: float = 0.0,
        workers: int = 0,
        start: str | None = None,
        pinned: bool = False,
    ) -> None:
        """Take the number of `classes` where labels are learned from; None makes no targets.

        `start` is how workers start (`fork`, `spawn`), None: as Python does; `pinned`: batches are in page-locked memory, for copies to a GPU
        that wait for nothing. Raises `InputError` for a step of more images than an epoch has, labels that the model can't have, and
        augmentation that does not fit the images.
        """
        if division.step_images > mixture.epoch_images:
            raise InputError(
                f"a step takes {division.step_images} images ({division.batch_size} a batch, {division.grad_accum_steps} batches, "
                f"{division.count} processes), and there are {mixture.epoch_images} to train with; lower batch_size or "
                "grad_accum_steps, or name more images"
            )
        self.division, self.workers, self.start, self.pinned = division, workers, start, pinned
        self.steps_an_epoch = mixture.epoch_images // division.step_images
        self._batches = Batches(mixture, settings, division, seed, classes, smoothing)

    def batches(self, first: int, last: int) -> Iterator[TrainingBatch]:
        """Yield the batches of the steps from `first` up to `last`, `division.grad_accum_steps` for each step, in order.

        Workers live until the last batch. Raises `InputError` for an image that can't be read.
        """
        numbers = range(first * self.division.grad_accum_steps, last * self.division.grad_accum_steps)
        loader = DataLoader(
            self._batches,
            batch_size=None,
            sampler=numbers,
            num_workers=self.workers,
            collate_fn=_as_it_is,
            prefetch_factor=AHEAD if self.workers else None,
            multiprocessing_context=self.start if self.workers else None,
            pin_memory=self.pinned,
            generator=torch.Generator(),  # else it draws from the global one
        )
        for made in loader:
            if isinstance(made, InputError):
                raise made
            yield made


def _as_it_is(made: Any) -> Any:
    return made
