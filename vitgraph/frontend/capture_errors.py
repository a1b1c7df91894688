"""Why a model could not be captured, in words that say what to change."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from vitgraph.errors import InputError
from vitgraph.ir.navigate import path_of
from vitgraph.ir.program import Program
from vitgraph.ir.tensor_type import type_of

_REPORT = "(run with --debug for export's whole report)"


def not_captured(model: nn.Module, name: str, example: Tensor, error: Exception) -> InputError:
    """What torch.export objected to: a fault of the model's own, a batch that its code fixes, or values it depends on."""
    own = _own_fault(model, example)
    if own is not None:
        return InputError(f"{name}: the model itself fails on an input {type_of(example)}: {_first_line(own)}")
    said = str(error)
    if "specialized it to be a constant" in said:
        return InputError(
            f"{name}: its code fixes the batch at {len(example)}, by len(x), int(x.shape[0]), a loop over the images or a size written "
            f"out: read the size as x.shape[0], or capture it for one batch size {_REPORT}"
        )
    if "satisfy the generated guard" in said:
        return InputError(f"{name}: its code is for some batch sizes only; capture it for one batch size {_REPORT}")
    return InputError(
        f"{name}: torch.export could not capture it: {_first_line(error)}; "
        f"a graph must not depend on the values of its input {_REPORT}"
    )


def no_type(program: Program, error: Exception) -> InputError:
    """The first operator whose result has no type: its size depends on the values of its input."""
    node = next(node for node in program.calls() if "type" not in node.meta)
    return InputError(
        f"{program.name}: {node.target} in {path_of(node)} gives a size that depends on the values of its input "
        f"({_first_line(error)}); a graph must not: choose by where or masked_fill instead"
    )


def _own_fault(model: nn.Module, example: Tensor) -> Exception | None:
    """What the model raises without any capture; None where it runs."""
    try:
        with torch.no_grad():
            model(example)
    except Exception as error:  # noqa: BLE001  whatever the model's code may raise
        return error
    return None


def _first_line(error: Exception) -> str:
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)[:300]


def differs_for_one(model: nn.Module, program: Program, example: Tensor) -> bool:
    """Does a program for any batch give something else than its model for a batch of one?

    torch.export takes a batch for two or more, whatever the model's code asks: `if len(x) == 1` is lost, and `squeeze()` too.
    False where the model does not run for one.
    """
    noise = torch.rand(1, *example.shape[1:], generator=torch.Generator().manual_seed(0))
    one = noise.to(example.device, example.dtype)
    try:
        with torch.no_grad():
            wanted = _tensors(model(one))
    except Exception:  # noqa: BLE001  whatever the model's code may raise
        return False
    try:
        found = _tensors(program.run(one))
    except RuntimeError:
        return True
    return len(found) == len(wanted) and not all(map(_close, found, wanted))


def _tensors(result: Any) -> list[Tensor]:
    """The tensors of a result in order, out of tuples, lists and mappings."""
    if isinstance(result, Tensor):
        return [result]
    if isinstance(result, dict):
        result = list(result.values())  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    listed: list[Any] = list(result) if isinstance(result, list | tuple) else []  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    return [tensor for item in listed for tensor in _tensors(item)]


def _close(a: Tensor, b: Tensor) -> bool:
    same = a.shape == b.shape and a.dtype == b.dtype
    if not same or a.is_meta or b.is_meta:  # without weights there are no values to compare
        return same
    return torch.allclose(a.double(), b.double(), rtol=1e-2, atol=1e-3, equal_nan=True)
