"""The whole way: a model's name in, a folder with engine, ONNX and a measured report out.

Like `vitgraph/__init__.py`, this file may look upward: it is where the core meets passes and backends.
"""

from __future__ import annotations

import json
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

    from vitgraph.backends.onnx.model import OnnxModel
    from vitgraph.backends.tensorrt.engine_check import EnginePlan
    from vitgraph.compile.mask_profit import MaskProfit
    from vitgraph.compile.report import AccuracyPart, Report
    from vitgraph.images.preprocess import PreprocessingOptions
    from vitgraph.ir.program import Program


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
        unfinished(out), drop_unprofitable_masks, measured_layers,
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
    from vitgraph.backends.tensorrt.backend import unbuildable_why
    from vitgraph.backends.tensorrt.engine_check import judge_patterns
    from vitgraph.compile.report_builder import judge_drop
    from vitgraph.runtime.memory import peak_rss_mb

    report, model, planned = _rewrite(job, folder)
    job.release()
    report.engine_why = unbuildable_why(job.target)
    if report.engine_why is None:
        _build(job, model, planned, folder, report)
    else:
        _write_device_build(job, folder)
        report.violations = [asdict(violation) for violation in judge_patterns(planned)]
    report.violations += judge_drop(job.pipeline, report)
    report.peak_rss_mb = peak_rss_mb()
    _write_recipe(job, folder)
    return report


def _rewrite(job: Job, folder: Path) -> tuple[Report, OnnxModel, EnginePlan]:
    """Everything that needs the weights in memory: capture, passes, `program/`, `model.onnx` and its accuracy."""
    from vitgraph.backends.onnx.lowering import lower
    from vitgraph.backends.tensorrt.engine_plan import plan_engine
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
    report.accuracy, report.accuracy_why = _evaluate(job, captured, model.path, "model.onnx")
    if mask_profit is not None:
        report.mask_profit = mask_profit.against(report.accuracy)
    return report, model, plan_engine(program, model, job.target)


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
        accuracy, why = _evaluate(job, captured, model.path, "all masks")
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


def _evaluate(job: Job, captured: Program, model: Path, what: str) -> tuple[AccuracyPart | None, str | None]:
    """Top-1 of the captured model in torch and of an ONNX file in ONNX Runtime on the same images, or why there is none."""
    if job.evaluation is None:
        return None, "no images to evaluate on; give --evaluate-data"
    from vitgraph.backends import find_backend
    from vitgraph.compile.accuracy import predict
    from vitgraph.compile.report import AccuracyPart

    fixed = None if job.batch.dynamic else job.batch.best
    with job.timed("evaluation"):
        try:
            runner = find_backend("ort").load(model, job.target)
        except InputError as error:  # BF16 on a CPU
            return None, str(error)
        with runner:
            found = predict(runner, job.evaluation, fixed, job.progress, f"evaluation: {what}")
        if job.reference is None:
            job.reference = predict(_Eager(captured), job.evaluation, fixed, job.progress, "evaluation: reference")
    accuracy = AccuracyPart(
        images=len(job.evaluation),
        top1_reference=_rounded(job.reference.top1),
        top1=_rounded(found.top1),
        agreement=round(job.reference.agreement(found), 3),
        measured_on="onnxruntime model.onnx",
        data_sha256=job.evaluation.sha256,
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


def _build(job: Job, model: OnnxModel, planned: EnginePlan, folder: Path, report: Report) -> None:
    """`engine.plan`, `engine.json`, `build.log` and the contract's verdict."""
    from vitgraph.backends.tensorrt.backend import build_engine
    from vitgraph.backends.tensorrt.engine_check import check_contract

    batch = (job.batch.least, job.batch.best, job.batch.most) if job.batch.dynamic else None
    with job.timed("build"):
        engine = build_engine(
            model.path, job.target, batch, lambda phase, done: job.progress(f"build: {phase}", round(100 * done), 100)
        )
    verdict = check_contract(engine, planned)
    (folder / "engine.plan").write_bytes(engine.plan)
    (folder / "engine.json").write_text(json.dumps(engine.as_json(), indent=1) + "\n", encoding="utf-8")
    (folder / "build.log").write_text(engine.log, encoding="utf-8")
    report.engine = verdict.engine
    report.violations = [asdict(violation) for violation in verdict.violations]


def _write_device_build(job: Job, folder: Path) -> None:
    """The command that builds the engine on the device itself, for targets that no builder here serves."""
    if job.target.compute_capability is None:
        return
    shapes = ""
    if job.batch.dynamic:
        sizes = "x".join(map(str, job.model.input_shape))
        bounds = zip(("min", "opt", "max"), (job.batch.least, job.batch.best, job.batch.most), strict=True)
        shapes = "".join(f" --{name}Shapes=x:{size}x{sizes}" for name, size in bounds)
    command = (
        f"trtexec --onnx=model.onnx --saveEngine=engine.plan --stronglyTyped --sparsity=enable{shapes}"
        " --profilingVerbosity=detailed --exportLayerInfo=layers.json"
    )
    text = f"#!/bin/sh\n# Build the engine on the device ({job.target.title}), in this folder.\nset -eu\n{command}\n"
    (folder / "build_on_device.sh").write_text(text, encoding="utf-8")
