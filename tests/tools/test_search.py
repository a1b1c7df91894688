"""`vitgraph search`: what it refuses at once, and what it leaves."""

import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.tools.conftest import Cli
from vitgraph.ir.program import Program
from vitgraph.passes.pruning.tiles import Curve, find_curves
from vitgraph.searching.runner import METHODS
from vitgraph.tools.drawn_search import DRAWN
from vitgraph.tools.search import MethodName
from vitgraph.tools.search_options import OWN

WORDS = (
    "search", "digits-vit", "--method", "elsa", "--target", "vegeta", "--budget", "1.7x", "--train-data", "digits:train",
    "--train-images", "240", "--held-out", "60", "--epochs", "1", "--rounds", "2", "--judged", "3",
    "--population", "4", "--generations", "2", "-o", "out",
)  # fmt: skip


def changed(option: str, value: str) -> tuple[str, ...]:
    if option not in WORDS:
        return (*WORDS, option, value)
    return changed_in(WORDS, option, value)


@pytest.mark.parametrize(
    ("option", "value", "told"),
    [
        ("--budget", "2.9", "write how many times fewer FLOPs"),
        ("--budget", "3.5x", "times less than dense can be had"),
        ("--budget", "1ms", "vegeta has none"),
        ("--target", "rtx-turing", "multiplies no N:M zeros"),
        ("--target", "vegetable", "vegeta"),
        ("--method", "elsewhere", "elsa"),
        ("--method", "lpvit", "--method lpvit takes no --train-data, --train-images, --held-out"),
        ("--calibration-images", "8", "takes no --calibration-images, which --method lpvit has"),
        ("--budget", "1mJ", "no energy"),
        ("--recipe", "fp61", "fp16"),
        ("--recipe", "int8", "vegeta"),
        ("--train-data", "gone.zip", "gone.zip"),
        ("--held-out", "239", "hold out fewer"),
        ("--only", "fc3", "fc3"),
        ("--evaluate-data", "digits:train", "are among the images"),
        ("--population", "1", "--population"),
    ],
)
def test_what_cannot_be_had_is_told_at_once(option: str, value: str, told: str, cli: Cli) -> None:
    ran = cli(*changed(option, value))
    assert ran.status == 2
    assert told in ran.err
    assert not any(Path.cwd().iterdir())


LPVIT = (
    "search", "digits-vit", "--method", "lpvit", "--target", "a100", "--budget", "2x", "--calibration-data", "digits:train",
    "--calibration-images", "16", "-o", "out",
)  # fmt: skip


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (("--epochs", "3"), "--method lpvit takes no --epochs, which --method elsa has"),
        (("--no-augment", "--aim", "accuracy"), "takes no --augment, --aim"),
        (("--budget", "2x"), "2x 2x: one is there twice"),
        (("--budget", "half"), "write how many times fewer"),
        (("--budget", "1000x"), "out of reach"),
        (("--budget", "99999999x"), "nothing would be left"),
        (("--budget", "3ms", "--target", "vegeta"), "no estimate for vegeta"),
        (("--recipe", "int8"), "has 0 block-prune"),
        (("--only", "fc3"), "fc3"),
        (("--evaluate-data", "gone.zip"), "gone.zip"),
    ],
)
def test_what_lpvit_cannot_have_is_told_at_once(more: tuple[str, ...], told: str, cli: Cli) -> None:
    ran = cli(*LPVIT, *more)
    assert ran.status == 2
    assert told in ran.err
    assert not any(Path.cwd().iterdir())


def test_fisher_curves_want_images(cli: Cli) -> None:
    place = LPVIT.index("--calibration-data")
    ran = cli(*LPVIT[:place], *LPVIT[place + 4 :])
    assert ran.status == 2
    assert "no calibration images" in ran.err


def test_elsa_wants_one_budget_and_images(cli: Cli) -> None:
    assert "one budget at a time" in cli(*WORDS, "--budget", "2x").err
    place = WORDS.index("--train-data")
    assert "--train-data" in cli(*WORDS[:place], *WORDS[place + 2 :]).err


