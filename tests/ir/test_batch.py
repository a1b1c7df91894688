"""Batch sizes, as a command line and as Python code say them."""

from typing import Any

import pytest

from vitgraph.errors import InputError
from vitgraph.ir.batch import Batch, parse_batch, read_batch


@pytest.mark.parametrize(
    ("sizes", "batch"),
    [
        (8, Batch(8, 8, 8)), ("8", Batch(8, 8, 8)), ("1:8:64", Batch(1, 8, 64)), ((1, 8, 64), Batch(1, 8, 64)),
        (Batch(1, 2, 3), Batch(1, 2, 3)),
    ],
)  # fmt: skip
def test_reads(sizes: Any, batch: Batch) -> None:
    assert read_batch(sizes) == batch
    assert parse_batch(str(batch)) == batch


@pytest.mark.parametrize("sizes", [0, -1, True, 1.5, None, (1, 8), (8, 1, 64), ("1", "8", "64"), [1, 8, 64]])
def test_names_the_argument_that_it_can_not_read(sizes: Any) -> None:
    with pytest.raises(InputError, match=r"batch=.*give one size \(8\), or three"):
        read_batch(sizes)


@pytest.mark.parametrize("text", ["", "0", "8:1", "8:1:64", "-1", "1:8:64:65", "eight"])
def test_names_the_option_that_it_can_not_read(text: str) -> None:
    with pytest.raises(InputError, match=r"--batch .*MIN:OPT:MAX"):
        read_batch(text)
