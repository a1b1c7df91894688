"""What a request for a model comes to."""

import gc
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.planted import MLP
from vitgraph.errors import InputError
from vitgraph.frontend.capture import capture_model
from vitgraph.frontend.model_request import ModelRequest
from vitgraph.frontend.models import LoadedModel, load_model
from vitgraph.frontend.open_model import Handover, batch_for, open_model, open_program, program_of
from vitgraph.frontend.saved_programs import SavedModel, lowered
from vitgraph.images.preprocess import PreprocessingOptions
from vitgraph.ir.batch import ONE_IMAGE, Batch
from vitgraph.ir.parser import parse
from vitgraph.ir.program import Program
from vitgraph.ir.program_file import save
from vitgraph.ir.tensor_type import Dim
from vitgraph.passes import pipeline


@pytest.fixture(scope="module")
def digits() -> Program:
    return capture_model(load_model("digits-vit"), Batch(2, 2, 2))


@pytest.fixture
def bare(digits: Program) -> Program:
    """The same, of which nothing is known."""
    copy = digits.copy()
    copy.provenance = {}
    return copy


def test_a_name_is_loaded_and_captured() -> None:
    model = open_model(ModelRequest("digits-vit", weights="random", seed=3))
    assert isinstance(model, LoadedModel)
    assert model.weights == "random, seed 3"
    assert batch_for(model, None) == ONE_IMAGE
    assert batch_for(model, Batch(4, 4, 4)) == Batch(4, 4, 4)
    assert program_of(model, ONE_IMAGE).form == "captured"


@pytest.mark.parametrize("given", ["file", "folder", "path", "program"])
def test_a_saved_program_stands_for_its_model(given: str, digits: Program, tmp_path: Path) -> None:
    file = tmp_path / "program.safetensors"
    save(digits, file)
    spec: Any = {"file": str(file), "folder": str(tmp_path), "path": file, "program": digits}[given]
    loaded, model = load_model("digits-vit"), open_model(ModelRequest(spec))
    assert isinstance(model, SavedModel)
    for name in ("name", "source", "weights", "preprocessing", "classes", "class_names", "weights_sha256"):
        assert getattr(model, name) == getattr(loaded, name), name
    assert model.notes[-1].startswith("compiled from")
    assert batch_for(model, None) == Batch(2, 2, 2)
    assert str(program_of(model, Batch(2, 2, 2))) == str(digits)


def test_a_batch_that_it_was_not_captured_for(digits: Program) -> None:
    with pytest.raises(InputError, match="a batch of 2, not 8"):
        batch_for(open_model(ModelRequest(digits)), Batch(8, 8, 8))
    dynamic = open_model(ModelRequest(capture_model(load_model("digits-vit"), Batch(1, 2, 8))))
    assert batch_for(dynamic, Batch(1, 4, 16)) == Batch(1, 4, 16)
    assert batch_for(dynamic, None) == ONE_IMAGE
    assert program_of(dynamic, Batch(4, 4, 4)).input_types()[0].static == (4, 1, 24, 24)
    assert program_of(dynamic, Batch(1, 4, 16)).input_types()[0].shape[0] == Dim(1, 0)


def test_settings_that_a_program_has_in_it(digits: Program, bare: Program, tmp_path: Path) -> None:
    for request, told in (
        (ModelRequest(digits, weights="random", model_args={"depth": 1}), "leave out --weights, --model-args"),
        (ModelRequest(digits, preprocessing=PreprocessingOptions(mean=(0.5,))), "leave out --mean"),
    ):
        with pytest.raises(InputError, match=told):
            open_model(request)
    save(bare, tmp_path / "bare.safetensors")
    with pytest.raises(InputError, match="leave out --weights, --batch"):
        open_program(ModelRequest(tmp_path / "bare.safetensors", weights="random"), ONE_IMAGE)


def test_without_stored_pre_processing_it_has_to_be_said(bare: Program) -> None:
    nothing = open_model(ModelRequest(bare))
    assert (nothing.input_shape, nothing.preprocessing) == ((1, 24, 24), None)
    model = open_model(ModelRequest(bare, preprocessing=PreprocessingOptions(mean=(0.25,), std=(0.5,))))
    assert model.preprocessing is not None
    assert (model.input_shape, model.preprocessing.mean) == ((1, 24, 24), (0.25,))
    assert (model.classes, model.source, len(model.weights_sha256)) == (10, "a program", 64)
    bare.provenance = {"preprocessing": {"image_size": [32, 32], "resize": [32, 32], "mean": [0.5], "std": [0.5]}}
    with pytest.raises(InputError, match="its input is"):
        open_model(ModelRequest(bare))


def test_what_is_no_model_and_no_program(tmp_path: Path) -> None:
    (tmp_path / "graph.txt").write_text(MLP)
    (tmp_path / "model.onnx").write_bytes(b"")
    for spec, told in (
        (tmp_path / "graph.txt", "has no weights"),
        (str(tmp_path / "model.onnx"), "is no ONNX model"),
        (str(tmp_path / "gone.onnx"), "no such ONNX file"),
        (tmp_path / "gone", "no saved program is there"),
        (parse(MLP), "one input, images .batch, 1 or 3, height, width"),
    ):
        with pytest.raises(InputError, match=told):
            open_model(ModelRequest(spec))
    assert open_program(ModelRequest(tmp_path / "graph.txt", seed=1)).name == "mlp"


def test_only_who_takes_a_model_holds_its_weights() -> None:
    model = load_model("digits-vit", weights="random")
    weights, facts = weakref.ref(model.module), model.facts()
    handover = Handover(model)
    del model
    assert program_of(handover.take(), ONE_IMAGE).name == facts.name
    gc.collect()
    assert weights() is None
    with pytest.raises(IndexError):
        handover.take()


@pytest.mark.parametrize(
    ("steps", "told"),
    [
        ("canonicalize", None),
        ("canonicalize,nm-mask{only=[*]}", None),
        ("canonicalize,assign-precision{to=f16}", "has weights in float16 already"),
    ],
)
def test_what_is_no_fp32_program_any_more(steps: str, told: str | None) -> None:
    assert lowered(pipeline(steps).run(parse(MLP))) == told


def test_a_quantized_program_is_no_fp32_program() -> None:
    text = 'x: f32[4] = input()\ns: f32[] = weight("s")\ny: f32[4] = vitgraph.fake_quantize.default(x, s)\nreturn_(y)\n'
    assert lowered(parse(text)) == "is quantized already"
    assert torch.float32 in {each.dtype for each in parse(text).tensors().values()}
