"""Softmax in any spelling, and the fused call with any mask, against torch."""

import functools

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.passes.canonicalize.capturing import Model, Said, canonical, hold_to_torch, numbers
from vitgraph.backends import find_backend
from vitgraph.errors import InputError
from vitgraph.ir.dialect import aten, attention
from vitgraph.passes import pipeline

sdpa = F.scaled_dot_product_attention


def exp_over_sum(scores: Tensor) -> Tensor:
    powers = scores.exp()
    return powers / powers.sum(-1, keepdim=True)


def by_reciprocal(scores: Tensor) -> Tensor:
    powers = (scores - scores.max(-1, keepdim=True)[0].detach()).exp()
    return powers * (1 / powers.sum(-1, keepdim=True))


def in_steps(scores: Tensor) -> Tensor:
    powers = (scores - scores.amax(-1).unsqueeze(-1)).exp()
    return powers / powers.sum(-1).unsqueeze(-1)


SOFTMAXES: dict[str, Said] = {
    "exp over its sum": lambda m, x: exp_over_sum(x),
    "the largest taken away": lambda m, x: exp_over_sum(x - x.amax(-1, keepdim=True)),
    "the largest of all taken away": lambda m, x: exp_over_sum(x - x.max()),
    "by a reciprocal": lambda m, x: by_reciprocal(x),
    "kept dimensions in steps": lambda m, x: in_steps(x),
    "from its logarithm": lambda m, x: x.log_softmax(-1).exp(),
    "in another type": lambda m, x: torch.softmax(x.half(), -1, dtype=torch.float32),
}
OTHERS: dict[str, Said] = {
    "a small number in the sum": lambda m, x: x.exp() / (x.exp().sum(-1, keepdim=True) + 1e-3),
    "the sum along another dimension": lambda m, x: x[..., :6].exp() / x[..., :6].exp().sum(2, keepdim=True).mT,
    "the sum of another exponential": lambda m, x: x.exp() / (x * 2).exp().sum(-1, keepdim=True),
    "another maximum taken away": lambda m, x: exp_over_sum(x - x.amax(1, keepdim=True)),
}


@pytest.mark.parametrize("name", SOFTMAXES)
def test_is_one_softmax(name: str) -> None:
    program = canonical(SOFTMAXES[name], dynamic=True)
    assert [node.target for node in program.calls() if node.target is not aten.to.dtype] == [aten.softmax.int]
    hold_to_torch(SOFTMAXES[name], dynamic=True)


@pytest.mark.parametrize("name", OTHERS)
def test_what_only_looks_like_one_keeps_its_numbers(name: str) -> None:
    hold_to_torch(OTHERS[name])


def test_a_small_number_in_the_sum_is_no_softmax() -> None:
    assert canonical(OTHERS["a small number in the sum"]).calls(aten.softmax.int) == []


def test_what_would_overflow_as_written_does_not() -> None:
    program = canonical(SOFTMAXES["exp over its sum"])
    assert bool(program.run(numbers() * 1000).isfinite().all())


def hidden(x: Tensor) -> Tensor:
    """A computed mask `[6, 6]` whose third row allows nothing."""
    keep = x[0, 0, :, :6] > -0.5
    return keep & (torch.arange(6) != 2)[:, None]


def minus_infinity(keep: Tensor) -> Tensor:
    return torch.zeros(6, 6).masked_fill(~keep, -torch.inf)


