"""What a slot of a template may be filled with; each by its name, the digits after it apart."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from tests.fuzz.writer import NoFit, Slot, Writer


def owned(writer: Writer) -> str:
    """A floating-point value that shares memory with neither the input nor a weight."""
    exact = writer.draft.exact
    known = {id(tensor): name for name, tensor in writer.draft.tensors().items()}
    return writer.floats(range(1, 5), lambda t: exact.owned(known[id(t)]))


def tensor_operand(writer: Writer) -> str:
    """A tensor that broadcasts with the first value, of its type."""
    like = writer.tensor()
    if writer.rng.random() < 0.5:
        return writer.value(lambda t: t.shape == like.shape and t.dtype == like.dtype)
    return writer.weight(*writer.part_of_shape(), dtype=like.dtype if like.dtype.is_floating_point else torch.float32)


def scalar(writer: Writer) -> str:
    """A constant of no dimension: a buffer, a literal tensor, a parameter."""
    number = writer.number()
    return writer.either(writer.buffer(f"torch.tensor({number})"), f"torch.tensor({number})", writer.weight())


def truth(writer: Writer) -> str:
    """Truth values that broadcast with the first value: computed, compared, or a mask that is known."""
    if not writer.first:
        return writer.value(lambda t: t.dtype == torch.bool)
    like = writer.tensor()
    shape = writer.part_of_shape()
    mask = writer.buffer(f"torch.rand({shape}) > 0.4")
    return writer.either(mask, f"({writer.first} > {writer.either('0', '0.5', '-0.25')})", _bools(writer, like) or mask)


def _bools(writer: Writer, like: Tensor) -> str:
    try:
        return writer.value(lambda t: t.dtype == torch.bool and t.shape == like.shape)
    except NoFit:
        return ""


def whole(writer: Writer) -> str:
    """Whole numbers: computed ones, or a buffer that broadcasts with the first value."""
    if writer.first and writer.rng.random() < 0.5:
        return writer.buffer(f"torch.randint(-3, 4, {writer.part_of_shape()})")
    return writer.value(lambda t: not t.dtype.is_floating_point and t.dtype != torch.bool)


def last_size(writer: Writer) -> str:
    """The last size of the first value."""
    if writer.tensor().dim() == 0:
        raise NoFit
    return writer.size(writer.tensor().dim() - 1)


def sizes(writer: Writer) -> str:
    """All sizes of the first value."""
    return ", ".join(writer.size(dim) for dim in range(writer.tensor().dim())) or "()"


def even_dim(writer: Writer) -> str:
    """A dimension of an even size."""
    return str(writer.dim(among=[dim for dim in writer.fixed() if writer.tensor().shape[dim] % 2 == 0]))


def slope(writer: Writer) -> str:
    """A slope for each channel, or one for all."""
    return writer.either(writer.weight(1), writer.weight(writer.tensor().shape[1]))


VALUES: Mapping[str, Slot] = {
    "x": lambda w: w.floats(),
    "l": lambda w: w.floats(range(1, 6)),
    "m": lambda w: w.floats(range(2, 6)),
    "distinct": lambda w: w.distinct(range(1, 6)),
    "line": lambda w: w.floats([1]),
    "row": lambda w: w.floats([2]),
    "tokens": lambda w: w.floats([3]),
    "image": lambda w: w.floats([4]),
    "even": lambda w: w.floats(range(1, 6), lambda t: any(size % 2 == 0 for size in t.shape)),
    "channels": lambda w: w.floats(range(2, 5)),
    "own": owned,
}
"""Values that are there: the first of a template is what its other slots are chosen to fit."""

FITTING: Mapping[str, Slot] = {
    "y": lambda w: w.operand(),
    "t": tensor_operand,
    "n": lambda w: w.number(),
    "c": scalar,
    "b": truth,
    "i": whole,
    "dim": lambda w: str(w.dim()),
    "dims": lambda w: str(w.dims()),
    "evendim": even_dim,
    "flag": lambda w: w.either("True", "False"),
    "last": last_size,
    "shape": sizes,
    "ones": lambda w: ", ".join("1" for _ in range(w.tensor().dim())),
    "slope": slope,
}
"""What fits the first value."""
