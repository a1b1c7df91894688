"""Who takes part in a benchmark: a model in a backend at one batch size, loaded and made ready."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vitgraph.errors import InputError
from vitgraph.tools.bench_rounds import Watch, by_clock, by_events
from vitgraph.tools.runnable import load_runner

if TYPE_CHECKING:
    from torch import Tensor

    from vitgraph.runtime.accelerator import Accelerator
    from vitgraph.runtime.backend import Backend, Runner


@dataclass(frozen=True)
class Entrant:
    """A model in a backend at one batch size, and noise that it runs on; `why` says why it takes no part."""

    model: str
    backend: str
    batch: int
    runner: Runner
    noise: Tensor
    why: str | None = None
    resident: Callable[[], object] | None = None
    """A run without transfers, where the model lies on a device."""
    device_bytes: int | None = None
    """What its runner holds there at this batch size, the ones before it included."""

    @property
    def watches(self) -> list[Watch]:
        """The whole run by the clock, and the run on the device by the device's own."""
        device = self.runner.accelerator
        whole = by_clock(lambda: self.runner.run(self.noise))
        return [whole] if self.resident is None or device is None else [whole, by_events(self.resident, device)]


def enter(
    paths: Sequence[Path], backends: Sequence[Backend], sizes: list[int] | None, threads: int, stack: ExitStack
) -> list[Entrant]:
    """Load every model into every backend, at every batch size; `stack` closes them."""
    return [each for path in paths for one in backends for each in _enter(path, one, sizes, threads, stack)]


def find_card() -> Accelerator | None:
    """The GPU whose memory is looked at before models are loaded; None where there is none."""
    from vitgraph.runtime.cuda_card import CudaCard, missing_card

    return None if missing_card() else CudaCard()


def _enter(path: Path, backend: Backend, sizes: list[int] | None, threads: int, stack: ExitStack) -> Iterator[Entrant]:
    """Load a model into a backend; one entrant for each batch size."""
    card = find_card()
    before = _used(card)
    runner = stack.enter_context(load_runner(path, backend, threads))
    own = runner.batch_size
    for size in sizes or [own or 1]:
        noise = _noise(runner, size)
        if own not in (None, size):
            yield Entrant(str(path), backend.name, size, runner, noise, _fixed(path, own, size))
        elif runner.accelerator is None:
            yield Entrant(str(path), backend.name, size, runner, noise)
        else:
            yield _on_device(str(path), backend.name, size, runner, noise, before)


def _used(card: Accelerator | None) -> int:
    if card is None:
        return 0
    card.trim()
    return card.used_bytes()


def _on_device(model: str, backend: str, size: int, runner: Runner, noise: Tensor, before: int) -> Entrant:
    """Run once with transfers and once without, which compiles and records what is to be timed; a batch that is refused takes no part."""
    device = runner.accelerator
    assert device is not None
    try:
        runner.run(noise)
        resident = runner.resident(noise)
        device.seconds(resident)
    except InputError as error:
        return Entrant(model, backend, size, runner, noise, str(error))
    return Entrant(model, backend, size, runner, noise, None, resident, device.used_bytes() - before)


def _fixed(path: Path, own: int | None, size: int) -> str:
    return f"{path} was made for batches of {own}, not {size}; `vitgraph compile --batch 1:{size}:{size}` leaves the size open"


def _noise(runner: Runner, size: int) -> Tensor:
    """Of the shape and type that the model takes."""
    import torch

    shape = [size, *(1 if each is None else each for each in runner.input_shape[1:])]
    return torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(runner.input_dtype)
