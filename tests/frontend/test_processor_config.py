"""What a processor of transformers does to an image, as a Preprocessing."""

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from vitgraph.errors import InputError
from vitgraph.frontend.processor_config import Processor, read_processor
from vitgraph.images.preprocess import Preprocessing, build

OWN = (32, 32)


def plan(own: tuple[int, int] | None = OWN, **settings: Any) -> Preprocessing:
    return build(Processor.model_validate(settings).fields(own, 3), "test")


@pytest.mark.parametrize(
    ("settings", "size", "resize", "fit", "crop"),
    [
        ({}, (32, 32), (32, 32), "exact", "none"),
        ({"size": 48}, (48, 48), (48, 48), "exact", "none"),
        ({"size": {"height": 48, "width": 64}}, (48, 64), (48, 64), "exact", "none"),
        ({"size": {"shortest_edge": 40}}, (32, 32), (40, 40), "cover", "center"),
        ({"size": {"shortest_edge": 40}, "do_center_crop": False}, (32, 32), (32, 32), "exact", "none"),
        (
            {"size": {"shortest_edge": 64}, "crop_size": 48, "do_center_crop": True},
            (48, 48),
            (64, 64),
            "cover",
            "center",
        ),
        (
            {"size": {"shortest_edge": 64}, "crop_size": {"height": 48, "width": 40}},
            (48, 40),
            (64, 64),
            "cover",
            "center",
        ),
        (
            {"size": {"height": 64, "width": 64}, "crop_size": 48, "do_center_crop": True},
            (48, 48),
            (64, 64),
            "exact",
            "center",
        ),
        ({"size": {"height": 64, "width": 64}, "crop_size": 48}, (64, 64), (64, 64), "exact", "none"),
        (
            {"size": 64, "crop_size": 48, "do_center_crop": True, "do_resize": False},
            (48, 48),
            (48, 48),
            "cover",
            "center",
        ),
        ({"size": {"shortest_edge": 224}, "crop_pct": 0.875}, (224, 224), (256, 256), "cover", "center"),
        ({"size": {"shortest_edge": 384}, "crop_pct": 1.0}, (384, 384), (384, 384), "exact", "none"),
        (
            {"size": {"shortest_edge": 224}, "crop_pct": 0.9, "crop_size": 224},
            (224, 224),
            (248, 248),
            "cover",
            "center",
        ),
        (
            {"size": None, "crop_size": None, "do_center_crop": None, "do_resize": None},
            (32, 32),
            (32, 32),
            "exact",
            "none",
        ),
    ],
)
def test_geometry(settings: dict[str, Any], size: Any, resize: Any, fit: str, crop: str) -> None:
    found = plan(**settings)
    assert (found.image_size, found.resize, found.fit, found.crop) == (size, resize, fit, crop)


def test_without_the_models_own_size_the_processors_counts() -> None:
    assert plan(None, size={"shortest_edge": 40}).image_size == (40, 40)
    assert plan(None).image_size == (224, 224)


@pytest.mark.parametrize(
    "settings",
    [
        {"image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6]},
        {"rescale_factor": 1 / 127.5, "image_mean": [1.0, 1.1, 1.2], "image_std": [0.5, 0.5, 0.5]},
        {"do_rescale": False, "image_mean": [127.5, 100.0, 90.0], "image_std": [58.0, 57.0, 56.0]},
        {"do_normalize": False},
        {"do_normalize": False, "do_rescale": False},
    ],
)
def test_normalization_is_that_of_transformers(settings: dict[str, Any]) -> None:
    """As its processors compute it: pixels of 0 to 255 times a factor, less the mean, by the deviation."""
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    scaled = pixels * (settings.get("rescale_factor", 1 / 255) if settings.get("do_rescale", True) else 1.0)
    if settings.get("do_normalize", True):
        scaled = (scaled - np.array(settings["image_mean"])) / np.array(settings["image_std"])
    found = plan(**settings).apply(Image.fromarray(pixels))
    assert torch.allclose(found, torch.tensor(scaled).permute(2, 0, 1).float(), rtol=1e-4, atol=1e-3)


def test_grey() -> None:
    assert plan(image_mean=[0.3], image_std=[0.2]).channels == 1
    assert build(Processor().fields(OWN, 1), "test").channels == 1


def test_no_file_says_nothing(tmp_path: Path) -> None:
    assert read_processor(tmp_path / "none.json") == Processor()


def test_the_order_of_colours_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "p.json").write_text(json.dumps({"do_flip_channel_order": True}))
    with caplog.at_level(logging.WARNING, "vitgraph"):
        read_processor(tmp_path / "p.json")
    assert "BGR" in caplog.text


def test_a_file_of_20_mb_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "p.json").write_bytes(b" " * 20_000_000)
    with pytest.raises(InputError, match="20,000,000 bytes"):
        read_processor(tmp_path / "p.json")
