"""An image before its pre-processing, from every kind of source; and sets held in memory, also in another process."""

import io
import multiprocessing
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor

from vitgraph.errors import InputError
from vitgraph.images.data_sources import open_data
from vitgraph.images.image_files import ZipFiles
from vitgraph.images.image_set import ImageSet, open_images
from vitgraph.images.preprocess import Preprocessing

GRAY = Preprocessing(image_size=(8, 8), resize=(8, 8), mean=(0.5,), std=(0.25,))
RGB = Preprocessing(image_size=(8, 8), resize=(8, 8))


def zipped(path: Path, count: int = 4) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for value in range(count):
            stream = io.BytesIO()
            Image.new("RGB", (9, 10), (value, 2 * value, 255)).save(stream, "PNG")
            archive.writestr(f"{value}.png", stream.getvalue())
    return path


def all_pixels(images: ImageSet) -> Tensor:
    return next(images.batches(len(images)))[0]


def sources(tmp_path: Path) -> list[ImageSet]:
    return [
        open_images(zipped(tmp_path / "set.zip"), RGB),
        open_images("digits:test", GRAY, limit=4),
        open_images("random", GRAY, limit=4),
        open_data(torch.rand(4, 3, 8, 8), RGB),
    ]


def test_a_picture_is_what_pre_processing_starts_from(tmp_path: Path) -> None:
    files, digits, noise, tensors = sources(tmp_path)
    for images in (files, digits):
        assert images.preprocessing is not None
        for row in range(len(images)):
            picture = images.picture(row)
            assert isinstance(picture, Image.Image)
            assert torch.equal(images.preprocessing.apply(picture), all_pixels(images)[row])
    for images in (noise, tensors):
        assert all(torch.equal(all_pixels(images)[row], torch.as_tensor(images.picture(row))) for row in range(4))
    shown = files.picture(3)
    assert isinstance(shown, Image.Image)
    assert (shown.size, shown.getpixel((0, 0))) == ((9, 10), (3, 6, 255))


@pytest.mark.parametrize(("plan", "mode"), [(GRAY, "L"), (RGB, "RGB")])
def test_pictures_have_the_models_channels(plan: Preprocessing, mode: str, tmp_path: Path) -> None:
    for images in (open_images(zipped(tmp_path / "s.zip"), plan), open_images("digits:test", plan, limit=1)):
        picture = images.picture(0)
        assert isinstance(picture, Image.Image)
        assert picture.mode == mode


def test_in_memory_nothing_is_read_again(tmp_path: Path) -> None:
    for images in sources(tmp_path):
        held = images.in_memory()
        assert torch.equal(all_pixels(held), all_pixels(images))
        assert (held.sha256, held.names, held.labels) == (images.sha256, images.names, images.labels)
        assert torch.equal(all_pixels(held.in_memory().take([2])), all_pixels(images.take([2])))
    (tmp_path / "gone").mkdir()
    for name in ("a.png", "b.png", "c.png"):
        Image.new("RGB", (9, 10)).save(tmp_path / "gone" / name)
    plain = open_images(tmp_path / "gone", RGB)
    held = plain.take([1, 2]).in_memory()
    for name in plain.names:
        (tmp_path / "gone" / name).unlink()
    assert len(all_pixels(held)) == 2
    with pytest.raises(InputError, match=r"gone/b\.png"):
        plain.picture(1)


def test_another_process_may_have_a_set_in_memory(tmp_path: Path) -> None:
    for images in sources(tmp_path):
        held = pickle.loads(pickle.dumps(images.in_memory()))
        assert torch.equal(all_pixels(held), all_pixels(images))
    zip_only = open_images(tmp_path / "set.zip", RGB)
    assert torch.equal(all_pixels(pickle.loads(pickle.dumps(zip_only))), all_pixels(zip_only))


def offset_after_a_child_read(archive: zipfile.ZipFile, read: Callable[[], object]) -> int:
    """How far another process, forked off, moves the handle that this one has."""
    assert archive.fp is not None
    os.lseek(archive.fp.fileno(), 0, os.SEEK_SET)
    child = multiprocessing.get_context("fork").Process(target=read)
    child.start()
    child.join()
    assert child.exitcode == 0
    return os.lseek(archive.fp.fileno(), 0, os.SEEK_CUR)


def test_a_forked_process_opens_the_zip_for_itself(tmp_path: Path) -> None:
    files = ZipFiles(zipped(tmp_path / "set.zip"))
    assert offset_after_a_child_read(files.archive, lambda: files.read("3.png")) == 0
    shared = zipfile.ZipFile(tmp_path / "set.zip")
    assert offset_after_a_child_read(shared, lambda: shared.read("3.png")) > 0
