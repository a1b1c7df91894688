"""What training puts into `train.json`, and the folder it leaves; every number measured, or null with a reason.

model, teacher, data, processes   what was trained, from what it learnt, on which images, by how many processes
stages                            for each: settings, `top1_before` (as its passes left it) and `top1` on the evaluation images, the held-out
                                  images after each epoch (`looks`, the best by its place), the loss (`points`), why it stopped early
evaluation                        the images of `top1`, and the teacher's own there
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitgraph.finetuning.opening import OpenedTraining
from vitgraph.finetuning.recipe import TrainingRecipe
from vitgraph.finetuning.stage_work import StageResult
from vitgraph.ir.printer import show
from vitgraph.ir.program_file import save
from vitgraph.training.processes import Processes

if TYPE_CHECKING:
    from vitgraph.images.image_set import ImageSet


def describe(
    opened: OpenedTraining, done: Sequence[StageResult], processes: Processes, reference: float | None
) -> dict[str, Any]:
    """The keys of `train.json`."""
    model, request = opened.model, opened.request
    teacher = request.teacher
    return {
        "model": {"name": model.name, "source": model.source, "weights": model.weights, "weights_sha256": model.weights_sha256},
        "recipe": request.recipe.name,
        "teacher": None if opened.teacher is None else (teacher.name if teacher is not None else "the model as it comes"),
        "data": [
            {"source": each.images.source, "images": len(each.images), "labelled": each.labelled, "share": each.share, "sha256": each.images.sha256}
            for each in opened.sources
        ],
        "held_out": {"images": len(opened.held_out), "labelled": opened.held_out.labels is not None},
        "evaluation": _evaluation(opened.evaluation, reference),
        "evaluation_why": None if opened.evaluation is not None else "no images to evaluate on; give --evaluate-data",
        "processes": {
            "count": processes.count, "device": processes.device.type, "workers": request.workers,
            "precision": processes.precision, "precision_why": processes.precision_why,
        },
        "stages": [_stage(each) for each in done],
    }  # fmt: skip


def write(data: dict[str, Any], done: Sequence[StageResult], recipe: TrainingRecipe, folder: Path) -> None:
    """The program of each stage, the last in `program/`; the recipe that makes it again; `train.json` and its page."""
    from vitgraph.compile.page import render

    for stage in done[:-1]:
        save(stage.trained.program, folder / "stages" / f"{stage.name}.safetensors")
    program = done[-1].trained.program
    save(program, folder / "program" / "program.safetensors")
    (folder / "program" / "graph.txt").write_text(show(program), encoding="utf-8")
    (folder / "recipe.yaml").write_text(recipe.to_yaml(), encoding="utf-8")
    (folder / "train.json").write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")
    (folder / "train.html").write_text(render("train.html.j2", found=data), encoding="utf-8")


def _evaluation(images: ImageSet | None, reference: float | None) -> dict[str, Any] | None:
    if images is None:
        return None
    return {"images": len(images), "source": images.source, "data_sha256": images.sha256, "top1_teacher": reference}


def _stage(stage: StageResult) -> dict[str, Any]:
    features = [
        {"site": site, "weight": round(weight, 4), "distance": round(distance, 6)}
        for site, weight, distance in zip(stage.sites, stage.site_weights, stage.trained.distances, strict=True)
    ]
    return {
        "name": stage.name,
        "settings": stage.settings.plain(),
        "top1_before": stage.top1_before,
        "top1": stage.top1,
        "features": features,
        **{name: value for name, value in asdict(stage.trained.curves).items() if name != "recent"},
    }
