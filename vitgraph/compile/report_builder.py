"""What the report of a compilation says that follows from the job and its program, before there is an engine."""

from __future__ import annotations

import json
from collections import Counter
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitgraph.analysis.attention import find_attentions
from vitgraph.analysis.sites import find_sites
from vitgraph.compile.report import ModelPart, Report
from vitgraph.cost.cost_report import describe_cost
from vitgraph.ir.model_output import gives_features
from vitgraph.pass_manager.findings import PlacementFinding, findings_of
from vitgraph.targets.target import all_targets

if TYPE_CHECKING:
    from vitgraph.compile.opening import OpenedRequest
    from vitgraph.ir.program import Program
    from vitgraph.pass_manager.pipeline import Pipeline


def describe(job: OpenedRequest, captured: Program, program: Program) -> Report:
    """The report as far as the program itself tells it."""
    model, features = job.model, gives_features(captured)
    kinds: dict[str, int] = Counter(site.kind for site in find_attentions(program))
    targets = tuple({each.name: each for each in (*all_targets(), job.target)}.values())  # its own may be from a file
    cost = describe_cost(captured, program, job.batch.best, targets) if program.form == "canonical" else {}
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
            notes=[*model.notes, *_taken_for_classes(job, features)],
            gives="features" if features else "classes",
        ),
        target=job.target.name,
        recipe=job.recipe.name,
        pipeline=str(job.pipeline),
        batch=str(job.batch),
        preprocessing=json.loads(model.preprocessing.to_json()) if model.preprocessing else None,
        preprocessing_why=None if model.preprocessing else "images were handed in as tensors, normalized already",
        calibration=None
        if job.calibration is None
        else {
            "source": job.calibration.source,
            "kind": job.calibration.kind,
            "images": len(job.calibration),
            "data_sha256": job.calibration.sha256,
        },
        passes=program.ledger,
        sites={"linear": len(linears), "attention": dict(kinds)},
        cost=cost,
        latency_why="nothing was timed on a GPU; where there is one, `vitgraph bench OUT --record` does it",
        seconds={},
        peak_rss_mb=0,
    )


def _taken_for_classes(job: OpenedRequest, features: bool) -> list[str]:
    """A note where nobody says what the numbers are that the model gives."""
    if features or job.model.classes is not None:
        return []
    return [
        "the model does not tell its classes: its output was taken for them (num_classes = 0 says it gives features)"
    ]


def judge_drop(steps: Pipeline, report: Report) -> list[dict[str, Any]]:
    """A violation where `max_drop` is missed: by the measured drop where there is one, else by the expected one."""
    bound: float | None = next(
        (getattr(step, "max_drop", None) for step in steps.passes if step.name == "mixed-precision"), None
    )
    placements = findings_of(report.passes, PlacementFinding)
    if bound is None or not placements:
        return []
    placement, accuracy = placements[-1], report.accuracy
    expected = placement.expected_drop
    if accuracy is None or accuracy.top1 is None or accuracy.top1_reference is None:
        drop, why = (
            expected,
            f"expected from {placement.images} calibration images; no labelled images measured it",
        )
    else:
        drop = round(accuracy.top1_reference - accuracy.top1, 3)
        why = f"measured on {accuracy.images} images; {expected:g} were expected from calibration images"
    if drop <= bound:
        return []
    found = f"{drop:g} points with {placement.int8_linears} linears in INT8"
    return [
        {"site": report.model.name, "planned": f"at most {bound:g} points of top-1 lost", "found": found, "why": why}
    ]


def judge_logits(report: Report) -> list[dict[str, Any]]:
    """A violation where logits are not finite on the images that were evaluated."""
    accuracy = report.accuracy
    if accuracy is None or not accuracy.not_finite:
        return []
    found = f"NaN or infinity for {accuracy.not_finite} of {accuracy.images} images"
    return [{"site": report.model.name, "planned": "finite logits", "found": found, "why": accuracy.measured_on}]


def broken(report: Report, out: Path) -> str:
    """What the user is told of a compilation with violations."""
    lines = [f"  {c['site']}: planned {c['planned']}, found {c['found']} ({c['why']})" for c in report.violations]
    return f"the compilation violates its contract at {len(lines)} site(s); {out} is kept and says so\n" + "\n".join(
        lines
    )
