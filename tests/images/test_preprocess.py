"""Pre-processing: the same numbers as timm's and torchvision's own transforms, round trips, and options that clash."""

from importlib import import_module
from random import Random
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from vitgraph.errors import InputError
from vitgraph.images.preprocess import Preprocessing, PreprocessingOptions, build


def picture(width: int, height: int) -> Image.Image:
    return Image.frombytes("RGB", (width, height), Random(3).randbytes(width * height * 3))


@pytest.mark.parametrize("shape", [(300, 257), (257, 300), (227, 227), (100, 500)])
@pytest.mark.parametrize("mode", ["center", "squash"])
def test_equals_timm(shape: tuple[int, int], mode: str) -> None:
    transform: Any = import_module("timm.data").create_transform(
        (3, 224, 224), mean=(0.5,) * 3, std=(0.4,) * 3, crop_pct=0.9, crop_mode=mode, interpolation="bicubic"
    )
    ours = Preprocessing(
        image_size=(224, 224),
        resize=(248, 248),
        fit="cover" if mode == "center" else "exact",
        mean=(0.5,) * 3,
        std=(0.4,) * 3,
    )
    image = picture(*shape)
    torch.testing.assert_close(ours.apply(image), transform(image), rtol=0, atol=1e-6)
    other = ours.model_copy(update={"interpolation": "bilinear"})
    assert not torch.allclose(other.apply(image), transform(image), atol=1e-2)


def test_equals_torchvision() -> None:
    transform: Any = import_module("torchvision.models").ViT_B_16_Weights.DEFAULT.transforms()
    ours = Preprocessing(
        image_size=(224, 224),
        resize=(256, 256),
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
        interpolation="bilinear",
    )
    image = picture(333, 270)
    torch.testing.assert_close(ours.apply(image), transform(image), rtol=0, atol=1e-6)


def test_takes_any_colour_mode() -> None:
    gray = Preprocessing(image_size=(8, 6), resize=(8, 6), fit="exact", crop="none", mean=(0.0,), std=(1.0,))
    rgb = gray.model_copy(update={"mean": (0.0,) * 3, "std": (1.0,) * 3})
    for mode in ("L", "RGB", "RGBA", "P", "CMYK", "1", "LA"):
        image = picture(12, 16).convert(mode)
        assert gray.apply(image).shape == (1, 8, 6)
        assert rgb.apply(image).shape == (3, 8, 6)


sizes = st.tuples(st.integers(1, 600), st.integers(1, 600))


@given(size=sizes, extra=sizes, mean=st.lists(st.floats(-1, 1), min_size=3, max_size=3))
def test_json_round_trip(size: tuple[int, int], extra: tuple[int, int], mean: list[float]) -> None:
    resize = (size[0] + extra[0], size[1] + extra[1])
    plan = Preprocessing(image_size=size, resize=resize, mean=(mean[0], mean[1], mean[2]))
    assert Preprocessing.from_json(plan.to_json()) == plan


@given(width=st.integers(1, 90), height=st.integers(1, 90), size=st.tuples(st.integers(1, 40), st.integers(1, 40)))
def test_every_image_fills_the_input(width: int, height: int, size: tuple[int, int]) -> None:
    plan = Preprocessing(image_size=size, resize=(size[0] + 3, size[1] + 5), mean=(0.0,), std=(1.0,))
    white = Image.new("L", (width, height), 255)
    assert torch.equal(plan.apply(white), torch.ones(1, *size))  # no padding: every pixel comes from the image


def options(**texts: str) -> PreprocessingOptions:
    return PreprocessingOptions.parse(**texts)


BASE = Preprocessing(image_size=(224, 224), resize=(248, 248))


@pytest.mark.parametrize(
    ("given_options", "expected"),
    [
        (options(), BASE),
        (options(image_size="112"), Preprocessing(image_size=(112, 112), resize=(124, 124))),
        (options(resize="256"), Preprocessing(image_size=(224, 224), resize=(256, 256))),
        (options(resize="224x224"), Preprocessing(image_size=(224, 224), resize=(224, 224), fit="exact")),
        (options(crop="none"), Preprocessing(image_size=(224, 224), resize=(224, 224), fit="exact", crop="none")),
        (options(image_size="64x32", resize="40"), Preprocessing(image_size=(64, 32), resize=(80, 40))),
        (options(mean="0.1,0.2,0.3", std="0.5"), BASE.model_copy(update={"mean": (0.1, 0.2, 0.3), "std": (0.5,) * 3})),
        (options(interpolation="nearest"), BASE.model_copy(update={"interpolation": "nearest"})),
    ],
)
def test_override(given_options: PreprocessingOptions, expected: Preprocessing) -> None:
    assert BASE.override(given_options) == expected


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ({"image_size": "big"}, "--image-size 'big' is not a size"),
        ({"image_size": "0"}, "--image-size '0' is not a size"),
        ({"mean": "a,b,c"}, "--mean 'a,b,c'"),
        ({"std": "0.1,0.2"}, "--std '0.1,0.2'"),
        ({"crop": "corner"}, "use one of center, none"),
        ({"interpolation": "cubic"}, "bicubic"),
        ({"resize": "200"}, "smaller than the image size 224x224"),
        ({"std": "0"}, "above zero"),
        ({"std": "1e-9"}, "above zero"),
        ({"mean": "nan"}, "--mean 'nan' is not one finite number"),
        ({"std": "inf"}, "--std 'inf' is not one finite number"),
        ({"mean": "123.7,116.3,103.5"}, "by 255"),
        ({"std": "58.4"}, "by 255"),
        ({"image_size": "9" * 5000}, "is not a size"),
        ({"crop": "none", "resize": "256"}, "without a crop"),
    ],
)
def test_refuses_with_a_remedy(texts: dict[str, str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        BASE.override(options(**texts))


@pytest.mark.parametrize("field", ["mean", "std"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_has_no_fields_that_are_not_finite(field: str, value: float) -> None:
    with pytest.raises(InputError, match=f"{field} .*must be finite"):
        build(BASE.model_dump() | {field: (value,) * 3}, "these settings")


def test_refuses_other_json() -> None:
    with pytest.raises(InputError, match="image_size"):
        Preprocessing.from_json("{}")
