"""An accuracy that fell is told, with what regains it."""

import re
from typing import Any

import pytest
from typer.testing import CliRunner

from vitgraph.compile.accuracy_warning import warnings_of
from vitgraph.compile.recipe import load_recipe, recipe_names
from vitgraph.compile.report import AccuracyPart, EmbeddingPart
from vitgraph.finetuning.recipe import training_recipe_names
from vitgraph.passes import find_pass, pipeline
from vitgraph.tools.cli import make_app

SPARSE, DENSE = pipeline("canonicalize,nm-mask,quantize"), pipeline("canonicalize,quantize")


def measured(before: float | None, after: float | None, agreement: float = 50.0) -> AccuracyPart:
    return AccuracyPart(
        images=500, top1_reference=before, top1=after, agreement=agreement, measured_on="ort", data_sha256="0"
    )


@pytest.mark.parametrize(
    ("accuracy", "most", "told"),
    [
        (measured(82.2, 10.0), 2.0, "top-1 fell by 72.20 points, from 82.20 to 10.00 %"),
        (measured(82.2, 80.2), 2.0, None),
        (measured(82.2, 80.1), 2.0, "top-1 fell by 2.10 points"),
        (measured(82.2, 80.1), 3.0, None),
        (measured(80.0, 82.0), 2.0, None),
        (measured(None, None, 85.0), 2.0, "another class is predicted for 15.0 % of the images"),
        (measured(None, None, 95.0), 2.0, None),
        (None, 2.0, None),
    ],
)
def test_what_is_told(accuracy: AccuracyPart | None, most: float, told: str | None) -> None:
    found = warnings_of(accuracy, DENSE, "int8", most)
    assert len(found) == (told is not None)
    assert told is None or found[0].startswith(told)


def test_the_remedy_is_by_what_cost_it() -> None:
    fallen = measured(80.0, 10.0)
    assert "--recipe sparse-int8-best" in warnings_of(fallen, SPARSE, "sparse-int8", 2.0)[0]
    assert "--recipe gpusq --train-data" in warnings_of(fallen, SPARSE, "sparse-int8-best", 2.0)[0]
    masked = pipeline("canonicalize,nm-mask")
    assert "--recipe sparse-finetune --train-data" in warnings_of(fallen, masked, "mine", 2.0)[0]
    assert "--recipe int8-best" in warnings_of(fallen, DENSE, "int8", 2.0)[0]
    assert "--max-drop" in warnings_of(fallen, DENSE, "int8-best", 2.0)[0]


@pytest.mark.parametrize(
    ("recipe", "better"),
    [
        ("fp16", None), ("bf16", None), ("fp8", None), ("int8", "int8-best"), ("int8-best", None), ("lpvit", None), ("lpvit-int8", None),
        ("sparse-int8", "sparse-int8-best"), ("sparse-int8-best", None), ("trio", "trio-best"), ("trio-best", None),
        ("trio-dense", None), ("w4a4", None), ("w4a8", None),
    ],
)  # fmt: skip
def test_no_other_recipe_is_named_than_its_own_better_one(recipe: str, better: str | None) -> None:
    for fallen in (measured(80.0, 10.0), embedded(60.0, 50.0)):
        (told,) = warnings_of(fallen, load_recipe(recipe, find_pass).pipeline, recipe, 2.0)
        named = [each for each in re.findall(r"--recipe (\S+)", told) if each not in training_recipe_names()]
        assert named == ([] if better is None else [better])


def test_every_recipe_is_asked() -> None:
    marks: Any = test_no_other_recipe_is_named_than_its_own_better_one
    assert sorted(name for name, _ in marks.pytestmark[0].args[1]) == recipe_names()


@pytest.mark.parametrize("name", recipe_names())
def test_a_command_that_is_named_is_one(name: str) -> None:
    """In full: what it lacks is what only the user knows, in capitals."""
    (told,) = warnings_of(measured(80.0, 10.0), load_recipe(name, find_pass).pipeline, name, 2.0)
    for command in re.findall("`vitgraph ([^`]+)`", told):
        word, *given = command.split()
        ran = CliRunner().invoke(make_app(), [word, "--help"], env={"COLUMNS": "200"})
        assert ran.exit_code == 0
        assert [each for each in given if each.startswith("--") and each not in ran.output] == []
        assert word != "bisect" or {"MODEL", "--pipeline", "--check"} <= set(given)
        assert word != "search" or {"MODEL", "--method", "--target", "--budget", "-o"} <= set(given)
    assert "--max-drop" not in told or "quantize" in {
        step.name for step in load_recipe(name, find_pass).pipeline.passes
    }


def test_a_reference_that_is_none_is_told() -> None:
    sound = measured(82.0, 81.9)
    assert warnings_of(sound, DENSE, "int8", 2.0) == []
    (told,) = warnings_of(sound.model_copy(update={"not_finite_reference": 3}), DENSE, "int8", 2.0)
    assert "NaN or infinity for 3 of 500 images" in told


def embedded(before: float | None, after: float | None, cosine: float = 0.999) -> AccuracyPart:
    found = EmbeddingPart(
        size=8, cosine_mean=cosine, cosine_worst=0.5, neighbour_agreement=50.0, knn_top1_reference=before, knn_top1=after, neighbours=20
    )  # fmt: skip
    return AccuracyPart(
        images=500, top1_reference=None, top1=None, agreement=None, embedding=found, measured_on="ort", data_sha256="0"
    )


@pytest.mark.parametrize(
    ("accuracy", "told"),
    [
        (embedded(60.0, 50.0), "top-1 by neighbours fell by 10.00 points"),
        (embedded(60.0, 59.0), None),
        (embedded(60.0, 59.0, 0.9), "features turned: their cosine with those before is 0.900"),
        (embedded(None, None), None),
    ],
)
def test_what_is_told_of_features(accuracy: AccuracyPart, told: str | None) -> None:
    found = warnings_of(accuracy, DENSE, "int8", 2.0)
    assert len(found) == (told is not None)
    assert told is None or found[0].startswith(told)


def test_no_remedy_of_features_needs_classes() -> None:
    for steps, recipe in ((SPARSE, "sparse-int8"), (DENSE, "int8"), (DENSE, "int8-best")):
        (told,) = warnings_of(embedded(60.0, 50.0), steps, recipe, 2.0)
        assert not {"--max-drop", "elsa", "train"} & set(told.replace("`", "").split())
