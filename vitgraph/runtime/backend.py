"""What a backend is: a way to run a program, a way to build an engine of it for a device, or both.

Backends are found by name in `vitgraph.backends`, which other packages extend through the entry-point group
`vitgraph.backends`. A backend is an object; importing its module is cheap, and its runtime is imported when it works.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, Self, runtime_checkable

from vitgraph.errors import InputError
from vitgraph.progress import Progress
from vitgraph.runtime.accelerator import Accelerator, KernelTime

if TYPE_CHECKING:  # torch takes seconds to import; who only lists backends need not wait for it
    from pathlib import Path
    from types import TracebackType

    import torch
    from torch import Tensor

    from vitgraph.ir.batch import Batch
    from vitgraph.ir.program import Program
    from vitgraph.runtime.onnx_model import OnnxModel
    from vitgraph.targets.target import Target

Source = Literal["model.onnx", "program", "cuda", "engine.plan"]


@dataclass(frozen=True)
class Execution:
    """The type each site is computed in (`int8`, `fp32`, …) by module path, as the runtime itself says; and its settings."""

    linears: Mapping[str, str]
    attentions: Mapping[str, str]
    settings: Mapping[str, str] = field(default_factory=dict[str, str])

    def summary(self) -> str:
        """In one line: `48 of 49 linears in int8, 1 in fp32; 12 of 12 attentions in int8`."""
        parts = (("linears", self.linears), ("attentions", self.attentions))
        return "; ".join(_share(what, sites) for what, sites in parts if sites)

    def as_json(self) -> dict[str, Any]:
        """For reports and `--json`."""
        sites = {"linears": dict(self.linears), "attentions": dict(self.attentions)}
        return {"summary": self.summary(), **sites, "settings": dict(self.settings)}


@dataclass(frozen=True)
class Violation:
    """A site where what was built is not what was planned, and the likely cause."""

    site: str
    planned: str
    found: str
    why: str

    def __str__(self) -> str:
        """One line for a person."""
        return f"{self.site}: planned {self.planned}, found {self.found} ({self.why})"


class Runner(ABC):
    """A model that is ready to run; a context manager that releases what it holds.

    One whose model lies on a device says which (`accelerator`), and has `resident` too; the others are timed by the wall clock.
    """

    violations: tuple[Violation, ...] = ()
    """Where what was loaded is not what was planned, as far as the runtime tells."""

    def __init__(self, name: str, input_shape: tuple[int | None, ...], input_dtype: torch.dtype) -> None:
        """Of the model's only input; a dimension that may have any size is None."""
        self.name = name
        self.input_shape = input_shape
        self.input_dtype = input_dtype

    @property
    def batch_size(self) -> int | None:
        """The batch size the model was made for; None where it takes any."""
        return self.input_shape[0] if self.input_shape else None

    def run(self, batch: Tensor) -> Tensor:
        """The model's first output for a batch `[B, ...]`; `InputError` where shape or type is not the model's."""
        sizes = zip(batch.shape, self.input_shape, strict=False)
        fits = batch.dim() == len(self.input_shape) and all(want is None or have == want for have, want in sizes)
        if not fits or batch.dtype != self.input_dtype or batch.numel() == 0:
            wanted = ", ".join("N" if size is None else str(size) for size in self.input_shape)
            raise InputError(
                f"{self.name}: takes {self.input_dtype} [{wanted}], but the batch is {batch.dtype} {list(batch.shape)}; "
                "preprocess it so, or compile with another --batch"
            )
        return self.compute(batch)

    @abstractmethod
    def compute(self, batch: Tensor) -> Tensor:
        """The first output for a batch that fits."""

    def execution(self, batch: int) -> Execution | None:
        """What is executed for a batch of this size; None where the runtime does not say."""
        return None

    @property
    def accelerator(self) -> Accelerator | None:
        """The device whose memory holds the model; None where that is the processor's own."""
        return None

    def resident(self, batch: Tensor) -> Callable[[], object]:
        """A run on a batch that lies on the device from now on: it is put into the device's queue and its result stays there.

        Only of a runner with an `accelerator`; raises what `run` raises.
        """
        raise NotImplementedError(f"{self.name} runs on no device of its own")

    def kernel_times(self, batch: Tensor) -> Sequence[KernelTime]:
        """What one run on this batch consists of, in order, each timed on the device; empty where the runtime does not say."""
        return ()

    def close(self) -> None:
        """Release files, sessions and memory; a runner that is closed does not run."""
        return

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


@runtime_checkable
class Backend(Protocol):
    """Runs programs."""

    name: ClassVar[str]
    source: ClassVar[Source]
    """What it runs of a compilation's folder: the ONNX file that is shipped, the program, the folder `cuda` of a plan, or the engine."""

    def refusal(self, target: Target | None) -> str | None:
        """Why it can't work here (its package is not installed), or None where it can."""
        ...

    def load(self, model: Program | Path, target: Target | None = None, *, threads: int = 0) -> Runner:
        """Get a Program, or an ONNX file, ready to run; `threads` of 0 leaves the number to the runtime.

        Raises `InputError` where this backend can't run the model, with what to do instead.
        """
        ...


@dataclass(frozen=True)
class Artifact:
    """What was built: files by name (`cuda/plan.json` goes to a folder), the report's `engine` part (plain JSON), and where the plan was not kept."""

    files: Mapping[str, bytes]
    report: Mapping[str, Any] = field(default_factory=dict[str, Any])
    violations: tuple[Violation, ...] = ()


class Build(Protocol):
    """One build that is ready to start: all it needs of the program has been read, so that the program may go."""

    def run(self, progress: Progress) -> Artifact:
        """Build; `progress` is told what is done and how far. KeyboardInterrupt cancels and is raised again."""
        ...

    def defer(self) -> Artifact:
        """What is left where it can't be built here: how to build on the device, and the violations seen without building."""
        ...


@runtime_checkable
class Builder(Protocol):
    """Builds engines for targets."""

    name: ClassVar[str]

    def refusal(self, target: Target | None) -> str | None:
        """Why nothing can be built for `target` on this machine, or None where it can.

        Without a target, of a backend that runs models too: why it can't run them here.
        """
        ...

    def plan(self, program: Program, model: OnnxModel, target: Target, batch: Batch) -> Build:
        """Get ready to build the ONNX file that `program` was lowered to, for these batch sizes."""
        ...


def _share(what: str, sites: Mapping[str, str]) -> str:
    """How many of the sites are computed in each type, the most frequent first."""
    (first, most), *rest = Counter(sites.values()).most_common()
    others = "".join(f", {count} in {kind}" for kind, count in rest)
    return f"{most} of {len(sites)} {what} in {first}{others}"
