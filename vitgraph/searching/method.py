"""What a way to search is: what it is handed, and what it returns. The methods by name are in `vitgraph.searching.runner`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

from vitgraph.progress import Progress
from vitgraph.searching.request import SearchRequest

if TYPE_CHECKING:
    from vitgraph.compile.inputs import Inputs
    from vitgraph.compile.recipe import Recipe


@dataclass(frozen=True)
class OpenedSearch:
    """A request, opened and checked: what all methods need."""

    request: SearchRequest
    recipe: Recipe
    inputs: Inputs

    @property
    def quantizes(self) -> bool:
        """Whether the recipe does."""
        return any(step.name == "quantize" for step in self.recipe.pipeline.passes)


@dataclass(frozen=True)
class Found:
    """What a method found: its keys of `search.json`, and its own files by name."""

    data: dict[str, Any]
    files: dict[str, bytes]


class Method(Protocol):
    """A way to search; made of the request."""

    name: ClassVar[str]
    recipe: ClassVar[str]
    """What is taken where no recipe is named."""
    looks_at: ClassVar[Literal["training", "calibration"]]
    """Which of the request's images it goes by."""
    images: ClassVar[int | None]
    """How many of them where nobody says; None for all."""

    def __init__(self, request: SearchRequest) -> None: ...

    @property
    def writes(self) -> bool:
        """Whether this process writes the folder: one of several does."""
        ...

    def check(self) -> None:
        """Raise `InputError` for what the request alone shows to be wrong."""
        ...

    def search(self, opened: OpenedSearch, progress: Progress) -> Found:
        """Search; `InputError` before any long work where something can't be had."""
        ...
