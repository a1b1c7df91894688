"""Posterizing that keeps no bits gives black, in every policy of timm."""

from importlib import import_module
from typing import Any

import pytest
from PIL import Image

from vitgraph.training.timm_policies import posterize_to_black


def posterizers(policy: str) -> list[Any]:
    transform: Any = import_module("timm.data").create_transform((3, 8, 8), is_training=True, auto_augment=policy)
    posterize_to_black(transform)
    held = [getattr(step, "ops", None) or getattr(step, "policy", None) or () for step in transform.transforms]
    return [operation for operation in operations(held) if operation.name.startswith("Posterize")]


def operations(held: Any) -> list[Any]:
    return [held] if hasattr(held, "aug_fn") else [one for each in held for one in operations(each)]


@pytest.mark.parametrize("policy", ["rand-m9-mstd0.5-inc1", "rand-m9", "original", "v0", "augmix-m5"])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_no_bits_are_black(policy: str, mode: str) -> None:
    image = Image.effect_noise((8, 8), 60).convert(mode)
    found = posterizers(policy)
    assert found
    for operation in found:
        assert operation.aug_fn(image, 0).tobytes() == bytes(len(image.tobytes()))
        four = operation.aug_fn(image, 4).tobytes()
        assert four == bytes(value & 0xF0 for value in image.tobytes())
