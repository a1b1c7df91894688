"""What is timed is what a plan runs: each product by the references, on the CPU."""

from typing import Any

import pytest
import torch
from torch import Tensor

from vitgraph.backends.cuda import reference
from vitgraph.backends.cuda.linear_sizes import LinearSize
from vitgraph.backends.cuda.timed_products import (
    MOST_SETS,
    TUNED,
    Kernels,
    Unavailable,
    bytes_of,
    product_of,
    sets_for,
    two_of_four,
)
from vitgraph.backends.cuda.twin import sparse_linear
from vitgraph.cost.measured import Form
from vitgraph.ir.packing import Packing

SIZE = LinearSize(rows=50, n=64, k=96)
asked = list[tuple[str, dict[str, Any]]]()


def kernels() -> Kernels:
    """References that remember what they were given; each set of operands is another memory."""
    asked.clear()

    def told(name: str, function: Any) -> Any:
        def run(*given: Any, out: Tensor | None = None, **named: Any) -> Any:
            asked.append((name, named))
            return function(*given, **named)

        return run

    def scaled(x: Tensor, w: Tensor, *, bias: Tensor, **named: Any) -> Tensor:
        return (x.float() @ w.float() + bias).half()

    return Kernels(
        told("linear", reference.linear), told("sparse", sparse_linear), told("activate", reference.activate),
        lambda weight: weight, told("scaled", scaled),
    )  # fmt: skip


@pytest.mark.parametrize("form", TUNED)
def test_each_gives_what_a_linear_gives(form: Form) -> None:
    product = product_of(SIZE, form, kernels(), "cpu", sets=2)
    found = product(0)
    rows = SIZE.padded if form == "fp8" else SIZE.rows
    assert (tuple(found.shape), found.dtype) == ((rows, SIZE.n), torch.float16)
    assert torch.isfinite(found).all()
    assert found.float().std() > 0.1, "not a constant"


def test_sets_take_turns() -> None:
    product = product_of(SIZE, "int8", kernels(), "cpu", sets=3)
    for at in range(4):
        product(at)
    places = [given["x"].data_ptr() for _, given in asked]
    assert len(set(places)) == 3
    assert places[3] == places[0]


def test_the_sparse_product_pads_and_is_followed_by_the_pass_that_a_plan_has() -> None:
    product_of(SIZE, "int8 2:4", kernels(), "cpu", sets=1)(0)
    (one, given), (two, after) = asked
    assert (one, two) == ("sparse", "activate")
    assert given["x"].shape[0] == 64
    assert Packing(2, 4).holds(given["w"] != 0)
    assert after["gelu"] is False
    assert after["bias"].shape == (SIZE.n,)


def test_two_of_four_drops_half_of_each_group() -> None:
    codes = torch.ones(8, 16, dtype=torch.int8)
    assert (two_of_four(codes).reshape(8, 4, 4) != 0).sum(-1).eq(2).all()


@pytest.mark.parametrize(("form", "n", "says"), [("int8 2:4", 80, "multiples of 32"), ("fp8", 72, "multiples of 16")])
def test_sizes_that_a_format_has_no_product_for(form: Form, n: int, says: str) -> None:
    with pytest.raises(Unavailable, match=says):
        product_of(LinearSize(50, n, 96), form, kernels(), "cpu", sets=1)


def test_sets_are_twice_the_cache_and_no_fewer_than_two() -> None:
    large, small = LinearSize(25216, 3072, 768), LinearSize(197, 192, 192)
    assert sets_for(large, "fp16", 50 << 20) == 2
    assert sets_for(small, "fp16", 50 << 20) == MOST_SETS
    middle = LinearSize(6304, 768, 768)
    sets = sets_for(middle, "int8", 50 << 20)
    assert 2 * (50 << 20) <= sets * bytes_of(middle, "int8") < 2 * (50 << 20) + bytes_of(middle, "int8")
