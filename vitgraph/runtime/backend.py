"""What a backend is: a way to run a program, or to turn it into something another machine runs.

Backends are found by name in `vitgraph.backends`, which other packages extend through the entry-point group
`vitgraph.backends`. A backend is an object; importing its module is cheap, and its runtime is imported when it works.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self, runtime_checkable

if TYPE_CHECKING:  # torch takes seconds to import; who only lists backends need not wait for it
    from torch import Tensor

    from vitgraph.ir.program import Program
    from vitgraph.targets.target import Target


@runtime_checkable
class Runner(Protocol):
    """A model that is ready to run; a context manager that lets go of what it holds."""

    def run(self, batch: Tensor) -> Tensor:
        """The model's first output for a batch `[B, ...]`; `InputError` where the batch does not fit the model."""
        ...

    def __enter__(self) -> Self:
        """The runner itself."""
        ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Let go of files, sessions and memory."""
        ...


@dataclass(frozen=True)
class Artifact:
    """Something built: the file, and what is known of it (plain JSON, as it stands in the report)."""

    path: Path
    report: dict[str, Any] = field(default_factory=dict[str, Any])


class Backend(Protocol):
    """Runs programs. `model` is a Program, or the path of an ONNX file where the backend reads those."""

    name: ClassVar[str]

    def load(self, model: Program | Path, target: Target | None = None) -> Runner:
        """Get ready to run; `InputError` where this backend can't run the model, with what to do instead."""
        ...


class Builder(Backend, Protocol):
    """A backend that also builds a file for a target."""

    def build(self, model: Program | Path, target: Target, path: Path) -> Artifact:
        """Write the artifact to `path`, whole or not at all."""
        ...
