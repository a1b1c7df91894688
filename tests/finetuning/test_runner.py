"""Training from a request to a folder, on the digits: what it makes, that a stop changes nothing, and what ends a stage early."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from vitgraph.compile.compiler import compile_model
from vitgraph.errors import CheckFailed, InputError
from vitgraph.finetuning.request import DataSource
from vitgraph.finetuning.runner import TrainingResult, train
from vitgraph.ir.mask_patterns import lost
from vitgraph.ir.program_file import load
from vitgraph.training import stage as stage_module
from vitgraph.training.objective import Objective

SHORT: Mapping[str, Any] = {"epochs": 1, "batch_size": 64, "crop_scale": (0.8, 1.0), "lr": 2e-4}
IMAGES = 384


def trained(out: Path, recipe: str = "gpusq", settings: Mapping[str, Any] = SHORT, **options: Any) -> TrainingResult:
    return train("digits-vit", "digits:train", out=out, recipe=recipe, settings=settings, **options)


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> TrainingResult:
    out = tmp_path_factory.mktemp("trained") / "out"
    return trained(out, evaluate_data="digits:test", evaluate_images=200)


def test_the_folder_holds_program_recipe_and_report(result: TrainingResult) -> None:
    names = {str(path.relative_to(result.out)) for path in result.out.rglob("*") if path.is_file()}
    assert names == {
        "manifest.json", "program/graph.txt", "program/program.safetensors", "recipe.yaml", "stages/sparse.safetensors", "train.html",
        "train.json",
    }  # fmt: skip
    data = json.loads((result.out / "train.json").read_text())
    assert [stage["name"] for stage in data["stages"]] == ["sparse", "quantized"]
    assert data["evaluation"]["top1_teacher"] > 95
    for stage in data["stages"]:
        assert stage["top1"] > 95
        assert len(stage["looks"]) == 2
        assert stage["points"][-1]["step"] == len(stage["points"])
        assert {"hard", "soft"} <= stage["points"][0].keys()


def test_the_second_stage_weighs_sites_by_what_the_first_left(result: TrainingResult) -> None:
    first, second = result.data["stages"]
    assert [each["weight"] for each in first["features"]] == [1.0] * len(first["features"])
    left = [each["distance"] for each in first["features"]]
    wanted = [len(left) * each / sum(left) for each in left]
    assert [each["weight"] for each in second["features"]] == pytest.approx(wanted, rel=1e-2)


@pytest.mark.slow
def test_so_does_a_later_training_of_what_the_first_stage_left(result: TrainingResult, tmp_path: Path) -> None:
    start = result.out / "stages" / "sparse.safetensors"
    again = train(start, "digits:train", out=tmp_path / "out", recipe="qat", teacher="digits-vit", settings=SHORT)
    (stage,) = again.data["stages"]
    assert stage["features"] == result.data["stages"][1]["features"]
    assert stage["looks"][0]["accuracy"] == result.data["stages"][1]["looks"][0]["accuracy"]


def test_masks_hold_and_the_saved_program_is_the_result(result: TrainingResult) -> None:
    saved = load(result.out / "program" / "program.safetensors")
    assert len(saved.masks) == 16
    assert list(lost(saved)) == []
    x = torch.randn(4, 1, 24, 24)
    assert torch.equal(saved.run(x), result.program.run(x))


def test_it_compiles_on_with_its_own_recipe(result: TrainingResult, tmp_path: Path) -> None:
    report = compile_model(
        result.out, target="a100", out=tmp_path / "engine", evaluate_data="digits:test", evaluate_images=200
    )
    assert report.engine is not None
    assert report.engine["linears"]["int8"] == 16
    assert report.engine["attention"]["fused_int8"] == 4
    assert report.accuracy is not None
    assert report.accuracy.top1_reference == result.data["stages"][-1]["top1"]
    assert abs((report.accuracy.top1 or 0) - result.data["stages"][-1]["top1"]) <= 0.5  # one image of 200
    names = [entry["name"] for entry in report.passes]
    assert names[-4:] == ["absorb-shifts", "assign-precision", "materialize", "legalize"]
    assert names.count("quantize") == 1


def test_the_same_request_gives_the_same_bytes(tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("a", "b")]
    for folder in folders:
        trained(folder, "sparse-finetune")
    for name in ("program/program.safetensors", "program/graph.txt", "recipe.yaml"):
        assert (folders[0] / name).read_bytes() == (folders[1] / name).read_bytes(), name


class Stop(Exception):
    """Ends a run from its progress."""


def stopping(at: int) -> Any:
    """Progress that ends the run at a step of training, in sum over the stages."""
    seen = 0

    def tell(what: str, done: int, total: int) -> None:
        nonlocal seen
        seen += what.startswith("stage")
        if seen == at:
            raise Stop

    return tell


@pytest.mark.parametrize("at", [pytest.param(3, marks=pytest.mark.slow), 8, pytest.param(12, marks=pytest.mark.slow)])
def test_what_was_stopped_goes_on_to_the_same_bytes(at: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage_module, "KEEP_EVERY", 0.0)
    settings = {**SHORT, "model_ema": True, "drop_path": 0.2, "mixup": 0.2, "batch_size": 128, "epochs": 2}
    whole = trained(tmp_path / "whole", settings=settings, workers=0)
    with pytest.raises(Stop):
        trained(tmp_path / "parts", settings=settings, progress=stopping(at))
    seen = list[int]()

    def tell(what: str, done: int, total: int) -> None:
        if what.startswith("stage"):
            seen.append(done)

    again = trained(
        tmp_path / "parts",
        settings=settings,
        progress=tell,
    )
    assert len(seen) < sum(len(stage["points"]) for stage in again.data["stages"])  # it did not begin again
    ours, theirs = whole.program.tensors(), again.program.tensors()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert whole.data["stages"] == again.data["stages"]
    assert not list(tmp_path.glob(".*.unfinished"))


def test_a_loss_that_is_not_finite_ends_it_with_the_best_that_there_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = Objective.loss, list[int]()

    def loss(self: Any, *given: Any) -> Any:
        found = real(self, *given)
        calls.append(1)
        return found if len(calls) < 4 else type(found)(found.total * float("nan"), found.terms)

    monkeypatch.setattr(Objective, "loss", loss)
    with pytest.raises(CheckFailed, match="the loss of step 4 is not finite"):
        trained(tmp_path / "out", "sparse-finetune")
    data = json.loads((tmp_path / "out" / "train.json").read_text())
    assert data["stages"][0]["stopped"] == "the loss of step 4 is not finite"
    program = load(tmp_path / "out" / "program" / "program.safetensors")
    assert bool(torch.isfinite(program.run(torch.randn(2, 1, 24, 24))).all())


def test_patience_ends_a_stage_and_the_best_is_kept(tmp_path: Path) -> None:
    settings = {
        **SHORT,
        "epochs": 6,
        "batch_size": 256,
        "lr": 0.3,
        "warmup_epochs": 0,
        "clip_grad": None,
        "patience": 2,
    }
    result = trained(tmp_path / "out", "sparse-finetune", settings, evaluate_data="digits:test", evaluate_images=100)
    (stage,) = result.data["stages"]
    assert stage["stopped"] == "no better for 2 epochs"
    assert len(stage["looks"]) == stage["best"] + 3
    assert stage["top1"] >= stage["top1_before"] - 2  # a learning rate of 0.3 ruins what comes after


def test_batches_that_are_added_up_are_one(tmp_path: Path) -> None:
    settings = {**SHORT, "hflip": 0.0, "crop_scale": (1.0, 1.0), "ratio": (1.0, 1.0)}
    whole = trained(tmp_path / "whole", "sparse-finetune", settings)
    parts = trained(tmp_path / "parts", "sparse-finetune", {**settings, "batch_size": 16, "grad_accum_steps": 4})
    curves = [[point["loss"] for point in each.data["stages"][0]["points"]] for each in (whole, parts)]
    assert curves[0] == pytest.approx(curves[1], rel=1e-3)


def test_without_labels_there_is_no_hard_term(tmp_path: Path) -> None:
    result = trained(tmp_path / "out", "sparse-finetune", {**SHORT, "hard": 0})
    assert "hard" not in result.data["stages"][0]["points"][0]


def test_labels_of_unlabelled_images_are_not_looked_at(tmp_path: Path) -> None:
    """They are not the model's: held-out images are judged by how often the student says what the teacher says."""
    wrong = (torch.randn(60, 1, 24, 24), torch.arange(60) % 1000)
    source = DataSource(wrong, labelled=False)
    result = train(
        "digits-vit", [source], out=tmp_path / "out", recipe="finetune", settings={**SHORT, "batch_size": 32}
    )
    assert result.data["stages"][0]["looks"][0]["accuracy"] == 100


