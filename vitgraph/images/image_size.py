"""Can a model run at an image size the user asked for, and at which near it could it?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from vitgraph.errors import InputError

_COMMON_STRIDE = 32  # of the hierarchical models, which tell no patch size


def check_patches(module: nn.Module, size: tuple[int, int], name: str) -> None:
    """Raise InputError where the patch size doesn't divide `size` (height, width).

    Many models would run all the same, by dropping the last rows and columns unseen.
    """
    patch = find_patch_size(module)
    if patch is None or all(side % step == 0 for side, step in zip(size, patch, strict=True)):
        return
    raise InputError(
        f"model {name!r}: --image-size {times(size)} is not divided by its patch size {times(patch)}; "
        f"{_list(near_sizes(size, patch))} would work"
    )


def check_runs(
    module: nn.Module, shape: tuple[int, int, int], name: str, make: Callable[[tuple[int, int]], nn.Module]
) -> None:
    """Run one empty image [C, H, W] through; raise InputError that names sizes that were tried and work.

    `make` builds the same model for another (height, width).
    """
    fault = _run_fault(module, shape)
    if fault is None:
        return
    size = (shape[1], shape[2])
    fits = [near for near in near_sizes(size, find_patch_size(module)) if _works(make, near, shape[0])]
    remedy = f"{_list(fits)} would work" if fits else "use the model's own size"
    raise InputError(f"model {name!r} does not run at --image-size {times(size)} ({fault}); {remedy}")


def find_patch_size(module: nn.Module) -> tuple[int, int] | None:
    """Read the (height, width) of a patch where timm, torchvision and transformers keep it; None where nothing tells."""
    places: tuple[Any, ...] = (getattr(module, "patch_embed", None), module, getattr(module, "config", None))
    for place in places:
        patch: Any = getattr(place, "patch_size", None)
        if isinstance(patch, int):
            return patch, patch
        if isinstance(patch, tuple | list) and len(patch) == 2:  # pyright: ignore[reportUnknownArgumentType]
            return int(patch[0]), int(patch[1])  # pyright: ignore[reportUnknownArgumentType]
    return None


def near_sizes(size: tuple[int, int], patch: tuple[int, int] | None) -> list[tuple[int, int]]:
    """List the sizes just below and above `size` that `patch` divides; by a common stride where it is unknown."""
    steps = patch or (_COMMON_STRIDE, _COMMON_STRIDE)
    below = tuple(max(side // step, 1) * step for side, step in zip(size, steps, strict=True))
    above = tuple((side // step + 1) * step for side, step in zip(size, steps, strict=True))
    return [(below[0], below[1]), (above[0], above[1])]


def device_of(module: nn.Module) -> torch.device:
    """Where a model's weights are: on `meta` where they have shapes only."""
    first = next(module.parameters(), None)
    return torch.device("cpu") if first is None else first.device


def times(size: Sequence[int]) -> str:
    """Write a size as the command line takes it: `224`, or `224x196`."""
    return str(size[0]) if size[0] == size[1] else f"{size[0]}x{size[1]}"


def _works(make: Callable[[tuple[int, int]], nn.Module], size: tuple[int, int], channels: int) -> bool:
    try:
        return _run_fault(make(size).eval(), (channels, *size)) is None
    except InputError:
        return False


def _run_fault(module: nn.Module, shape: tuple[int, int, int]) -> str | None:
    """Run one empty image; return the first line of what went wrong."""
    try:
        with torch.no_grad():
            module(torch.zeros(1, *shape, device=device_of(module)))
    except Exception as error:  # noqa: BLE001 - any model's own forward: whatever it raises is the answer
        return (str(error).splitlines() or [type(error).__name__])[0]
    return None


def _list(sizes: Sequence[tuple[int, int]]) -> str:
    return " or ".join(times(size) for size in sizes)
