"""The whole way: a model's name in, a folder with engine, ONNX and a measured report out.

Like `vitgraph/__init__.py`, this file may look upward: it is where the core meets passes and backends.
"""

from __future__ import annotations

import gc
import json
import shutil
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitgraph.errors import CheckFailed, InputError
from vitgraph.output_folder import check_output, unfinished, whole_folder

if TYPE_CHECKING:
    from torch import Tensor, nn

    from vitgraph.backends._contract import EnginePlan
    from vitgraph.backends._onnx_model import OnnxModel
    from vitgraph.images import ImageSet
    from vitgraph.models import LoadedModel
    from vitgraph.pipeline import Pipeline
    from vitgraph.preprocess import PreprocessingOptions
    from vitgraph.program import Program
    from vitgraph.recipe import Recipe
    from vitgraph.report import Report
    from vitgraph.target import Target

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Batch:
    """Batch sizes of the engine: one, or a range with the size to optimize for."""

    least: int
    best: int
    most: int

    @property
    def dynamic(self) -> bool:
        """Whether the batch is an unknown of the graph."""
        return self.least != self.most

    def __str__(self) -> str:
        return f"{self.least}:{self.best}:{self.most}" if self.dynamic else str(self.best)


def parse_batch(text: str) -> Batch:
    """Read `8` or `1:8:64`; `InputError` for anything else."""
    parts = text.split(":")
    if len(parts) in (1, 3) and all(part.isdecimal() for part in parts):
        sizes = [int(part) for part in parts]
        least, best, most = sizes if len(sizes) == 3 else sizes * 3
        if 0 < least <= best <= most:
            return Batch(least, best, most)
    raise InputError(f"--batch {text}: write one size (8), or MIN:OPT:MAX in growing order (1:8:64)")


@dataclass
class _Job:
    """Everything a compilation was asked for, opened and checked before any work is done."""

    target: Target
    recipe: Recipe
    pipeline: Pipeline
    batch: Batch
    model: LoadedModel
    calibration: ImageSet | None
    evaluation: ImageSet | None
    progress: Progress
    scratch: Path
    seconds: dict[str, float] = field(default_factory=dict[str, float])

    @contextmanager
    def timed(self, what: str) -> Generator[None]:
        """Add the time of a block to the report's `seconds`."""
        start = time.perf_counter()
        yield
        self.seconds[what] = self.seconds.get(what, 0.0) + time.perf_counter() - start

    def let_go(self) -> None:
        """Drop the model's weights: the builder needs the room (graphs are cyclic, so the collector is asked)."""
        from torch import nn

        self.model = replace(self.model, module=nn.Identity())
        gc.collect()


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
    float_sites: int | None = None,
    batch: str = "1",
    force: bool = False,
    seed: int = 0,
    progress: Progress = lambda what, done, total: None,
) -> Report:
    """Compile a model into the folder `out`, which appears whole or not at all, and give back its report.

    `pipeline` (text) replaces the recipe's. `max_drop` (points of top-1), `min_int8` (linears) and `float_sites` put the
    pass `place` with these bounds into it. Raises `InputError` before any work where something asked for can't be had, and
    `CheckFailed` when the engine does not keep its contract or the drop is over `max_drop`; then `out` is there and says so.
    """
    start = time.perf_counter()
    check_output(out, force)
    bounds = {"max_drop": max_drop, "min_int8": min_int8, "float_sites": float_sites}
    job = _prepare(
        model, target, recipe, pipeline, bounds, batch, weights, model_args, preprocessing,
        (calibration_data, calibration_images), (evaluate_data, evaluate_images), seed, progress,
        unfinished(out),
    )  # fmt: skip
    with whole_folder(out, force) as folder:
        report = _compile(job, folder)
        job.seconds["total"] = time.perf_counter() - start
        report.seconds = {name: round(value, 3) for name, value in job.seconds.items()}
        _write_report(report, folder)
    shutil.rmtree(job.scratch, ignore_errors=True)
    if report.complaints:
        raise CheckFailed(_broken(report, out))
    return report