MASKED: dict[str, Said] = {
    "a constant mask": lambda m, x: sdpa(x, x, x, m.keep | torch.eye(6, dtype=torch.bool)),
    "a constant mask with an empty row": lambda m, x: sdpa(x, x, x, m.keep & (torch.arange(6) != 2)[:, None]),
    "a mask of nothing": lambda m, x: sdpa(x, x, x, torch.zeros(6, dtype=torch.bool)[None]),
    "a computed mask": lambda m, x: sdpa(x, x, x, hidden(x)),
    "a computed mask of three dimensions": lambda m, x: sdpa(x, x, x, (x[0, :, :, :6] > 1.5)),
    "minus infinity": lambda m, x: sdpa(x, x, x, minus_infinity(hidden(x))),
    "minus infinity in a constant": lambda m, x: sdpa(
        x, x, x, minus_infinity(m.keep & (torch.arange(6) != 2)[:, None])
    ),
    "a mask of one row": lambda m, x: sdpa(x, x, x, m.keep[:1]),
    "numbers": lambda m, x: sdpa(x, x, x, x[0, 0, :, :6] * 3),
    "causal": lambda m, x: sdpa(x, x, x, is_causal=True),
    "causal with fewer keys": lambda m, x: sdpa(x, x[:, :, :4], x[:, :, :4], is_causal=True),
    "causal with more keys": lambda m, x: sdpa(x[:, :, :4], x, x, is_causal=True),
    "a scale": lambda m, x: sdpa(x, x, x, scale=0.7),
    "grouped queries": lambda m, x: sdpa(x, x[:, :2], x[:, 2:], enable_gqa=True),
    "one head for all": lambda m, x: sdpa(x, x[:, :1], x[:, :1], m.keep, enable_gqa=True, scale=0.1),
    "a mask of keys alone": lambda m, x: sdpa(x[:, 0], x[:, 1], x[:, 2], m.keep[0]),
    "three dimensions": lambda m, x: sdpa(x[:, 0], x[:, 1], x[:, 2]),
    "two dimensions": lambda m, x: sdpa(x[0, 0], x[0, 1], x[0, 2]),
}
EMPTY_ROWS = ("a constant mask with an empty row", "a mask of nothing", "a computed mask", "minus infinity")


@pytest.mark.parametrize("name", MASKED)
def test_gives_what_torch_gives(name: str) -> None:
    hold_to_torch(MASKED[name])


@pytest.mark.parametrize("name", MASKED)
def test_fused_it_gives_what_torch_gives(name: str) -> None:
    said = MASKED[name]
    fused = pipeline("canonicalize,fold-constants,fuse-attention,fold-constants").run(canonical(said))
    assert (len(fused.calls(attention)), fused.calls(aten.scaled_dot_product_attention.default)) == (1, [])
    wanted = Model(said)(numbers())
    same = functools.partial(torch.testing.assert_close, wanted, rtol=2e-6, atol=2e-6)
    same(fused.run(numbers()))
    with find_backend("ort").load(fused) as runner:
        same(runner.run(numbers()))


def test_a_mask_whose_rows_all_allow_a_key_costs_nothing_more() -> None:
    program = pipeline("canonicalize,fold-constants").run(canonical(MASKED["a constant mask"]))
    assert [node.target for node in program.calls()] == [aten.scaled_dot_product_attention.default]


COPIED: dict[str, Said] = {
    "of pairs": lambda m, x: sdpa(x, x, x, (m.keep | torch.eye(6, dtype=torch.bool)).expand(x.shape[0], 1, 6, 6)),
    "of queries": lambda m, x: sdpa(x, x, x, (torch.arange(6) < 9)[None, None, :, None].expand(x.shape[0], -1, 6, 6)),
    "numbers": lambda m, x: sdpa(x, x, x, m.keep.float()[None, None].expand(x.shape[0], 4, -1, -1)),
}


@pytest.mark.parametrize("name", COPIED)
def test_one_mask_for_all_images_is_a_constant(name: str) -> None:
    """As transformers makes it: repeated for each image of an open batch."""
    said = COPIED[name]
    fused = pipeline("fold-constants,fuse-attention,fold-constants").run(canonical(said, dynamic=True))
    (found,) = fused.calls(attention)
    bias = found.args[3]
    assert isinstance(bias, torch.fx.Node)
    assert bias.op == "get_attr"
    assert fused.calls(aten.masked_fill.Scalar) == []
    torch.testing.assert_close(fused.run(numbers(3)), Model(said)(numbers(3)), rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize("name", EMPTY_ROWS)
def test_rows_that_allow_nothing_are_zero(name: str) -> None:
    rows = Model(MASKED[name])(numbers())[:, :, 2]
    assert bool((rows == 0).all()), "torch itself gives zeros"
    assert bool((canonical(MASKED[name]).run(numbers())[:, :, 2] == 0).all())


def test_a_softmax_by_hand_over_nothing_stays_what_it_is() -> None:
    def by_hand(m: Model, x: Tensor) -> Tensor:
        return (x @ x.mT + minus_infinity(hidden(x))).softmax(-1) @ x

    assert bool(canonical(by_hand).run(numbers())[:, :, 2].isnan().all())


def test_dropout_that_is_always_on_is_refused() -> None:
    with pytest.raises(InputError, match=r"scaled_dot_product_attention.default \(in model\).*dropout_p"):
        canonical(lambda m, x: sdpa(x, x, x, dropout_p=0.1))
