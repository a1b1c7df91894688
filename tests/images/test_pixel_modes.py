"""Every mode of an image has the pixels of its 8-bit twin, or is refused by name."""

import io
import struct
from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from vitgraph.errors import InputError
from vitgraph.images.data_sources import open_data
from vitgraph.images.image_set import open_images
from vitgraph.images.pixel_modes import refusal, to_8_bits
from vitgraph.images.preprocess import Preprocessing

RAMP = np.tile(np.arange(256, dtype=np.uint8), (4, 1))
DEEP = RAMP.astype(np.uint16) * 257
COLOURS = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)


def stored(image: Image.Image, form: str) -> Image.Image:
    """Through a file and out again."""
    buffer = io.BytesIO()
    image.save(buffer, form)
    return Image.open(io.BytesIO(buffer.getvalue()))


def tiff(pixels: bytes, width: int, bits: int, photometric: int = 1) -> Image.Image:
    """A TIFF of one row, as scanners and microscopes write them and Pillow does not."""
    entries = (
        (256, width),
        (257, 1),
        (258, bits),
        (259, 1),
        (262, photometric),
        (273, 8),
        (277, 1),
        (278, 1),
        (279, len(pixels)),
    )
    tags = b"".join(struct.pack("<HHII", tag, 4 if tag in (273, 279) else 3, 1, value) for tag, value in entries)
    head = b"II*\0" + struct.pack("<I", 8 + len(pixels))
    return Image.open(io.BytesIO(head + pixels + struct.pack("<H", len(entries)) + tags + bytes(4)))


def array(image: Image.Image) -> Any:
    return np.asarray(image).astype(int)


DEEP_FORMS: dict[str, Callable[[], Image.Image]] = {
    "I;16": lambda: Image.fromarray(DEEP),
    "I;16B": lambda: Image.frombytes("I;16B", (256, 4), DEEP.astype(">u2").tobytes()),
    "I;16L": lambda: Image.frombytes("I;16L", (256, 4), DEEP.astype("<u2").tobytes()),
    "PNG": lambda: stored(Image.fromarray(DEEP), "PNG"),
    "TIFF": lambda: stored(Image.fromarray(DEEP), "TIFF"),
    "TIFF, other byte order": lambda: stored(Image.frombytes("I;16B", (256, 4), DEEP.astype(">u2").tobytes()), "TIFF"),
    "PGM": lambda: stored(Image.fromarray(DEEP), "PPM"),
}


@pytest.mark.parametrize("form", DEEP_FORMS)
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_16_bits_are_their_8_bit_twin(form: str, mode: Any) -> None:
    image = DEEP_FORMS[form]()
    assert refusal(image) is None
    assert (array(to_8_bits(image, mode)) == array(Image.fromarray(RAMP).convert(mode))).all()


def test_16_bits_between_two_of_8_go_to_the_nearer() -> None:
    image = Image.fromarray(np.array([[0, 128, 129, 65535 - 129, 65535 - 128, 65535]], dtype=np.uint16))
    assert array(to_8_bits(image, "L")).tolist() == [[0, 0, 1, 254, 255, 255]]


def test_12_bits_and_white_at_zero() -> None:
    values = np.array([0, 1000, 2047, 4095])
    packed = "".join(f"{value:012b}" for value in values)
    pixels = int(packed, 2).to_bytes(6, "big")
    assert array(to_8_bits(tiff(pixels, 4, 12), "L")).tolist() == [[0, 62, 127, 255]]
    deep = np.array([0, 257, 65535], dtype="<u2").tobytes()
    assert array(to_8_bits(tiff(deep, 3, 16), "L")).tolist() == [[0, 1, 255]]
    assert array(to_8_bits(tiff(deep, 3, 16, photometric=0), "L")).tolist() == [[255, 254, 0]]


@pytest.mark.parametrize("mode", ["1", "P", "LA", "PA", "RGBA", "RGBa", "La", "RGBX", "CMYK", "YCbCr", "HSV", "LAB"])
def test_each_other_mode_is_converted(mode: str) -> None:
    """Close to the colours it came of, or of their grey; a palette's and a bit's are as Pillow picks them."""
    rgb = Image.fromarray(COLOURS)
    image = {
        "La": lambda: Image.fromarray(COLOURS[..., 0]).convert("LA").convert("La"),
        "RGBa": lambda: rgb.convert("RGBA").convert("RGBa"),
        "LAB": lambda: lab(rgb),
    }.get(mode, lambda: rgb.convert(mode))()
    assert image.mode == mode
    grey = np.repeat(array(rgb.convert("L"))[..., None], 3, axis=2)
    approximate: dict[str, Callable[[], Any]] = {
        "1": lambda: array(rgb.convert("1").convert("RGB")),
        "P": lambda: array(rgb.convert("P").convert("RGB")),
        "PA": lambda: array(rgb.convert("PA").convert("RGB")),
        "LA": lambda: grey,
        "La": lambda: np.repeat(COLOURS[..., :1].astype(int), 3, axis=2),
    }
    wanted = approximate[mode]() if mode in approximate else COLOURS.astype(int)
    apart = np.abs(array(to_8_bits(image, "RGB")) - wanted)
    assert apart.mean() <= 2.0
    assert apart.max() <= (20 if mode == "LAB" else 6)  # 8 bits of LAB are coarse where colours are strong
    to_8_bits(image, "L")


def lab(rgb: Image.Image) -> Image.Image:
    colours: Any = import_module("PIL.ImageCms")
    profiles = colours.createProfile("sRGB"), colours.createProfile("LAB")
    return stored(colours.profileToProfile(rgb, *profiles, outputMode="LAB"), "TIFF")


def test_transparency_leaves_the_colours() -> None:
    picture = Image.fromarray(RAMP).convert("P")
    picture.info["transparency"] = bytes(256)
    assert (array(to_8_bits(picture, "L")) == RAMP).all()


@pytest.mark.parametrize(("mode", "why"), [("I", "32-bit whole numbers"), ("F", "floating-point numbers")])
def test_depths_without_black_and_white_are_refused(mode: str, why: str, tmp_path: Any) -> None:
    plan = Preprocessing(image_size=(4, 4), resize=(4, 4))
    image = Image.new(mode, (4, 4))
    image.save(tmp_path / "deep.tif")
    with pytest.raises(InputError, match=f"deep.tif in .* is of {why}.*8 or 16 bits"):
        open_images(tmp_path, plan)
    with pytest.raises(InputError, match=f"image 0 is of {why}"):
        open_data([image], plan)


def test_without_colour_management_lab_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    image = lab(Image.fromarray(COLOURS))

    def absent(_: str) -> bool:
        return False

    monkeypatch.setattr("PIL.features.check", absent)
    assert "save it as RGB" in (refusal(image) or "")


def test_calibration_sees_the_twin(tmp_path: Any) -> None:
    """The fault itself: a 16-bit grey PNG became all white."""
    plan = Preprocessing(image_size=(4, 256), resize=(4, 256))
    for name, pixels in (("deep", DEEP), ("plain", RAMP)):
        (tmp_path / name).mkdir()
        Image.fromarray(pixels).save(tmp_path / name / "a.png")
    deep, plain = (next(open_images(tmp_path / name, plan).batches(1))[0] for name in ("deep", "plain"))
    assert torch.equal(deep, plain)
    levels: Any = plain.numpy()
    assert np.unique(levels).size == 256
