"""What a ratio says where there is no signal, and that noise is still noise there."""

import math

import pytest
import torch

from vitgraph.ir.parser import parse
from vitgraph.ir.program import Program
from vitgraph.pass_manager.numerics import record, site_snr, snr_db

TWO = """
x: f32[4, 8] = input()
a: f32[8, 8] = weight("live.weight")
b: f32[8, 8] = weight("dead.weight")
y: f32[4, 8] = aten.linear.default(x, a, None)  # live
z: f32[4, 8] = aten.linear.default(x, b, None)  # dead
s: f32[4, 8] = aten.add.Tensor(y, z)
return_(s)
"""
X = torch.randn(4, 8, generator=torch.Generator().manual_seed(1))


def ratios(reference: float, found: float) -> dict[str, float]:
    """How the sites are judged where all of the dead linear's weights are one number before, and another after."""

    def program(number: float) -> Program:
        return parse(TWO, {"live.weight": torch.eye(8), "dead.weight": torch.full((8, 8), number)})

    return site_snr(program(found), [X], *record(program(reference), [X]))


@pytest.mark.parametrize("residue", [0.0, 1e-9, -2e-8])
def test_a_site_without_a_signal_is_not_judged_by_a_ratio_to_nothing(residue: float) -> None:
    """Values whose weights are zero, or what FP32 leaves of them once their mean is taken out."""
    assert min(ratios(residue, 0.0).values()) > 20
    assert min(ratios(0.0, residue).values()) > 20


def test_noise_at_a_site_without_a_signal_is_still_found() -> None:
    assert ratios(0.0, 1e-2)["dead"] < 3


def test_a_small_signal_is_one() -> None:
    """LayerScale begins at 1e-5, and what is lost there is lost."""
    assert ratios(1e-4, 0.0)["dead"] == pytest.approx(0.0, abs=1e-6)


def test_a_ratio_without_a_silence_is_the_plain_one() -> None:
    assert snr_db(torch.zeros(3), torch.ones(3)) == -math.inf
    assert snr_db(torch.ones(3), torch.full((3,), 1.1)) == pytest.approx(20, abs=1e-3)
    assert snr_db(torch.ones(3), torch.full((3,), math.nan), 1.0) == -math.inf
