"""What a value in a graph is: element type and shape, with at most one unknown, the batch.

A dimension is an integer, or `times * N + plus` where `N` is the batch size that is not known yet. Types are not
carried through symbolic algebra: an operator is run on fake tensors at a few batch sizes, and each dimension of its
result is the line through the answers.

    >>> print(TensorType(torch.float32, (Dim(64, 0), 49, 96)))
    f32[64*N, 49, 96]
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

DTYPES: dict[str, torch.dtype] = {
    "f32": torch.float32,
    "f16": torch.float16,
    "bf16": torch.bfloat16,
    "f64": torch.float64,
    "f8": torch.float8_e4m3fn,
    "i8": torch.int8,
    "u8": torch.uint8,
    "i16": torch.int16,
    "i32": torch.int32,
    "i64": torch.int64,
    "bool": torch.bool,
    "c64": torch.complex64,
}
DTYPE_NAMES = {dtype: name for name, dtype in DTYPES.items()}

SAMPLES = (5, 7, 11)
"""Batch sizes to look at an operator with: primes, so that nothing in a model divides them by chance; two make a line,
the third shows that it is one."""


@dataclass(frozen=True)
class Dim:
    """A dimension that depends on the batch size N: `times * N + plus`."""

    times: int
    plus: int

    def at(self, batch: int) -> int:
        """Its value for one batch size."""
        return self.times * batch + self.plus

    def __str__(self) -> str:
        head = "N" if self.times == 1 else f"{self.times}*N"
        return head if self.plus == 0 else f"{head}{self.plus:+d}"


Size = int | Dim


@dataclass(frozen=True)
class TensorType:
    """Element type and shape of a tensor."""

    dtype: torch.dtype
    shape: tuple[Size, ...]

    def at(self, batch: int) -> tuple[int, ...]:
        """The shape for one batch size."""
        return tuple(size.at(batch) if isinstance(size, Dim) else size for size in self.shape)

    @property
    def static(self) -> tuple[int, ...]:
        """The shape, where it has no unknown; `ValueError` otherwise."""
        if any(isinstance(size, Dim) for size in self.shape):
            raise ValueError(f"{self} depends on the batch size")
        return tuple(size for size in self.shape if isinstance(size, int))

    @property
    def rank(self) -> int:
        """How many dimensions it has."""
        return len(self.shape)

    def __str__(self) -> str:
        return f"{DTYPE_NAMES[self.dtype]}[{', '.join(str(size) for size in self.shape)}]"


@dataclass(frozen=True)
class IntType:
    """A whole number that is computed in the graph, such as the batch size read off a tensor."""

    value: Size

    def __str__(self) -> str:
        return f"int[{self.value}]"


@dataclass(frozen=True)
class TupleType:
    """Several results of one operator; `operator.getitem` picks one."""

    items: tuple[Type, ...]

    def __str__(self) -> str:
        return f"({', '.join(str(item) for item in self.items)})"


Type = TensorType | IntType | TupleType


_MAX_SIZE = 64
"""Characters of a size; two numbers of 64 bits take some 45."""
_SIZE = re.compile(r"(?:(-?\d+)|(?:(-?\d+)\s*\*\s*)?N(?:\s*([+-]\s*\d+))?)")
_MAX_TUPLES = 8
"""Tuples in a type; operators give one, of tensors."""


def type_of(tensor: torch.Tensor) -> TensorType:
    """The type of a tensor at hand."""
    return TensorType(tensor.dtype, tuple(tensor.shape))


def parse_size(text: str) -> Size:
    """Read `7`, `N`, `64*N` or `N+1`; `ValueError` for anything else."""
    text = text.strip()
    match = _SIZE.fullmatch(text) if len(text) <= _MAX_SIZE else None
    if match is None:
        raise ValueError(f"{text[:80]!r} is not a size; write 7, N, 64*N or N+1")
    if match[1] is not None:
        return int(match[1])
    return Dim(int(match[2] or 1), int((match[3] or "0").replace(" ", "")))


def parse_type(text: str) -> Type:
    """Read what `str` of a type writes; `ValueError` says what is wrong.

    >>> parse_type("f32[N, 197, 192]").rank
    3
    """
    text = text.strip()
    if text.count("(") > _MAX_TUPLES:
        raise ValueError(f"a type has over {_MAX_TUPLES} tuples in it")
    if text.startswith("(") and text.endswith(")"):
        return TupleType(tuple(parse_type(part) for part in _split(text[1:-1])))
    match = re.fullmatch(r"(\w+)\[(.*)\]", text)
    if match is None or (match[1] != "int" and match[1] not in DTYPES):
        raise ValueError(f"{text[:80]!r} is not a type; write for example f32[1, 197, 192]")
    if match[1] == "int":
        return IntType(parse_size(match[2]))
    sizes = match[2].split(",") if match[2].strip() else []
    return TensorType(DTYPES[match[1]], tuple(map(parse_size, sizes)))


def _split(text: str) -> list[str]:
    """Split at the commas that stand outside brackets."""
    parts, depth, start = list[str](), 0, 0
    for position, letter in enumerate(text):
        depth += (letter in "[(") - (letter in "])")
        if letter == "," and depth == 0:
            parts.append(text[start:position])
            start = position + 1
    return [part for part in [*parts, text[start:]] if part.strip()]


_memo: dict[Any, Type] = {}


def infer(target: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any]) -> Type:
    """The type of `target(*args, **kwargs)`, where each `Type` among the arguments stands for a value of that type.

    Whatever the operator itself says of arguments that don't fit is raised as it is.
    """
    key = (target, repr(args), repr(sorted(kwargs.items())))
    found = _memo.get(key)
    if found is None:
        batches = SAMPLES if "Dim(" in key[1] + key[2] else (1,)
        found = _memo[key] = _join([_run(target, args, kwargs, batch) for batch in batches], batches)
    return found


def _run(target: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any], batch: int) -> Any:
    with _unlogged(), FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad():
        return target(*_values(args, batch), **{name: _values(value, batch) for name, value in kwargs.items()})


@contextmanager
def _unlogged() -> Generator[None]:
    """torch logs a traceback of pages for arguments that don't fit, besides raising what the caller tells."""
    logger = logging.getLogger("torch._subclasses.fake_tensor")
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before


