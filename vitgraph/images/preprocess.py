"""From a decoded image to the tensor a model was trained to see.

A `Preprocessing` is a value: read from the model's own data config, overridden by the command line, stored with the
compiled model as JSON, and applied to one image at a time: resize, centre crop, scale to [0, 1], normalize.

The model's data config is always the default, also for images that come ready cut: no guess is made from an image's
size, because a set would then be treated two ways without anyone having said so. Images already brought to (nearly)
the network's size say so with `--resize HxW`, which scales them straight to it. (Measured, ViT-Tiny on 500 validation
images squashed to 227x227: 82.2 % top-1 by its own config, 80.4 % scaled straight to 224x224.)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, cast, get_args

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from vitgraph.errors import InputError
from vitgraph.images.pixel_modes import to_8_bits

if TYPE_CHECKING:
    from PIL.Image import Image

Size = tuple[Annotated[int, Field(gt=0, le=16384)], Annotated[int, Field(gt=0, le=16384)]]
Interpolation = Literal["nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"]
Crop = Literal["center", "none"]
Fit = Literal["cover", "exact"]
_LARGEST = 10.0
"""A mean or deviation over it is one of pixels from 0 to 255."""
_SMALLEST_STD = 1e-4
_DIGITS = 9
"""A side of more digits is no size."""


class Preprocessing(BaseModel):
    """How an image becomes a model's input.

    `image_size` and `resize` are (height, width) in pixels. With `fit="cover"` the image keeps its aspect and is scaled
    until it covers `resize` (for a square: its short side becomes that long); with `"exact"` both sides are set.
    `crop="center"` then cuts the middle `image_size`; `"none"` asks for `resize == image_size` and `fit="exact"`.
    `mean` and `std` are per channel, of pixels in [0, 1]; one channel means grayscale, three RGB.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    image_size: Size
    mean: tuple[float, ...] = (0.5, 0.5, 0.5)
    std: tuple[float, ...] = (0.5, 0.5, 0.5)
    resize: Size
    fit: Fit = "cover"
    crop: Crop = "center"
    interpolation: Interpolation = "bicubic"

    @model_validator(mode="after")
    def _check(self) -> Self:
        if len(self.mean) not in (1, 3) or len(self.std) != len(self.mean):
            raise ValueError(f"mean {self.mean} and std {self.std} must both have 1 value (grayscale) or 3 (RGB)")
        for name, values in (("mean", self.mean), ("std", self.std)):
            if not all(isfinite(value) for value in values):
                raise ValueError(f"{name} {values} must be finite")
            if any(abs(value) > _LARGEST for value in values):
                raise ValueError(f"{name} {values} is of pixels in [0, 1]; divide one of pixels from 0 to 255 by 255")
        if not all(value >= _SMALLEST_STD for value in self.std):
            raise ValueError(f"std {self.std} must be above zero, {_SMALLEST_STD} at least")
        if any(side < wanted for side, wanted in zip(self.resize, self.image_size, strict=True)):
            raise ValueError(f"resize {_times(self.resize)} is smaller than the image size {_times(self.image_size)}")
        if self.crop == "none" and (self.fit != "exact" or self.resize != self.image_size):
            raise ValueError(f"without a crop, resize must be exactly the image size, {_times(self.image_size)}")
        return self

    @property
    def channels(self) -> int:
        """1 for grayscale, 3 for RGB."""
        return len(self.mean)

    @property
    def mode(self) -> Literal["L", "RGB"]:
        """The same as Pillow's mode."""
        return "L" if self.channels == 1 else "RGB"

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of one input tensor."""
        return (self.channels, *self.image_size)

    def apply(self, image: Image) -> torch.Tensor:
        """Turn a decoded image into a normalized float32 tensor [C, H, W]; raise InputError for modes without an 8-bit form."""
        from PIL.Image import Resampling

        image = to_8_bits(image, self.mode)
        scaled = self._scaled_size(image.height, image.width)
        if scaled != (image.height, image.width):
            image = image.resize((scaled[1], scaled[0]), Resampling[self.interpolation.upper()])
        height, width = self.image_size
        top, left = round((scaled[0] - height) / 2), round((scaled[1] - width) / 2)
        content = bytearray(image.crop((left, top, left + width, top + height)).tobytes())
        pixels = torch.frombuffer(content, dtype=torch.uint8).reshape(height, width, self.channels).permute(2, 0, 1)
        return self.normalize(pixels.to(torch.float32) / 255)

    def normalize(self, pixels: torch.Tensor) -> torch.Tensor:
        """Shift and scale pixels [..., C, H, W] in [0, 1] by the mean and standard deviation."""
        mean = torch.tensor(self.mean, dtype=torch.float32)[:, None, None]
        std = torch.tensor(self.std, dtype=torch.float32)[:, None, None]
        return ((pixels - mean) / std).contiguous()

    def override(self, options: PreprocessingOptions) -> Preprocessing:
        """Put the options that were given in place of the model's own; raise InputError where they do not fit together."""
        return build(override(self.model_dump(), options), "the pre-processing options")

    def to_json(self) -> str:
        """One line of JSON that `from_json` reads back to an equal value."""
        return self.model_dump_json()

    @classmethod
    def from_json(cls, text: str) -> Preprocessing:
        """Read what `to_json` wrote; raise InputError where it is something else."""
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            raise InputError(f"stored pre-processing cannot be read: {_first_fault(error)}") from error

    def _scaled_size(self, height: int, width: int) -> tuple[int, int]:
        """Size (height, width) of an image after the resize and before the crop."""
        if self.fit == "exact":
            return self.resize
        # The side that binds is set; the other follows, rounded down as torchvision's Resize does.
        if height * self.resize[1] <= width * self.resize[0]:
            return self.resize[0], max(self.resize[1], self.resize[0] * width // height)
        return max(self.resize[0], self.resize[1] * height // width), self.resize[1]


@dataclass(frozen=True)
class PreprocessingOptions:
    """What the command line may set; None leaves the model's own. A resize of one number is a short side."""

    image_size: tuple[int, int] | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    resize: int | tuple[int, int] | None = None
    crop: Crop | None = None
    interpolation: Interpolation | None = None

    @classmethod
    def parse(
        cls,
        image_size: str | None = None,
        mean: str | None = None,
        std: str | None = None,
        resize: str | None = None,
        crop: str | None = None,
        interpolation: str | None = None,
    ) -> PreprocessingOptions:
        """Read the options as written on the command line: `224` or `224x196`, `0.5,0.5,0.5`, `center`, `bicubic`."""
        size = None if image_size is None else _parse_sides("--image-size", image_size)
        sides = None if resize is None else _parse_sides("--resize", resize)
        return cls(
            image_size=None if size is None else (size[0], size[-1]),
            mean=None if mean is None else _parse_numbers("--mean", mean),
            std=None if std is None else _parse_numbers("--std", std),
            resize=None if sides is None else sides[0] if len(sides) == 1 else (sides[0], sides[1]),
            crop=cast(Crop | None, _one_of("--crop", crop, get_args(Crop))),
            interpolation=cast(
                Interpolation | None, _one_of("--interpolation", interpolation, get_args(Interpolation))
            ),
        )


def override(own: Mapping[str, Any], options: PreprocessingOptions) -> dict[str, Any]:
    """Fields of a Preprocessing with the options that were given in their place, not yet held against each other.

    A new image size keeps the ratio of resize to crop, unless resize is given too.
    """
    fields: dict[str, Any] = dict(own)
    if options.image_size is not None:
        fields["image_size"] = options.image_size
        fields["resize"] = tuple(
            new * resize // old
            for new, resize, old in zip(options.image_size, own["resize"], own["image_size"], strict=True)
        )
    if options.crop is not None:
        fields["crop"] = options.crop
    if options.crop == "none" and options.resize is None:
        fields |= {"resize": fields["image_size"], "fit": "exact"}
    if isinstance(options.resize, int):
        fields |= {"resize": _cover(options.resize, fields["image_size"]), "fit": "cover"}
        fields["crop"] = options.crop or "center"
    elif options.resize is not None:
        fields |= {"resize": options.resize, "fit": "exact"}
    for name in ("mean", "std"):
        given: tuple[float, ...] | None = getattr(options, name)
        if given is not None:
            fields[name] = given * len(own["mean"]) if len(given) == 1 else given
    if options.interpolation is not None:
        fields["interpolation"] = options.interpolation
    return fields


def build(fields: Mapping[str, Any], origin: str) -> Preprocessing:
    """Make a Preprocessing of `fields`; raise InputError that names `origin` and the first fault."""
    try:
        return Preprocessing.model_validate(dict(fields))
    except ValidationError as error:
        raise InputError(f"{origin} do not fit together: {_first_fault(error)}") from error


def _cover(short_side: int, image_size: tuple[int, int]) -> tuple[int, int]:
    """Scale the shape of `image_size` until its short side is `short_side`."""
    shortest = min(image_size)
    return image_size[0] * short_side // shortest, image_size[1] * short_side // shortest


def _parse_sides(option: str, text: str) -> tuple[int, ...]:
    parts = text.lower().split("x")
    if len(parts) > 2 or not all(map(_is_side, parts)):
        raise InputError(f"{option} {text!r} is not a size: write one number, 224, or height x width, 224x196")
    return tuple(int(part) for part in parts)


def _is_side(text: str) -> bool:
    digits = text.strip()
    return digits.isascii() and digits.isdigit() and len(digits) <= _DIGITS and int(digits) > 0


def _parse_numbers(option: str, text: str) -> tuple[float, ...]:
    try:
        numbers = tuple(float(part) for part in text.replace(",", " ").split())
    except ValueError:
        numbers = ()
    if len(numbers) not in (1, 3) or not all(map(isfinite, numbers)):
        raise InputError(
            f"{option} {text!r} is not one finite number or three with commas between, as 0.485,0.456,0.406"
        )
    return numbers


def _one_of(option: str, text: str | None, choices: tuple[str, ...]) -> str | None:
    if text is not None and text not in choices:
        raise InputError(f"{option} {text!r} is unknown: use one of {', '.join(choices)}")
    return text


def _first_fault(error: ValidationError) -> str:
    fault = error.errors()[0]
    where = ".".join(str(part) for part in fault["loc"])
    return f"{where}: {fault['msg']}" if where else fault["msg"].removeprefix("Value error, ")


def _times(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"