def _prepare(
    model: str | nn.Module,
    target: str,
    recipe: str,
    pipeline: str | None,
    bounds: Mapping[str, float | None],
    batch: str,
    weights: str | Path,
    model_args: Mapping[str, Any] | None,
    preprocessing: PreprocessingOptions | None,
    calibration: tuple[str | None, int],
    evaluation: tuple[str | None, int | None],
    seed: int,
    progress: Progress,
    scratch: Path,
) -> _Job:
    """Open everything, the cheap things first, so that a mistake is told at once."""
    from vitgraph.passes import find_pass
    from vitgraph.pipeline import parse_pipeline
    from vitgraph.recipe import load_recipe
    from vitgraph.target import get_target

    device, sizes, chosen = get_target(target), parse_batch(batch), load_recipe(recipe, find_pass)
    steps = chosen.pipeline if pipeline is None else parse_pipeline(pipeline, find_pass)
    steps = _bounded(steps, {name: value for name, value in bounds.items() if value is not None}, chosen.name)
    steps.check(device)
    needs_images = any(step.needs_images for step in steps.passes)
    if needs_images and calibration[0] is None:
        raise InputError(
            f"recipe {chosen.name} quantizes, which needs calibration images: give --calibration-data a folder, "
            "a .zip, or `random` for noise"
        )
    from vitgraph.images import open_images
    from vitgraph.models import load_model

    loaded = load_model(model, weights=weights, model_args=model_args, preprocessing=preprocessing, seed=seed)
    calibrate = evaluate = None
    if calibration[0] is not None:
        calibrate = open_images(calibration[0], loaded.preprocessing, limit=calibration[1], seed=seed)
    if evaluation[0] is not None:
        evaluate = open_images(evaluation[0], loaded.preprocessing, limit=evaluation[1], seed=seed)
        evaluate.check_labels(loaded.classes or 1_000_000)
    return _Job(device, chosen, steps, sizes, loaded, calibrate, evaluate, progress, scratch)


def _bounded(steps: Pipeline, bounds: dict[str, float], recipe: str) -> Pipeline:
    """The pipeline with `place` under these bounds: a `place` it has gets them, else one goes behind what quantizes, ahead of `reconstruct`."""
    from vitgraph.passes.place import Place
    from vitgraph.pipeline import Pipeline

    if not bounds:
        return steps
    names = [step.name for step in steps.passes]
    if "quantize" not in names:
        asked = ", ".join(f"{name}={value:g}" for name, value in bounds.items())
        raise InputError(
            f"{asked}: recipe {recipe} quantizes nothing, so there is nothing to place; take one such as int8"
        )
    if "place" in names:
        bounded = [replace(step, **bounds) if step.name == "place" else step for step in steps.passes]
        return Pipeline(tuple(bounded))
    behind = 1 + max(i for i, name in enumerate(names) if name in ("quantize", "quantize-linear-attention"))
    placed: Any = Place(**bounds)  # type: ignore[arg-type]
    return Pipeline((*steps.passes[:behind], placed, *steps.passes[behind:]))


def _compile(job: _Job, folder: Path) -> Report:
    from vitgraph.backends.trt import unbuildable_why
    from vitgraph.instruments import peak_rss_mb

    report, model, planned = _rewrite(job, folder)
    job.let_go()
    report.engine_why = unbuildable_why(job.target)
    if report.engine_why is None:
        _build(job, model, planned, folder, report)
    else:
        _write_device_build(job, folder)
    report.complaints += _judge_drop(job.pipeline, report)
    report.peak_rss_mb = peak_rss_mb()
    _write_recipe(job, folder)
    return report


