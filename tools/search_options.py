"""The options of `vitgraph search`: which linears get a level, how long to train, how long to search."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from vitgraph.search.elsa import Elsa

_LEVELS, _TRAINING, _EVOLUTION = "Levels", "Supernet training", "Search"


class Aim(StrEnum):
    """What choices are judged by."""

    ACCURACY = "accuracy"
    DIVERGENCE = "divergence"


@dataclass(frozen=True)
class SearchSettings:
    """Which linears, how long to train, and how long to search."""

    only: Annotated[
        list[str],
        typer.Option(metavar="SELECTOR", help="Linears that get a level: role, path or size.", rich_help_panel=_LEVELS),
    ] = field(default_factory=list[str])
    skip: Annotated[
        list[str], typer.Option(metavar="SELECTOR", help="Linears that stay dense.", rich_help_panel=_LEVELS)
    ] = field(default_factory=list[str])
    held_out: Annotated[
        int, typer.Option(min=1, help="How many of the images are kept out of training, to choose by.")
    ] = 1000
    epochs: Annotated[int, typer.Option(min=1, rich_help_panel=_TRAINING)] = 3
    train_batch: Annotated[int, typer.Option(min=1, rich_help_panel=_TRAINING)] = 64
    learning_rate: Annotated[float, typer.Option(min=0, rich_help_panel=_TRAINING)] = 5e-4
    augment: Annotated[bool, typer.Option(help="Mirror and shift images.", rich_help_panel=_TRAINING)] = True
    rounds: Annotated[
        int, typer.Option(min=1, help="How often the sampling policy learns.", rich_help_panel=_TRAINING)
    ] = 10
    judged: Annotated[
        int, typer.Option(min=1, help="From how many sub-networks each time.", rich_help_panel=_TRAINING)
    ] = 50
    pool: Annotated[
        int,
        typer.Option(min=1, help="Of so many drawn sub-networks one is trained.", rich_help_panel=_TRAINING),
    ] = 50
    accelerate: Annotated[
        bool, typer.Option("--accelerate", help="Train as `accelerate launch` says.", rich_help_panel=_TRAINING)
    ] = False
    population: Annotated[int, typer.Option(min=4, rich_help_panel=_EVOLUTION)] = 50
    generations: Annotated[int, typer.Option(min=1, rich_help_panel=_EVOLUTION)] = 20
    aim: Annotated[
        Aim,
        typer.Option(help="Choose by the divergence from the dense model, or by top-1.", rich_help_panel=_EVOLUTION),
    ] = Aim.DIVERGENCE

    def elsa(self, seed: int) -> Elsa:
        """The same as the core takes it."""
        from vitgraph.search.elsa import Elsa
        from vitgraph.search.evolution import Evolution
        from vitgraph.training.distill import Schedule

        schedule = Schedule(self.epochs, self.train_batch, self.learning_rate, augment=self.augment, seed=seed)
        evolution = Evolution(self.population, self.generations, aim=self.aim.value, seed=seed)
        return Elsa(schedule, evolution, self.held_out, self.rounds, self.judged, self.pool)