def _values(value: Any, batch: int) -> Any:
    if isinstance(value, TensorType):
        return torch.empty(value.at(batch), dtype=value.dtype)
    if isinstance(value, IntType):
        return value.value.at(batch) if isinstance(value.value, Dim) else value.value
    if isinstance(value, TupleType):
        return tuple(_values(item, batch) for item in value.items)
    if isinstance(value, list | tuple):
        return type(value)(_values(item, batch) for item in value)  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    return value


def _join(results: list[Any], batches: Sequence[int]) -> Type:
    """One type out of what the operator gave at each batch size."""
    first = results[0]
    if isinstance(first, torch.Tensor):
        shapes = zip(*(result.shape for result in results), strict=True)
        return TensorType(first.dtype, tuple(line([int(size) for size in sizes], batches) for sizes in shapes))
    if isinstance(first, bool | int):
        return IntType(line([int(result) for result in results], batches))
    if isinstance(first, list | tuple):
        return TupleType(tuple(_join(list(parts), batches) for parts in zip(*results, strict=True)))
    raise TypeError(f"an operator gave a {type(first).__name__}; a graph may hold tensors, whole numbers and tuples")


def line(values: list[int], batches: Sequence[int]) -> Size:
    """The size that has these values at these batch sizes; `ValueError` where it is no straight line through them."""
    if len(set(values)) == 1:
        return values[0]
    slope, rest = divmod(values[1] - values[0], batches[1] - batches[0])
    found = Dim(slope, values[0] - slope * batches[0])
    if rest or values != [found.at(batch) for batch in batches]:
        raise ValueError(f"a size goes {values} at batch {list(batches)}, which is no straight line in the batch")
    return found
