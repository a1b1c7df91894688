"""Posterizing that keeps no bits gives black, in every policy of timm."""

from importlib import import_module
from typing import Any

import pytest
from PIL import Image

from vitgraph.training.timm_policies import posterize_to_black


def posterizers(policy: str) -> list[Any]:
    transform: Any = import_module("timm.data").create_transform((3, 8, 8), is_training=True, auto_augment=policy)
    posterize_to_black(transform)
    held = next(step for step in transform.transforms if hasattr(step, "ops") or hasattr(step, "policy"))
    flat = [one for each in getattr(held, "ops", None) or held.policy for one in (each if isinstance(each, list) else [each])]  # fmt: skip
    return [one for one in flat if one.name.startswith("Posterize")]


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
