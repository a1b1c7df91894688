"""Images to measure accuracy on: labels that are none, folders of which nobody knows the class, logits that are no numbers."""

import io
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from tests.bad_inputs.mistake import Make, Mistake, each, hold
from tests.tools.conftest import Cli
from vitgraph.frontend.capture import capture
from vitgraph.ir.program_file import save
from vitgraph.passes.prepared import prepare

CLASSES = 10
Content = Mapping[str, str | bytes | Make]


def encode(pixels: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.asarray(pixels, dtype=np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


A, B = encode(np.arange(64).reshape(8, 8)), encode(np.arange(64).reshape(8, 8).T)
NOISE = encode(np.random.default_rng(0).integers(0, 255, (16, 16)))
WHITE = encode(np.full((8, 8), 255))


class Logits(nn.Module):
    """The first ten pixels; their logarithm where they may be none (of a pixel below the middle)."""

    def __init__(self, sound: bool, classes: int = CLASSES) -> None:
        super().__init__()
        self.sound = sound
        self.classes = classes

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits = images.flatten(1)[:, : self.classes]
        return logits + 0.5 if self.sound else torch.log(logits)


class Features(nn.Module):
    """Some pixels, which are no logits."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.flatten(1)[:, : self.size] * 2.0


@cache
def names(count: int) -> list[str]:
    return [f"class {number}" for number in range(count)]


def program(module: nn.Module, described: bool = True, **more: object) -> Make:
    size = {"image_size": (8, 8), "resize": (8, 8), "mean": (0.5,), "std": (0.5,), "fit": "exact", "crop": "none"}
    features = isinstance(module, Features)
    known = {"classes": 0} if features else {"class_names": names(getattr(module, "classes", CLASSES))}
    provenance = {"preprocessing": size | more, **known} if described else {}

    def write(path: Path) -> None:
        save(prepare(capture(module, torch.zeros(1, 1, 8, 8), provenance=provenance)), path)

    return write


SOUND, UNSOUND, TWENTY = program(Logits(True)), program(Logits(False)), program(Logits(True, 20))
TWELVE, FIVE, DARKER = program(Features(12)), program(Features(5)), program(Features(12), mean=(0.3,))
GOOD: Content = {"d/a.png": A, "d/b.png": B, "d/labels.csv": "file,index\na.png,9\nb.png,0\n"}


def _evaluate(
    name: str, files: Content, *says: str, model: Make = SOUND, more: tuple[str, ...] = ("--data", "d")
) -> Mistake:
    return Mistake(name, ("evaluate", "p.safetensors", *more), says, {"p.safetensors": model, **files})


def _against(name: str, other: Make | None, *says: str, more: Content | None = None) -> Mistake:
    files = {**GOOD, **(more or {}), **({} if other is None else {"other.safetensors": other})}
    return _evaluate(name, files, *says, model=TWELVE, more=("--data", "d", "--against", "other.safetensors"))


def _compile(name: str, files: Content, *says: str) -> Mistake:
    line = ("compile", "digits-vit", "--target", "a100", "--recipe", "fp16", "--evaluate-data", "d", "-o", "out")
    return Mistake(name, line, says, files)


def _sound_against(name: str, other: Make, *says: str, status: int = 2) -> Mistake:
    line = ("evaluate", "p.safetensors", "--data", "d", "--against", "other.safetensors")
    return Mistake(name, line, says, {"p.safetensors": SOUND, "other.safetensors": other, **GOOD}, status=status)


def _folders(*folders: str) -> Content:
    return {f"d/{folder}/{position}.png": (A, B)[position % 2] for position, folder in enumerate(folders)}


THREE = ("3 class folders", "10 classes", "cat would be 0", "labels.csv")
MISTAKES = [
    _evaluate("no data", {}, "--data", more=()),
    _evaluate("a folder that is absent", {}, "images d", "no such folder"),
    _evaluate("images without labels", {"d/a.png": A, "d/b.png": B}, "no labels", "labels.csv"),
    _evaluate("one class folder", {"d/cat/a.png": A, "d/cat/b.png": B}, "no labels", "class folders"),
    _evaluate("noise", {}, "no labels", more=("--data", "random")),
    _evaluate("a label of 99", {**GOOD, "d/labels.csv": "file,index\na.png,0\nb.png,99\n"}, "class 99", "0 to 9"),
    _evaluate("a label of 10", {**GOOD, "d/labels.csv": "file,index\na.png,10\n"}, "class 10", "0 to 9"),
    _evaluate("an index of 30 digits", {**GOOD, "d/labels.csv": f"file,index\na.png,{'9' * 30}\n"}, "line 2", "'9999"),
    _evaluate("three class folders of ten", _folders("cat", "dog", "ship"), *THREE, "name the folders"),
    _evaluate("folders of numbers too high", _folders("3", "12"), "class 12", "0 to 9"),
    _evaluate("a folder 999…9", _folders("1", "9" * 40), "folder 9999", "no class index"),
    _evaluate("one folder of ten that is no class", _folders(*names(CLASSES)[:3], "cat"), "4 class folders"),
    _evaluate("white images", {**GOOD, "d/a.png": WHITE, "d/b.png": WHITE}, "of one colour"),
    _evaluate("a damaged image", {**GOOD, "d/b.png": NOISE[:150]}, "b.png", "is damaged"),
    _evaluate("an unknown backend", GOOD, "nobody", more=("--data", "d", "--backend", "nobody")),
    _evaluate("no image at all", GOOD, "--images", more=("--data", "d", "--images", "0")),
    _evaluate("features of images without labels", {"d/a.png": A, "d/b.png": B}, "no labels", "--against", model=TWELVE),
    _against("against nothing", None, "other.safetensors", "no such folder or file"),
    _against("features against classes", SOUND, "other.safetensors: gives classes", "p.safetensors gives features"),
    _against("features against fewer", FIVE, "5 features an image and this 12", "as it was"),
    _sound_against("classes against more", TWENTY, "20 classes apart and this 10", "as it was"),
    _sound_against("against logits of NaN", UNSOUND, "other.safetensors: its output holds NaN or infinity for 2 of 2", "vitgraph bisect", status=1),
    _against("features of other pixels", DARKER, "pre-processed otherwise"),
    _against("a folder that is no output against", None, "report.json", more={"other.safetensors/a": ""}),
    _evaluate("a program that tells no pre-processing", GOOD, "pre-processed", model=program(Logits(True), False)),
    Mistake("a folder that is no output", ("evaluate", "d", "--data", "d"), ("report.json", "can't be read"), GOOD),
    Mistake(
        "logits of NaN", ("evaluate", "p.safetensors", "--data", "d"),
        ("NaN or infinity for 2 of 2 images", "vitgraph bisect"), {"p.safetensors": UNSOUND, **GOOD}, status=1,
    ),
    _compile("three class folders in compile", _folders("cat", "dog", "ship"), *THREE),
    _compile("a label of 99 in compile", {**GOOD, "d/labels.csv": "file,index\na.png,99\n"}, "class 99", "0 to 9"),
    _compile("no labels in compile", {"d/a.png": A, "d/b.png": B}, "no labels", "labels.csv"),
    _compile("white images in compile", {**GOOD, "d/a.png": WHITE, "d/b.png": WHITE}, "of one colour"),
]  # fmt: skip


@each(MISTAKES)
def test_is_answered(mistake: Mistake, cli: Cli) -> None:
    hold(mistake, cli)


@pytest.mark.parametrize(
    ("files", "accuracy"),
    [
        (GOOD, 50.0),
        (_folders("class 9", "class 0"), 50.0),
        (_folders("9", "0"), 50.0),
        (_folders("class 9", "class 8"), 50.0),
    ],
    ids=["labels.csv", "folders named as classes", "folders of numbers", "some of the classes"],
)
def test_good_labels_are_none(files: Content, accuracy: float, cli: Cli) -> None:
    """The control. A's first ten pixels rise, so it is of class 9; folders by their order would make it 0 or 1."""
    SOUND(Path("p.safetensors"))
    for name, content in files.items():
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        assert not callable(content)
        Path(name).write_bytes(content if isinstance(content, bytes) else content.encode())
    ran = cli("evaluate", "p.safetensors", "--data", "d", "--json")
    assert ran.status == 0, ran.err
    assert ran.json["top1"] == accuracy


def test_good_features_are_none(cli: Cli) -> None:
    """The control: labels need be none of the model's numbers, and with something to hold them against none is needed."""
    TWELVE(Path("p.safetensors"))
    Path("d").mkdir()
    for name, content in (("a.png", A), ("b.png", B), ("labels.csv", b"file,index\na.png,700\nb.png,9\n")):
        Path("d", name).write_bytes(content)
    assert cli("evaluate", "p.safetensors", "--data", "d", "--json").json["embedding"]["knn_top1"] == 0.0
    Path("d/labels.csv").unlink()
    ran = cli("evaluate", "p.safetensors", "--data", "d", "--against", "p.safetensors", "--json")
    assert ran.json["embedding"]["cosine_worst"] == 1.0
