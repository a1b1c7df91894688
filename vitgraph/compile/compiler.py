"""The whole way: a model's name in, a folder with engine, ONNX and a measured report out.

Like `vitgraph/__init__.py`, this file may look upward: it is where the core meets passes and backends.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from vitgraph.compile.accuracy_warning import warnings_of
from vitgraph.compile.float_warning import float_warnings
from vitgraph.compile.opening import OpenedRequest, open_request
from vitgraph.compile.request import (
    CompileRequest,
    DataRequest,
    MaskRequest,
    OutputRequest,
)
from vitgraph.compile.stopwatch import Stopwatch
from vitgraph.errors import CheckFailed
from vitgraph.ir.batch import BatchSizes, read_batch
from vitgraph.outputs.whole_folder import whole_folder
from vitgraph.progress import Progress, silent

if TYPE_CHECKING:
    from torch import nn

    from vitgraph.compile.evaluation import Reference
    from vitgraph.compile.profit import Profit
    from vitgraph.compile.recipe import Recipe
    from vitgraph.compile.report import Report
    from vitgraph.images.data_sources import Data
    from vitgraph.images.preprocess import PreprocessingOptions
    from vitgraph.ir.program import Program
    from vitgraph.pass_manager.pipeline import Pipeline
    from vitgraph.runtime.backend import Artifact, Build
    from vitgraph.runtime.onnx_model import OnnxModel
    from vitgraph.targets.target import Target

TIMED = ("report.json", "report.html")
"""The files of a compilation that hold times, and so differ from run to run."""


def compile_model(
    model: str | Path | nn.Module | Program,
    *,
    target: str | Path | Target,
    recipe: str | Path | Recipe | None = None,
    out: str | Path,
    weights: str | Path | None = None,
    model_args: Mapping[str, Any] | None = None,
    preprocessing: PreprocessingOptions | None = None,
    calibration_data: Data | None = None,
    calibration_images: int = 64,
    evaluate_data: Data | None = None,
    evaluate_images: int | None = None,
    pipeline: str | Path | Pipeline | None = None,
    max_drop: float | None = None,
    warn_drop: float = 2.0,
    min_int8: int | None = None,
    max_float_layers: int | None = None,
    drop_unprofitable_masks: bool = False,
    measured: str | Path | None = None,
    backend: str | None = None,
    batch: BatchSizes | None = None,
    force: bool = False,
    seed: int = 0,
    progress: Progress = silent,
) -> Report:
    """Compile a model into the folder `out`, which appears whole or not at all, and return its report.

    `model` is a name, a module (which stays as it is), a program or where one was saved. `recipe` may be left out for a program of
    `quantize` or `sparsify`, which knows what is left of its own; passes that have run on a program are not run again. `weights` are `pretrained` unless given. `batch` is
    one size, or (least, best, most); 1, or a program's own, unless given. `pipeline` replaces the recipe's. `max_drop` (points of top-1),
    `min_int8` (linears) and `max_float_layers` put the pass `mixed-precision` with these bounds into it. `drop_unprofitable_masks` drops
    N:M masks that buy no time on the target, by the cost model's estimate or by what was `measured` on the device: the layers of an engine built
    there, or times of products (`vitgraph tune`), by which INT8 linears that are no faster fall back to FP16 too.
    More than `warn_drop` points of top-1 lost, and most of a model left in floating point, are told in `report.warnings`. `backend` measures and builds, as far as it can, in place of ONNX Runtime and TensorRT.
    Raises `InputError` before any work where something asked for can't be had, and `CheckFailed` when the engine does not keep its contract or
    the drop is over `max_drop`; then `out` is there and says so.
    """
    from vitgraph.compile.arguments import (
        read_backend,
        read_bounds,
        read_count,
        read_model,
        read_own_recipe,
        read_path,
        read_points,
        read_recipe,
        read_steps,
        read_target,
    )
    from vitgraph.compile.files_read import files_read
    from vitgraph.passes import find_pass

    data = (weights, calibration_data, evaluate_data, measured)
    request = CompileRequest(
        model=read_model(model, weights, model_args, preprocessing, seed),
        target=read_target(target),
        recipe=read_own_recipe(model, find_pass) if recipe is None else read_recipe(recipe, find_pass),
        output=OutputRequest(
            read_path("out", out),
            force,
            files_read(model, (target, recipe, pipeline), data, model_args),
        ),
        data=DataRequest(
            calibration_data,
            read_count("calibration_images", calibration_images),
            evaluate_data,
            read_count("evaluate_images", evaluate_images),
        ),
        pipeline=None if pipeline is None else read_steps(pipeline, find_pass),
        batch=None if batch is None else read_batch(batch),
        bounds=read_bounds(max_drop=max_drop, min_int8=min_int8, max_float_layers=max_float_layers),
        masks=MaskRequest(
            drop_unprofitable_masks,
            None if measured is None else read_path("measured", measured),
        ),
        warn_drop=read_points("warn_drop", warn_drop),
        backend=read_backend(backend),
    )
    return run_compile(request, progress)


def run_compile(request: CompileRequest, progress: Progress = silent) -> Report:
    """Do what the request asks for; see `compile_model`."""
    clock, output = Stopwatch(), request.output
    job = open_request(request, progress)
    with whole_folder(output.out, output.force, TIMED) as folder:
        report = _compile(job, clock, folder)
        report.warnings = [*job.warnings, *float_warnings(report.passes, job.recipe.name)]
        report.warnings += warnings_of(report.accuracy, job.pipeline, job.recipe.name, request.warn_drop)
        report.seconds = clock.read()
        _write_report(report, folder)
    if report.violations:
        from vitgraph.compile.report_builder import broken

        raise CheckFailed(broken(report, output.out))
    return report


def _compile(job: OpenedRequest, clock: Stopwatch, folder: Path) -> Report:
    from vitgraph.compile.report_builder import judge_drop, judge_logits
    from vitgraph.runtime.memory import peak_rss_mb, trim_memory

    job, report, build = _rewrite(job, clock, folder)
    trim_memory(cycles=True)  # the builder needs the room of the weights; graphs are cyclic, so the collector is asked
    report.engine_why = job.unbuilt_why
    artifact = _build(job, clock, build) if job.unbuilt_why is None else build.defer()
    if job.unbuilt_why is None:
        report.engine = dict(artifact.report)
    for name, content in artifact.files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)
    report.violations += [asdict(violation) for violation in artifact.violations]
    report.violations += judge_drop(job.pipeline, report) + judge_logits(report)
    report.peak_rss_mb = peak_rss_mb()
    _write_recipe(job, folder)
    return report


def _rewrite(job: OpenedRequest, clock: Stopwatch, folder: Path) -> tuple[OpenedRequest, Report, Build]:
    """Everything that needs the weights in memory: capture, passes, `program/`, `model.onnx` and its accuracy.

    The request comes back with the pipeline that was run last.
    """
    from vitgraph.backends.onnx.lowering import lower
    from vitgraph.compile.evaluation import Reference, evaluate
    from vitgraph.compile.report_builder import describe
    from vitgraph.frontend.open_model import program_of
    from vitgraph.ir.printer import show
    from vitgraph.ir.program_file import save
    from vitgraph.pass_manager.pipeline import timed_ledger

    with clock.timed("capture"):
        captured = program_of(job.weights.take(), job.batch)
    reference = Reference(job, captured)
    program, profit = _run_passes(job, clock, captured), None
    if job.judges_masks:
        job, program, profit = _drop_unprofitable(job, clock, reference, program, folder)
    save(program, folder / "program" / "program.safetensors")
    (folder / "program" / "graph.txt").write_text(show(program), encoding="utf-8")
    with clock.timed("lower"):
        model = lower(program, folder / "model.onnx")
    report = describe(job, captured, program)
    report.passes = timed_ledger(program.ledger, clock.passes)
    _hold_to_program(job, clock, report, program, model)
    report.accuracy, report.accuracy_why = evaluate(job, clock, reference, program, model, job.runner.source)
    if profit is not None:
        profit.tell(report)
    return job, report, job.builder.plan(program, model, job.target, job.batch)


def _hold_to_program(job: OpenedRequest, clock: Stopwatch, report: Report, program: Program, model: OnnxModel) -> None:
    """Compare the file with the program it was written of, whether or not there are images to evaluate it on."""
    from vitgraph.backends.ort.lowering_check import check_lowering
    from vitgraph.compile.inputs import probe

    with clock.timed("lowering check"):
        found = check_lowering(program, model, probe(job.calibration, job.model, job.batch))
    report.lowering, report.lowering_why = found.to_json(), found.why
    report.violations += [asdict(violation) for violation in found.violations]


def _run_passes(job: OpenedRequest, clock: Stopwatch, captured: Program) -> Program:
    """The pipeline's program; its times go to the report."""
    from vitgraph.compile.inputs import probe
    from vitgraph.pass_manager.instruments import Compare, Verify
    from vitgraph.pass_manager.pass_contract import Context

    context = Context(
        target=job.target,
        probe=[probe(job.calibration, job.model, job.batch)],
        calibration=job.calibration,
        progress=job.progress,
        scratch=job.scratch,
    )
    with clock.timed("passes"):
        program = job.pipeline.run(captured, context, [Verify(), Compare()])
    clock.passes = context.durations
    spent = context.timings.get("calibration", 0.0)
    clock.add("calibration", spent)
    clock.add("passes", -spent)
    return program


