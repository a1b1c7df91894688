"""Element types of ONNX, and tensors of a file as torch's."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from vitgraph.frontend.from_onnx.values import Refusal

_TYPES: dict[int, torch.dtype] = {
    1: torch.float32,
    2: torch.uint8,
    3: torch.int8,
    5: torch.int16,
    6: torch.int32,
    7: torch.int64,
    9: torch.bool,
    10: torch.float16,
    11: torch.float64,
    16: torch.bfloat16,
    17: torch.float8_e4m3fn,
}
"""By `TensorProto.DataType`."""
_AS_BITS = {torch.bfloat16: np.int16, torch.float8_e4m3fn: np.int8}
"""Types that numpy lacks, and what their bits are handed over in."""


def torch_type(code: int) -> torch.dtype:
    """torch's type; `Refusal` for one that a program has no tensors of."""
    if code not in _TYPES:
        raise Refusal(f"element type {code} of ONNX has no place in a program")
    return _TYPES[code]


def as_tensor(stored: Any) -> Tensor:
    """A tensor of a file; `Refusal` where it can't be read."""
    kind = torch_type(int(stored.dtype))
    try:
        numbers: Any = np.array(stored.numpy(), order="C")  # a copy: the file is not kept open
        if tuple(numbers.shape) != tuple(stored.shape):
            raise ValueError(f"it has {list(numbers.shape)} values, and says {list(stored.shape)}")
        bits = _AS_BITS.get(kind)
        tensor: Tensor = torch.from_numpy(numbers if bits is None else numbers.view(bits))  # pyright: ignore[reportUnknownMemberType]
    except Exception as error:  # protobuf, numpy and the file system each have exceptions of their own
        raise Refusal(f"tensor {str(stored.name)!r} can't be read: {str(error)[:200]}") from error
    return tensor if bits is None else tensor.view(kind)