def _rewrite(job: _Job, folder: Path) -> tuple[Report, OnnxModel, EnginePlan]:
    """Everything that needs the weights in memory: capture, passes, `program/`, `model.onnx` and its accuracy."""
    from vitgraph.backends._onnx import lower
    from vitgraph.backends._planned import plan_engine
    from vitgraph.contract import Context
    from vitgraph.instruments import Compare, Verify
    from vitgraph.program import save
    from vitgraph.text import show

    with job.timed("capture"):
        captured = capture_model(job.model, job.batch)
    context = Context(
        target=job.target,
        probe=[_probe(job)],
        calibration=job.calibration,
        progress=job.progress,
        scratch=job.scratch,
    )
    with job.timed("passes"):
        program = job.pipeline.run(captured, context, [Verify(), Compare()])
    job.seconds["calibration"] = context.timings.get("calibration", 0.0)
    job.seconds["passes"] -= job.seconds["calibration"]
    save(program, folder / "program" / "program.safetensors")
    (folder / "program" / "graph.txt").write_text(show(program), encoding="utf-8")
    with job.timed("lower"):
        model = lower(program, folder / "model.onnx")
    report = _describe(job, captured, program)
    _evaluate(job, captured, folder, report)
    return report, model, plan_engine(program, model, job.target)


def capture_model(model: LoadedModel, batch: Batch = Batch(1, 1, 1)) -> Program:
    """Capture a loaded model for these batch sizes; its provenance says where everything came from."""
    import torch

    from vitgraph.capture import capture
    from vitgraph.image_size import device_of

    provenance = {
        "source": model.source,
        "weights": str(model.weights),
        "weights_sha256": model.weights_sha256,
        "preprocessing": json.loads(model.preprocessing.to_json()),
        "class_names": list(model.class_names) if model.class_names else None,
        "notes": list(model.notes),
    }
    example = torch.zeros(batch.best, *model.input_shape, device=device_of(model.module))
    return capture(model.module, example, name=model.name, dynamic_batch=batch.dynamic, provenance=provenance)


def _probe(job: _Job) -> Tensor:
    """A batch to compare numbers on: calibration images, or noise where there are none."""
    import torch

    from vitgraph.images import open_images

    size = min(2, job.batch.most) if job.batch.dynamic else job.batch.best
    images = job.calibration or open_images("random", job.model.preprocessing, limit=size)
    pixels, _ = next(iter(images.batches(size)))
    return torch.as_tensor(pixels[torch.arange(size) % pixels.shape[0]])


def _describe(job: _Job, captured: Program, program: Program) -> Report:
    """The report as far as the program itself tells it."""
    from vitgraph.cost_report import describe_cost
    from vitgraph.report import ModelPart, Report
    from vitgraph.sites import find_sites
    from vitgraph.softmax import find_attentions

    model = job.model
    kinds = dict[str, int]()
    for kind, _ in find_attentions(program):
        kinds[kind] = kinds.get(kind, 0) + 1
    cost = describe_cost(captured, program, job.batch.best) if program.form == "canonical" else {}
    linears = find_sites(program).linears if program.form == "canonical" else ()
    return Report(
        vitgraph=version("vitgraph"),
        model=ModelPart(
            name=model.name,
            source=model.source,
            parameters=model.parameters,
            input=["N" if job.batch.dynamic else job.batch.best, *model.input_shape],
            weights_sha256=model.weights_sha256,
            weights=str(model.weights),
            notes=list(model.notes),
        ),
        target=job.target.name,
        recipe=job.recipe.name,
        pipeline=str(job.pipeline),
        batch=str(job.batch),
        preprocessing=json.loads(model.preprocessing.to_json()),
        calibration=None
        if job.calibration is None
        else {
            "source": job.calibration.source,
            "kind": job.calibration.kind,
            "images": len(job.calibration),
            "data_sha256": job.calibration.sha256,
        },
        passes=program.ledger,
        sites={"linear": len(linears), "attention": kinds},
        cost=cost,
        accuracy_why="no images to evaluate on; give --evaluate-data",
        latency_why="no GPU was asked; `vitgraph bench` measures ONNX Runtime on a CPU",
        seconds={},
        peak_rss_mb=0,
    )


