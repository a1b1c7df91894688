"""`vitgraph search`: which N:M level each linear gets, within a budget; leaves weights and a recipe for `vitgraph compile`."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from vitgraph.tools.command import Answer, command, group, table
from vitgraph.tools.compile_model import EVALUATE_HELP
from vitgraph.tools.model_options import MODEL_HELP, ModelSettings
from vitgraph.tools.progress import show_progress
from vitgraph.tools.search_options import SearchSettings


class Method(StrEnum):
    """How to search."""

    ELSA = "elsa"


def declare(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "search")(search)


def search(
    model: Annotated[str, typer.Argument(metavar="MODEL", help=MODEL_HELP)],
    target: Annotated[str, typer.Option(help="The device whose N:M levels to choose from (`vitgraph targets`).")],
    budget: Annotated[
        str, typer.Option(metavar="2.9x|6.06G|0.8ms", help="Times fewer FLOPs than dense, FLOPs, or estimated ms.")
    ],
    train_data: Annotated[
        str, typer.Option(metavar="DIR|ZIP", help="Training images; labels, where there are some, tell their accuracy.")
    ],
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="OUT", help="The folder to write; whole or not at all.")
    ],
    settings: ModelSettings,
    searching: SearchSettings,
    method: Annotated[Method, typer.Option(help="elsa: a supernet, then evolution.")] = Method.ELSA,
    recipe: Annotated[str, typer.Option(help="The recipe that the masks go into, a name or a .yaml file.")] = "fp16",
    train_images: Annotated[
        int | None, typer.Option(min=2, help="How many of them; all unless given.", show_default=False)
    ] = None,
    evaluate_data: Annotated[
        str | None, typer.Option(metavar="DIR|ZIP", help=EVALUATE_HELP, show_default=False)
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace OUT if vitgraph wrote it.")] = False,
) -> Answer:
    """Choose an N:M level for each linear within a budget; write weights, recipe and report."""
    from vitgraph.tools import search_job

    asked = search_job.Asked(
        model, target, budget, recipe, (train_data, train_images), evaluate_data, output, force, settings, searching
    )
    with show_progress() as progress:
        data = search_job.run(asked, method.value, progress)
    return Answer(data, _summary(data, output))


def _summary(data: dict[str, Any], output: Path) -> Any:
    """What was found, beside what it is compared with, and what to type next."""
    from vitgraph.search.levels import show_cost
    from vitgraph.search.search_report import compared

    unit = data["budget"]["unit"]
    rows = [
        [name, show_cost(each["cost"], unit), _score(each), _top1(each), _levels(each)] for name, each in compared(data)
    ]
    rows.append(["as it came", "", _score(data["original"]), _top1(data["original"]), ""])
    title = f"{data['model']['name']} for {data['target']}, at most {show_cost(data['budget']['limit'], unit)}"
    columns = ["same weights", "cost", "held-out accuracy", "top-1", "levels"]
    return group(table(columns, rows, title=title), f"written to {output}; next: {data['next']} -o OUT")


def _score(each: Mapping[str, Any]) -> str:
    return f"{each['held_out_accuracy']:.2f} %"


def _top1(each: Mapping[str, Any]) -> str:
    return "not measured" if each["top1"] is None else f"{each['top1']:.2f} %"


def _levels(each: Mapping[str, Any]) -> str:
    """How many layers have which level."""
    levels = list(each["levels"].values())
    return ", ".join(f"{levels.count(level)} at {level}" for level in sorted(set(levels)))
