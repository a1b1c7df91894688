"""The batches are those of the position in training alone: not of workers, restarts, or how many processes there are."""

import io
import random
import zipfile
from pathlib import Path

import numpy
import pytest
import torch
from PIL import Image
from torch import Tensor

from tests.training.picture_files import GRAY, RGB, noise_files, numbers
from vitgraph.errors import InputError
from vitgraph.images.data_sources import open_data
from vitgraph.images.image_set import ImageSet, open_images
from vitgraph.training.division import Division
from vitgraph.training.loader import Loader, TrainingBatch
from vitgraph.training.mixture import Mixture, Source
from vitgraph.training.settings import Augmentation

MIXED = Augmentation(mixup=0.8, cutmix=1.0, reprob=0.3)


@pytest.fixture
def files(tmp_path: Path) -> ImageSet:
    return noise_files(tmp_path / "files", 10)


def loader(
    *sources: Source,
    settings: Augmentation | None = None,
    division: Division | None = None,
    classes: int | None = 2,
    workers: int = 0,
    seed: int = 0,
    start: str | None = None,
) -> Loader:
    return Loader(
        Mixture(sources, seed), settings or MIXED, division or Division(4), seed, classes, workers=workers, start=start
    )


def same(one: list[TrainingBatch], other: list[TrainingBatch]) -> bool:
    return len(one) == len(other) and all(
        torch.equal(a.pixels, b.pixels) and a.targets is not None and torch.equal(a.targets, torch.as_tensor(b.targets))
        for a, b in zip(one, other, strict=True)
    )


def test_batches(files: ImageSet) -> None:
    found = list(loader(Source(files, True)).batches(0, 3))
    assert len(found) == 3
    for pixels, targets in found:
        assert (pixels.shape, pixels.dtype) == ((4, 3, 8, 8), torch.float32)
        assert targets is not None
        assert (targets.shape, targets.dtype) == ((4, 2), torch.float32)
        assert torch.allclose(targets.sum(1), torch.ones(4))
    assert not torch.equal(found[0].pixels, found[1].pixels)
    assert not same(found, list(loader(Source(files, True), seed=1).batches(0, 3)))