def _write_report(report: Report, folder: Path) -> None:
    from vitgraph.report import write_html

    (folder / "report.json").write_text(report.to_json(), encoding="utf-8")
    write_html(report, folder / "report.html")


def _write_recipe(job: _Job, folder: Path) -> None:
    """What makes the same bytes again."""
    from vitgraph.recipe import Recipe

    again = Recipe(job.recipe.name, job.recipe.description, job.pipeline)
    (folder / "recipe.yaml").write_text(again.to_yaml(), encoding="utf-8")
    (folder / "pipeline.txt").write_text(f"{job.pipeline}\n", encoding="utf-8")


def _judge_drop(steps: Pipeline, report: Report) -> list[dict[str, Any]]:
    """A complaint where `max_drop` is missed: by the measured drop where there is one, else by the expected one."""
    bound: float | None = next((getattr(step, "max_drop", None) for step in steps.passes if step.name == "place"), None)
    entries = [each for entry in report.passes for each in entry.get("found", []) if "placement" in each]
    if bound is None or not entries:
        return []
    expected, accuracy = entries[-1]["expected_drop"], report.accuracy
    if accuracy is None or accuracy.top1 is None or accuracy.top1_reference is None:
        drop, why = (
            expected,
            f"expected from {entries[-1]['images']} calibration images; no labelled images measured it",
        )
    else:
        drop = round(accuracy.top1_reference - accuracy.top1, 3)
        why = f"measured on {accuracy.images} images; {expected:g} were expected from calibration images"
    if drop <= bound:
        return []
    found = f"{drop:g} points with {entries[-1]['int8_linears']} linears in INT8"
    return [
        {"site": report.model.name, "planned": f"at most {bound:g} points of top-1 lost", "found": found, "why": why}
    ]


def _broken(report: Report, out: Path) -> str:
    lines = [f"  {c['site']}: planned {c['planned']}, found {c['found']} ({c['why']})" for c in report.complaints]
    return f"the compilation breaks its contract at {len(lines)} site(s); {out} is kept and says so\n" + "\n".join(
        lines
    )


def _evaluate(job: _Job, captured: Program, folder: Path, report: Report) -> None:
    """Top-1 of the captured model in torch and of `model.onnx` in ONNX Runtime, on the same images."""
    if job.evaluation is None:
        return
    from vitgraph.accuracy import predict
    from vitgraph.backends import find_backend
    from vitgraph.report import AccuracyPart

    fixed = None if job.batch.dynamic else job.batch.best
    with job.timed("evaluation"):
        try:
            runner = find_backend("ort").load(folder / "model.onnx", job.target)
        except InputError as error:  # BF16 on a CPU
            report.accuracy_why = str(error)
            return
        with runner:
            found = predict(runner, job.evaluation, fixed, job.progress, "evaluation: model.onnx")
        reference = predict(_Eager(captured), job.evaluation, fixed, job.progress, "evaluation: reference")
    report.accuracy = AccuracyPart(
        images=len(job.evaluation),
        top1_reference=_rounded(reference.top1),
        top1=_rounded(found.top1),
        agreement=round(reference.agreement(found), 3),
        measured_on="onnxruntime model.onnx",
        data_sha256=job.evaluation.sha256,
    )
    report.accuracy_why = None


@dataclass(frozen=True)
class _Eager:
    program: Program

    def run(self, batch: Tensor) -> Tensor:
        result: Tensor = self.program.run(batch)
        return result


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)


def _build(job: _Job, model: OnnxModel, planned: EnginePlan, folder: Path, report: Report) -> None:
    """`engine.plan`, `engine.json`, `build.log` and the contract's verdict."""
    from vitgraph.backends._contract import check_contract
    from vitgraph.backends.trt import build_engine

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
    report.complaints = [asdict(complaint) for complaint in verdict.complaints]


def _write_device_build(job: _Job, folder: Path) -> None:
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
