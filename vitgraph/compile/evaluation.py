"""Accuracy of what was compiled, beside that of the captured model on the same images."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from vitgraph.compile.accuracy import Predictions, predict
from vitgraph.compile.opening import OpenedRequest
from vitgraph.compile.report import AccuracyPart
from vitgraph.compile.stopwatch import Stopwatch
from vitgraph.errors import InputError
from vitgraph.ir.program import Program

if TYPE_CHECKING:
    from torch import Tensor

    from vitgraph.runtime.onnx_model import OnnxModel


def evaluate(
    job: OpenedRequest, clock: Stopwatch, reference: Reference, program: Program, model: OnnxModel, what: str
) -> tuple[AccuracyPart | None, str | None]:
    """Top-1 of the captured model in torch and of what was made of it on the same images, or why there is none."""
    if job.evaluation is None:
        return None, "no images to evaluate on; give --evaluate-data"
    fixed = None if job.batch.dynamic else job.batch.best
    with clock.timed("evaluation"):
        try:
            runner = job.runner.load(model.path if job.runner.source == "model.onnx" else program, job.target)
        except InputError as error:  # BF16 on a CPU
            return None, str(error)
        with runner:
            found = predict(runner, job.evaluation, fixed, job.progress, f"evaluation: {what}")
            executed = runner.execution(job.batch.best)
        expected = reference.predictions
    accuracy = AccuracyPart(
        images=len(job.evaluation),
        top1_reference=_rounded(expected.top1),
        top1=_rounded(found.top1),
        agreement=round(expected.agreement(found), 3),
        measured_on=f"{job.runner.name} {job.runner.source}",
        data_sha256=job.evaluation.sha256,
        not_finite=found.not_finite,
        **({} if executed is None else {"execution": executed.as_json()}),
    )
    return accuracy, None


@dataclass
class Reference:
    """The captured model, and its predictions on the evaluation images: made when first asked for, and once."""

    job: OpenedRequest
    program: Program

    @cached_property
    def predictions(self) -> Predictions:
        """In eager torch."""
        job = self.job
        assert job.evaluation is not None
        fixed = None if job.batch.dynamic else job.batch.best
        return predict(self, job.evaluation, fixed, job.progress, "evaluation: reference")

    def run(self, batch: Tensor) -> Tensor:
        """The logits."""
        result: Tensor = self.program.run(batch)
        return result


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
