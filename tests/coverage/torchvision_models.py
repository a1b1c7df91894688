"""torchvision's transformers, small."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import Any

from torch import nn

from tests.coverage.models import Model

SIZE = 64


def _made(kind: str, module: str, **sizes: Any) -> nn.Module:
    create: Callable[..., nn.Module] = getattr(import_module(f"torchvision.models.{module}"), kind)
    return create(num_classes=10, **sizes)


def _swin(block: str, merge: str) -> nn.Module:
    package = import_module("torchvision.models.swin_transformer")
    return _made(
        "SwinTransformer", "swin_transformer", patch_size=[4, 4], embed_dim=32, depths=[2, 2], num_heads=[2, 2], window_size=[4, 4],
        stochastic_depth_prob=0.0, block=getattr(package, block), downsample_layer=getattr(package, merge),
    )  # fmt: skip


_MAX_VIT: dict[str, Any] = {
    "input_size": (SIZE, SIZE), "stem_channels": 16, "block_channels": [32], "block_layers": [1], "head_dim": 16,
    "stochastic_depth_prob": 0.0, "partition_size": 4,
}  # fmt: skip
_VIT: dict[str, Any] = {
    "image_size": SIZE,
    "patch_size": 16,
    "num_layers": 2,
    "num_heads": 2,
    "hidden_dim": 64,
    "mlp_dim": 128,
}
MODELS = {
    "maxvit": Model(partial(_made, "MaxVit", "maxvit", **_MAX_VIT)),
    "swin": Model(partial(_swin, "SwinTransformerBlock", "PatchMerging")),
    "swin_v2": Model(partial(_swin, "SwinTransformerBlockV2", "PatchMergingV2")),
    "vit": Model(partial(_made, "VisionTransformer", "vision_transformer", **_VIT)),
}
