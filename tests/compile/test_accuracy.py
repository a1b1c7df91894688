"""Top-1 and agreement: counted over the images and nothing else."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from vitgraph.compile.accuracy import Predictions, predict
from vitgraph.errors import InputError


class Labelled:
    """One-hot images: the class of each is where its one stands."""

    def __init__(self, classes: list[int], labels: list[int] | None) -> None:
        self.pixels = torch.eye(4)[classes].reshape(-1, 1, 2, 2)
        self.labels = labels

    def __len__(self) -> int:
        return len(self.pixels)

    def batches(self, size: int) -> Iterator[tuple[Tensor, list[int] | None]]:
        for start in range(0, len(self), size):
            yield self.pixels[start : start + size], self.labels and self.labels[start : start + size]


class Flat:
    """The pixels are the logits."""

    def __init__(self) -> None:
        self.sizes = list[int]()

    def run(self, batch: Tensor) -> Tensor:
        self.sizes.append(len(batch))
        return batch.flatten(1)


def test_counts_hits() -> None:
    told = list[tuple[str, int, int]]()

    def tell(what: str, done: int, total: int) -> None:
        told.append((what, done, total))

    found = predict(Flat(), Labelled([0, 1, 2, 3, 3], [0, 1, 2, 0, 0]), None, tell)
    assert torch.equal(found.classes, torch.tensor([0, 1, 2, 3, 3]))
    assert found.top1 == pytest.approx(60.0)
    assert told == [("evaluation", 5, 5)]


def test_a_fixed_batch_is_filled_up_and_the_filling_not_counted() -> None:
    runner = Flat()
    found = predict(runner, Labelled([0, 1, 2, 3, 3], [0, 1, 2, 3, 0]), 4)
    assert runner.sizes == [4, 4]
    assert torch.equal(found.classes, torch.tensor([0, 1, 2, 3, 3]))
    assert found.top1 == pytest.approx(80.0)


def test_no_labels_no_accuracy() -> None:
    assert predict(Flat(), Labelled([0, 1], None), None).top1 is None


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_logits_that_are_not_finite_are_counted_and_no_class(value: float) -> None:
    class Broken(Flat):
        def run(self, batch: Tensor) -> Tensor:
            logits = batch.flatten(1).clone()
            logits[logits[:, 0] == 1, 3] = value
            return logits

    found = predict(Broken(), Labelled([0, 1, 2, 0], [0, 1, 2, 3]), None)
    assert found.not_finite == 2
    assert (found.top1, found.agreement(found)) == (50.0, 50.0)
    assert predict(Flat(), Labelled([0, 1], [0, 1]), None).not_finite == 0


def test_a_label_that_is_no_class() -> None:
    with pytest.raises(InputError, match="an image is of class 99, but the model has classes 0 to 3"):
        predict(Flat(), Labelled([0, 1], [0, 99]), None)


def test_one_class_for_all_images_is_told(caplog: pytest.LogCaptureFixture) -> None:
    predict(Flat(), Labelled([2, 2, 2], [0, 1, 2]), None)
    assert "evaluation: all 3 images were given class 2" in caplog.text
    caplog.clear()
    predict(Flat(), Labelled([2, 2], [2, 2]), None)
    predict(Flat(), Labelled([2], [0]), None)
    predict(Flat(), Labelled([2, 1], [0, 0]), None)
    assert caplog.text == ""


def test_agreement() -> None:
    one = Predictions(torch.tensor([0, 1, 2, 3]), None)
    other = Predictions(torch.tensor([0, 1, 0, 0]), None)
    assert one.agreement(other) == other.agreement(one) == 50.0
    assert one.agreement(one) == 100.0


def test_a_model_that_does_not_classify() -> None:
    class Maps(Flat):
        def run(self, batch: Tensor) -> Tensor:
            return batch

    with pytest.raises(InputError, match=r"output is \[images, classes\]"):
        predict(Maps(), Labelled([0], [0]), None)


_GROWTH = """
from pathlib import Path

from vitgraph.compile.accuracy import predict
from vitgraph.images.image_set import open_images
from vitgraph.images.preprocess import Preprocessing


class Mean:
    def run(self, batch):
        return batch.mean((2, 3)).repeat(1, 4)[:, :10]


def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 2**20


images = open_images("digits:train", Preprocessing(image_size=(224, 224), resize=(256, 256)), 200)
told = []
predict(Mean(), images, 1, lambda what, done, total: told.append(resident()))
print(told[-1] - told[30])
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").is_file(), reason="reads its own memory from /proc")
def test_memory_does_not_grow_with_the_images() -> None:
    """A tensor kept of each image lies after that image's pixels in the heap, and those are never returned to the system."""
    grown = subprocess.run([sys.executable, "-c", _GROWTH], capture_output=True, text=True, check=True).stdout
    assert float(grown) < 40  # MB; 160 where predictions were kept as tensors
