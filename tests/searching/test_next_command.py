"""What to do with a recipe, as somebody would type it."""

import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from vitgraph.compile.request import OutputRequest
from vitgraph.digits import build_digits_vit
from vitgraph.frontend.model_request import ModelRequest
from vitgraph.frontend.models import parse_model_args
from vitgraph.images.preprocess import PreprocessingOptions
from vitgraph.ir.batch import Batch
from vitgraph.searching.next_command import next_command
from vitgraph.searching.request import SearchRequest
from vitgraph.targets.target import get_target

ARGUMENTS = {"depth": 2, "pool": "avg", "digit": "5", "size": (24, 32), "rate": 0.5, "on": True}
REQUEST = SearchRequest(
    "lpvit", ModelRequest("digits-vit"), get_target("a100"), "a100", ("2x",), OutputRequest(Path("my out"))
)


def test_names_only_what_was_asked_for() -> None:
    assert next_command(REQUEST, "recipe.yaml", weights=None, calibration_data="digits:train") == (
        "vitgraph compile digits-vit --calibration-data digits:train --recipe 'my out/recipe.yaml' --target a100"
    )


def test_options_of_the_model_are_read_back_to_the_same() -> None:
    options = PreprocessingOptions((24, 32), (0.5, 0.25, 0.125), (0.5,), 30, "none", "bilinear")
    model = ModelRequest("m", model_args=ARGUMENTS, preprocessing=options, seed=3)
    words = shlex.split(next_command(replace(REQUEST, model=model, batch=Batch(1, 8, 64)), "r.yaml"))
    given = dict[str, list[str]]()
    for name, value in zip(words[3::2], words[4::2], strict=True):
        given.setdefault(name, []).append(value)
    assert parse_model_args(given.pop("--model-args")) == ARGUMENTS
    own = {name: given.pop(f"--{name.replace('_', '-')}")[0] for name in vars(options)}
    assert PreprocessingOptions.parse(**own) == options
    assert {name: values for name, (values,) in given.items()} == {
        "--batch": "1:8:64", "--seed": "3", "--recipe": "my out/r.yaml", "--target": "a100",
    }  # fmt: skip


def test_what_has_no_name_makes_it_a_line_of_python() -> None:
    seen = dict[str, Any]()

    class Vitgraph:
        """In place of the package."""

        @staticmethod
        def compile_model(model: Any, **given: Any) -> None:
            seen.update(given, model=model)

    module, images = build_digits_vit(), torch.zeros(1, 1, 24, 24)
    options = PreprocessingOptions(image_size=(24, 24))
    request = replace(
        REQUEST, model=ModelRequest(module, model_args={"a": 1}, preprocessing=options), batch=Batch(2, 2, 2)
    )
    line = next_command(request, "r.yaml", weights=Path("w"), calibration_data=images, calibration_images=8)
    eval(
        line,
        {
            "vitgraph": Vitgraph,
            "model": module,
            "calibration_data": images,
            "PreprocessingOptions": PreprocessingOptions,
        },
    )
    assert seen.pop("model") is module
    assert seen.pop("calibration_data") is images
    assert seen == {
        "weights": "w", "batch": "2", "recipe": "my out/r.yaml", "target": "a100", "calibration_images": 8,
        "model_args": {"a": 1}, "preprocessing": options,
    }  # fmt: skip
