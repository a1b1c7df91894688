"""A look at an image depends on its position and the seed; each setting does what it says, to pictures and to tensors."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor

from tests.training.picture_files import GRAY, RGB, noise_files, numbers
from vitgraph.errors import InputError
from vitgraph.images.data_sources import open_data
from vitgraph.images.image_set import ImageSet, open_images
from vitgraph.images.preprocess import Preprocessing
from vitgraph.training.augmentation import VariedImages
from vitgraph.training.random_states import kept_generators
from vitgraph.training.settings import Augmentation

PLAIN = Augmentation(crop_scale=(1.0, 1.0), ratio=(1e-3, 1e3), hflip=0.0)
"""Nothing varies: of ratios that wide hardly any crop fits, and what is left is the whole image."""


def look(images: ImageSet, settings: Augmentation, position: int = 0, seed: int = 0, row: int = 0) -> Tensor:
    with kept_generators():
        return VariedImages(images, settings, seed).pixels(row, position)


def every_kind(tmp_path: Path) -> list[ImageSet]:
    return [
        noise_files(tmp_path / "rgb", 3, RGB),
        noise_files(tmp_path / "gray", 3, GRAY),
        open_images("digits:train", GRAY, limit=3),
        open_images("random", GRAY, limit=3),
        open_data(torch.randn(3, 3, 8, 8), None),
    ]


def test_the_same_position_gives_the_same_look(tmp_path: Path) -> None:
    settings = Augmentation(reprob=0.5)
    for images in every_kind(tmp_path):
        looks = [look(images, settings, position) for position in range(8)]
        again = [look(images.in_memory(), settings, position) for position in reversed(range(8))]
        assert all(torch.equal(*both) for both in zip(looks, reversed(again), strict=True))
        assert all((one.shape, one.dtype) == (images.image_shape, torch.float32) for one in looks)
        assert all(one.is_contiguous() and bool(one.isfinite().all()) for one in looks)
        assert len({numbers(one) for one in looks}) == 8
        assert not torch.equal(looks[0], look(images, settings, seed=1))


@pytest.mark.parametrize("interpolation", ["nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"])
def test_without_variation_it_is_pre_processing(interpolation: str, tmp_path: Path) -> None:
    """The whole image, scaled to what the model takes: what `fit="exact"` does."""
    plan = Preprocessing.model_validate({**RGB.model_dump(), "fit": "exact", "interpolation": interpolation})
    images = noise_files(tmp_path, 2, plan)
    expected = next(images.batches(1))[0][0]
    assert torch.allclose(look(images, PLAIN), expected, atol=1e-6)
    held = open_data(expected[None], plan)
    assert torch.allclose(look(held, PLAIN), expected, atol=1e-5)


def test_flips(tmp_path: Path) -> None:
    for images in every_kind(tmp_path):
        plain = look(images, PLAIN)
        for settings, axis in ((replace(PLAIN, hflip=1.0), 2), (replace(PLAIN, vflip=1.0), 1)):
            flipped = look(images, settings)
            assert torch.allclose(flipped, plain.flip(axis), atol=1e-5)
            assert not torch.allclose(flipped, plain, atol=1e-2)


def test_erasing_fills_a_rectangle_with_noise(tmp_path: Path) -> None:
    for images in every_kind(tmp_path):
        erased = [look(images, replace(PLAIN, reprob=1.0), position) for position in range(6)]
        changed = [(one != look(images, PLAIN)).float().mean() for one in erased]
        assert any(0 < float(share) < 0.5 for share in changed)


def test_crops_keep_to_their_scale(tmp_path: Path) -> None:
    """A ramp from left to right: how far it goes is how wide the crop is."""
    (tmp_path / "ramp").mkdir()
    Image.linear_gradient("L").rotate(90).save(tmp_path / "ramp" / "ramp.png")
    images = open_images(
        tmp_path / "ramp", Preprocessing(image_size=(64, 64), resize=(64, 64), mean=(0.0,), std=(1.0,))
    )
    tensors = open_data(next(images.batches(1))[0], None)
    for each in (images, tensors):
        settings = Augmentation(crop_scale=(0.25, 0.25), ratio=(1.0, 1.0), hflip=0.0)
        for position in range(5):
            row = look(each, settings, position)[0, 32]
            assert float(row.max() - row.min()) == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize("aa", ["rand-m9-mstd0.5-inc1", "original", "v0", "augmix-m5", "3a"])
@pytest.mark.parametrize("plan", [RGB, GRAY])
def test_policies(aa: str, plan: Preprocessing, tmp_path: Path) -> None:
    images = noise_files(tmp_path, 1, plan)
    settings = replace(PLAIN, aa=aa)
    looks = [look(images, settings, position) for position in range(30)]
    assert len({numbers(one) for one in looks}) > 5
    assert torch.equal(looks[7], look(images, settings, 7))


@pytest.mark.parametrize("plan", [RGB, GRAY])
def test_colours_vary(plan: Preprocessing, tmp_path: Path) -> None:
    images = noise_files(tmp_path, 1, plan)
    jittered = look(images, replace(PLAIN, color_jitter=0.4))
    assert not torch.allclose(jittered, look(images, PLAIN), atol=1e-2)


@pytest.mark.parametrize(
    ("name", "settings"), [("aa", Augmentation(aa="rand-m9")), ("color_jitter", Augmentation(color_jitter=0.4))]
)
def test_tensors_have_no_colours_to_vary(name: str, settings: Augmentation) -> None:
    for images in (open_images("random", RGB, limit=1), open_data(torch.rand(1, 3, 8, 8), RGB)):
        with pytest.raises(InputError, match=rf"{name} .*: it changes pixels .* normalized tensors; leave {name} out"):
            VariedImages(images, settings, 0)


@pytest.mark.parametrize("aa", ["rand-m9-q3", "foo"])
def test_an_unknown_policy(aa: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"aa '{aa}': .*; write one of timm's policies"):
        VariedImages(noise_files(tmp_path, 1), Augmentation(aa=aa), 0)


def test_tensors_are_scaled_as_the_model_says_where_they_can_be() -> None:
    pixels = torch.randn(1, 3, 8, 8)
    kinds = ("nearest", "bilinear", "bicubic", "lanczos")
    plans = {kind: Preprocessing.model_validate({**RGB.model_dump(), "interpolation": kind}) for kind in kinds}
    looks = {kind: numbers(look(open_data(pixels, plan), Augmentation())) for kind, plan in plans.items()}
    assert looks["lanczos"] == looks["bicubic"]
    assert len(set(looks.values())) == 3
