"""Tensors, loaders, data sets and generators as images: the same images from each form, and each fault named."""

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from vitgraph.errors import InputError
from vitgraph.images.data_sources import open_data
from vitgraph.images.image_set import ImageSet, open_images
from vitgraph.images.preprocess import Preprocessing

PLAN = Preprocessing(image_size=(4, 4), resize=(4, 4), mean=(0.5,) * 3, std=(0.5,) * 3)
X = torch.randn(10, 3, 4, 4, generator=torch.Generator().manual_seed(0))
LABELS = (0, 1, 2, 0, 1, 2, 0, 1, 2, 0)
Y = torch.tensor(LABELS)


class Stream(IterableDataset[Tensor]):
    """Has no length and no numbers."""

    def __iter__(self) -> Iterator[Tensor]:
        return iter(X)


class Pictures(Dataset[Any]):
    """Images of PIL, as torchvision's data sets give without a transform."""

    def __len__(self) -> int:
        return 3

    def __getitem__(self, row: int) -> Any:
        return Image.new("RGB", (4, 4), (255, 0, 51)), row


class Mappings(Dataset[Any]):
    """Items as transformers have them."""

    def __len__(self) -> int:
        return len(X)

    def __getitem__(self, row: int) -> Any:
        return {"pixel_values": X[row], "label": Y[row]}


def pixels_of(images: ImageSet) -> Tensor:
    return torch.cat([pixels for pixels, _ in images.batches(3)])


FORMS: dict[str, Callable[[], Any]] = {
    "tensor": lambda: X,
    "tensor with labels": lambda: (X, Y),
    "a loader's batch": lambda: [X, Y],
    "a collator's batch": lambda: {"pixel_values": X, "labels": Y},
    "array": lambda: X.numpy(),
    "list": lambda: list(X),
    "list of batches": lambda: [X[:7], X[7:]],
    "generator": lambda: (image for image in X),
    "generator of pairs": lambda: ((image, int(label)) for image, label in zip(X, Y, strict=True)),
    "data set": lambda: TensorDataset(X, Y),
    "data set without labels": lambda: TensorDataset(X),
    "stream": lambda: Stream(),
    "loader": lambda: DataLoader(TensorDataset(X, Y), batch_size=4),
    "loader of mappings": lambda: DataLoader(Mappings(), batch_size=4),
    "other floats": lambda: X.double(),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_holds_the_same_images(form: str) -> None:
    images = open_data(FORMS[form](), None)
    assert torch.equal(pixels_of(images), X)
    assert len(images) == 10
    labelled = any(word in form for word in ("labels", "batch", "pairs", "mappings")) or form in ("data set", "loader")
    if labelled and form not in ("list of batches", "data set without labels"):
        assert images.labels == LABELS
        images.check_labels(3)
    else:
        assert images.labels is None


def test_a_limit_is_strided_where_images_have_numbers_and_else_the_first() -> None:
    assert torch.equal(pixels_of(open_data(X, None, limit=2)), X[[0, 5]])
    assert torch.equal(pixels_of(open_data(TensorDataset(X, Y), None, limit=2)), X[[0, 5]])
    assert open_data((X, Y), None, limit=2).labels == (0, 2)
    assert torch.equal(pixels_of(open_data(DataLoader(TensorDataset(X), batch_size=4), None, limit=5)), X[:5])
    taken = list[int]()

    def endless() -> Iterator[Tensor]:
        while True:
            taken.append(1)
            yield X[0]

    assert len(open_data(endless(), None, limit=6)) == len(taken) == 6


def test_an_image_set_and_paths_are_as_they_are(tmp_path: Path) -> None:
    images = open_images("random", PLAN, limit=8)
    assert open_data(images, PLAN).sha256 == images.sha256
    assert open_data(images, PLAN, limit=2).names == ("0", "4")
    assert open_data("random", PLAN, limit=8).sha256 == images.sha256
    with pytest.raises(InputError, match="not known how the model's images are pre-processed"):
        open_data(tmp_path, None, shape=(3, 4, 4))
    noise = open_data("random", None, limit=2, shape=(3, 4, 4))
    assert pixels_of(noise).shape == (2, 3, 4, 4)


def test_the_same_content_has_the_same_hash() -> None:
    one = open_data(X, None)
    assert one.sha256 == open_data(list(X), None).sha256 == open_data(iter(X), None).sha256
    assert one.sha256 != open_data(X.flip(0), None).sha256
    assert one.sha256 != open_data((X, Y), None).sha256


def test_pixels_and_pictures_are_normalized_as_the_model_says() -> None:
    white = torch.full((1, 3, 4, 4), 255, dtype=torch.uint8)
    assert torch.equal(pixels_of(open_data(white, PLAN)), torch.ones(1, 3, 4, 4))
    pictures = open_data(Pictures(), PLAN)
    assert torch.allclose(pixels_of(pictures)[0, :, 0, 0], torch.tensor([1.0, -1.0, -0.6]))
    assert pictures.labels == (0, 1, 2)
    for data in (white, Pictures()):
        with pytest.raises(InputError, match=r"image 0 .*does not say how its images are normalized"):
            open_data(data, None)


def test_what_is_handed_in_may_change_afterwards() -> None:
    mine = X.clone()
    images = open_data(mine, None)
    mine.zero_()
    assert torch.equal(pixels_of(images), X)


NAN = X.clone()
NAN[3, 0, 0, 0] = torch.nan


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([], "holds no image"),
        (iter(()), "holds no image"),
        (torch.empty(0, 3, 4, 4), "holds no image"),
        (7, "data is int; hand in a path, a tensor"),
        ([X[0], X[1, :, :2]], r"image 1 is \[3, 2, 4\], where \[3, 4, 4\] is wanted"),
        (X[:, :, :2], r"image 0 is \[3, 2, 4\], where \[3, 4, 4\] is wanted"),
        (torch.zeros(2, 5), r"image 0 has shape|holds no"),
        ([torch.zeros(5)], r"image 0 has shape \[5\]"),
        (NAN, "image 3 holds NaN"),
        (X.long(), "image 0 is of torch.int64"),
        (["a.png"], "image 0 is str"),
        ([(X[0], 1, 2)], "3 parts"),
        ([{"pixels": X[0]}], "keys pixels, but no pixel_values"),
    ],
)
def test_faults_are_named(data: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        open_data(data, PLAN)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (X, "image 0 has no label"),
        ([(X[0], 1), (X[1], None)], "image 1 has no label"),
        ([(X[0], torch.tensor([0.5, 0.5]))], "image 0 has the label"),
        ([(X[0], -1)], "image 0 has the label '-1'"),
        ([(X, Y[:3])], "image 0 has no label"),
    ],
)
def test_evaluation_needs_a_class_of_each_image(data: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        open_data(data, None, what="evaluation")
    assert open_data(data, None).labels is None


def test_a_class_that_the_model_does_not_have() -> None:
    with pytest.raises(InputError, match="2 is of class 2, but the model has classes 0 to 1"):
        open_data((X, Y), None, what="evaluation").check_labels(2)


def test_a_shuffling_loader_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "vitgraph"):
        open_data(DataLoader(TensorDataset(X)), None)
        assert caplog.text == ""
        images = open_data(DataLoader(TensorDataset(X), shuffle=True), None)
    assert "shuffles" in caplog.text
    assert torch.equal(pixels_of(images), pixels_of(images)), "kept in the order of one run"
    assert np.array_equal(np.sort(pixels_of(images).numpy().ravel()), np.sort(X.numpy().ravel()))
