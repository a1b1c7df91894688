"""Can a model run at an image size the user asked for, and at which near it could it? The model itself is asked."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from vitgraph.errors import InputError

_COMMON_STRIDE = 32  # of the hierarchical models, which have no patches
Shape = tuple[int, int, int]
Size = tuple[int, int]


def own_size(module: nn.Module) -> Size | None:
    """The (height, width) that a model's positions are for, where timm and transformers keep it; None where nothing tells.

    timm's counts only where the model refuses any other size: its hierarchical models keep a size they never look at.
    """
    embed: Any = getattr(module, "patch_embed", None)
    if getattr(embed, "strict_img_size", False):
        return _pair(getattr(embed, "img_size", None))
    return _pair(getattr(vision_config(getattr(module, "config", None)), "image_size", None))


def vision_config(config: Any) -> Any:
    """The part of a transformers config that is about images: of a model of images and texts (CLIP, SigLIP) a part of it."""
    nested = getattr(config, "vision_config", None)
    return config if nested is None else nested


def check_runs(
    module: nn.Module, shape: Shape, name: str, make: Callable[[Size], nn.Module], asked: str = "--image-size"
) -> None:
    """Run one empty image [C, H, W] through; raise InputError that names sizes that were tried and work.

    Many models would run and drop the last rows and columns unseen: that counts as a fault too. `make` builds the same
    model for another (height, width), `asked` says who wants this one.
    """
    seen = _Patches(shape)
    fault = _fault(module, shape, seen)
    if fault is None:
        return
    size = (shape[1], shape[2])
    fits = [near for near in near_sizes(size, seen.size) if _works(make, (shape[0], *near))]
    remedy = f"{_list(fits)} would work" if fits else "use the model's own size"
    raise InputError(f"model {name!r} does not run at {asked} {times(size)} ({fault}); {remedy}")


def near_sizes(size: Size, patch: Size | None) -> list[Size]:
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


class _Patches:
    """What the convolutions that read the image make of it, seen while the model runs."""

    def __init__(self, shape: Shape) -> None:
        self.shape = shape
        self.size: Size | None = None
        """(height, width) of a patch; None where windows overlap, as in the stems of hierarchical models."""
        self.dropped = False
        """Whether rows or columns at the end are in no patch of any of them. Overlapping windows leave out less than a step."""
        self._readers = 0

    def __call__(self, layer: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
        """A forward hook."""
        assert isinstance(layer, nn.Conv2d)
        if tuple(inputs[0].shape[1:]) != self.shape:
            return
        self._readers += 1
        only = self._readers == 1
        self.size = (layer.kernel_size[0], layer.kernel_size[1]) if only and layer.kernel_size == layer.stride else None
        self.dropped = _drops(layer, self.shape, output) and (only or self.dropped)

    @contextmanager
    def watching(self, module: nn.Module) -> Generator[None]:
        """Look at every convolution for a while."""
        handles = [layer.register_forward_hook(self) for layer in module.modules() if isinstance(layer, nn.Conv2d)]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()


def _drops(layer: nn.Conv2d, shape: Shape, output: Tensor) -> bool:
    """Whether the windows stand apart or side by side, and end before the image does."""
    sides = zip(output.shape[2:], layer.stride, layer.kernel_size, _padding(layer), shape[1:], strict=True)
    return any(kernel <= step and (out - 1) * step + kernel - pad < side for out, step, kernel, pad, side in sides)


def _padding(layer: nn.Conv2d) -> tuple[int, ...]:
    """Rows and columns of padding ahead of the image; none of `valid`, and `same` leaves no pixel out."""
    return (0, 0) if isinstance(layer.padding, str) else tuple(layer.padding)


def _works(make: Callable[[Size], nn.Module], shape: Shape) -> bool:
    try:
        return _fault(make((shape[1], shape[2])).eval(), shape, _Patches(shape)) is None
    except InputError:
        return False


def _fault(module: nn.Module, shape: Shape, seen: _Patches) -> str | None:
    """Run one empty image; return in one line what went wrong."""
    try:
        with torch.no_grad(), seen.watching(module):
            module(torch.zeros(1, *shape, device=device_of(module)))
    except Exception as error:  # noqa: BLE001 - any model's own forward: whatever it raises is the answer
        return (str(error).splitlines() or [type(error).__name__])[0]
    if not seen.dropped:
        return None
    return f"it is not divided by its patch size {times(seen.size)}" if seen.size else "its first layer drops the edge"


def _pair(size: Any) -> Size | None:
    """An int, or two of them."""
    if isinstance(size, int):
        return size, size
    if isinstance(size, tuple | list) and len(size) == 2:  # pyright: ignore[reportUnknownArgumentType]
        height, width = size  # pyright: ignore[reportUnknownVariableType]
        return (height, width) if isinstance(height, int) and isinstance(width, int) else None
    return None


def _list(sizes: Sequence[Size]) -> str:
    return " or ".join(times(size) for size in sizes)
