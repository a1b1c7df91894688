"""The model itself is asked whether it runs at a size and sees every pixel."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from vitgraph.errors import InputError
from vitgraph.images.image_size import check_runs, own_size


def patches(**settings: Any) -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, **settings), nn.AdaptiveAvgPool2d(1), nn.Flatten())


class TwoBranches(nn.Module):
    """As FastViT's stem: one of two convolutions leaves pixels out that the other reads."""

    def __init__(self) -> None:
        super().__init__()
        self.scale, self.conv = nn.Conv2d(3, 4, 1, 2), nn.Conv2d(3, 4, 3, 2, 1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        both: torch.Tensor = self.scale(images) + self.conv(images)
        return both


def check(module: nn.Module, height: int, width: int) -> None:
    check_runs(module, (3, height, width), "net", lambda size: module)


@pytest.mark.parametrize(
    ("module", "sizes"),
    [
        (patches(kernel_size=7, stride=4, padding=3), (64, 65, 66, 67)),
        (patches(kernel_size=3, stride=2, padding=1), (64, 65)),
        (patches(kernel_size=8, stride=8), (64, 72)),
        (patches(kernel_size=3, stride=1, padding="same"), (64, 65)),
        (patches(kernel_size=3, stride=2, padding="valid"), (64, 65)),
        (TwoBranches(), (64, 65)),
        (patches(kernel_size=3, stride=2, padding=2, dilation=2), (64, 65)),
    ],
)
def test_overlapping_windows_take_sizes_that_their_kernel_does_not_divide(
    module: nn.Module, sizes: tuple[int, ...]
) -> None:
    for side in sizes:
        check(module, side, side)


@pytest.mark.parametrize(
    ("module", "height", "width", "message"),
    [
        (
            patches(kernel_size=8, stride=8),
            64,
            65,
            r"64x65 \(it is not divided by its patch size 8\); 64 or 72 would work",
        ),
        (patches(kernel_size=(4, 8), stride=(4, 8)), 66, 64, r"patch size 4x8\); 64 or 68x72 would work"),
        (patches(kernel_size=2, stride=4), 64, 64, r"its first layer drops the edge"),
        (
            nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 2)),
            40,
            40,
            r"does not run at --image-size 40 .*; 32 would work",
        ),
    ],
)
def test_what_is_dropped_or_does_not_run_is_told(module: nn.Module, height: int, width: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        check(module, height, width)


def test_the_edge_really_is_dropped_or_seen() -> None:
    """The reason: a change of the last pixel is not seen where the check objects, and is where it doesn't."""
    for module, side, seen in (
        (patches(kernel_size=8, stride=8), 65, False),
        (patches(kernel_size=7, stride=4, padding=3), 66, True),
    ):
        image = torch.zeros(1, 3, side, side)
        changed = image.clone()
        changed[..., -1, -1] = 1.0
        assert torch.equal(module(image), module(changed)) is not seen


def test_leaves_no_hook() -> None:
    module = patches(kernel_size=8, stride=8)
    check(module, 64, 64)
    assert not any(vars(layer)["_forward_hooks"] for layer in module.modules())


@pytest.mark.parametrize(
    ("attributes", "size"),
    [
        ({"config": SimpleNamespace(image_size=32)}, (32, 32)),
        ({"config": SimpleNamespace(image_size=[32, 48])}, (32, 48)),
        ({"config": SimpleNamespace(image_size="large")}, None),
        ({"config": SimpleNamespace(image_size=None)}, None),
        ({"config": SimpleNamespace(vision_config=SimpleNamespace(image_size=64))}, (64, 64)),
        ({"patch_embed": SimpleNamespace(img_size=(24, 32), strict_img_size=True)}, (24, 32)),
        ({"patch_embed": SimpleNamespace(img_size=(24, 32))}, None),
        ({}, None),
    ],
)
def test_own_size(attributes: dict[str, Any], size: tuple[int, int] | None) -> None:
    module = nn.Module()
    for name, value in attributes.items():
        object.__setattr__(module, name, value)
    assert own_size(module) == size
