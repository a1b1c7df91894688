"""What a runner gives for every image of a set, batch by batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from vitgraph.errors import InputError
from vitgraph.images.calibration_data import Images
from vitgraph.progress import Progress


class Runs(Protocol):
    """Anything that turns a batch `[B, C, H, W]` into logits `[B, classes]` or features `[B, ...]`."""

    def run(self, batch: Tensor) -> Tensor:
        """The output."""
        ...


def outputs_of(
    runner: Runs, images: Images, batch: int | None, progress: Progress, what: str
) -> Iterator[tuple[Tensor, Sequence[int] | None]]:
    """The outputs of a batch, and the labels of its images, where they have some.

    A runner with a fixed `batch` gets its last batch filled up, and what it makes of the filling is left out.
    """
    done = 0
    for pixels, truth in images.batches(batch or 8):
        count = pixels.shape[0]
        short = batch is not None and count < batch
        output: Any = runner.run(pixels[torch.arange(batch or 0) % count] if short else pixels)
        if not isinstance(output, Tensor):
            raise InputError(
                f"{what}: the model gives {len(output)} outputs, as a detector does, and accuracy is of one; return one of them, or "
                "leave out the evaluation: the drift of each is in the report's passes"
            )
        yield output[:count], truth
        done += count
        progress(what, done, len(images))
