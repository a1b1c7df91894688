"""An NVIDIA GPU through torch: memory, one stream, events for a clock, CUDA graphs. It was not seen to run on one yet."""

from __future__ import annotations

import re
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vitgraph.errors import InputError
from vitgraph.reading import DRIVER, read_text
from vitgraph.runtime.accelerator import CardFacts
from vitgraph.runtime.cuda_graph import captured

_DRIVER = Path("/proc/driver/nvidia/version")
_DRIVER_VERSION = re.compile(r"\s(\d+\.\d+(?:\.\d+)?)\s")


class CudaCard:
    """A CUDA device and a stream of its own on it, for the default stream waits for all others."""

    def __init__(self, device: str = "cuda") -> None:
        """`InputError` where torch has no such device."""
        if why := missing_card():
            raise InputError(why)
        self.device = device
        self._cuda: Any = torch.cuda
        self._stream: Any = self._cuda.Stream(device)

    def facts(self) -> CardFacts:
        """As torch and the driver say them."""
        properties = self._cuda.get_device_properties(self.device)
        version: Any = torch.version
        return CardFacts(
            name=str(properties.name),
            compute_capability=f"{properties.major}.{properties.minor}",
            driver=driver_version(),
            memory_mib=int(properties.total_memory) >> 20,
            torch=str(torch.__version__),
            cuda=str(version.cuda),
        )

    def seconds(self, work: Callable[[], object]) -> float:
        """By two CUDA events on this card's stream."""
        before, after = (self._cuda.Event(enable_timing=True) for _ in range(2))
        with self.queue():
            before.record()
            work()
            after.record()
        after.synchronize()
        return float(before.elapsed_time(after)) / 1000

    def used_bytes(self) -> int:
        """Total less free, as the driver says it: what TensorRT takes is no business of torch's allocator."""
        free, total = self._cuda.mem_get_info(self.device)
        return int(total - free)

    def trim(self) -> None:
        """Empty torch's cache of memory."""
        self.synchronize()
        self._cuda.empty_cache()

    def synchronize(self) -> None:
        """Of all streams."""
        self._cuda.synchronize(self.device)

    def empty(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """By torch's allocator; `torch.OutOfMemoryError` where there is no room."""
        return torch.empty(shape, dtype=dtype, device=self.device)

    @contextmanager
    def queue(self) -> Generator[int]:
        """The stream, current for the block."""
        with self._cuda.stream(self._stream):
            yield int(self._stream.cuda_stream)

    def capture(self, run: Callable[[], Tensor]) -> tuple[Callable[[], None], Tensor]:
        """A CUDA graph on this card's stream; see `captured`."""
        return captured(run, self._stream)


def missing_card() -> str | None:
    """Why torch has no CUDA device here, in one line; None where it has one."""
    version: Any = torch.version
    if version.cuda is None:
        return "no GPU can be used: this torch was built without CUDA"
    if not torch.cuda.is_available():
        return "no CUDA device is here, or its driver is too old for torch"
    return None


def driver_version(file: Path = _DRIVER) -> str:
    """The kernel driver's, such as `580.65.06`; where it does not say, the newest CUDA that it serves."""
    try:
        found = _DRIVER_VERSION.search(read_text(file, DRIVER))
    except InputError:
        found = None
    if found is not None:
        return found[1]
    library: Any = torch
    code = int(library._C._cuda_getDriverVersion())
    return f"for CUDA {code // 1000}.{code % 1000 // 10}"
