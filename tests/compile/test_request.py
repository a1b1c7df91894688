"""A request is a value."""

from dataclasses import FrozenInstanceError
from pathlib import Path
from typing import Any

import pytest

from vitgraph.compile.recipe import load_recipe
from vitgraph.compile.request import CompileRequest, MaskRequest, OutputRequest, PrecisionBounds
from vitgraph.frontend.model_request import ModelRequest
from vitgraph.images.preprocess import PreprocessingOptions
from vitgraph.passes import find_pass
from vitgraph.targets.target import get_target


def test_nothing_of_it_can_be_changed() -> None:
    parts: dict[str, Any] = {
        "model": ModelRequest("digits-vit"), "target": get_target("a100"), "recipe": load_recipe("fp16", find_pass),
        "output": OutputRequest(Path("out")),
    }  # fmt: skip
    request = CompileRequest(**parts)
    assert request == CompileRequest(**parts)
    for part in (request, request.model, request.data, request.bounds, request.masks, request.output):
        with pytest.raises(FrozenInstanceError):
            setattr(part, next(iter(vars(part))), None)


def test_bounds_that_were_named() -> None:
    assert PrecisionBounds().given() == {}
    assert PrecisionBounds(max_drop=0.0, max_float_layers=2).given() == {"max_drop": 0.0, "max_float_layers": 2}


def test_masks_are_judged_when_either_asks_for_it() -> None:
    assert [MaskRequest().judged, MaskRequest(True).judged, MaskRequest(measured=Path("e")).judged] == [
        False, True, True,
    ]  # fmt: skip


def test_settings_of_a_model_that_were_given() -> None:
    request = ModelRequest("m", "random", {"depth": 1}, PreprocessingOptions(mean=(0.5,), crop="none"))
    assert request.given() == ["--weights", "--model-args", "--mean", "--crop"]
    assert ModelRequest("m", preprocessing=PreprocessingOptions()).given() == []