def _drop_unprofitable(
    job: OpenedRequest, clock: Stopwatch, reference: Reference, program: Program, folder: Path
) -> tuple[OpenedRequest, Program, Profit]:
    """The program without the masks, and the INT8 sites, that buy no time: the pipeline again, with them left out.

    Masks are not cut out of the program that has them: weights, scales and fits of later layers followed from them.
    """
    from vitgraph.backends.onnx.lowering import lower
    from vitgraph.compile.evaluation import evaluate
    from vitgraph.compile.profit import judge

    profit = judge(job, program)
    if not profit.idle:
        return job, program, profit
    with TemporaryDirectory(dir=folder) as scratch:
        model = lower(program, Path(scratch) / "model.onnx")
        accuracy, why = evaluate(job, clock, reference, program, model, "all masks")
    job = replace(job, pipeline=profit.applied(job.pipeline))
    return job, _run_passes(job, clock, reference.program), replace(profit, before=accuracy, before_why=why)


def _write_report(report: Report, folder: Path) -> None:
    from vitgraph.compile.report import write_html

    (folder / "report.json").write_text(report.to_json(), encoding="utf-8")
    write_html(report, folder / "report.html")


def _write_recipe(job: OpenedRequest, folder: Path) -> None:
    """What makes the same bytes again."""
    from vitgraph.compile.recipe import Recipe

    again = Recipe(job.recipe.name, job.recipe.description, job.pipeline)
    (folder / "recipe.yaml").write_text(again.to_yaml(), encoding="utf-8")
    (folder / "pipeline.txt").write_text(f"{job.pipeline}\n", encoding="utf-8")


def _build(job: OpenedRequest, clock: Stopwatch, build: Build) -> Artifact:
    with clock.timed("build"):
        return build.run(job.progress)
