"""What a search is asked for: one frozen value, of the same parts as a compilation (`vitgraph.compile.request`)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from vitgraph.compile.request import DataRequest, OutputRequest
from vitgraph.frontend.model_request import ModelRequest

if TYPE_CHECKING:
    from vitgraph.compile.recipe import Recipe
    from vitgraph.ir.batch import Batch
    from vitgraph.searching.elsa import Elsa
    from vitgraph.targets.target import Target


@dataclass(frozen=True)
class SearchRequest:
    """Everything that a search is asked for, whatever the method."""

    method: str
    """See `vitgraph.searching.runner.METHODS`."""
    model: ModelRequest
    target: Target
    target_name: str
    """How the command line calls it: its name or its file."""
    budgets: tuple[str, ...]
    """See `vitgraph.searching.budget`."""
    output: OutputRequest
    data: DataRequest = field(default_factory=DataRequest)
    recipe: Recipe | None = None
    """What the choice goes into; None for the method's usual one."""
    batch: Batch | None = None
    only: tuple[str, ...] = ()
    """Linears to choose for, by role, path or size; all of the blocks' where none is named."""
    skip: tuple[str, ...] = ()
    """Linears that stay dense."""
    elsa: Elsa | None = None
    """Settings of `elsa`; None for its defaults. The seed is the model's."""
    accelerate: bool = False
    """Whether `elsa` trains as `accelerate launch` says."""
