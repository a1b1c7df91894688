"""Operators that users' models are written with, and the arithmetic of their edges, against torch."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, fx

from tests.passes.canonicalize.capturing import Model, Said, canonical, hold_to_torch, numbers, special
from vitgraph.ir.dialect import aten
from vitgraph.ir.program import Program
from vitgraph.passes.canonicalize.rule import source


def written(x: Tensor, place: Any, value: Any) -> Tensor:
    """A copy of x with `x[place] = value`."""
    y = x.clone()
    y[place] = value
    return y


EVEN = (slice(None), slice(None), slice(0, None, 2))
SIMPLE: dict[str, Said] = {
    "ceil": lambda m, x: x.ceil(),
    "trunc": lambda m, x: x.trunc(),
    "frac": lambda m, x: x.frac(),
    "round to decimals": lambda m, x: x.round(decimals=2),
    "round to tens": lambda m, x: (x * 40).round(decimals=-1),
    "rounding of whole numbers": lambda m, x: (x * 9).long().floor().ceil().trunc().float(),
    "sign": lambda m, x: x.sign(),
    "threshold": lambda m, x: F.threshold(x, 0.1, 5.0),
    "isnan": lambda m, x: torch.where(x.isnan(), 1.0, x),
    "isinf": lambda m, x: torch.where(x.isinf(), 1.0, x),
    "isfinite": lambda m, x: torch.where(x.isfinite(), x, 1.0),
    "nan_to_num": lambda m, x: x.nan_to_num(),
    "nan_to_num by numbers": lambda m, x: x.nan_to_num(1.0, 2.0, -3.0),
    "log1p": lambda m, x: x.abs().log1p(),
    "log2": lambda m, x: x.abs().log2(),
    "log10": lambda m, x: x.abs().log10(),
    "log_sigmoid": lambda m, x: F.logsigmoid(x),
    "hardshrink": lambda m, x: F.hardshrink(x, 0.3),
    "softshrink": lambda m, x: F.softshrink(x, 0.3),
    "softsign": lambda m, x: F.softsign(x),
    "selu": lambda m, x: F.selu(x),
    "celu": lambda m, x: F.celu(x, 0.7),
    "rrelu": lambda m, x: F.rrelu(x),
    "fmax": lambda m, x: torch.fmax(x, x.flip(-1)),
    "fmin": lambda m, x: torch.fmin(x, x.flip(-1)),
    "maximum with a tensor": lambda m, x: torch.max(x, m.two),
    "clamp between tensors": lambda m, x: x.clamp(x * 0 - 0.1, x * 0 + 0.2),
    "clamp between constants": lambda m, x: x.clamp(m.alone * 0, m.two),
    "clamp below": lambda m, x: x.clamp(max=0.3),
    "sum with zero": lambda m, x: (x + 0).reciprocal(),
    "sum with a negative zero": lambda m, x: (x - 0.0).reciprocal(),
}
"""Functions of single elements: their edges are held to torch too."""

CASES: dict[str, Said] = {
    "div floor": lambda m, x: torch.div(x, 0.1, rounding_mode="floor"),
    "div floor by tensors": lambda m, x: torch.div(x, x.flip(-1), rounding_mode="floor"),
    "div trunc": lambda m, x: torch.div(x, x.flip(-1), rounding_mode="trunc"),
    "floor of nine tenths": lambda m, x: (x * 0 + 1.0) // 0.1,
    "floor division by zero": lambda m, x: x // (x.relu() - x.relu()),
    "whole floor": lambda m, x: (x * 9).long() // -4,
    "whole trunc": lambda m, x: torch.div((x * 9).long(), (x * 7).long() * 2 + 1, rounding_mode="trunc"),
    "remainder": lambda m, x: x % 0.3,
    "remainder of a negative": lambda m, x: x % -0.3,
    "remainder by tensors": lambda m, x: x % x.flip(-1),
    "whole remainder": lambda m, x: (x * 9).long() % -4,
    "fmod": lambda m, x: torch.fmod(x, 0.3),
    "fmod whole by fraction": lambda m, x: torch.fmod((x * 9).int(), 2.5),
    "addcmul": lambda m, x: torch.addcmul(x, x, x.flip(-1), value=0.3),
    "addcdiv": lambda m, x: torch.addcdiv(x, x, x.abs() + 1, value=0.3),
    "lerp near": lambda m, x: torch.lerp(x, x.flip(-1), 0.3),
    "lerp far": lambda m, x: torch.lerp(x, x.flip(-1), 0.8),
    "expm1": lambda m, x: x.expm1(),
    "expm1 of small numbers": lambda m, x: (x * 1e-6).expm1() * 1e6,
    "log1p of small numbers": lambda m, x: (x * 1e-6).log1p() * 1e6,
    "exp2": lambda m, x: x.exp2(),
    "power of tensors": lambda m, x: x.abs() ** x,
    "power of a number": lambda m, x: 2**x,
    "power by a constant": lambda m, x: x**m.two,
    "tan": lambda m, x: x.tan(),
    "glu": lambda m, x: F.glu(x, 1),
    "logsumexp": lambda m, x: torch.logsumexp(x * 50, (1, -1)),
    "logsumexp of nothing": lambda m, x: torch.logsumexp(torch.where(x > -9, -torch.inf, x), -1, keepdim=True),
    "prod": lambda m, x: x.prod(-1),
    "prod of all": lambda m, x: x[:, :1, :1].prod(),
    "prod of whole numbers": lambda m, x: (x * 3).int().prod(1, keepdim=True),
    "any": lambda m, x: (x > 1).any(-1),
    "any of numbers": lambda m, x: x.relu().any(1, keepdim=True),
    "all": lambda m, x: (x > -2).all((1, 2)),
    "all of all": lambda m, x: (x > -9).all(),
    "var_mean": lambda m, x: torch.cat(torch.var_mean(x, -1)),
    "std_mean": lambda m, x: torch.cat(torch.std_mean(x, (1, 2), correction=0)),
    "std": lambda m, x: x.std((1, -1), correction=2),
    "sum in another type": lambda m, x: x.sum(dtype=torch.float64),
    "mean in another type": lambda m, x: x.half().mean((1, 2), dtype=torch.float32),
    "sort": lambda m, x: x.sort(1, descending=True)[0],
    "argsort": lambda m, x: x.argsort(-1),
    "argmin": lambda m, x: x.argmin(-1),
    "place of the largest": lambda m, x: x.max(-1)[1],
    "place of the smallest": lambda m, x: x.min(1, keepdim=True)[1],
    "aminmax": lambda m, x: torch.cat(torch.aminmax(x, dim=1)),
    "norm of order 3": lambda m, x: aten.norm.ScalarOpt_dim(x, 3, [-1]),
    "norm of order 0": lambda m, x: aten.norm.ScalarOpt_dim(x.relu(), 0, [-1]),
    "norm in another type": lambda m, x: aten.linalg_vector_norm.default(x, dim=[-1], dtype=torch.float64),
    "norm of a vector": lambda m, x: aten.linalg_norm.default(x, 1, [-1]),
    "tril": lambda m, x: x.tril(-1),
    "triu of infinities": lambda m, x: torch.where(x > 0, torch.inf, x).triu(2),
    "diagonal": lambda m, x: x.diagonal(1, -1, 1),
    "diagonal below": lambda m, x: x.diagonal(-2, 2, 3),
    "diagonal outside": lambda m, x: x.diagonal(9, 2, 3),
    "index_fill": lambda m, x: x.index_fill(-2, torch.tensor([1, -1]), 2.0),
    "index_fill by a tensor": lambda m, x: x.index_fill(1, torch.tensor([1]), m.two),
    "one_hot": lambda m, x: F.one_hot(x.argmax(-1), 9),
    "rows written apart": lambda m, x: written(x, EVEN, x[:, :, :3] * 2),
    "rows filled apart": lambda m, x: written(x, EVEN, 1.0),
    "a row filled": lambda m, x: written(x, (slice(None), -1), 1.0),
    "rows written from beyond": lambda m, x: written(x, (slice(None), slice(-9, 2)), 1.0),
    "a slice from beyond": lambda m, x: x[:, :, -9:-1],
    "a slice to beyond": lambda m, x: x[:, :, -3:99],
    "narrow from the end": lambda m, x: x.narrow(-1, -3, 2),
    "masked_fill by a weight": lambda m, x: x.masked_fill(x > 0, m.alone),
    "adaptive_avg_pool1d to one": lambda m, x: F.adaptive_avg_pool1d(x[0], 1),
    "adaptive_avg_pool1d": lambda m, x: F.adaptive_avg_pool1d(x[:, 0], 3),
    "adaptive_max_pool1d to one": lambda m, x: F.adaptive_max_pool1d(x[0], 1),
    "adaptive_max_pool1d": lambda m, x: F.adaptive_max_pool1d(x[:, 0], 3),
    "adaptive_max_pool2d to one": lambda m, x: F.adaptive_max_pool2d(x, 1),
    "adaptive_max_pool2d": lambda m, x: F.adaptive_max_pool2d(x, (4, 2)),
    "adaptive_avg_pool2d of one image": lambda m, x: F.adaptive_avg_pool2d(x[0], (3, 5)),
    "max_pool1d": lambda m, x: F.max_pool1d(x[0], 3, 2, 1, ceil_mode=True),
    "max_pool2d of one image": lambda m, x: F.max_pool2d(x[0], 2),
    "avg_pool1d": lambda m, x: F.avg_pool1d(x[:, 0], 3, padding=1),
    "conv1d with same": lambda m, x: F.conv1d(
        x[0], m.weight[:3, :, None].expand(3, 3, 2).repeat(1, 2, 1), padding="same"
    ),
    "conv_transpose1d": lambda m, x: F.conv_transpose1d(x[0], m.weight[:6, None], stride=2, output_padding=1),
    "instance_norm": lambda m, x: F.instance_norm(x),
    "addmm with factors": lambda m, x: torch.addmm(x[0, 0, :, :3], x[0, 1], m.weight, beta=0.5, alpha=2),
    "addmm without the sum": lambda m, x: torch.addmm(x[0, 0, :, :3] / 0, x[0, 1], m.weight, beta=0),
    "addbmm": lambda m, x: torch.addbmm(x[0, 0, :, :6], x[0], x[0].mT, alpha=0.5),
    "addmv": lambda m, x: torch.addmv(x[0, 0, :, 0], x[0, 0], x[0, 0, 0], beta=2),
    "a line resized": lambda m, x: F.interpolate(x[:, 0], 5, mode="linear"),
    "a line resized by its corners": lambda m, x: F.interpolate(x[:, 0], 11, mode="linear", align_corners=True),
    "a line of nearest": lambda m, x: F.interpolate(x[:, 0], scale_factor=1.5),
    "nearest from the middle": lambda m, x: F.interpolate(x, (9, 5), mode="nearest-exact"),
    "xor": lambda m, x: (x > 0) ^ (x > 1),
    "and, or": lambda m, x: (x > 0) & (x < 1) | (x < -1),
    "product of truth values": lambda m, x: (x > 0) * (x > 1) * m.yes,
    "sum of truth values": lambda m, x: (x > 0) + (x > 1),
    "larger truth value": lambda m, x: torch.maximum(x > 0, x > 1),
    "equal truth values": lambda m, x: (x > 0) == (x > 1),
    "equal tensors": lambda m, x: x.relu() == x,
    "a fraction under whole numbers": lambda m, x: (x * 3).long() < 0.5,
    "a fraction over truth values": lambda m, x: (x > 0.1) > 0.5,
    "truth values in order": lambda m, x: (x > 0) <= (x > 1),
    "a fraction less unsigned numbers": lambda m, x: 1.5 - x.abs().to(torch.uint8),
    "whole numbers from a fraction up": lambda m, x: (x * 3).long().clamp(min=0.0),
    "unsigned numbers less 3": lambda m, x: x.abs().to(torch.uint8) - 3,
    "unsigned numbers over 300": lambda m, x: ((x.abs() * 90).to(torch.uint8) > 300).int(),
    "constants times numbers": lambda m, x: x * (torch.tensor(2.0) * 3),
    "constants times constants": lambda m, x: x * (m.two * m.three),
    "constants less constants": lambda m, x: x + (m.two - m.three) / m.two,
    "a constant's choice": lambda m, x: torch.where(x > m.two, m.two, 2 * m.two),
    "a constant of whole numbers": lambda m, x: torch.where(
        x > torch.tensor(-1), torch.tensor(-1), 2 * torch.tensor(-1)
    ),
    "constants stacked": lambda m, x: x + torch.stack([m.two, m.three, m.two + 1]).sum(),
    "a number copied": lambda m, x: written(x + 1, (..., 0), 3),
    "a trained number": lambda m, x: x * (m.alone * 2),
    "a whole constant": lambda m, x: (x * 9).long() * m.three + m.two,
    "sum with a factor of another type": lambda m, x: torch.add(x, x.half(), alpha=3),
}

FOR_A_BATCH: dict[str, Said] = {
    "zeros": lambda m, x: x + torch.zeros(x.shape[0], 1, 1, 1),
    "ones": lambda m, x: x + torch.ones(x.shape[0], 1, 6, 1),
    "full": lambda m, x: x + torch.full((x.shape[0], 1, 1, 1), 0.5),
    "new_zeros": lambda m, x: torch.cat([x, x.new_zeros(x.shape[0], 1, 6, 8)], 1),
    "new_full": lambda m, x: x.new_full((2 * x.shape[0], 3), 2),
    "ones_like": lambda m, x: x * torch.ones_like(x[..., :1]),
    "full_like": lambda m, x: torch.full_like(x, 2, dtype=torch.int64),
    "empty filled": lambda m, x: torch.empty(x.shape[0], 3).fill_(2.0),
    "arange": lambda m, x: x + torch.arange(x.shape[0])[:, None, None, None],
    "arange in steps": lambda m, x: x[:, 0, 0, 0] + torch.arange(3, 3 + 2 * x.shape[0], 2),
    "expand_as": lambda m, x: m.two.reshape(1, 1, 1, 1).expand_as(x) + x,
    "tril": lambda m, x: x.tril(),
    "rows written apart": lambda m, x: written(x, EVEN, 1.0),
    "index_fill": lambda m, x: x.index_fill(1, torch.tensor([0, 2]), 2.0),
    "logsumexp": lambda m, x: torch.logsumexp(x, -1),
    "adaptive_avg_pool1d": lambda m, x: F.adaptive_avg_pool1d(x.flatten(2), 5),
    "adaptive_max_pool2d": lambda m, x: F.adaptive_max_pool2d(x, (4, 2)),
    "diagonal": lambda m, x: x.diagonal(0, 2, 3),
    "sort": lambda m, x: x.sort(-1)[0],
}


@pytest.mark.parametrize("name", CASES)
def test_gives_what_torch_gives(name: str) -> None:
    hold_to_torch(CASES[name])


@pytest.mark.parametrize("name", SIMPLE)
def test_gives_what_torch_gives_at_the_edges(name: str) -> None:
    program = hold_to_torch(SIMPLE[name])
    torch.testing.assert_close(
        program.run(special()), Model(SIMPLE[name])(special()), rtol=2e-6, atol=0, equal_nan=True
    )


@pytest.mark.parametrize("name", FOR_A_BATCH)
def test_gives_what_torch_gives_for_any_batch(name: str) -> None:
    hold_to_torch(FOR_A_BATCH[name], dynamic=True)


def test_a_wrong_rule_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    def floored(program: Program, node: fx.Node) -> fx.Node:
        return program.insert(node, aten.floor.default, source(node))

    monkeypatch.setattr("vitgraph.passes.canonicalize.canonicalize.RULES", {aten.trunc.default: floored})
    with pytest.raises(AssertionError):
        hold_to_torch(SIMPLE["trunc"])


def test_a_sum_with_zero_stays_and_one_with_negative_zero_goes() -> None:
    """0.0 + -0.0 is 0.0, whose reciprocal is another infinity."""
    kept, gone = (
        canonical(SIMPLE[name]).calls(aten.add.Tensor) for name in ("sum with zero", "sum with a negative zero")
    )
    assert (len(kept), len(gone)) == (1, 0)


def test_a_clamp_from_infinity_up_is_kept() -> None:
    from_infinity = canonical(lambda m, x: torch.clamp(x, min=torch.tensor(torch.inf)))
    assert bool((from_infinity.run(numbers()) == torch.inf).all())
    assert canonical(lambda m, x: torch.clamp(x, min=torch.tensor(-torch.inf))).calls() == []


def test_numbers_of_constants_stay_numbers() -> None:
    (product,) = canonical(lambda m, x: x * (m.two * 3)).calls(aten.mul.Tensor)
    assert 6.0 in product.args
    (trained,) = canonical(lambda m, x: x * m.alone).calls(aten.mul.Tensor)
    assert all(isinstance(each, torch.fx.Node) for each in trained.args), "a weight is no number"
