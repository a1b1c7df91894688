"""`vitgraph tune`: how long each linear of a plan takes on this GPU in every format, as a file that compilations choose by."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vitgraph.domains import Repeats
from vitgraph.errors import InputError
from vitgraph.tools.batch_sizes import read_batch_sizes
from vitgraph.tools.command import Answer, command
from vitgraph.tools.drawing import group, table
from vitgraph.tools.progress import show_progress

if TYPE_CHECKING:
    from vitgraph.backends.cuda.plan import Plan
    from vitgraph.cost.measured import Measured, MeasuredProduct, MeasuredTime


def declare(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "tune")(tune_plan)


def tune_plan(
    model: Annotated[
        Path,
        typer.Argument(
            metavar="OUT|PROGRAM", help="A folder that `vitgraph compile --backend cuda` wrote, or a saved program."
        ),
    ],
    batch: Annotated[str, typer.Option(metavar="N[,N]", help="Images in a batch.")] = "1,32,128",
    rounds: Annotated[Repeats, typer.Option(help="How often each is timed; they take turns.")] = 20,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            metavar="FILE",
            help="The file to write, whole or not at all; measured.json in OUT, or beside PROGRAM, unless given.",
            show_default=False,
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace FILE.")] = False,
) -> Answer:
    """Time every linear of a plan on this GPU, in FP16, INT8, 2:4 INT8 and FP8, and write measured.json."""
    from vitgraph.backends.cuda.cuda_tuner import open_tuner
    from vitgraph.backends.cuda.linear_sizes import linear_sizes
    from vitgraph.backends.cuda.tuning import tune
    from vitgraph.cost.measured_files import NAME
    from vitgraph.outputs.destination import check_file
    from vitgraph.outputs.whole_file import write_whole

    batches = read_batch_sizes(batch)
    file = output or (model if model.is_dir() else model.parent) / NAME
    sizes = linear_sizes(_plan(model), batches)
    check_file(file, force)
    device = open_tuner()
    with show_progress() as progress:
        found = tune(sizes, device, rounds, progress)
    write_whole(file, found.to_json().encode(), replace=force)
    data = {"written_to": str(file), **found.model_dump(mode="json")}
    return Answer(data, _drawn(found, file))


def _plan(model: Path) -> Plan:
    """The plan in a folder, or that of a program; `InputError` where there is neither."""
    from vitgraph.backends.cuda.lowering import lower_program
    from vitgraph.backends.cuda.plan_folder import FOLDER, is_plan, load_plan
    from vitgraph.frontend.saved_programs import program_at, read_program

    if is_plan(model) or is_plan(model / FOLDER):
        return load_plan(model).plan
    if program_at(model) is None:
        raise InputError(f"{model}: is no folder of `vitgraph compile --backend cuda`, and no saved program")
    return lower_program(read_program(model)).plan


def _drawn(found: Measured, file: Path) -> Any:
    forms = [each.form for each in found.products[0].times]
    heads = ["rows", "K", "N", "batch", "sites", *(f"{form}, us" for form in forms), "fastest"]
    rows = [_row(each) for each in found.products]
    device, method = found.device, found.method
    versions = f"driver {device.driver or 'unknown'}, torch {device.torch}, Triton {device.triton}"
    whys = dict.fromkeys(f"{time.form}: {time.why}" for each in found.products for time in each.times if time.why)
    return group(
        table(heads, rows),
        f"{device.card}, compute capability {device.compute_capability}, {versions}",
        f"Medians of {method.rounds} rounds and half the distance of their quartiles; {method.clock}; operands take turns",
        *whys,
        f"Written to {file}",
    )


def _row(product: MeasuredProduct) -> list[str]:
    batches = ",".join(str(used.batch) for used in product.used)
    sites = sum(len(used.sites) for used in product.used)
    timed = [each for each in product.times if each.us is not None]
    fastest = min(timed, key=lambda each: each.us or 0.0).form if timed else "–"
    return [*map(str, (product.rows, product.k, product.n)), batches, str(sites), *map(_time, product.times), fastest]


def _time(time: MeasuredTime) -> str:
    if time.us is None:
        return "–"
    spread = "" if time.quartiles is None else f" ± {(time.quartiles[1] - time.quartiles[0]) / 2:.2g}"
    return f"{time.us:.4g}{spread}"
