"""What counts as a distance between two outputs."""

import math

import pytest
import torch
from torch import Tensor

from vitgraph.ir.parser import parse
from vitgraph.pass_manager.numerics import measure, objection, reorders_limit
from vitgraph.pass_manager.pass_contract import Effect

NAN, INF = math.nan, math.inf


def test_nan_stays_where_it_was() -> None:
    before = torch.tensor([1.0, NAN, INF])
    for effect in (Effect.EXACT, Effect.REORDERS):
        assert objection(effect, before, before.clone()) is None
    assert measure(before, before.clone()).relative_l2 == 0.0


@pytest.mark.parametrize("moved", [[1.0, 0.0, INF], [NAN, NAN, INF], [1.0, NAN, 3.0], [1.0, NAN, -INF]])
@pytest.mark.parametrize("effect", [Effect.EXACT, Effect.REORDERS])
def test_nan_and_infinity_are_no_number(effect: Effect, moved: list[float]) -> None:
    assert objection(effect, torch.tensor([1.0, NAN, INF]), torch.tensor(moved)) is not None


def test_outputs_are_judged_each_by_itself() -> None:
    """Large scores do not hide what small boxes lose."""
    scores, boxes = torch.ones(1, 90) * 100, torch.tensor([0.3, 0.4])
    drift = measure((scores, boxes), (scores, boxes.flip(0)))
    assert drift.relative_l2 == pytest.approx(0.2 * 2**0.5)
    assert drift.cosine == pytest.approx(0.96)
    assert "relative L2" in (objection(Effect.REORDERS, (scores, boxes), (scores, boxes * 1.001)) or "")


@pytest.mark.parametrize("dtype", [torch.bool, torch.int64, torch.float16])
def test_outputs_of_any_type(dtype: torch.dtype) -> None:
    before, other = torch.tensor([[0, 1], [1, 0]]).to(dtype), torch.tensor([[0, 1], [0, 1]]).to(dtype)
    assert measure(before, before.clone()).top1_agreement == 1.0
    assert measure(before, other).top1_agreement == 0.5
    assert measure(before, other).max_abs == 1.0
    assert objection(Effect.REORDERS, before, before.clone()) is None
    assert objection(Effect.REORDERS, before, other) is not None


@pytest.mark.parametrize("tensor", [torch.tensor(2.0), torch.zeros(2, 0)])
def test_outputs_without_a_last_dimension_or_elements(tensor: Tensor) -> None:
    assert measure(tensor, tensor.clone()).top1_agreement == 1.0
    assert objection(Effect.EXACT, tensor, tensor.clone()) is None


HALVES = """
x: f32[N, 8] = input()
h: {0}[N, 8] = aten.to.dtype(x, {0})
y: {0}[N, 8] = aten.mul.Tensor(h, 3.0)
o: f32[N, 8] = aten.to.dtype(y, f32)
return_(o)
"""


@pytest.mark.parametrize(("kind", "limit"), [("f32", 1e-4), ("f16", 2e-2), ("bf16", 1e-1), ("i64", 1e-4)])
def test_reordering_may_move_what_the_coarsest_type_of_the_graph_rounds(kind: str, limit: float) -> None:
    allowed = reorders_limit(parse(HALVES.format(kind)))
    before = torch.ones(4)
    assert objection(Effect.REORDERS, before, before * (1 + 0.9 * limit), allowed) is None
    assert "relative L2" in (objection(Effect.REORDERS, before, before * (1 + 1.1 * limit), allowed) or "")
