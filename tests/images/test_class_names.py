"""Folders named as a model's classes are numbered as the model numbers them."""

from pathlib import Path

import pytest
from PIL import Image

from vitgraph.errors import InputError
from vitgraph.images.class_names import match_classes
from vitgraph.images.image_set import ImageSet, open_images
from vitgraph.images.preprocess import Preprocessing

PLAN = Preprocessing(image_size=(4, 4), resize=(4, 4))
NAMES = ["truck", "ship", "cat", "dog"]


def folders(where: Path, *names: str) -> ImageSet:
    for name in names:
        (where / name).mkdir()
        Image.new("L", (4, 4)).save(where / name / "a.png")
    return open_images(where, PLAN)


def test_folders_are_numbered_by_name(tmp_path: Path) -> None:
    found = match_classes(folders(tmp_path, "cat", "truck"), NAMES)
    assert (found.labels, found.class_names) == ((2, 0), {2: "cat", 0: "truck"})
    found.check_labels(4)


def test_as_many_folders_as_classes_are_numbered_by_name_too(tmp_path: Path) -> None:
    """Their order would swap them, in silence."""
    found = match_classes(folders(tmp_path, "ship", "truck"), NAMES[:2])
    assert found.labels == (1, 0)


@pytest.mark.parametrize("names", [None, ["a", "b"], ["cat", "cat", "ship"]], ids=["none", "others", "twice"])
def test_without_their_names_the_order_counts(names: list[str] | None, tmp_path: Path) -> None:
    images = folders(tmp_path, "cat", "ship")
    found = match_classes(images, names)
    assert found is images
    found.check_labels(2)
    with pytest.raises(
        InputError, match=r"cat would be 0, ship would be 1.*name the folders as the model's classes or 0 to 2"
    ):
        found.check_labels(3)


def test_numbers_stay(tmp_path: Path) -> None:
    assert match_classes(folders(tmp_path, "1", "3"), ["3", "1"]).labels == (1, 3)
