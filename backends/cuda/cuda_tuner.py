"""The GPU that `vitgraph tune` times products on: its kernels, CUDA graphs, and its own clock."""

from __future__ import annotations

import shutil
import subprocess
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

from vitgraph.backends.cuda.device import SparseProduct, triton_kernels
from vitgraph.backends.cuda.interleaved import Work
from vitgraph.backends.cuda.linear_sizes import LinearSize
from vitgraph.backends.cuda.refusals import refusal_here
from vitgraph.backends.cuda.timed_products import Kernels, Unavailable, product_of, sets_for
from vitgraph.backends.cuda.tuning import Prepared
from vitgraph.cost.measured import Form, MeasuredDevice, MeasuredMethod
from vitgraph.errors import InputError
from vitgraph.runtime.cuda_graph import captured

FP8_FROM = (8, 9)
LEAST_PRODUCTS = 8
"""So many are recorded in one graph at least, so that the gap between replays does not count."""


class CudaClock:
    """CUDA's events."""

    def milliseconds(self, work: Work, times: int) -> float:
        """Of one run, the mean of so many without a gap."""
        cuda: Any = torch.cuda
        first, last = (cuda.Event(enable_timing=True) for _ in range(2))
        first.record()
        for _ in range(times):
            work()
        last.record()
        cuda.synchronize()
        return float(first.elapsed_time(last)) / times


class CudaTuner(CudaClock):
    """The first GPU; a format that it lacks is refused by name."""

    def __init__(self) -> None:
        self.cuda: Any = torch.cuda
        self.properties: Any = self.cuda.get_device_properties(0)
        self.kernels = _kernels()

    def facts(self) -> MeasuredDevice:
        """Card, capability, driver, and versions of torch and Triton."""
        return MeasuredDevice(
            card=self.cuda.get_device_name(),
            compute_capability=".".join(map(str, self.cuda.get_device_capability())),
            driver=_driver(),
            cuda=torch.version.cuda,
            torch=torch.__version__,
            triton=_version("triton"),
        )

    def method(self, rounds: int) -> MeasuredMethod:
        """Medians of rounds in turns, each of CUDA graphs between two events."""
        return MeasuredMethod(clock="CUDA events around CUDA graphs, formats in turns", cache="rotated", rounds=rounds)

    def prepare(self, size: LinearSize, form: Form) -> Prepared:
        """A graph that goes through all sets of operands, `LEAST_PRODUCTS` at least."""
        why = self._refusal(form)
        if why is not None:
            raise Unavailable(why)
        sets = sets_for(size, form, int(self.properties.L2_cache_size))
        with torch.no_grad():
            product = product_of(size, form, self.kernels, "cuda", sets)
            turns = range(max(sets, LEAST_PRODUCTS))
            for at in turns:
                product(at)
            replay, _ = captured(lambda: [product(at) for at in turns][-1])
        return Prepared(replay, len(turns))

    def release(self) -> None:
        """Return memory to the GPU."""
        self.cuda.synchronize()
        self.cuda.empty_cache()

    def _refusal(self, form: Form) -> str | None:
        library: Any = torch
        if form == "int8 2:4" and not library.backends.cusparselt.is_available():
            return "this torch was built without cuSPARSELt"
        if form == "fp8" and self.cuda.get_device_capability() < FP8_FROM:
            return "the GPU has no FP8 products"
        return None


def open_tuner() -> CudaTuner:
    """The GPU of this machine; `InputError` where there is none that the kernels run on."""
    why = refusal_here()
    if why is not None:
        raise InputError(f"tune: {why}")
    return CudaTuner()


def _kernels() -> Kernels:
    library: Any = torch
    own = triton_kernels()
    return Kernels(own["linear"], SparseProduct(), own["activate"], library._cslt_compress, library._scaled_mm)


def _driver() -> str | None:
    """The driver's version as `nvidia-smi` tells it; None where it does not."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return None
    words = [program, "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        told = subprocess.run(words, check=True, capture_output=True, text=True, timeout=30).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    return told.splitlines()[0].strip() if told.strip() else None


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        found: Any = import_module(package)
        return getattr(found, "__version__", None)
