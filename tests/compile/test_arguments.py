"""What Python code may write, and what it is told of the rest."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vitgraph.compile.arguments import (
    read_backend,
    read_bounds,
    read_count,
    read_model,
    read_path,
    read_recipe,
    read_steps,
    read_target,
    read_words,
)
from vitgraph.compile.recipe import load_recipe
from vitgraph.compile.request import PrecisionBounds
from vitgraph.errors import InputError
from vitgraph.passes import find_pass, pipeline
from vitgraph.targets.target import get_target


def test_a_value_at_hand_its_name_and_its_file_are_the_same(tmp_path: Path) -> None:
    a100, fp16 = get_target("a100"), load_recipe("fp16", find_pass)
    assert read_target("a100") is read_target(a100) is a100
    file = tmp_path / "mine.yaml"
    file.write_text(fp16.to_yaml())
    assert read_recipe("fp16", find_pass) == read_recipe(fp16, find_pass) == read_recipe(file, find_pass) == fp16
    for text in ("fp16", str(file), file, str(fp16.pipeline), fp16.pipeline):
        assert read_steps(text, find_pass) == fp16.pipeline
    assert read_path("out", "o") == read_path("out", Path("o")) == Path("o")


def test_a_model_without_settings_has_none() -> None:
    request = read_model("digits-vit", None, None, None, 0)
    assert (request.model, request.model_args, request.given()) == ("digits-vit", {}, [])
    assert read_model("m", "random", {"depth": 1}, None, 0).given() == ["--weights", "--model-args"]


WRONG: tuple[tuple[Callable[[Any], object], str], ...] = (
    (lambda bad: read_target(bad), "target=3 is of type int; give a target's name"),
    (lambda bad: read_recipe(bad, find_pass), "recipe=3 is of type int; give a recipe's name"),
    (lambda bad: read_steps(bad, find_pass), "pipeline=3 is of type int; give passes as text"),
    (lambda bad: read_backend(bad), "backend=3 is of type int; give a backend's name"),
    (lambda bad: read_path("out", bad), "out=3 is of type int; give a path"),
    (lambda bad: read_model(bad, None, None, None, 0), "model=3 is of type int; give a model's name, an nn.Module"),
    (lambda bad: read_model("m", bad, None, None, 0), "weights=3 is of type int; give 'pretrained'"),
    (lambda bad: read_model("m", None, bad, None, 0), "model_args=3 is of type int; give a mapping"),
    (lambda bad: read_model("m", None, None, bad, 0), "preprocessing=3 is of type int; give PreprocessingOptions"),
    (lambda bad: read_words("only", bad), "only=3 is of type int; give a word"),
    (lambda bad: read_bounds(max_drop=str(bad)), "max_drop: Input should be a valid number; got '3'"),  # type: ignore[arg-type]
    (lambda bad: read_count("images", str(bad)), "images: Input should be a valid integer; got '3'"),  # type: ignore[arg-type]
    (lambda bad: read_count("images", bad - 3), "images: Input should be greater than or equal to 1; got 0"),
    (lambda _: read_count("images", 10**30), "images: Input should be less than or equal to 20000000"),
    (lambda _: read_count("images", True), "images: a number is wanted, not true or false"),
    (lambda _: read_model("m", None, None, None, 10**23), "seed: Input should be less than 9223372036854775808"),
    (lambda _: read_bounds(max_drop=math.nan), "max_drop: Input should be a finite number"),
    (lambda _: read_bounds(max_drop=101), "max_drop: Input should be less than or equal to 100"),
    (lambda _: read_bounds(min_int8=-1), "min_int8: Input should be greater than or equal to 0"),
    (lambda _: read_model("m", None, None, None, True), "seed: a number is wanted, not true or false; got True"),
)  # fmt: skip


@pytest.mark.parametrize(("call", "told"), WRONG)
def test_a_value_of_another_kind_is_told_by_its_name(call: Callable[[Any], object], told: str) -> None:
    with pytest.raises(InputError, match=told):
        call(3)


def test_one_word_is_a_list_of_one() -> None:
    assert read_words("only", "fc1") == read_words("only", ["fc1"]) == ("fc1",)
    assert read_count("images", None) is None
    assert read_bounds(max_drop=0.5, min_int8=None) == PrecisionBounds(max_drop=0.5)


def test_faults_in_a_value_are_told_as_on_the_command_line() -> None:
    for call, told in (
        (lambda: read_target("a1000"), "a100"),
        (lambda: read_recipe("int-8", find_pass), "int8"),
        (lambda: read_steps("canonicalise", find_pass), "did you mean canonicalize"),
    ):
        with pytest.raises(InputError, match=told):
            call()
    assert read_steps(pipeline("canonicalize"), find_pass) == pipeline("canonicalize")
