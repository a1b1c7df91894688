"""A state of training as tensors alone, to be kept without pickle: what optimizers and loss scalers tell of themselves.

Tensors stay tensors; numbers, texts, lists and dictionaries around them become JSON, as the bytes of one more tensor.
"""

from __future__ import annotations

import json
from typing import Any

import torch
from torch import Tensor

from vitgraph.reading import parse_json

LAYOUT = "layout"
_TENSOR, _PAIRS, _TUPLE = "tensor", "pairs", "tuple"


def pack(state: Any) -> dict[str, Tensor]:
    """Tensors by name, among them the layout; `TypeError` for what is no tensor, number, text, list, tuple or dictionary."""
    tensors = dict[str, Tensor]()
    layout = as_tensor(_described(state, tensors))
    return {**tensors, LAYOUT: layout}


def unpack(tensors: dict[str, Tensor]) -> Any:
    """What `pack` was given."""
    return _restored(of_tensor(tensors[LAYOUT]), tensors)


def as_tensor(value: Any) -> Tensor:
    """Plain JSON as bytes `[length]`."""
    return torch.frombuffer(bytearray(json.dumps(value).encode()), dtype=torch.uint8)


def of_tensor(content: Tensor) -> Any:
    """What `as_tensor` was given."""
    plain: Any = content.numpy()
    return parse_json(plain.tobytes().decode(), "a state of training", nan=True)


def prefixed(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same under names that begin with the prefix and a dot."""
    return {f"{prefix}.{name}": tensor for name, tensor in tensors.items()}


def part_of(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Those whose names begin with the prefix and a dot, without it."""
    start = f"{prefix}."
    return {name.removeprefix(start): tensor for name, tensor in tensors.items() if name.startswith(start)}


def _described(value: Any, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, Tensor):
        name = f"tensor{len(tensors)}"
        tensors[name] = value.detach().to("cpu", copy=True).contiguous()
        return {_TENSOR: name}
    if isinstance(value, dict):
        pairs: list[Any] = list(value.items())  # pyright: ignore[reportUnknownArgumentType, reportUnknownMemberType]
        return {_PAIRS: [[_described(key, tensors), _described(item, tensors)] for key, item in pairs]}
    if isinstance(value, list | tuple):
        items: list[Any] = list(value)  # pyright: ignore[reportUnknownArgumentType]
        found = [_described(item, tensors) for item in items]
        return {_TUPLE: found} if isinstance(value, tuple) else found
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"a {type(value).__name__} can't be kept: {value!r}")


def _restored(value: Any, tensors: dict[str, Tensor]) -> Any:
    """JSON back to what it was made of."""
    if isinstance(value, list):
        items: list[Any] = value  # pyright: ignore[reportUnknownVariableType]
        return [_restored(item, tensors) for item in items]
    if not isinstance(value, dict):
        return value
    described: dict[str, Any] = value  # pyright: ignore[reportUnknownVariableType]
    ((kind, content),) = described.items()
    if kind == _TENSOR:
        return tensors[content]
    if kind == _TUPLE:
        return tuple(_restored(item, tensors) for item in content)
    return {_restored(key, tensors): _restored(item, tensors) for key, item in content}
