"""A model of features from the command line: compiled, shown, evaluated, broken on purpose, and what is refused."""

import json
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.tools.conftest import Cli
from vitgraph.compile.compiler import compile_model
from vitgraph.compile.report import Report
from vitgraph.errors import InputError
from vitgraph.frontend.capture import capture_model
from vitgraph.frontend.models import load_model
from vitgraph.ir.program_file import save
from vitgraph.passes.prepared import prepare
from vitgraph.searching.runner import search

SIZES: dict[str, Any] = {"depth": 1, "embed_dim": 64, "num_heads": 2, "img_size": 32, "num_classes": 0}
MODEL: dict[str, Any] = {"model": "vit_tiny_patch16_224", "weights": "random", "model_args": SIZES}
IMAGES: dict[str, Any] = {
    "calibration_data": "digits:train", "calibration_images": 8, "evaluate_data": "digits:test", "evaluate_images": 60,
}  # fmt: skip
EVALUATE = ("--data", "digits:test", "--images", "60", "--json")


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Report]:
    out = tmp_path_factory.mktemp("features") / "out"
    return out, compile_model(**MODEL, **IMAGES, target="cpu", recipe="int8", out=out)


def embedding(report: Report) -> dict[str, Any]:
    assert report.accuracy is not None
    assert report.accuracy.embedding is not None
    return report.accuracy.embedding.model_dump()


def test_the_report_has_features_in_the_place_of_classes(compiled: tuple[Path, Report]) -> None:
    out, report = compiled
    accuracy = json.loads((out / "report.json").read_text())["accuracy"]
    assert [accuracy[key] for key in ("top1", "top1_reference", "agreement")] == [None] * 3
    assert accuracy["top1_why"] == "the model gives features; see embedding"
    found = embedding(report)
    assert (found["size"], found["neighbours"], found["neighbours_why"]) == (64, 20, None)
    assert 0.99 < found["cosine_worst"] <= found["cosine_mean"] < 1.0
    assert found["neighbour_agreement"] > 80
    assert abs(found["knn_top1"] - found["knn_top1_reference"]) < 10
    assert report.model.gives == "features"
    page = (out / "report.html").read_text()
    assert "same nearest neighbour" in page
    assert f"{found['cosine_worst']}" in page


def test_evaluate_by_labels_and_against_the_model_as_it_was(compiled: tuple[Path, Report], cli: Cli) -> None:
    out, report = compiled
    loaded = load_model("vit_tiny_patch16_224", weights="random", model_args=SIZES)
    save(prepare(capture_model(loaded)), Path("reference.safetensors"))
    alone = cli("evaluate", out, *EVALUATE).json
    assert (alone["top1"], alone["against"]) == (None, None)
    assert alone["embedding"] == {key: embedding(report)[key] for key in ("size", "knn_top1", "neighbours")}
    beside = cli("evaluate", out, "--against", "reference.safetensors", *EVALUATE).json
    found, wanted = beside["embedding"], embedding(report)
    assert found == pytest.approx(wanted, abs=1e-3)
    assert "same neighbour" in cli("evaluate", out, "--against", out, *EVALUATE[:-1]).out
    Path("plain").mkdir()
    for number in range(3):
        pixels: Any = import_module("PIL.Image").effect_noise((32, 32), 40 + number)
        pixels.save(f"plain/{number}.png")
    no_labels = cli("evaluate", out, "--against", out, "--data", "plain", "--json").json["embedding"]
    assert (no_labels["cosine_mean"], no_labels["neighbour_agreement"], no_labels["knn_top1"]) == (1.0, 100.0, None)
    assert no_labels["neighbours_why"] == "the images have no labels"


def test_a_broken_model_is_seen(compiled: tuple[Path, Report], cli: Cli) -> None:
    """The control: weights of one layer drawn anew, and the labels' agreement and the cosines go."""
    loaded = load_model("vit_tiny_patch16_224", weights="random", model_args=SIZES)
    torch.nn.init.normal_(loaded.module.get_parameter("patch_embed.proj.weight"))
    save(prepare(capture_model(loaded)), Path("broken.safetensors"))
    found = cli("evaluate", "broken.safetensors", "--against", compiled[0], *EVALUATE).json["embedding"]
    assert found["cosine_mean"] < 0.9
    assert found["neighbour_agreement"] < 50


def test_the_screen_shows_them(cli: Cli) -> None:
    line = ["--model-args", "depth=0", "--model-args", "num_classes=0", "--model-args", "img_size=32"]
    ran = cli("compile", MODEL["model"], *line, "--weights", "random", "--target", "cpu", "--recipe", "fp16", "--pipeline",
              "canonicalize", "--evaluate-data", "digits:test", "--evaluate-images", "4", "-o", "out")  # fmt: skip
    assert "1.0000 mean, 1.0000 worst, of 192 features an image" in ran.out, ran.err
    assert "100.00 % the same, of 4 images" in ran.out


def test_bisect_by_cosine(cli: Cli) -> None:
    line = [part for key, value in SIZES.items() for part in ("--model-args", f"{key}={value}")]
    line = ["bisect", MODEL["model"], "--weights", "random", *line, "--pipeline", "canonicalize", "--check"]
    assert "nothing to find" in cli(*line, "cosine>=0.9").err
    ran = cli(*line, "top1_agreement>=0.9")
    assert ran.status == 2
    assert "gives features and no classes; take cosine>=0.99" in ran.err


def _bounded(out: Path) -> object:
    return compile_model(**MODEL, **IMAGES, target="cpu", recipe="int8", out=out, max_drop=1.0)


def _elsa(out: Path) -> object:
    return search(**MODEL, data="digits:train", images=8, method="elsa", target="a100", budget="1.5x", out=out)


def _lpvit(out: Path) -> object:
    own: dict[str, Any] = {"method": "lpvit", "target": "a100", "budget": "1.5x", "out": out, "images": 8}
    return search(**MODEL, **own, data="digits:train", evaluate_data="digits:test", evaluate_images=8)


@pytest.mark.parametrize(
    ("work", "told"),
    [
        (_bounded, r"'mixed-precision' \(13 of 17\): .* gives features; .* leave out max_drop"),
        (_elsa, "gives features, and --method elsa trains by the classes"),
        (_lpvit, "gives features, and --method lpvit measures top-1; leave --evaluate-data out"),
    ],
)
def test_what_needs_classes_is_refused_ahead_of_the_work(
    work: Callable[[Path], object], told: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=told):
        work(tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_lpvit_searches_without_images_to_evaluate_on(tmp_path: Path) -> None:
    own: dict[str, Any] = {"method": "lpvit", "target": "a100", "budget": "1.5x", "out": tmp_path / "out", "images": 8}
    found = search(**MODEL, **own, data="digits:train").data
    (point,) = found["points"] if "points" in found else found["budgets"]
    assert point["chosen"]["top1"] is None


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["int8-best", "sparse-int8"])
@pytest.mark.parametrize("target", ["orin-agx", "a100"])
def test_recipes_go_through(recipe: str, target: str, tmp_path: Path) -> None:
    transformers = import_module("transformers")
    sizes: dict[str, Any] = {
        "hidden_size": 64,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "image_size": 32,
        "patch_size": 8,
    }
    transformers.Dinov2Model(transformers.Dinov2Config(**sizes)).save_pretrained(tmp_path / "m")
    report = compile_model(f"transformers:{tmp_path / 'm'}", **IMAGES, target=target, recipe=recipe, out=tmp_path / "o")
    assert embedding(report)["cosine_mean"] > 0.9
    assert report.violations == []
