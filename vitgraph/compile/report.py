"""The report of a compilation: one JSON document, every number measured or null with a reason beside it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from vitgraph.compile.report_shapes import (
    CostShape,
    Int8ProfitShape,
    LatencyShape,
    MaskProfitShape,
    ViolationShape,
    fault_in,
    like,
    like_batch,
    like_engine,
    like_passes,
)
from vitgraph.errors import InputError
from vitgraph.reading import REPORT, read_json


class _Part(BaseModel):
    model_config = ConfigDict(extra="allow")


class ModelPart(_Part):
    """What was compiled."""

    name: str
    source: str
    parameters: int
    input: list[Any]
    """Shape of the input, the batch as a number or as `N`."""
    weights_sha256: str
    weights: str
    """`pretrained`, `random, seed 0`, or the file."""
    notes: list[str]
    """What was decided for the user."""
    gives: Literal["classes", "features"] = "classes"
    """What its output is, and so how its accuracy is measured."""


class EmbeddingPart(_Part):
    """Features after compiling, beside those of the captured model in eager torch; shares of images in percent.

    An image's features are all that its output holds, as one vector; nearness is their cosine.
    """

    size: int
    """How many numbers an image has."""
    cosine_mean: float
    cosine_worst: float
    """Of the images' cosines between before and after."""
    neighbour_agreement: float | None
    """For how many images the nearest of the others is the same before and after."""
    knn_top1_reference: float | None
    knn_top1: float | None
    """How many images the labels of their nearest neighbours classify rightly, each left out of its own vote."""
    neighbours: int
    """How many vote."""
    neighbours_why: str | None = None
    """Why one of these is null."""


class AccuracyPart(_Part):
    """Top-1 in percent, before (the captured model in eager torch) and after; agreement of the two in percent.

    A model that gives features has `embedding` in their place. `execution` is there too where the backend that measured
    says what it computed (see `vitgraph.runtime.backend`).
    """

    images: int
    top1_reference: float | None
    top1: float | None
    agreement: float | None
    top1_why: str | None = None
    """Why top-1 and agreement are null, where the model gives features."""
    embedding: EmbeddingPart | None = None
    embedding_why: str | None = None
    measured_on: str
    data_sha256: str
    not_finite: int = 0
    """For how many images the output holds NaN or infinity after compiling: they count as wrong."""
    not_finite_reference: int = 0
    """For how many the captured model's does."""


class Report(_Part):
    """`report.json`. A key that ends in `_why` says why its neighbour is null."""

    vitgraph: str
    model: ModelPart
    target: str
    recipe: str
    pipeline: str
    batch: Annotated[str, AfterValidator(like_batch)]
    preprocessing: dict[str, Any] | None
    preprocessing_why: str | None = None
    calibration: dict[str, Any] | None
    passes: Annotated[list[dict[str, Any]], AfterValidator(like_passes)]
    sites: dict[str, Any]
    cost: Annotated[dict[str, Any], AfterValidator(like(CostShape))]
    lowering: dict[str, Any] | None = None
    """How many calls of the program there are, how many of `model.onnx` were compared with it on a probe batch, and the one that is furthest off."""
    lowering_why: str | None = None
    """Why some of them were not compared, where that is so."""
    accuracy: AccuracyPart | None = None
    accuracy_why: str | None = None
    mask_profit: Annotated[dict[str, Any] | None, AfterValidator(like(MaskProfitShape))] = None
    """With `--drop-unprofitable-masks`: a verdict for each masked site, and the accuracy with all masks (see `vitgraph.compile.mask_profit`)."""
    int8_profit: Annotated[dict[str, Any] | None, AfterValidator(like(Int8ProfitShape))] = None
    """With `--measured` times of products: a verdict for each INT8 linear (see `vitgraph.compile.int8_profit`)."""
    engine: Annotated[dict[str, Any] | None, AfterValidator(like_engine)] = None
    engine_why: str | None = None
    latency: Annotated[dict[str, Any] | None, AfterValidator(like(LatencyShape))] = None
    """What a GPU took, as `vitgraph bench --record` measured it; nothing else fills it."""
    latency_why: str | None = None
    violations: Annotated[list[dict[str, Any]], AfterValidator(like(list[ViolationShape]))] = Field(
        default_factory=list[dict[str, Any]]
    )
    """What the engine contract found broken; empty where it holds."""
    warnings: list[str] = Field(default_factory=list[str])
    """What to look at although the contract holds, such as accuracy that fell."""
    seconds: dict[str, float | None]
    peak_rss_mb: int

    @property
    def uncompared(self) -> str | None:
        """What of `model.onnx` was not held to the program, and why; None where all was."""
        if self.lowering_why is None:
            return None
        found = self.lowering or {}
        counts = f"{found['compared']} of {found['calls']} calls" if {"compared", "calls"} <= found.keys() else "not"
        return f"{counts} compared with the program: {self.lowering_why}"

    def to_json(self) -> str:
        """The document, indented, keys in a fixed order."""
        return json.dumps(self.model_dump(mode="json"), indent=2) + "\n"


def read_report(path: str | Path) -> Report:
    """Read `report.json`, or the one in a compilation's folder; `InputError` if there is none or it is no report."""
    file = Path(path)
    file = file / "report.json" if file.is_dir() else file
    content = read_json(file, REPORT, nan=True)  # a decibel of a noise that is not there is infinite
    try:
        return Report.model_validate(content)
    except ValidationError as error:
        raise InputError(f"{file}: is no vitgraph report: {fault_in(error)}; compile again, or mend it") from error


def write_html(report: Report, path: Path) -> None:
    """The same as one self-contained HTML page."""
    from vitgraph.compile.page import render

    path.write_text(render("report.html.j2", report=report), encoding="utf-8")
