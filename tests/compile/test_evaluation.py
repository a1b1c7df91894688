"""Accuracy beside the captured model's own."""

from dataclasses import replace
from pathlib import Path

import pytest

from vitgraph.backends.onnx.lowering import lower
from vitgraph.compile.evaluation import Reference, evaluate
from vitgraph.compile.opening import OpenedRequest, open_request
from vitgraph.compile.recipe import load_recipe
from vitgraph.compile.request import CompileRequest, DataRequest, OutputRequest
from vitgraph.compile.stopwatch import Stopwatch
from vitgraph.frontend.model_request import ModelRequest
from vitgraph.frontend.open_model import program_of
from vitgraph.ir.batch import Batch
from vitgraph.passes import find_pass
from vitgraph.passes.prepared import prepare
from vitgraph.targets.target import get_target


@pytest.fixture
def job(tmp_path: Path) -> OpenedRequest:
    request = CompileRequest(
        model=ModelRequest("digits-vit"),
        target=get_target("a100"),
        recipe=load_recipe("fp16", find_pass),
        output=OutputRequest(tmp_path / "out"),
        data=DataRequest(evaluation="digits:test", evaluation_images=6),
        batch=Batch(4, 4, 4),
    )
    return open_request(request, lambda what, done, total: None)


def test_the_reference_is_run_once_and_only_when_asked_for(job: OpenedRequest, tmp_path: Path) -> None:
    told = list[str]()

    def tell(what: str, done: int, total: int) -> None:
        told.append(what)

    job = replace(job, progress=tell)
    captured, clock = program_of(job.weights.take(), job.batch), Stopwatch()
    reference, program = Reference(job, captured), prepare(captured)
    model = lower(program, tmp_path / "model.onnx")
    for what in ("one", "two"):
        found, why = evaluate(job, clock, reference, program, model, what)
        assert why is None
        assert found is not None
        assert (found.images, found.agreement, found.top1) == (6, 100.0, found.top1_reference)
    assert told == ["evaluation: one"] * 2 + ["evaluation: reference"] * 2 + ["evaluation: two"] * 2
    assert list(clock.seconds) == ["evaluation"]


def test_without_images_it_says_why(job: OpenedRequest, tmp_path: Path) -> None:
    job = replace(job, evaluation=None)
    program = prepare(program_of(job.weights.take(), job.batch))
    model = lower(program, tmp_path / "model.onnx")
    found, why = evaluate(job, Stopwatch(), Reference(job, program), program, model, "none")
    assert found is None
    assert why == "no images to evaluate on; give --evaluate-data"
