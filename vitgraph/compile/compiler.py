"""The whole way: a model's name in, a folder with engine, ONNX and a measured report out.

Like `vitgraph/__init__.py`, this file may look upward: it is where the core meets passes and backends.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from vitgraph.compile.request import Job, Progress, prepare
from vitgraph.errors import CheckFailed, InputError
from vitgraph.outputs import check_output, unfinished, whole_folder

if TYPE_CHECKING:
    from torch import Tensor, nn

    from vitgraph.compile.mask_profit import MaskProfit
    from vitgraph.compile.report import AccuracyPart, Report
    from vitgraph.images.preprocess import PreprocessingOptions
    from vitgraph.ir.program import Program
    from vitgraph.runtime.backend import Artifact, Build
    from vitgraph.runtime.onnx_model import OnnxModel


def compile_model(
    model: str | nn.Module,
    *,
    target: str,
    recipe: str,
    out: Path,
    weights: str | Path = "pretrained",
    model_args: Mapping[str, Any] | None = None,
    preprocessing: PreprocessingOptions | None = None,
    calibration_data: str | None = None,
    calibration_images: int = 64,
    evaluate_data: str | None = None,
    evaluate_images: int | None = None,
    pipeline: str | None = None,
    max_drop: float | None = None,
    min_int8: int | None = None,
    max_float_layers: int | None = None,
    drop_unprofitable_masks: bool = False,
    measured_layers: Path | None = None,
    backend: str | None = None,
    batch: str = "1",
    force: bool = False,
    seed: int = 0,
    progress: Progress = lambda what, done, total: None,
) -> Report:
    """Compile a model into the folder `out`, which appears whole or not at all, and give back its report.

    `pipeline` (text) replaces the recipe's. `max_drop` (points of top-1), `min_int8` (linears) and `max_float_layers` put the
    pass `mixed-precision` with these bounds into it. `drop_unprofitable_masks` takes back N:M masks that buy no time on the target, by the cost
    model's estimate or by `measured_layers` (the layers of an engine built on the device). Raises `InputError` before any work where something asked for can't be had, and
    `CheckFailed` when the engine does not keep its contract or the drop is over `max_drop`; then `out` is there and says so.
    """
    start = time.perf_counter()
    check_output(out, force)
    bounds = {"max_drop": max_drop, "min_int8": min_int8, "max_float_layers": max_float_layers}
    job = prepare(
        model, target, recipe, pipeline, bounds, batch, weights, model_args, preprocessing,
        (calibration_data, calibration_images), (evaluate_data, evaluate_images), seed, progress,
        unfinished(out), drop_unprofitable_masks, measured_layers, backend,
    )  # fmt: skip
    with whole_folder(out, force) as folder:
        report = _compile(job, folder)
        job.seconds["total"] = time.perf_counter() - start
        report.seconds = {name: round(value, 3) for name, value in job.seconds.items()}
        _write_report(report, folder)
    shutil.rmtree(job.scratch, ignore_errors=True)
    if report.violations:
        from vitgraph.compile.report_builder import broken

        raise CheckFailed(broken(report, out))
    return report


def _compile(job: Job, folder: Path) -> Report:
    from vitgraph.compile.report_builder import judge_drop
    from vitgraph.runtime.memory import peak_rss_mb

    report, build = _rewrite(job, folder)
    job.release()
    report.engine_why = job.unbuilt_why
    artifact = _build(job, build) if job.unbuilt_why is None else build.defer()
    if job.unbuilt_why is None:
        report.engine = dict(artifact.report)
    for name, content in artifact.files.items():
        (folder / name).write_bytes(content)
    report.violations = [asdict(violation) for violation in artifact.violations]
    report.violations += judge_drop(job.pipeline, report)
    report.peak_rss_mb = peak_rss_mb()
    _write_recipe(job, folder)
    return report


def _rewrite(job: Job, folder: Path) -> tuple[Report, Build]:
    """Everything that needs the weights in memory: capture, passes, `program/`, `model.onnx` and its accuracy."""
    from vitgraph.backends.onnx.lowering import lower
    from vitgraph.compile.report_builder import describe
    from vitgraph.frontend.capture import capture_model
    from vitgraph.ir.printer import show
    from vitgraph.ir.program_file import save

    with job.timed("capture"):
        captured = capture_model(job.model, job.batch)
    program, mask_profit = _run_passes(job, captured), None
    if job.drop_unprofitable_masks:
        program, mask_profit = _drop_unprofitable(job, captured, program, folder)
    save(program, folder / "program" / "program.safetensors")
    (folder / "program" / "graph.txt").write_text(show(program), encoding="utf-8")
    with job.timed("lower"):
        model = lower(program, folder / "model.onnx")
    report = describe(job, captured, program)
    report.accuracy, report.accuracy_why = _evaluate(job, captured, program, model, job.runner.source)
    if mask_profit is not None:
        report.mask_profit = mask_profit.against(report.accuracy)
    return report, job.builder.plan(program, model, job.target, job.batch)


def _run_passes(job: Job, captured: Program) -> Program:
    """The pipeline's program; its times go to the report's `seconds`."""
    from vitgraph.pass_manager.instruments import Compare, Verify
    from vitgraph.pass_manager.pass_contract import Context

    context = Context(
        target=job.target,
        probe=[_probe(job)],
        calibration=job.calibration,
        progress=job.progress,
        scratch=job.scratch,
    )
    with job.timed("passes"):
        program = job.pipeline.run(captured, context, [Verify(), Compare()])
    spent = context.timings.get("calibration", 0.0)
    job.seconds["calibration"] = job.seconds.get("calibration", 0.0) + spent
    job.seconds["passes"] -= spent
    return program


def _drop_unprofitable(job: Job, captured: Program, program: Program, folder: Path) -> tuple[Program, MaskProfit]:
    """The program without the masks that buy no time: the pipeline again, with their sites left dense.

    Masks are not cut out of the program that has them: weights, scales and fits of later layers followed from them.
    """
    from vitgraph.backends.onnx.lowering import lower
    from vitgraph.compile.mask_profit import MaskProfit, judge_masks, without_masks

    verdicts = judge_masks(program, job.target, job.batch.best, job.measured_layers)
    idle = [verdict.site for verdict in verdicts if not verdict.pays]
    if not idle:
        return program, MaskProfit(verdicts, None, "every mask pays")
    with TemporaryDirectory(dir=folder) as scratch:
        model = lower(program, Path(scratch) / "model.onnx")
        accuracy, why = _evaluate(job, captured, program, model, "all masks")
    job.pipeline = without_masks(job.pipeline, idle)
    return _run_passes(job, captured), MaskProfit(verdicts, accuracy, why)


def _probe(job: Job) -> Tensor:
    """A batch to compare numbers on: calibration images, or noise where there are none."""
    import torch

    from vitgraph.images.image_set import open_images

    size = min(2, job.batch.most) if job.batch.dynamic else job.batch.best
    images = job.calibration or open_images("random", job.model.preprocessing, limit=size)
    pixels, _ = next(iter(images.batches(size)))
    return torch.as_tensor(pixels[torch.arange(size) % pixels.shape[0]])


def _write_report(report: Report, folder: Path) -> None:
    from vitgraph.compile.report import write_html

    (folder / "report.json").write_text(report.to_json(), encoding="utf-8")
    write_html(report, folder / "report.html")


def _write_recipe(job: Job, folder: Path) -> None:
    """What makes the same bytes again."""
    from vitgraph.compile.recipe import Recipe

    again = Recipe(job.recipe.name, job.recipe.description, job.pipeline)
    (folder / "recipe.yaml").write_text(again.to_yaml(), encoding="utf-8")
    (folder / "pipeline.txt").write_text(f"{job.pipeline}\n", encoding="utf-8")


def _evaluate(
    job: Job, captured: Program, program: Program, model: OnnxModel, what: str
) -> tuple[AccuracyPart | None, str | None]:
    """Top-1 of the captured model in torch and of what was made of it on the same images, or why there is none."""
    if job.evaluation is None:
        return None, "no images to evaluate on; give --evaluate-data"
    from vitgraph.compile.accuracy import predict
    from vitgraph.compile.report import AccuracyPart

    fixed = None if job.batch.dynamic else job.batch.best
    with job.timed("evaluation"):
        try:
            runner = job.runner.load(model.path if job.runner.source == "model.onnx" else program, job.target)
        except InputError as error:  # BF16 on a CPU
            return None, str(error)
        with runner:
            found = predict(runner, job.evaluation, fixed, job.progress, f"evaluation: {what}")
            executed = runner.execution(job.batch.best)
        if job.reference is None:
            job.reference = predict(_Eager(captured), job.evaluation, fixed, job.progress, "evaluation: reference")
    accuracy = AccuracyPart(
        images=len(job.evaluation),
        top1_reference=_rounded(job.reference.top1),
        top1=_rounded(found.top1),
        agreement=round(job.reference.agreement(found), 3),
        measured_on=f"{job.runner.name} {job.runner.source}",
        data_sha256=job.evaluation.sha256,
        **({} if executed is None else {"execution": executed.as_json()}),
    )
    return accuracy, None


@dataclass(frozen=True)
class _Eager:
    program: Program

    def run(self, batch: Tensor) -> Tensor:
        result: Tensor = self.program.run(batch)
        return result


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)


def _build(job: Job, build: Build) -> Artifact:
    with job.timed("build"):
        return build.run(job.progress)