@pytest.mark.slow
def test_tiles_for_several_budgets_and_what_compile_makes_of_them(cli: Cli) -> None:
    """One allocation a budget; `compile` comes to the same, site by site."""
    ran = cli(
        *LPVIT,
        "--budget",
        "6.5M",
        "--budget",
        "0.2ms",
        "--batch",
        "4",
        "--evaluate-data",
        "digits:test",
        "--evaluate-images",
        "40",
        "--json",
    )
    assert ran.status == 0, ran.err
    assert sorted(path.name for path in Path("out").iterdir()) == [
        "manifest.json", "recipe-0.2ms.yaml", "recipe-2x.yaml", "recipe-6.5M.yaml", "search.html", "search.json",
    ]  # fmt: skip
    found = json.loads(Path("out/search.json").read_text())
    assert found == ran.json
    assert not Path(".out.unfinished").exists()
    half, most, whole = found["points"]
    assert half["chosen"]["left"] == pytest.approx(0.5, rel=0.01)
    assert 6.4e6 < most["chosen"]["cost"] <= 6.5e6
    assert (whole["budget"]["unit"], whole["budget"]["share"], whole["chosen"]["sites"]) == ("ms", 1.0, {})
    assert set(half["baselines"]) == {"magnitude", "magnitude, uniform"}
    assert half["chosen"]["agreement"] > half["baselines"]["magnitude, uniform"]["agreement"]
    assert found["evaluation"]["images"] == 40
    assert "blocks.0.attn.qkv" in Path("out/search.html").read_text()
    for point in (half, most):
        done = cli(*point["next"].split()[1:], "-o", point["recipe"].removesuffix(".yaml"), "--json")
        entries = [each for step in done.json["passes"] if step["name"] == "block-prune" for each in step["found"]]
        sites = {each.pop("pruned"): each for each in entries if "pruned" in each}
        assert sites == point["chosen"]["sites"]