def test_models_run_through_torch_compile(tmp_path: Path) -> None:
    """As they are without, to rounding; also masks that are chosen anew, for which the graph changes on the way."""
    settings = {**SHORT, "rechoose_until": 0.5}
    losses = [
        [point["loss"] for point in trained(tmp_path / str(on), "sparse-finetune", settings, compiled=on).data["stages"][0]["points"]]
        for on in (False, True)
    ]  # fmt: skip
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


def test_tensorboard_has_losses_and_scores(tmp_path: Path) -> None:
    trained(tmp_path / "out", "sparse-finetune", tensorboard=tmp_path / "events")
    reader: Any = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    found = reader.EventAccumulator(str(tmp_path / "events")).Reload()
    assert {"sparse/loss", "sparse/lr", "sparse/soft", "sparse/held out/accuracy"} <= set(found.Tags()["scalars"])
    assert [each.step for each in found.Scalars("sparse/loss")][:3] == [1, 2, 3]


@pytest.mark.parametrize(("place", "said"), [("file", "name a folder"), ("out/events", "name one elsewhere"), ("out", "name one elsewhere")])  # fmt: skip
def test_a_place_for_tensorboard_that_is_none_is_told_before_any_work(place: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=said):
        trained(tmp_path / "out", "finetune", tensorboard=tmp_path / place)
    assert [each.name for each in tmp_path.iterdir()] == ["file"]


