"""The stages of a training, one after the other: passes, then training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vitgraph.finetuning.opening import OpenedTraining
from vitgraph.finetuning.recipe import Stage
from vitgraph.finetuning.stage_work import FEATURES, StageResult, StageWork
from vitgraph.ir.program import Program
from vitgraph.ir.tensor_names import restore_names, trained_names
from vitgraph.pass_manager.instruments import Compare, Verify
from vitgraph.pass_manager.pass_contract import Context, Effect
from vitgraph.pass_manager.pipeline import Pipeline
from vitgraph.passes.prepared import prepare
from vitgraph.progress import Progress
from vitgraph.training.processes import Processes


def run_stages(
    opened: OpenedTraining, processes: Processes, scratch: Path | None, progress: Progress
) -> list[StageResult]:
    """Every stage of the request, from the program as it comes."""
    program, done = opened.program, list[StageResult]()
    teacher = None if opened.teacher is None else prepare(opened.teacher)
    ran = {entry["name"] for entry in program.ledger}
    recipe = opened.request.recipe
    for stage in recipe.stages:
        passes = Pipeline(tuple(step for step in stage.passes.passes if step.name not in ran))
        program = _run_passes(opened, program, passes, progress)
        work = StageWork(opened, stage, program, teacher, processes, scratch, progress)
        result = work.run()
        done.append(result)
        program = result.trained.program
        program.ledger.append(_entry(stage, result))
        program.provenance["recipe"] = {"name": recipe.name, "pipeline": str(recipe.engine)}
        if result.failed:
            break
    return done


def _run_passes(opened: OpenedTraining, program: Program, passes: Pipeline, progress: Progress) -> Program:
    """What the passes of a stage make of the program, its weights still under their names."""
    probe, _ = next(opened.calibration.batches(2))
    context = Context(opened.request.target, [probe], opened.calibration, progress)
    names = trained_names(program)
    found = passes.run(program, context, [Verify(), Compare()])
    found.own_tensors()
    restore_names(found, names)
    return found


def _entry(stage: Stage, result: StageResult) -> dict[str, Any]:
    """The ledger's line for a stage's training, of the form of a pass's."""
    nodes = len(result.trained.program.calls())
    return {
        "name": "train",
        "options": {"stage": stage.name, **stage.settings.plain()},
        "effect": Effect.LOSSY.value,
        "changed": True,
        "nodes": [nodes, nodes],
        "drift": None,
        "refused": [],
        **({FEATURES: dict(zip(result.sites, result.trained.distances, strict=True))} if result.sites else {}),
    }