@pytest.mark.slow
def test_stopped_between_budgets_it_goes_on(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """Units, on the second start by curves and classes that were kept."""
    words = (
        *LPVIT, "--recipe", "lpvit-int8", "--budget", "1.2x", "--evaluate-data", "digits:test", "--evaluate-images", "20",
    )  # fmt: skip

    def stop(*given: Any) -> None:
        raise KeyboardInterrupt

    def known(program: Program, tiled: Any, score: Any, *given: Any) -> list[Curve]:
        assert score == "magnitude"
        return find_curves(program, tiled, score, *given)

    with monkeypatch.context() as patched:
        patched.setattr("vitgraph.searching.lpvit_method._budgeted", stop)
        assert cli(*words).status == 130
    assert not Path("out").exists()
    monkeypatch.setattr("vitgraph.passes.pruning.tiles.find_curves", known)
    monkeypatch.setattr("vitgraph.searching.lpvit_method.predict", stop)
    again = cli(*words, "--json")
    assert again.status == 0, again.err
    assert again.json["prunes"]["granularity"] == "units"
    assert {each["of"] for each in again.json["points"][1]["chosen"]["sites"].values()} <= {"hidden units", "heads"}
    assert not Path(".out.unfinished").exists()


def test_a_folder_of_somebody_else_stays(cli: Cli) -> None:
    Path("out").mkdir()
    Path("out/mine.txt").write_text("mine")
    ran = cli(*WORDS, "--force")
    assert ran.status == 2
    assert "was not written by vitgraph" in ran.err
    assert Path("out/mine.txt").read_text() == "mine"


def test_the_methods_of_the_command_line_are_those_there_are() -> None:
    assert [each.value for each in MethodName] == list(METHODS) == list(DRAWN) == list(OWN)


def test_milliseconds_are_those_of_the_recipes_type(cli: Cli) -> None:
    words = (*changed("--target", "a100"), "--batch", "256")
    told = [cli(*(changed_in(words, "--budget", "0.0001ms")), "--recipe", name).err for name in ("fp16", "sparse-int8")]
    assert all("what every layer at its sparsest level costs" in each for each in told)
    assert told[0] != told[1]


def changed_in(words: tuple[str, ...], option: str, value: str) -> tuple[str, ...]:
    place = words.index(option) + 1
    return (*words[:place], value, *words[place + 1 :])


@pytest.mark.slow
def test_leaves_weights_and_a_recipe_that_compile_takes(cli: Cli) -> None:
    ran = cli(*WORDS, "--evaluate-data", "digits:test", "--json")
    assert ran.status == 0
    assert sorted(path.name for path in Path.cwd().iterdir()) == ["out"]
    assert sorted(path.name for path in Path("out").iterdir()) == [
        "manifest.json", "recipe.yaml", "search.html", "search.json", "weights.safetensors",
    ]  # fmt: skip
    found = json.loads(Path("out/search.json").read_text())
    assert found == ran.json
    assert found["chosen"]["cost"] <= found["budget"]["limit"]
    assert set(found["baselines"]) == {"uniform", "ERK", "dense"}
    assert found["evaluation"]["images"] == 500
    assert found["chosen"]["levels"]["blocks.0.attn.qkv"] in Path("out/search.html").read_text()
    words = found["next"].split()
    assert words == ["vitgraph", "compile", "digits-vit", "--weights", "out/weights.safetensors", "--recipe", "out/recipe.yaml", "--target", "vegeta"]  # fmt: skip
    done = cli(*words[1:], "--evaluate-data", "digits:test", "-o", "compiled", "--json")
    assert done.status == 0
    assert "compile stops at ONNX" in done.json["engine_why"] or "no compiler" in done.json["engine_why"]
    assert done.json["accuracy"]["top1"] == pytest.approx(found["chosen"]["top1"], abs=0.41)  # FP16: two images of 500
    masked = {each["masked"]: f"{each['n']}:{each['m']}" for step in done.json["passes"] for each in step.get("found", []) if "masked" in each}  # fmt: skip
    dense = dict.fromkeys(found["chosen"]["levels"], "4:4")
    assert {**dense, **masked} == found["chosen"]["levels"]
    assert cli(*WORDS).status == 2  # out is there
    assert "exists" in cli(*WORDS).err
    again = cli(*WORDS, "--force", "--evaluate-data", "digits:test")
    assert again.status == 0
    assert "chosen" in again.out
    timeless = [{**each, "seconds": 0} for each in (found, json.loads(Path("out/search.json").read_text()))]
    assert timeless[0] == timeless[1]


@pytest.mark.slow
def test_stopped_and_started_again_it_does_not_train_twice(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*given: Any) -> None:
        raise KeyboardInterrupt

    whole = cli(*changed("-o", "whole"), "--json").json
    with monkeypatch.context() as patched:
        patched.setattr("vitgraph.searching.elsa.evolve", stop)
        assert cli(*WORDS).status == 130
    assert not Path("out").exists()
    assert list(Path(".out.unfinished/parts").iterdir())
    with monkeypatch.context() as patched:
        patched.setattr("vitgraph.training.distill.Distiller.train", stop)
        again = cli(*WORDS, "--json").json
    assert not Path(".out.unfinished").exists()
    assert again["population"] == whole["population"]
    assert again["training"] == whole["training"]
    assert Path("out/weights.safetensors").read_bytes() == Path("whole/weights.safetensors").read_bytes()


@cache
def launched() -> bool:
    from importlib.util import find_spec

    return find_spec("accelerate") is not None


@pytest.mark.slow
def test_two_processes_search_as_one_does(cli: Cli, tmp_path: Path) -> None:
    if not launched():
        pytest.skip("accelerate is not installed")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true", "CUDA_VISIBLE_DEVICES": ""}
    one = cli(*WORDS, "--json").json
    words = [str(tmp_path / "two") if word == "out" else word for word in (*WORDS, "--accelerate")]
    launch = ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"]  # fmt: skip
    done = subprocess.run(
        [sys.executable, *launch, "-m", "vitgraph.tools.cli", *words],
        env=environment,
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    two = json.loads((tmp_path / "two" / "search.json").read_text())
    # images vary by process, so that losses differ a little, as those of another seed would; without it they'd be equal
    assert two["training"]["losses"] == pytest.approx(one["training"]["losses"], rel=0.1)
    assert two["chosen"]["cost"] <= two["budget"]["limit"]
