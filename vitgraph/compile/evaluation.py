"""Accuracy of what was compiled, beside that of the captured model on the same images."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from vitgraph.compile.accuracy import Predictions, predict
from vitgraph.compile.features import NEIGHBOURS, Features, embed
from vitgraph.compile.opening import OpenedRequest
from vitgraph.compile.report import AccuracyPart, EmbeddingPart
from vitgraph.compile.stopwatch import Stopwatch
from vitgraph.errors import InputError
from vitgraph.images.calibration_data import Images
from vitgraph.ir.model_output import gives_features
from vitgraph.ir.program import Program
from vitgraph.progress import Progress

if TYPE_CHECKING:
    from torch import Tensor

    from vitgraph.runtime.onnx_model import OnnxModel


def evaluate(
    job: OpenedRequest, clock: Stopwatch, reference: Reference, program: Program, model: OnnxModel, what: str
) -> tuple[AccuracyPart | None, str | None]:
    """What was made of the captured model beside that model in torch, on the same images; or why there is nothing.

    Classes are counted, features are held against each other (see `vitgraph.ir.model_output`).
    """
    if job.evaluation is None:
        return None, "no images to evaluate on; give --evaluate-data"
    fixed = None if job.batch.dynamic else job.batch.best
    told = (job.evaluation, fixed, job.progress, f"evaluation: {what}")
    with clock.timed("evaluation"):
        try:
            runner = job.runner.load(model.path if job.runner.source == "model.onnx" else program, job.target)
        except InputError as error:  # BF16 on a CPU
            return None, str(error)
        with runner:
            found = embed(runner, *told) if gives_features(reference.program) else predict(runner, *told)
            executed = runner.execution(job.batch.best)
        if isinstance(found, Features):
            compared = _features(reference.features, found)
        else:
            compared = _classes(reference.predictions, found)
    execution: dict[str, Any] = {} if executed is None else {"execution": executed.as_json()}
    accuracy = AccuracyPart(
        images=len(job.evaluation),
        **compared,
        measured_on=f"{job.runner.name} {job.runner.source}",
        data_sha256=job.evaluation.sha256,
        not_finite=found.not_finite,
        **execution,
    )
    return accuracy, None


def _classes(expected: Predictions, found: Predictions) -> dict[str, Any]:
    return {
        "not_finite_reference": expected.not_finite,
        "top1_reference": _rounded(expected.top1),
        "top1": _rounded(found.top1),
        "agreement": round(expected.agreement(found), 3),
        "embedding_why": "the model gives classes",
    }


def _features(expected: Features, found: Features) -> dict[str, Any]:
    return {
        "not_finite_reference": expected.not_finite,
        "top1_reference": None,
        "top1": None,
        "agreement": None,
        "top1_why": "the model gives features; see embedding",
        "embedding": compare_features(expected, found),
    }


def compare_features(expected: Features, found: Features) -> EmbeddingPart:
    """The features of the same images before and after."""
    cosines, images = expected.cosines(found), len(found.values)
    why = "one image has no neighbour" if images < 2 else "the images have no labels" if found.labels is None else None
    return EmbeddingPart(
        size=found.values.shape[1],
        cosine_mean=round(float(cosines.mean()), 6),
        cosine_worst=round(float(cosines.min()), 6),
        neighbour_agreement=_rounded(expected.neighbour_agreement(found)),
        knn_top1_reference=_rounded(expected.knn_top1),
        knn_top1=_rounded(found.knn_top1),
        neighbours=min(NEIGHBOURS, images - 1),
        neighbours_why=why,
    )


@dataclass
class Reference:
    """The captured model, and its predictions or features on the evaluation images: made when first asked for, and once."""

    job: OpenedRequest
    program: Program

    @cached_property
    def predictions(self) -> Predictions:
        """In eager torch."""
        return predict(self, *self._told)

    @cached_property
    def features(self) -> Features:
        """In eager torch."""
        return embed(self, *self._told)

    @property
    def _told(self) -> tuple[Images, int | None, Progress, str]:
        job = self.job
        assert job.evaluation is not None
        fixed = None if job.batch.dynamic else job.batch.best
        return job.evaluation, fixed, job.progress, "evaluation: reference"

    def run(self, batch: Tensor) -> Tensor:
        """The output."""
        result: Tensor = self.program.run(batch)
        return result


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
