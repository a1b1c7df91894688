"""A request, opened: what is told before any work, and where bounds go."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from vitgraph.compile.opening import bounded, open_request
from vitgraph.compile.recipe import load_recipe
from vitgraph.compile.request import CompileRequest, DataRequest, MaskRequest, OutputRequest, PrecisionBounds
from vitgraph.errors import InputError
from vitgraph.frontend.capture import capture_model
from vitgraph.frontend.model_request import ModelRequest
from vitgraph.frontend.models import load_model
from vitgraph.ir.batch import ONE_IMAGE, Batch
from vitgraph.passes import find_pass, pipeline
from vitgraph.targets.target import get_target


def quiet(what: str, done: int, total: int) -> None:
    """Progress that nobody looks at."""


@pytest.fixture
def request_(tmp_path: Path) -> CompileRequest:
    return CompileRequest(
        model=ModelRequest("digits-vit", weights="random"),
        target=get_target("a100"),
        recipe=load_recipe("int8", find_pass),
        output=OutputRequest(tmp_path / "out"),
        data=DataRequest("digits:train", 6, "digits:test", 4),
    )


def test_opens_what_is_named(request_: CompileRequest) -> None:
    opened = open_request(replace(request_, bounds=PrecisionBounds(min_int8=3)), quiet)
    assert "quantize,mixed-precision{min_int8=3}" in str(opened.pipeline)
    assert opened.batch == ONE_IMAGE
    assert opened.calibration is not None
    assert opened.evaluation is not None
    assert (len(opened.calibration), len(opened.evaluation)) == (6, 4)
    assert opened.model.name == opened.weights.take().name == "digits-vit"


def test_images_that_python_code_hands_in(request_: CompileRequest) -> None:
    pixels = torch.randn(5, 1, 24, 24, generator=torch.Generator().manual_seed(0))
    data = DataRequest([pixels[:3], pixels[3:]], 4, (pixels, torch.arange(5)))
    opened = open_request(replace(request_, data=data), quiet)
    assert opened.calibration is not None
    assert opened.evaluation is not None
    assert torch.equal(next(opened.calibration.batches(4))[0], pixels[:4])
    assert opened.evaluation.labels == (0, 1, 2, 3, 4)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"data": DataRequest()}, "no calibration images"),
        ({"data": DataRequest("digits:train", 6, "random", 4)}, "no labels"),
        ({"recipe": load_recipe("fp16", find_pass), "bounds": PrecisionBounds(max_drop=1.0)}, "fp16 quantizes nothing"),
        ({"masks": MaskRequest(True)}, "has no nm-mask"),
        ({"target": get_target("vegeta")}, "vegeta"),
        ({"model": ModelRequest("digits-vitt")}, "digits-vit"),
    ],
)
def test_is_told_before_any_work(request_: CompileRequest, change: dict[str, Any], told: str) -> None:
    with pytest.raises(InputError, match=told):
        open_request(replace(request_, **change), quiet)


def test_a_folder_that_is_there_is_told_first(request_: CompileRequest) -> None:
    request_.output.out.mkdir()
    with pytest.raises(InputError, match="exists"):
        open_request(replace(request_, model=ModelRequest("digits-vitt")), quiet)


def test_formats_are_chosen_once(request_: CompileRequest) -> None:
    captured = capture_model(load_model("digits-vit"), Batch(2, 2, 2))
    half = pipeline("canonicalize,assign-precision{to=f16},materialize").run(captured)
    with pytest.raises(InputError, match=r"weights in float16 already, and recipe int8 \(quantize.* starts from FP32"):
        open_request(replace(request_, model=ModelRequest(half)), quiet)
    rest = replace(request_, model=ModelRequest(half), pipeline=pipeline("legalize"))
    assert open_request(rest, quiet).batch == Batch(2, 2, 2)
    assert open_request(replace(request_, model=ModelRequest(captured)), quiet).model.source == "vitgraph, embedded"


@pytest.mark.parametrize(
    ("steps", "placed"),
    [
        ("canonicalize,quantize,materialize", "canonicalize,quantize,mixed-precision{max_drop=1.0},materialize"),
        ("quantize,quantize-linear-attention,reconstruct", "quantize,quantize-linear-attention,mixed-precision{max_drop=1.0},reconstruct"),
        ("quantize,mixed-precision{min_int8=4},materialize", "quantize,mixed-precision{max_drop=1.0 min_int8=4},materialize"),
    ],
)  # fmt: skip
def test_where_bounds_go(steps: str, placed: str) -> None:
    assert str(bounded(pipeline(steps), PrecisionBounds(max_drop=1.0), "a")) == placed
    assert bounded(pipeline(steps), PrecisionBounds(), "a") == pipeline(steps)