class TwoOutputs(torch.nn.Module):
    """Logits, and what they were made of."""

    num_classes = 10

    def __init__(self) -> None:
        super().__init__()
        self.head = torch.nn.Linear(576, 10)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        flat = x.flatten(1)
        return self.head(flat), flat


def test_a_model_of_several_outputs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"gives several values, and training asks for logits \[batch, classes\]"):
        train(
            TwoOutputs(), (torch.randn(40, 1, 24, 24), torch.arange(40) % 10), out=tmp_path / "out", recipe="finetune"
        )


def test_images_of_one_class_are_refused_where_labels_are_learnt_from(tmp_path: Path) -> None:
    data = (torch.randn(40, 1, 24, 24), torch.zeros(40, dtype=torch.long))
    with pytest.raises(InputError, match="all 40 are of class 0; name images of several classes"):
        train("digits-vit", data, out=tmp_path / "out", recipe="sparse-finetune")
    train(
        "digits-vit",
        data,
        out=tmp_path / "out",
        recipe="sparse-finetune",
        settings={**SHORT, "batch_size": 32, "hard": 0},
    )


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"recipe": "gpusk"}, "did you mean gpusq"),
        ({"settings": {"epoch": 3}}, "did you mean epochs"),
        ({"settings": {"opt": "adam-w"}}, "timm has no such optimizer"),
        ({"settings": {"batch_size": 4096}}, "lower batch_size"),
        ({"settings": {"feature_sites": ["block.*"]}}, "there are blocks.0"),
        ({"settings": {"hard": 0, "soft": 0, "feature": 0}}, "nothing to learn from"),
        ({"stage_settings": {"spares": {"epochs": 1}}}, "it has sparse, quantized"),
        ({"workers": -1}, "workers"),
        ({"teacher": "resnet18", "teacher_weights": "random"}, "name a teacher of the same images and classes"),
        ({"evaluate_data": "digits:train"}, "are among the images"),
    ],
)
def test_what_is_wrong_is_told_before_any_work(options: dict[str, Any], said: str, tmp_path: Path) -> None:
    def tell(what: str, done: int, total: int) -> None:
        assert not what.startswith("stage")

    with pytest.raises(InputError, match=said):
        train("digits-vit", "digits:train", out=tmp_path / "out", progress=tell, **options)
    assert not (tmp_path / "out").exists()
