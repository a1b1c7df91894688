"""The options of `vitgraph search`: those of every method, and those that one has and another has not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vitgraph.domains import BatchSize, ImageCount, Population, Repeats, Share, TrainingImages
from vitgraph.errors import InputError
from vitgraph.tools.pass_options import CalibrationSettings

if TYPE_CHECKING:
    from vitgraph.searching.elsa import Elsa

_TRAINING, _EVOLUTION = "elsa: supernet training", "elsa: search"


class Aim(StrEnum):
    """What choices are judged by."""

    ACCURACY = "accuracy"
    DIVERGENCE = "divergence"


@dataclass(frozen=True)
class SiteSettings:
    """Which linears a search is about; every method takes it."""

    only: Annotated[list[str], typer.Option(metavar="SELECTOR", help="Linears to choose for: role, path or size.")] = (
        field(default_factory=list[str])
    )
    skip: Annotated[list[str], typer.Option(metavar="SELECTOR", help="Linears that stay dense.")] = field(
        default_factory=list[str]
    )


@dataclass(frozen=True)
class ElsaSettings:
    """How long to train, and how long to search."""

    train_data: Annotated[
        str | None,
        typer.Option(
            metavar="DIR|ZIP",
            help="Training images; labels, where there are some, tell their accuracy.",
            show_default=False,
            rich_help_panel=_TRAINING,
        ),
    ] = None
    train_images: Annotated[
        TrainingImages | None,
        typer.Option(help="How many of them; all unless given.", show_default=False, rich_help_panel=_TRAINING),
    ] = None
    held_out: Annotated[
        ImageCount,
        typer.Option(help="How many of the images are kept out of training, to choose by.", rich_help_panel=_TRAINING),
    ] = 1000
    epochs: Annotated[Repeats, typer.Option(help="How often all images are seen.", rich_help_panel=_TRAINING)] = 3
    train_batch: Annotated[BatchSize, typer.Option(help="Images in a step.", rich_help_panel=_TRAINING)] = 64
    learning_rate: Annotated[Share, typer.Option(help="At its highest.", rich_help_panel=_TRAINING)] = 5e-4
    augment: Annotated[bool, typer.Option(help="Mirror and shift images.", rich_help_panel=_TRAINING)] = True
    rounds: Annotated[
        Repeats, typer.Option(help="How often the sampling policy learns.", rich_help_panel=_TRAINING)
    ] = 10
    judged: Annotated[
        Repeats, typer.Option(help="From how many sub-networks each time.", rich_help_panel=_TRAINING)
    ] = 50
    pool: Annotated[
        Repeats,
        typer.Option(help="Of so many drawn sub-networks one is trained.", rich_help_panel=_TRAINING),
    ] = 50
    accelerate: Annotated[
        bool, typer.Option("--accelerate", help="Train as `accelerate launch` says.", rich_help_panel=_TRAINING)
    ] = False
    population: Annotated[Population, typer.Option(help="Choices in a generation.", rich_help_panel=_EVOLUTION)] = 50
    generations: Annotated[Repeats, typer.Option(help="How many are bred.", rich_help_panel=_EVOLUTION)] = 20
    aim: Annotated[
        Aim,
        typer.Option(help="Choose by the divergence from the dense model, or by top-1.", rich_help_panel=_EVOLUTION),
    ] = Aim.DIVERGENCE

    def of_search(self) -> Elsa:
        """The same as the core takes it."""
        from vitgraph.searching.elsa import Elsa
        from vitgraph.searching.evolution import Evolution
        from vitgraph.training.distill import Schedule

        schedule = Schedule(self.epochs, self.train_batch, self.learning_rate, augment=self.augment)
        evolution = Evolution(self.population, self.generations, aim=self.aim.value)
        return Elsa(schedule, evolution, self.held_out, self.rounds, self.judged, self.pool)


OWN = {"elsa": ElsaSettings, "lpvit": CalibrationSettings}
"""The options that belong to one method, by its name."""


def check_own(method: str, given: Sequence[str]) -> None:
    """Raise `InputError` where an option was given (by the name of its field) that is another method's."""
    for other, settings in OWN.items():
        foreign = [field.name for field in fields(settings) if field.name in given]
        if other != method and foreign:
            words = ", ".join(f"--{name.replace('_', '-')}" for name in foreign)
            raise InputError(f"--method {method} takes no {words}, which --method {other} has; leave that out")


def given_options(context: Any) -> list[str]:
    """The options that the command line has, as the names of their parameters; `context` is the command's (click)."""
    return [name for name in context.params if context.get_parameter_source(name).name == "COMMANDLINE"]