@pytest.mark.parametrize("start", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
def test_workers_make_the_same(files: ImageSet, start: str, tmp_path: Path) -> None:
    zip_path = tmp_path / "files.zip"
    with zipfile.ZipFile(zip_path, "w") as archive:
        for path in sorted((tmp_path / "files").rglob("*.png")):
            archive.write(path, path.relative_to(tmp_path / "files").as_posix())
    aa = Augmentation(aa="rand-m9-mstd0.5-inc1", reprob=0.3)
    sources = [Source(open_images(zip_path, RGB), True), Source(files.in_memory(), False)]
    here = list(loader(*sources, settings=aa).batches(1, 8))
    there = list(loader(*sources, settings=aa, workers=2, start=start).batches(1, 8))
    assert same(here, there)


@pytest.mark.parametrize(("division", "steps"), [(Division(4), 2), (Division(2, 2, 1, 2), 1), (Division(10), 1)])
def test_steps_of_an_epoch(files: ImageSet, division: Division, steps: int) -> None:
    assert loader(Source(files, True), division=division).steps_an_epoch == steps


def test_starting_in_the_middle_changes_nothing(files: ImageSet) -> None:
    division = Division(2, grad_accum_steps=2)
    whole = list(loader(Source(files, True), division=division).batches(0, 9))
    assert len(whole) == 18
    for first in (1, 4, 8):
        assert same(whole[2 * first :], list(loader(Source(files, True), division=division).batches(first, 9)))
    assert list(loader(Source(files, True)).batches(3, 3)) == []


@pytest.mark.parametrize("settings", [Augmentation(), MIXED])
@pytest.mark.parametrize(("batches", "count"), [(1, 2), (2, 1), (2, 2)])
def test_processes_share_the_batch_of_one(files: ImageSet, settings: Augmentation, batches: int, count: int) -> None:
    size = 8 // batches // count
    alone = list(loader(Source(files, True), settings=settings, division=Division(8)).batches(0, 3))
    parts = [
        list(
            loader(Source(files, True), settings=settings, division=Division(size, batches, rank, count)).batches(0, 3)
        )
        for rank in range(count)
    ]
    for step, whole in enumerate(alone):
        taken = [part[step * batches + batch] for part in parts for batch in range(batches)]
        assert rows(taken) == rows([whole])
        assert rows(taken[1:]) != rows([whole])


def rows(batches: list[TrainingBatch]) -> list[tuple[float, ...]]:
    """Every image with its target, in an order that only depends on them."""
    found = list[tuple[float, ...]]()
    for pixels, targets in batches:
        assert targets is not None
        found += [numbers(row) for row in torch.cat([pixels.flatten(1), targets], 1)]
    return sorted(found)


def test_the_global_generators_are_as_they_were(files: ImageSet) -> None:
    def states() -> tuple[object, list[int], list[int]]:
        return random.getstate(), numpy.random.get_state()[1].tolist(), torch.get_rng_state().tolist()  # type: ignore[index]

    before = states()
    for workers in (0, 1):
        for _ in loader(Source(files, True), workers=workers).batches(0, 2):
            assert states() == before
    assert states() == before


def test_what_happens_meanwhile_does_not_matter(files: ImageSet) -> None:
    expected = list(loader(Source(files, True)).batches(0, 4))
    found = list[TrainingBatch]()
    for batch in loader(Source(files, True)).batches(0, 4):
        found.append(batch)
        random.seed(5)
        numpy.random.seed(5)
        torch.default_generator.manual_seed(5)
    assert same(expected, found)


def test_targets_of_labelled_and_unlabelled_images(files: ImageSet, tmp_path: Path) -> None:
    """Tensors that say which they are; those whose labels are not learned from are all 9."""
    held = open_data((torch.arange(6.0).reshape(6, 1, 1, 1).expand(-1, 3, 8, 8).contiguous(), torch.arange(6)), None, what="evaluation")  # fmt: skip
    nines = open_data((torch.full((3, 3, 8, 8), 9.0), torch.zeros(3).long()), None, what="evaluation")
    sources = (Source(held, True, 0.5), Source(nines, False, 0.5))
    plain = Augmentation(hflip=0)
    pixels = list[Tensor]()
    for batch in Loader(Mixture(sources, 0), plain, Division(6), 0, 6, smoothing=0.3).batches(0, 4):
        assert batch.targets is not None
        for image, target in zip(batch.pixels, batch.targets, strict=True):
            value = round(float(image.mean()))
            expected = torch.full((6,), 0.05) + 0.7 * torch.eye(6)[value] if value < 6 else torch.zeros(6)
            assert torch.allclose(target, expected)
            pixels.append(image)
    assert sum(float(image.mean()) > 8 for image in pixels) == 12
    assert next(loader(*sources, settings=plain, classes=None).batches(0, 1)).targets is None
    unlabelled = (Source(files, False), Source(noise_files(tmp_path / "u", 4, classes=1), False))
    assert next(loader(*unlabelled).batches(0, 1)).targets is None


def test_grayscale_and_noise_together() -> None:
    digits, noise = open_images("digits:train", GRAY, limit=6), open_images("random", GRAY, limit=6)
    batch = next(loader(Source(digits, True), Source(noise, False), classes=10).batches(0, 1))
    assert batch.pixels.shape == (4, 1, 8, 12)


def test_names_the_fault(files: ImageSet, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"a step takes 12 images \(2 a batch, 3 batches, 2 processes\), and there are 10 to train with; lower"):  # fmt: skip
        loader(Source(files, True), division=Division(2, 3, 0, 2))
    with pytest.raises(InputError, match="is of class 1, but the model has classes 0 to 0"):
        loader(Source(files, True), classes=1)
    loader(Source(files, False), classes=1)
    with pytest.raises(InputError, match=r"no labels \(unlabelled\)"):
        loader(Source(noise_files(tmp_path / "u", 4, classes=1), True))
    with pytest.raises(InputError, match="batch_size 3: mixup"):
        loader(Source(files, True), division=Division(3))


@pytest.mark.parametrize("workers", [0, 1])
def test_a_damaged_image_is_named_without_a_traceback(workers: int, tmp_path: Path) -> None:
    stream = io.BytesIO()
    Image.effect_noise((64, 64), 90).convert("RGB").save(stream, "JPEG")
    noise_files(tmp_path, 7, classes=1)
    (tmp_path / "bad.jpg").write_bytes(stream.getvalue()[:-600])
    images = open_images(tmp_path, RGB)
    with pytest.raises(InputError, match=r"^image bad\.jpg in .* is damaged: [^\n]*$"):
        list(loader(Source(images, False), workers=workers).batches(0, 2))
