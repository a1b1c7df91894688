"""Rates step by step, and the moving average."""

from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import nn

from vitgraph.errors import InputError
from vitgraph.training.optimizer import Average, Optimizer, check_optimizer
from vitgraph.training.settings import Optimization


def rates(settings: Optimization, steps_an_epoch: int = 10, lr_scale: float = 1.0) -> list[float]:
    groups = [{"params": [nn.Parameter(torch.zeros(2))], "lr_scale": lr_scale}]
    optimizer = Optimizer(groups, settings, steps_an_epoch)
    return [optimizer.set_rate(step) for step in range(settings.epochs * steps_an_epoch)]


def test_it_rises_and_falls() -> None:
    settings = Optimization(epochs=4, lr=1e-2, min_lr=1e-4, warmup_epochs=0.5, warmup_lr=1e-4)
    found = rates(settings)
    assert found[0] < found[2] < found[4]
    assert max(found) == pytest.approx(1e-2, rel=0.05)
    assert found[-1] == pytest.approx(1e-4, rel=0.3)
    assert all(a >= b for a, b in pairwise(found[5:]))


@pytest.mark.parametrize("sched", ["cosine", "tanh", "step", "poly", "wsd"])
def test_a_rate_hangs_on_its_step_alone(sched: Any) -> None:
    settings = Optimization(epochs=4, sched=sched, warmup_epochs=1)
    groups = [{"params": [nn.Parameter(torch.zeros(2))], "lr_scale": 1.0}]
    again = Optimizer(groups, settings, 10)
    assert [again.set_rate(step) for step in (31, 7, 0)] == [rates(settings)[step] for step in (31, 7, 0)]


def test_a_group_has_its_share_of_the_rate() -> None:
    settings = Optimization(epochs=2)
    assert rates(settings, lr_scale=0.5) == pytest.approx([each / 2 for each in rates(settings)])


def test_the_average_forgets_the_start_and_then_moves_slowly() -> None:
    tensor = torch.zeros(1)
    average = Average({"w": tensor}, decay=0.9)
    tensor.fill_(1.0)
    average.update(0)
    assert float(average.averages["w"]) == pytest.approx(0.9)  # decay (1 + 0) / (10 + 0)
    tensor.fill_(2.0)
    average.update(1000)
    assert float(average.averages["w"]) == pytest.approx(0.9 * 0.9 + 0.1 * 2.0)
    other = Average({"w": tensor}, decay=0.9)
    other.restore(average.averages)
    assert torch.equal(other.averages["w"], average.averages["w"])


def test_an_optimizer_that_timm_has_not_is_refused() -> None:
    check_optimizer("lamb")
    with pytest.raises(InputError, match="timm has no such optimizer"):
        check_optimizer("lambda")
