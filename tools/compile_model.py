"""`vitgraph compile`: a model in, a folder with engine, ONNX and report out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vitgraph.domains import Natural, Points
from vitgraph.errors import CheckFailed
from vitgraph.pass_manager.findings import (
    BudgetFinding,
    PlacementFinding,
    RecipeFinding,
    findings_of,
)
from vitgraph.tools.command import Answer, command
from vitgraph.tools.completion import recipe_names, target_names
from vitgraph.tools.drawing import group, table
from vitgraph.tools.drawn_plan import is_cuda, plan_facts
from vitgraph.tools.model_options import ModelSettings
from vitgraph.tools.pass_options import PIPELINE_HELP, CalibrationSettings
from vitgraph.tools.progress import show_progress
from vitgraph.tools.shared_options import EvaluateData, EvaluateImages, Force, Model, OutputFolder

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vitgraph.compile.report import AccuracyPart, EmbeddingPart, Report


def declare(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "compile")(compile_model)


def compile_model(
    model: Model,
    target: Annotated[
        str,
        typer.Option(
            help="The device to compile for (`vitgraph targets`, or a .yaml file).", autocompletion=target_names
        ),
    ],
    output: OutputFolder,
    settings: ModelSettings,
    calibration: CalibrationSettings,
    recipe: Annotated[
        str | None,
        typer.Option(
            help="A recipe's name (`vitgraph recipes`) or its .yaml file; a program that was trained knows its own.",
            autocompletion=recipe_names,
            show_default=False,
        ),
    ] = None,
    evaluate_data: EvaluateData = None,
    evaluate_images: EvaluateImages = None,
    pipeline: Annotated[
        str | None, typer.Option(help=PIPELINE_HELP + " In place of the recipe's.", show_default=False)
    ] = None,
    max_drop: Annotated[
        Points | None,
        typer.Option(
            metavar="POINTS", help="Top-1 points INT8 may cost; measured sites go to FP16.", show_default=False
        ),
    ] = None,
    warn_drop: Annotated[
        Points, typer.Option(metavar="POINTS", help="Top-1 points that may be lost without a warning.")
    ] = 2.0,
    min_int8: Annotated[
        Natural | None, typer.Option(help="How many linears stay INT8 at least.", show_default=False)
    ] = None,
    max_float_layers: Annotated[
        Natural | None, typer.Option(help="How many sites may leave INT8 at most.", show_default=False)
    ] = None,
    drop_unprofitable_masks: Annotated[
        bool, typer.Option("--drop-unprofitable-masks", help="Drop N:M masks that buy no time on the target.")
    ] = False,
    measured: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE|OUT|h200",
            help="Judge that by what was measured on the device: times of products (`vitgraph tune`), by which INT8 falls back to FP16 too,"
            " or the kernels of an engine built there (engine.json, trtexec's layers.json).",
            show_default=False,
        ),
    ] = None,
    backend: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="What builds the engine, or only measures accuracy (`vitgraph doctor` lists them); tensorrt and ort unless given.",
            show_default=False,
        ),
    ] = None,
    force: Force = False,
) -> Answer:
    """Compile a model for a device and write engine, ONNX, program and report."""
    from vitgraph.compile import compiler

    with show_progress() as progress:
        try:
            report = compiler.compile_model(
                model,
                target=target,
                recipe=recipe,
                out=output,
                weights=settings.weights,
                model_args=settings.arguments(),
                preprocessing=settings.preprocessing(),
                calibration_data=calibration.calibration_data,
                calibration_images=calibration.calibration_images,
                evaluate_data=evaluate_data,
                evaluate_images=evaluate_images,
                pipeline=pipeline,
                max_drop=max_drop,
                warn_drop=warn_drop,
                min_int8=min_int8,
                max_float_layers=max_float_layers,
                drop_unprofitable_masks=drop_unprofitable_masks,
                measured=measured,
                backend=backend,
                batch=settings.batch,
                force=force,
                seed=settings.seed,
                progress=progress,
            )
        except CheckFailed as error:
            return _failed(error, output)
    return Answer(json.loads(report.to_json()), summary(report, output))


def _failed(error: CheckFailed, output: Path) -> Answer:
    """The work ran to its end, so there is a report to show beside the violation."""
    from vitgraph.compile.report import read_report

    if not (output / "report.json").is_file():
        raise error
    report = read_report(output)
    data = {"error": str(error), "exit_status": error.exit_status, **json.loads(report.to_json())}
    return Answer(data, summary(report, output), error.exit_status, str(error))


def summary(report: Report, folder: Path) -> Any:
    """What a person asks first of a compilation, each line with where its number comes from."""
    facts = [[key, value] for key, value in _facts(report) if value]
    facts += [["written to", str(folder)], *_contents(folder)]
    parts: list[Any] = [table([report.model.name, f"{report.recipe} for {report.target}"], facts)]
    if report.violations:
        rows = [[str(c["site"]), str(c["planned"]), str(c["found"]), str(c["why"])] for c in report.violations]
        parts.append(
            table(["site", "planned", "found", "why"], rows, title="The compilation does not keep its contract:")
        )
    return group(*parts)


def _contents(folder: Path) -> Iterator[list[str]]:
    """What is in the folder, and what to do with it where the engine is still to be built."""
    if not folder.is_dir():
        return
    yield ["with", ", ".join(f"{each.name}/" if each.is_dir() else each.name for each in sorted(folder.iterdir()))]
    if (folder / "build_on_device.sh").is_file() and not (folder / "engine.plan").is_file():
        yield ["next", "copy the folder to the device and run `sh build_on_device.sh` in it, with trtexec on the PATH"]


def _facts(report: Report) -> list[tuple[str, str]]:
    accuracy, engine, cost = report.accuracy, report.engine, report.cost
    facts = [("parameters", f"{report.model.parameters:,}"), ("pipeline", report.pipeline)]
    refused = [f"{each['site']}: {each['why']}" for entry in report.passes for each in entry.get("refused", [])]
    if refused:
        facts.append(("left alone", f"{refused[0]}" + (f" (and {len(refused) - 1} more)" if len(refused) > 1 else "")))
    facts += [("recipe to take", f"{each.recipe}: {each.why}") for each in findings_of(report.passes, RecipeFinding)]
    facts += [("pruned", _pruned(each)) for each in findings_of(report.passes, BudgetFinding)]
    facts += [("placement", _placement(each)) for each in findings_of(report.passes, PlacementFinding)]
    if report.mask_profit is not None:
        facts.append(("masks", _mask_profit(report.mask_profit)))
    if report.int8_profit is not None:
        facts.append(("INT8", _int8_profit(report.int8_profit)))
    stored = cost.get("weight_bytes")
    if stored:
        facts.append(("weights", f"{stored['stored']:,} bytes packed, of {stored['dense_fp32']:,} in FP32"))
    if accuracy is None:
        facts.append(("accuracy", f"not measured: {report.accuracy_why}"))
    elif accuracy.embedding is not None:
        facts += _embedding(accuracy, accuracy.embedding)
    else:
        facts += [
            ("top-1", f"{_percent(accuracy.top1)}, reference {_percent(accuracy.top1_reference)}"),
            ("agreement", f"{_percent(accuracy.agreement)} of {accuracy.images} images, on {accuracy.measured_on}"),
            ("executed", str((accuracy.model_extra or {}).get("execution", {}).get("summary", ""))),
        ]
    if report.latency:
        facts += [("latency", _timed(row, report.latency["measured_on"])) for row in report.latency["results"]]
    facts.append(("model.onnx", report.uncompared or ""))
    facts += [("warning", warning) for warning in report.warnings]
    if engine is None:
        return [*facts, ("engine", f"not built: {report.engine_why}")]
    return [*facts, *_engine_facts(engine, report.sites.get("linear"))]


def _timed(row: dict[str, Any], card: str) -> str:
    return (
        f"{row['device_median_ms']:g} ms ({row['device_p10_ms']:g} to {row['device_p90_ms']:g}) for {row['batch']} images by "
        f"{row['backend']} on {card}"
    )


def _embedding(accuracy: AccuracyPart, found: EmbeddingPart) -> list[tuple[str, str]]:
    why = f" ({found.neighbours_why})" if found.neighbours_why else ""
    return [
        ("cosine", f"{found.cosine_mean:.4f} mean, {found.cosine_worst:.4f} worst, of {found.size} features an image"),
        (
            "neighbours",
            f"{_percent(found.neighbour_agreement)} the same, of {accuracy.images} images, on {accuracy.measured_on}",
        ),
        (
            "top-1 by neighbours",
            f"{_percent(found.knn_top1)}, reference {_percent(found.knn_top1_reference)}{why}",
        ),
        ("executed", str((accuracy.model_extra or {}).get("execution", {}).get("summary", ""))),
    ]


def _pruned(found: BudgetFinding) -> str:
    what = {"flops": "multiply-accumulates", "latency": "the estimated time", "energy": "the estimated energy"}
    return f"{found.left:.1%} of {what[found.budget]} left, {found.asked:.1%} asked for; {found.runs}"


def _placement(found: PlacementFinding) -> str:
    bound = "" if found.max_drop is None else f" of {found.max_drop:g} allowed"
    return (
        f"{found.int8_linears} linears INT8, {found.float_layers} site(s) fallen back; {found.expected_drop:.2f} points"
        f"{bound} expected to be lost ({found.expected_drop_all_int8:.2f} with all in INT8)"
    )


def _mask_profit(found: dict[str, Any]) -> str:
    regained = found["top1_regained"]
    gain = f"top-1 {found['top1_all_masks']:.2f} % with all" if regained is not None else f"{found['top1_why']}"
    return f"{found['kept']} kept, {found['dropped']} dropped that buy no time; {gain}"


def _int8_profit(found: dict[str, Any]) -> str:
    idle = [site for site in found["sites"] if not site["pays"]]
    measured = sum(site["source"] == "measured" for site in idle)
    by = f"by products of which {measured} of {len(idle)} are measured, else estimated"
    gained = f", {found['us_gained']:.4g} us of a batch gained {by}" if idle else ""
    regained = found["top1_regained"]
    gain = f"top-1 {found['top1_all_int8']:.2f} % without that" if regained is not None else f"{found['top1_why']}"
    return f"{found['kept']} linears kept, {found['fallen_back']} fallen back that buy no time{gained}; {gain}"


def _engine_facts(engine: dict[str, Any], all_linears: int | None) -> list[tuple[str, str]]:
    if is_cuda(engine):
        return plan_facts(engine)
    if not {"linears", "attention", "gemm"} <= engine.keys():  # another package's builder
        return [("engine", ", ".join(f"{key} {value}" for key, value in engine.items()))]
    linears, attention = engine["linears"], engine["attention"]
    sparse: dict[str, Any] = engine.get("sparse") or {}
    fallback = f", in float: {', '.join(map(str, linears['fallback']))}" if linears["fallback"] else ""
    facts = [
        ("engine", f"{engine['bytes']:,} bytes, {engine['layers']} layers ({engine['flavour']} {engine['version']})"),
        ("role", f"{engine['role']}: {engine['role_why']}"),
        ("linears", f"{_kept_linears(linears)}{_of(all_linears)}{fallback}"),
        ("products", ", ".join(f"{count} {kind}" for kind, count in engine["gemm"].items() if count) or "none"),
        ("attention", f"{attention['fused']} of {attention['sites']} fused, {_kept_attentions(attention)}"),
    ]
    if sparse.get("masked"):
        facts.append(("sparse", f"{_held(sparse)}, {sparse.get('chosen')} chosen: {_why_sparse(sparse)}"))
    return facts


def _held(sparse: dict[str, Any]) -> str:
    """How many masks there are, and whether the file still has them; an earlier version did not say."""
    if "held" not in sparse:
        return f"{sparse['masked']} masked"
    kinds = ", ".join(f"{count} {pattern}" for pattern, count in sparse["patterns"].items())
    return f"{sparse['masked']} masked ({kinds}), {sparse['held']} of them held in model.onnx"


def _why_sparse(sparse: dict[str, Any]) -> str:
    return "; ".join(why for why in (sparse.get("why"), sparse.get("dense_why")) if why)


def _kept_linears(linears: dict[str, Any]) -> str:
    """In each format that was planned, how many run in it."""
    kinds = [name for name in ("int8", "fp8") if linears.get(f"planned_{name}")] or ["int8"]
    return ", ".join(f"{linears[kind]} of {linears[f'planned_{kind}']} planned run in {kind.upper()}" for kind in kinds)


def _of(all_linears: int | None) -> str:
    """What a count of planned ones alone would hide: how many there are."""
    return f"; the model has {all_linears}" if all_linears else ""


def _kept_attentions(attention: dict[str, Any]) -> str:
    return ", ".join(
        f"{attention[f'fused_{kind}']} in {kind.upper()}" for kind in ("int8", "fp8") if f"fused_{kind}" in attention
    )


def _percent(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.2f} %"
