"""`vitgraph train`: every setting is an option with its domain, what is wrong is told at once, and what it leaves is told."""

from dataclasses import fields
from pathlib import Path

import pytest

from tests.tools.conftest import Cli
from vitgraph.errors import InputError
from vitgraph.finetuning.recipe import load_training_recipe, training_recipe_names
from vitgraph.passes import find_pass
from vitgraph.tools.train_options import TrainingSettings, data_sources, stage_settings
from vitgraph.training.settings import PLACES, Settings

WORDS = ("train", "digits-vit", "--recipe", "sparse-finetune", "--train-data", "digits:train", "-o", "out")


def test_every_setting_is_an_option() -> None:
    assert [each.name for each in fields(TrainingSettings)] == list(PLACES)


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (("--recipe", "gpusk"), "did you mean gpusq"),
        (("--recipe", "int8"), "unknown training recipe 'int8'"),
        (("--epochs", "0"), "--epochs"),
        (("--lr", "nan"), "--lr"),
        (("--lr", "1.5"), "--lr"),
        (("--opt", "adamm"), "timm has no such optimizer"),
        (("--sched", "cosin"), "'cosine', 'tanh'"),
        (("--aa", "rand-x9"), "rand-x9"),
        (("--crop-scale", "0.9", "0.3"), "crop_scale: 0.9 to 0.3; write the smaller first"),
        (("--batch-size", "30000"), "lower batch_size"),
        (("--batch", "8"), "--batch-size"),
        (("--train-data", "gone.zip"), "gone.zip"),
        (("--train-data", "digits:train@1.5"), "a share is over 0 and at most 1"),
        (("--evaluate-data", "digits:train"), "are among the images"),
        (("--feature-sites", "layers.*"), "there are blocks.0"),
        (("--hard", "0", "--soft", "0", "--feature", "0"), "nothing to learn from"),
        (("--teacher", "resnet18", "--teacher-weights", "random"), "name a teacher of the same images and classes"),
        (("--set", "sparse.epochs"), "write STAGE.SETTING=VALUE"),
        (("--set", "dense.epochs=3"), "has no stage 'dense'; it has sparse"),
        (("--set", "sparse.epoch=3"), "did you mean epochs"),
        (("--set", "sparse.epochs=many"), "epochs"),
        (("--amp", "int8"), "--amp"),
        (("--workers", "-1"), "--workers"),
        (("--held-out", "0"), "--held-out"),
        (("--target", "a1000"), "a100"),
    ],
)
def test_what_cannot_be_had_is_told_at_once(more: tuple[str, ...], told: str, cli: Cli) -> None:
    ran = cli(*WORDS, *more)
    assert ran.status == 2
    assert told in ran.err
    assert not any(Path.cwd().iterdir())


def test_images_are_needed(cli: Cli) -> None:
    ran = cli("train", "digits-vit", "-o", "out")
    assert ran.status == 2
    assert "--train-data" in ran.err


def test_a_saved_program_needs_its_teacher_named(cli: Cli) -> None:
    steps = "canonicalize,fuse-attention,nm-mask"
    assert cli("opt", "digits-vit", "--batch", "1:8:64", "--pipeline", steps, "-o", "start.safetensors").status == 0
    ran = cli("train", "start.safetensors", *WORDS[2:])
    assert ran.status == 2
    assert "name that (--teacher, --teacher-weights)" in ran.err


def test_a_program_of_a_fixed_batch_is_refused(cli: Cli) -> None:
    assert cli("opt", "digits-vit", "--pipeline", "canonicalize", "-o", "start.safetensors").status == 0
    ran = cli("train", "start.safetensors", "--teacher", "digits-vit", *WORDS[2:])
    assert ran.status == 2
    assert "captured for a fixed batch" in ran.err


def test_an_output_that_exists_stays(cli: Cli) -> None:
    Path("out").mkdir()
    Path("out/thesis.txt").write_text("mine")
    ran = cli(*WORDS, "--force")
    assert ran.status == 2
    assert Path("out/thesis.txt").read_text() == "mine"


def test_settings_of_one_stage() -> None:
    assert stage_settings(["a.epochs=6", "a.lr=1e-3", "b.crop_scale=[0.5, 1]"]) == {
        "a": {"epochs": 6, "lr": "1e-3"},
        "b": {"crop_scale": [0.5, 1]},
    }
    assert Settings().with_values({"lr": "1e-3"}).optimization.lr == 1e-3


def test_sources_and_their_shares() -> None:
    (plain, shared, at) = data_sources(["a.zip", "b.zip@0.3", "me@home/images"], labelled=False)
    assert (plain.data, plain.share) == ("a.zip", None)
    assert (shared.data, shared.share) == ("b.zip", 0.3)
    assert (at.data, at.share) == ("me@home/images", None)
    with pytest.raises(InputError, match="a share"):
        data_sources(["a.zip@0"], labelled=True)


@pytest.mark.parametrize("name", training_recipe_names())
def test_recipes_read_back_to_the_same(name: str, tmp_path: Path) -> None:
    recipe = load_training_recipe(name, find_pass).with_values({"epochs": 3}, {})
    file = tmp_path / f"{name}.yaml"
    file.write_text(recipe.to_yaml())
    assert load_training_recipe(str(file), find_pass) == recipe


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[]", "is a mapping with name, description"),
        ("stages: []", "there is no stage"),
        ("stages: [{passes: [canonicalise]}]", "did you mean canonicalize"),
        ("stages: [{training: {epoch: 1}}]", "did you mean epochs"),
        ("stages: [{steps: 1}]", "unknown key 'steps' of stage 1"),
        ("stages: [{name: a}, {name: a}]", "give each a name of its own"),
        ("stages: [{training: {lr: -1}}]", "lr"),
        ("stage: 1", "unknown key 'stage'"),
    ],
)
def test_recipes_that_are_wrong_say_where(text: str, told: str, tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    with pytest.raises(InputError, match="training recipe .*mine.yaml: .*" + told.replace("(", r"\(")):
        load_training_recipe(str(file), find_pass)


@pytest.mark.slow
def test_it_trains_and_tells_what_is_next(cli: Cli) -> None:
    ran = cli(*WORDS, "--epochs", "1", "--evaluate-data", "digits:test", "--evaluate-images", "100")
    assert ran.status == 0
    assert "sparse, trained" in ran.out
    assert "vitgraph compile out --target a100" in ran.out
    assert cli("compile", "out", "--target", "cpu", "-o", "engine").status == 0
