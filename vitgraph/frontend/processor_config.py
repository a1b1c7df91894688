"""`preprocessor_config.json` of transformers, read without its classes: which images a model was trained to see.

What is cut out of the image decides its size: `crop_size`, then a `size` of height and width, then the model's positions.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated, Any, Literal, cast

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from vitgraph.errors import InputError
from vitgraph.reading import SETTINGS, read_json

_RESAMPLING = ("nearest", "lanczos", "bilinear", "bicubic", "box", "hamming")  # by PIL's number
_SQUASHED_FROM = 384  # ConvNeXt's processor crops below, and scales both sides from here on
_log = logging.getLogger("vitgraph")

Side = Annotated[int, Field(gt=0, le=16384)]


def _of_channels(values: tuple[float, ...]) -> tuple[float, ...]:
    if len(values) not in (1, 3):
        raise ValueError(f"{len(values)} values, where 1 (grayscale) or 3 (RGB) are wanted")
    return values


Colours = Annotated[tuple[Annotated[float, Field(allow_inf_nan=False)], ...], AfterValidator(_of_channels)]


class _Sides(BaseModel):
    """A size: two sides, or the short one of an image that keeps its aspect."""

    height: Side | None = None
    width: Side | None = None
    shortest_edge: Side | None = None

    @model_validator(mode="before")
    @classmethod
    def _from_number(cls, value: Any) -> Any:
        return {"height": value, "width": value} if isinstance(value, int) else value

    @model_validator(mode="after")
    def _check(self) -> _Sides:
        if self.shortest_edge is None and (self.height is None or self.width is None):
            raise ValueError("needs height and width, or shortest_edge")
        return self

    @property
    def pair(self) -> tuple[int, int]:
        """(height, width); a square where there is a short side only."""
        if self.height is not None and self.width is not None:
            return self.height, self.width
        assert self.shortest_edge is not None
        return self.shortest_edge, self.shortest_edge

    @property
    def keeps_aspect(self) -> bool:
        return self.height is None or self.width is None


class Processor(BaseModel):
    """The settings that say something of an image's pixels; whatever else a file holds is for training or for text."""

    model_config = ConfigDict(frozen=True)

    do_resize: bool | None = None
    size: _Sides | None = None
    do_center_crop: bool | None = None
    crop_size: _Sides | None = None
    crop_pct: Annotated[float, Field(gt=0, le=1)] | None = None
    resample: Annotated[int, Field(ge=0, lt=len(_RESAMPLING))] | None = None
    do_rescale: bool | None = None
    rescale_factor: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    do_normalize: bool | None = None
    image_mean: Colours | None = None
    image_std: Colours | None = None
    do_flip_channel_order: bool | None = None

    def fields(self, own: tuple[int, int] | None, channels: int) -> dict[str, Any]:
        """The fields of a `Preprocessing`, not yet held against each other; `own` is the size of the model's positions."""
        size, resize, fit, crop = self._geometry(own)
        mean, std = self._normalization(channels)
        return {
            "image_size": size, "resize": resize, "fit": fit, "crop": crop, "mean": mean, "std": std,
            "interpolation": _RESAMPLING[2 if self.resample is None else self.resample],
        }  # fmt: skip

    def _geometry(
        self, own: tuple[int, int] | None
    ) -> tuple[tuple[int, int], tuple[int, int], Literal["cover", "exact"], Literal["center", "none"]]:
        """Image size, resize, fit and crop."""
        size = self.size
        whole = own or (size.pair if size else (224, 224))
        if self.crop_pct is not None and size is not None:
            return self._cropped_by_share(size, self.crop_pct)
        keeps_aspect = size is not None and size.keeps_aspect
        crops = keeps_aspect if self.do_center_crop is None else self.do_center_crop
        if crops:
            cut = self.crop_size.pair if self.crop_size else whole
            resized = self.do_resize is not False and size is not None
            fit: Literal["cover", "exact"] = "cover" if keeps_aspect or not resized else "exact"
            return cut, size.pair if resized and size else cut, fit, "center"
        exact = size.pair if size is not None and not keeps_aspect else whole
        return exact, exact, "exact", "none"

    def _cropped_by_share(
        self, size: _Sides, share: float
    ) -> tuple[tuple[int, int], tuple[int, int], Literal["cover", "exact"], Literal["center", "none"]]:
        """As ConvNeXt's and PoolFormer's processors: `size` is what a crop of this share leaves."""
        cut = self.crop_size.pair if self.crop_size else size.pair
        if self.crop_size is None and min(size.pair) >= _SQUASHED_FROM:
            return cut, cut, "exact", "none"
        return cut, (int(size.pair[0] / share), int(size.pair[1] / share)), "cover", "center"

    def _normalization(self, channels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and standard deviation of pixels in [0, 1], whatever range this processor's are in."""
        factor = 1 / 255 if self.rescale_factor is None else self.rescale_factor
        top = 255 * factor if self.do_rescale is not False else 255.0
        if self.do_normalize is False:
            return (0.0,) * channels, (1 / top,) * channels
        mean, std = self.image_mean or (0.5,) * channels, self.image_std or (0.5,) * channels
        return tuple(value / top for value in mean), tuple(value / top for value in std)


def read_processor(file: Path) -> Processor:
    """Read the file; one that isn't there says nothing. Raises `InputError` where it is none, or a setting can't be."""
    if not file.exists():
        return Processor()
    stored: Any = read_json(file, SETTINGS, nan=True)
    if not isinstance(stored, dict):
        raise InputError(f"{file} holds a {type(stored).__name__} where the settings of an image processor are wanted")
    try:
        processor = Processor.model_validate(cast(dict[str, Any], stored))
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(str(part) for part in fault["loc"])
        raise InputError(f"{file}: {where}: {fault['msg'].removeprefix('Value error, ')}; mend it") from error
    if processor.do_flip_channel_order:
        _log.warning("%s asks for colours in the order BGR, which vitgraph does not do: images stay RGB", file)
    return processor
