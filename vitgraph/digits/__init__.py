"""The embedded example: a small ViT for handwritten digits, its weights, and the digits themselves.

Everything here was made by `tests/assets/train_digits.py` from scikit-learn's digits (1,797 images, 8x8, ten classes; the UCI
optical recognition set, CC BY 4.0). The split is fixed and stored: what the model never saw is `test`.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Literal

import torch
from safetensors.torch import load

from vitgraph.reading import DIGITS, read_bytes

if TYPE_CHECKING:
    from timm.models.vision_transformer import VisionTransformer

NAME = "digits-vit"
CLASS_NAMES = tuple(str(digit) for digit in range(10))


def build_digits_vit() -> VisionTransformer:
    """Make the untrained network: images [B, 1, 24, 24] to logits [B, 10]."""
    from timm.models.vision_transformer import VisionTransformer

    return VisionTransformer(
        img_size=24, patch_size=4, in_chans=1, num_classes=10, embed_dim=64, depth=4, num_heads=2, mlp_ratio=4
    )


def load_weights() -> dict[str, torch.Tensor]:
    """Read the trained weights as float32 (they are stored in float16)."""
    stored = load(read_bytes(files(__name__) / "digits.safetensors", DIGITS))
    return {name: tensor.float() for name, tensor in stored.items()}


@cache
def load_images(split: Literal["train", "test"]) -> tuple[torch.Tensor, torch.Tensor]:
    """Read one half of the digits: uint8 images [N, 8, 8] with values 0 to 255, and int64 labels [N]."""
    stored = load(read_bytes(files(__name__) / "images.safetensors", DIGITS))
    return stored[f"{split}.images"], stored[f"{split}.labels"].long()
