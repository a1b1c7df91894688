"""`vitgraph inspect --cost`: what a model costs, counted honestly and as the papers count, and what it would take where."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vitgraph.errors import InputError
from vitgraph.tools.command import Answer
from vitgraph.tools.drawing import group
from vitgraph.tools.drawn_cost import draw_cost, draw_estimates, draw_facts
from vitgraph.tools.model_options import ModelSettings, open_program

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vitgraph.cost.measured_times import MeasuredTimes
    from vitgraph.ir.program import Program
    from vitgraph.targets.target import Target

_COST = "Cost"


@dataclass(frozen=True)
class CostOptions:
    """What to tell of cost."""

    cost: Annotated[
        bool,
        typer.Option(
            "--cost",
            help="Counts, honest and as papers count, and estimates of time and energy; no weights are loaded.",
            rich_help_panel=_COST,
        ),
    ] = False
    target: Annotated[
        list[str],
        typer.Option(
            metavar="TARGET", help="Estimate for this device only; may be given again.", rich_help_panel=_COST
        ),
    ] = field(default_factory=list[str])
    measured: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE|OUT|h200",
            help="Times of products on a GPU (`vitgraph tune`), in place of estimates for its target.",
            rich_help_panel=_COST,
            show_default=False,
        ),
    ] = None
    published: Annotated[
        bool,
        typer.Option(
            "--published",
            help="In place of a MODEL: each published figure, the cost model's, and the error.",
            rich_help_panel=_COST,
        ),
    ] = False

    def given(self) -> list[str]:
        """The options that mean nothing without `--cost` and that were given."""
        asked = {"--target": bool(self.target), "--measured": self.measured is not None, "--published": self.published}
        return [name for name, given in asked.items() if given]


def inspect_cost(model: str, settings: ModelSettings, costs: CostOptions, as_json: bool) -> Answer:
    """What MODEL|PROGRAM|OUT costs, with estimates for the named targets, or all; those of a measured one with measured products.

    A model's weights are not loaded unless `--weights` asks for them.
    """
    targets, path = _targets(costs.target), Path(model)
    times = None if costs.measured is None else _times(costs.measured, targets)
    if (path / "report.json").is_file():
        data = _of_report(path, [target.name for target in targets] if costs.target else [], times)
        drawn = group(draw_facts(path.name, data), draw_estimates(data))
        return Answer(data, json.dumps(data, indent=2) if as_json else drawn)
    if path.suffix == ".json":
        raise InputError(f"{model}: --cost counts a model, a saved program or a folder of `vitgraph compile`")
    from vitgraph.cost.cost_report import describe_cost, project
    from vitgraph.cost.products import images_of
    from vitgraph.ir.batch import ONE_IMAGE
    from vitgraph.passes.prepared import prepare

    captured = _open(model, settings)
    program = prepare(captured)
    batch = max(images_of(program), (settings.sizes() or ONE_IMAGE).best)
    asked = (captured, program, batch, targets, times)
    described = {**describe_cost(*asked), **project(*asked)}
    data = {"name": program.name, **described}
    data["weights"] = captured.provenance.get("weights", "as they stand in the program")
    return Answer(data, json.dumps(data, indent=2) if as_json else draw_cost(data))


def _targets(names: list[str]) -> tuple[Target, ...]:
    from vitgraph.targets.target import all_targets, get_target

    return tuple(get_target(name) for name in names) or all_targets()


def _times(place: Path, targets: Sequence[Target]) -> MeasuredTimes:
    """What was measured, on that of the targets which it was measured on; `InputError` where it is none of them."""
    from vitgraph.cost.measured_files import check_card, open_measured
    from vitgraph.cost.measured_times import MeasuredTimes
    from vitgraph.cost.roofline import Roofline, roofline

    origin = f"--measured {place}"
    measured = open_measured(place, origin)
    if measured is None:
        raise InputError(f"{origin}: holds no times of products; `vitgraph tune` writes them on a GPU")
    same = [each for each in targets if each.compute_capability == measured.device.compute_capability]
    for target in same or targets[:1]:
        line = roofline(target)
        if check_card(measured.device, target, origin) is None and isinstance(line, Roofline):
            return MeasuredTimes(line, measured)
    names = ", ".join(target.name for target in same)
    raise InputError(f"{origin}: was measured on {measured.device.card}, which is not {names}")


def _of_report(folder: Path, names: list[str], times: MeasuredTimes | None) -> dict[str, Any]:
    """The report's cost as it was written; of its estimates, those of the named targets, one with measured products in it."""
    from vitgraph.compile.report import read_report

    cost = read_report(folder).cost
    if not cost:
        raise InputError(f"{folder / 'report.json'} has no cost: the compiled graph is not canonical; count its MODEL")
    if times is not None:
        cost = cost | _measured_in(folder, times)
    if not names:
        return cost
    return {key: _only(value, names) if key.startswith("estimated") else value for key, value in cost.items()}


def _measured_in(folder: Path, times: MeasuredTimes) -> dict[str, Any]:
    """The estimates anew, with measured products, of the program in a compilation's folder at the batch that it is for."""
    from vitgraph.compile.report import read_report
    from vitgraph.cost.estimates import describe_estimates
    from vitgraph.cost.fusion import find_kernels
    from vitgraph.frontend.saved_programs import read_program
    from vitgraph.ir.batch import parse_batch

    batch = parse_batch(read_report(folder).batch).best
    return describe_estimates(find_kernels(read_program(folder)), batch, times=times)


def _only(value: Any, names: list[str]) -> Any:
    return {name: each for name, each in value.items() if name in names} if isinstance(value, dict) else value  # pyright: ignore[reportUnknownVariableType]


def _open(model: str, settings: ModelSettings) -> Program:
    """The program; of a model, with weights only where they were asked for."""
    from vitgraph.frontend.saved_programs import is_program, read_program

    path = Path(model)
    if path.is_dir() and is_program(path):
        return read_program(path)
    return open_program(model, settings, values=settings.weights is not None)
