"""`vitgraph search`: how much of each linear stays, within a budget; leaves a recipe for `vitgraph compile`."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from vitgraph.tools.command import Answer, command
from vitgraph.tools.completion import target_names
from vitgraph.tools.drawn_search import DRAWN
from vitgraph.tools.model_options import ModelSettings
from vitgraph.tools.pass_options import CalibrationSettings
from vitgraph.tools.progress import show_progress
from vitgraph.tools.search_options import ElsaSettings, SiteSettings, check_own, given_options
from vitgraph.tools.shared_options import EvaluateData, EvaluateImages, Force, Model, OutputFolder


class MethodName(StrEnum):
    """How to search."""

    ELSA = "elsa"
    LPVIT = "lpvit"


def declare(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "search")(search)


def search(
    context: typer.Context,
    model: Model,
    target: Annotated[
        str,
        typer.Option(
            help="The device to choose for (`vitgraph targets`, or a .yaml file).", autocompletion=target_names
        ),
    ],
    budget: Annotated[
        list[str],
        typer.Option(
            metavar="2.9x|6.06G|0.8ms|12mJ",
            help="Times fewer FLOPs than dense, FLOPs, or estimated ms or mJ; for lpvit it may be given again.",
        ),
    ],
    output: OutputFolder,
    settings: ModelSettings,
    sites: SiteSettings,
    elsa: ElsaSettings,
    calibration: CalibrationSettings,
    method: Annotated[
        MethodName,
        typer.Option(help="elsa: N:M levels, by a supernet and evolution. lpvit: tiles or units, by equal slopes."),
    ] = MethodName.ELSA,
    recipe: Annotated[
        str | None,
        typer.Option(
            help="The recipe that the choice goes into, a name or a .yaml file; fp16 or lpvit unless given.",
            show_default=False,
        ),
    ] = None,
    evaluate_data: EvaluateData = None,
    evaluate_images: EvaluateImages = None,
    force: Force = False,
) -> Answer:
    """Choose how much of each linear stays, within a budget; write recipe and report."""
    check_own(method.value, given_options(context))
    from vitgraph.searching.runner import search

    trains = method is MethodName.ELSA
    with show_progress() as progress:
        found = search(
            model,
            elsa.train_data if trains else calibration.calibration_data,
            method=method.value,
            target=target,
            budget=budget,
            out=output,
            images=elsa.train_images if trains else calibration.calibration_images,
            recipe=recipe,
            weights=settings.weights,
            model_args=settings.arguments(),
            preprocessing=settings.preprocessing(),
            evaluate_data=evaluate_data,
            evaluate_images=evaluate_images,
            only=sites.only,
            skip=sites.skip,
            batch=settings.batch,
            elsa=elsa.of_search() if trains else None,
            accelerate=elsa.accelerate,
            force=force,
            seed=settings.seed,
            progress=progress,
        )
    return Answer(found.data, DRAWN[method.value](found.data, output))
