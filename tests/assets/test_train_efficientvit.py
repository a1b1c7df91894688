"""The softmax-free model with real weights: its script, its factory, and the trained weights kept for tests."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from tests.assets import train_efficientvit as subject
from tests.harness import ledger_findings
from vitgraph.errors import InputError
from vitgraph.frontend.models import LoadedModel, load_model
from vitgraph.images.image_set import open_images

MODEL = "tests.assets.train_efficientvit:efficientvit_cifar10"
ASSET = Path(__file__).resolve().parent / "efficientvit_cifar10.safetensors"


def metadata(file: Path) -> dict[str, str]:
    from safetensors import safe_open

    untyped: Any = safe_open
    with untyped(file, framework="pt") as reader:
        return dict(reader.metadata())


@pytest.fixture
def few_images(tmp_path: Path) -> Path:
    """70 images of noise, labelled: one batch and a few."""
    folder = tmp_path / "images"
    folder.mkdir()
    lines = ["file,index,label"]
    for number in range(70):
        pixels = torch.randint(256, (32, 32, 3), dtype=torch.uint8)
        Image.fromarray(pixels.numpy()).save(folder / f"{number:02d}.png")
        lines.append(f"{number:02d}.png,{number % 10},{subject.CLASS_NAMES[number % 10]}")
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")
    return folder


def test_the_script_trains_and_its_file_is_one_the_command_line_takes(
    few_images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "trained.safetensors"
    words = ["--train", few_images, "--test", few_images, "--output", output, "--epochs", "1"]
    monkeypatch.setattr(sys, "argv", ["train_efficientvit", *map(str, words)])
    subject.main()
    trained, untrained = load_model(MODEL, weights=output), load_model(MODEL)
    assert trained.preprocessing == subject.PREPROCESSING
    assert trained.classes == 10
    assert trained.class_names == subject.CLASS_NAMES
    assert trained.weights_sha256 != untrained.weights_sha256
    assert trained.module.get_buffer("stem.in_conv.norm.num_batches_tracked").item() == 2
    assert "of 70 test images" in metadata(output)["top1"]
    assert not list(tmp_path.glob("*.part"))


def test_images_without_labels_are_no_training_set(few_images: Path) -> None:
    (few_images / "labels.csv").unlink()
    with pytest.raises(InputError, match="labels"):
        subject.read_images(few_images)


def test_pixels_are_read_as_they_are(few_images: Path) -> None:
    read = subject.read_images(few_images)
    assert read.pixels.shape == (70, 3, 32, 32)
    seen = next(open_images(few_images, subject.PREPROCESSING).batches(70))[0]
    torch.testing.assert_close(subject.preprocess(read.pixels), seen)
    assert torch.equal(read.labels, torch.arange(70) % 10)


def test_augmenting_moves_pixels_and_makes_none() -> None:
    images = torch.rand(8, 3, 32, 32)
    moved = subject.augment(images)
    assert moved.shape == images.shape
    assert not torch.equal(moved, images)
    assert all(bool(torch.isin(new, old).all()) for new, old in zip(moved, images, strict=True))


def tokens_seen(module: torch.nn.Module, size: int) -> list[int]:
    """How many tokens each attention sees in an image of size x size."""
    seen = list[int]()

    def look(_: torch.nn.Module, given: tuple[torch.Tensor, ...]) -> None:
        seen.append(given[0].shape[-2] * given[0].shape[-1])

    for layer in module.modules():
        if type(layer).__name__ == "LiteMLA":
            layer.register_forward_pre_hook(look)
    with torch.no_grad():
        module(torch.zeros(1, 3, size, size))
    return seen


def test_every_attention_sees_at_least_sixteen_tokens() -> None:
    assert tokens_seen(load_model(MODEL).module, 32) == [64, 16, 16]
    timms = load_model("efficientvit_b0", weights="random", model_args={"num_classes": 10}).module
    assert max(tokens_seen(timms, 32)) < 16  # the control: as timm strides it, it would not do


@pytest.fixture(scope="module")
def trained() -> LoadedModel:
    return load_model(MODEL, weights=ASSET)


def test_the_kept_weights_are_small_and_whole(trained: LoadedModel) -> None:
    assert ASSET.stat().st_size < 8_000_000
    assert {each.dtype for each in trained.module.state_dict().values()} == {torch.float32, torch.int64}
    said = metadata(ASSET)
    assert said["architecture"] == json.dumps(subject.ARCHITECTURE | {"strides": subject.STRIDES})
    assert said["preprocessing"] == subject.PREPROCESSING.to_json()
    assert any(isinstance(layer, torch.nn.BatchNorm2d) for layer in trained.module.modules())


def test_the_kept_model_is_free_of_softmax(trained: LoadedModel) -> None:
    from vitgraph.frontend.capture import capture
    from vitgraph.pass_manager.pass_contract import Context
    from vitgraph.passes import pipeline

    context = Context()
    steps = "canonicalize,fuse-attention,softmax-check{require=softmax-free}"
    pipeline(steps).run(capture(trained.module, torch.zeros(1, *trained.input_shape)), context)
    assert [each["kind"] for each in ledger_findings(context)] == ["linear"] * 3


@pytest.mark.slow
def test_the_kept_model_is_as_good_as_it_says(trained: LoadedModel, data: Path) -> None:
    stated = float(metadata(ASSET)["top1"].partition("%")[0]) / 100
    images = open_images(data / "cifar10" / "test5000.zip", trained.preprocessing, 1000)
    hits = 0
    for batch, labels in images.batches(250):
        assert labels is not None
        with torch.no_grad():
            hits += int((trained.module(batch).argmax(1) == labels).sum())
    assert hits / len(images) == pytest.approx(stated, abs=0.015)
    assert stated >= 0.75
