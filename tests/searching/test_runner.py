"""Searches from Python."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from vitgraph.compile.compiler import compile_model
from vitgraph.digits import build_digits_vit
from vitgraph.errors import InputError
from vitgraph.frontend.capture import capture_model
from vitgraph.frontend.models import load_model
from vitgraph.images.image_set import open_images
from vitgraph.images.preprocess import PreprocessingOptions
from vitgraph.passes import pipeline
from vitgraph.searching.elsa import Elsa
from vitgraph.searching.evolution import Evolution
from vitgraph.searching.runner import METHODS, find_method, search
from vitgraph.training.distill import Schedule

SMALL = Elsa(Schedule(epochs=1, batch=32), Evolution(4, 2), held_out=20, rounds=1, judged=2, pool=2)


def tensors(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    images = open_images("digits:train", load_model("digits-vit").preprocessing, limit=count)
    pixels, labels = next(images.batches(count))
    assert labels is not None
    return pixels, labels


def test_every_method_is_what_its_name_says() -> None:
    for name in METHODS:
        assert find_method(name).name == name
    with pytest.raises(InputError, match="did you mean elsa"):
        find_method("else")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"method": "random"}, "no method 'random'"),
        ({"budget": ["2x", "3x"]}, "one budget at a time"),
        ({"data": None}, "--train-data"),
        ({"target": 3}, "target=3"),
        ({"out": None}, "out=None"),
        ({"batch": 0}, "batch=0"),
        ({"method": "lpvit", "elsa": SMALL}, "trains nothing"),
        ({"method": "lpvit", "accelerate": True}, "trains nothing"),
        ({"images": 0}, "images: Input should be greater than or equal to 1"),
    ],
)
def test_what_cannot_be_had_is_told_at_once(change: dict[str, Any], told: str, tmp_path: Path) -> None:
    given: dict[str, Any] = {"data": "digits:train", "method": "elsa", "target": "vegeta", "budget": "1.7x", "out": tmp_path / "out"}  # fmt: skip
    with pytest.raises(InputError, match=told):
        search("digits-vit", **{**given, **change})
    assert list(tmp_path.iterdir()) == []


def test_elsa_trains_no_saved_program(tmp_path: Path) -> None:
    program = capture_model(load_model("digits-vit"))
    with pytest.raises(InputError, match="a saved program can't be; name its model"):
        search(program, "digits:train", target="vegeta", budget="1.7x", out=tmp_path / "out")
    half = pipeline("canonicalize,assign-precision{to=f16},materialize").run(program)
    with pytest.raises(InputError, match=r"float16 already, and --method lpvit starts from FP32"):
        search(half, "digits:train", method="lpvit", target="a100", budget="2x", out=tmp_path / "out")


@pytest.mark.slow
def test_a_module_and_tensors_that_python_code_hands_in(tmp_path: Path) -> None:
    loaded, data = load_model("digits-vit"), tensors(60)
    module = build_digits_vit()
    module.load_state_dict(loaded.module.state_dict())
    module.train()
    found = search(
        module, data, target="vegeta", budget="1.7x", out=str(tmp_path / "out"), elsa=SMALL, seed=1,
        preprocessing=PreprocessingOptions(image_size=(24, 24)),
    )  # fmt: skip
    assert module.training
    before = loaded.module.state_dict()
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())
    assert found.data == json.loads((tmp_path / "out/search.json").read_text())
    assert found.data["training"]["seed"] == found.data["evolution"]["seed"] == 1
    assert found.data["next"].startswith("vitgraph.compile_model(model, ")
    assert (found.recipes, found.weights) == ((tmp_path / "out/recipe.yaml",), tmp_path / "out/weights.safetensors")
    report = compile_model(
        module, weights=found.weights, recipe=found.recipes[0], target="vegeta", out=tmp_path / "compiled",
        preprocessing=PreprocessingOptions(image_size=(24, 24)),
    )  # fmt: skip
    assert any(entry["name"] == "nm-mask" for entry in report.passes)


@pytest.mark.slow
def test_a_program_is_searched_as_its_model_is(tmp_path: Path) -> None:
    given: dict[str, Any] = {"method": "lpvit", "target": "a100", "budget": ("2x", "1.5x"), "images": 8}
    of_model = search("digits-vit", "digits:train", out=tmp_path / "model", **given)
    program = capture_model(load_model("digits-vit"))
    of_program = search(program, "digits:train", out=tmp_path / "program", **given)
    assert [path.name for path in of_model.recipes] == ["recipe-2x.yaml", "recipe-1.5x.yaml"]
    for one, other in zip(of_model.recipes, of_program.recipes, strict=True):
        assert one.read_bytes() == other.read_bytes()
    assert of_program.weights is None
