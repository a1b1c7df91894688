"""Any decoded image as 8-bit grey or RGB.

| mode of Pillow                        | what becomes of it                                                                       |
|---------------------------------------|------------------------------------------------------------------------------------------|
| `1`, `L`, `P`, `RGB`, `CMYK`, `YCbCr`, `HSV` | as Pillow converts it; 16-bit RGB files come as `RGB`, their high bytes            |
| `LA`, `PA`, `RGBA`, transparent `P`   | the colours alone, as training scripts' `convert("RGB")` has them                        |
| `I;16…`; `I` of PNG and PGM           | 16 bits (12 where a TIFF says so), scaled by 255 / 65535 and rounded: Pillow would clip  |
| `LAB`                                 | to sRGB by Pillow's colour management                                                    |
| `I`, `F` otherwise                    | refused: nothing says what its black and white are                                       |
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal

import torch

from vitgraph.errors import InputError

if TYPE_CHECKING:
    from PIL.Image import Image

_BITS_PER_SAMPLE, _PHOTOMETRIC, _WHITE_IS_ZERO = 258, 262, 0  # of TIFF
_PREMULTIPLIED = {"RGBa": "RGBA", "La": "LA"}
_DIRECT = frozenset({"1", "L", "P", "RGB", "RGBX", "CMYK", "YCbCr", "HSV", "LA", "PA", "RGBA", *_PREMULTIPLIED})


def refusal(image: Image) -> str | None:
    """Why an image, decoded or only opened, has no 8-bit form; None where it has one."""
    if image.mode in _DIRECT or _is_16_bit(image):
        return None
    if image.mode == "LAB":
        return None if _knows_colours() else "is in the colours LAB, which this Pillow cannot convert; save it as RGB"
    kinds = {"I": "of 32-bit whole numbers", "F": "of floating-point numbers"}
    kind = kinds.get(image.mode, f"of mode {image.mode!r}")
    return f"is {kind}, and nothing says which are black and white; save it with 8 or 16 bits"


def to_8_bits(image: Image, mode: Literal["L", "RGB"]) -> Image:
    """The image in 8 bits, grey or RGB. Raises `InputError` where it has no such form (see `refusal`)."""
    if why := refusal(image):
        raise InputError(f"an image {why}")
    if _is_16_bit(image):
        image = _scale(image)
    elif image.mode == "LAB":
        image = _lab_to_rgb(image)
    elif image.mode in _PREMULTIPLIED:
        image = image.convert(_PREMULTIPLIED[image.mode])
    return image.convert(mode)


def _is_16_bit(image: Image) -> bool:
    """PNG and PGM have no more than 16 bits, whichever mode a version of Pillow reads them to."""
    return image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM"))


def _scale(image: Image) -> Image:
    """From 16 or 12 bits to 8, rounded: white is white, whatever the depth."""
    from PIL.Image import frombytes

    tags: Any = getattr(image, "tag_v2", {})
    white = 2 ** int(tags.get(_BITS_PER_SAMPLE, (16,))[0]) - 1
    deep = torch.frombuffer(bytearray(image.convert("I").tobytes()), dtype=torch.int32)
    if tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO:
        deep = white - deep
    grey: Any = ((deep * 255 + white // 2) // white).to(torch.uint8).numpy()
    return frombytes("L", image.size, grey.tobytes())


def _knows_colours() -> bool:
    from PIL import features

    return bool(features.check("littlecms2"))


def _lab_to_rgb(image: Image) -> Image:
    colours: Any = import_module("PIL.ImageCms")
    lab, rgb = colours.createProfile("LAB"), colours.createProfile("sRGB")
    converted: Image = colours.profileToProfile(image, lab, rgb, outputMode="RGB")
    return converted
