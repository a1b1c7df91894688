"""Weights as training leaves them and not as it finds them: no branch is at nearly zero, so that every rounding reaches the output."""

from __future__ import annotations

import torch
from torch import Tensor, nn

_PRODUCTS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d)
_SCALES = ("gamma", "lambda", "layer_scale", "alpha", "scale")
"""Names of vectors that multiply a branch."""
_PLACES = ("token", "embed", "relative_position", "rel_pos", "attention_biases")
"""Names of what stands for a token or a position."""


def draw_as_trained(model: nn.Module, seed: int = 0) -> None:
    """Products that keep the size of what they read, norms and scales of branches near one, positions that matter."""
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        modules: dict[str, nn.Module] = dict(model.named_modules())  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
        for module in modules.values():
            if isinstance(module, _PRODUCTS):
                _draw_product(module, draw)
            else:
                _draw_parameters(module, draw)
                _draw_statistics(module, draw)


def _draw_product(module: nn.Module, draw: torch.Generator) -> None:
    weight, bias = module.weight, module.bias
    assert isinstance(weight, Tensor)
    weight.normal_(0.0, weight[0].numel() ** -0.5, generator=draw)
    if isinstance(bias, Tensor):
        bias.normal_(0.0, 0.1, generator=draw)


def _draw_parameters(module: nn.Module, draw: torch.Generator) -> None:
    for name, values in module.named_parameters(recurse=False):
        near_zero = values.numel() > 0 and bool(values.abs().max() < 0.5)
        if values.ndim == 1 and name == "weight":
            values.uniform_(0.7, 1.3, generator=draw)
        elif name == "bias":
            values.normal_(0.0, 0.1, generator=draw)
        elif near_zero and any(part in name for part in _SCALES):
            values.uniform_(0.5, 1.0, generator=draw)
        elif near_zero and any(part in name for part in _PLACES):
            values.normal_(0.0, 0.5, generator=draw)


def _draw_statistics(module: nn.Module, draw: torch.Generator) -> None:
    for name, values in module.named_buffers(recurse=False):
        if name == "running_mean":
            values.normal_(0.0, 0.1, generator=draw)
        elif name == "running_var":
            values.uniform_(0.7, 1.3, generator=draw)
