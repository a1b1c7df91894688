"""Bounds on what a graph from a file may ask for; each refuses what is one over, and lets in what is at it."""

import pytest

from vitgraph.ir.file_bounds import MAX_ELEMENTS, MAX_RANK, MAX_RESULTS, bytes_of, check_type
from vitgraph.ir.parser import TextError, parse
from vitgraph.ir.tensor_type import parse_type


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (f"f32[{MAX_ELEMENTS + 1}]", "elements"),
        (f"f32[{MAX_ELEMENTS}, 2]", "elements"),
        (f"f32[{MAX_ELEMENTS}*N, 2]", "elements"),
        ("f32[-1]", "negative"),
        ("f32[N-2]", "negative"),
        (f"f32[{', '.join('1' * (MAX_RANK + 1))}]", "dimensions"),
        (f"({', '.join(['f32[1]'] * (MAX_RESULTS + 1))})", "results"),
        (f"(f32[1], f32[{MAX_ELEMENTS + 1}])", "elements"),
        (f"int[{2**63}]", "64 bits"),
    ],
)
def test_types_over_a_bound(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        check_type(parse_type(text))


@pytest.mark.parametrize(
    "text", [f"f32[{MAX_ELEMENTS}]", "f32[0]", "f32[]", f"int[{2**63 - 1}]", "int[-1]", "f32[N, 197]"]
)
def test_types_at_a_bound(text: str) -> None:
    check_type(parse_type(text))


def test_bytes_are_those_of_a_batch_of_one() -> None:
    assert bytes_of(parse_type("(f32[2*N, 3], i8[5], int[7])")) == 24 + 5


def held(count: int, at_once: bool) -> str:
    """A graph of values of 2 GB, all held to the end or each let go."""
    lines = ["x: f32[500000000] = input()"]
    lines += [f"v{i}: f32[500000000] = aten.relu.default({f'v{i - 1}' if i else 'x'})" for i in range(count)]
    last = ", ".join(f"v{i}" for i in range(count)) if at_once else f"v{count - 1}"
    return "\n".join([*lines, f"return_([{last}])"])


def test_memory_counts_what_is_held_at_once() -> None:
    parse(held(30, at_once=False), {})
    with pytest.raises(TextError, match="GiB at once, over the 32 GiB"):
        parse(held(30, at_once=True), {})
