"""Mixed distillation: each term against its definition, and what is left out."""

import math

import pytest
import torch
from torch import Tensor

from vitgraph.training.objective import (
    Objective,
    feature_loss,
    hard_loss,
    residual_weights,
    soft_loss,
)
from vitgraph.training.settings import Distillation


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_the_hard_term_is_the_cross_entropy_of_those_that_have_a_label() -> None:
    logits, targets = numbers(4, 5), torch.zeros(4, 5)
    targets[0, 2] = targets[2, 4] = 1.0
    wanted = torch.nn.functional.cross_entropy(logits[[0, 2]], torch.tensor([2, 4]))
    assert float(hard_loss(logits, targets)) == pytest.approx(float(wanted), rel=1e-6)
    assert float(hard_loss(logits, torch.zeros(4, 5))) == 0


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_the_soft_term_is_a_divergence_times_the_temperature_squared(temperature: float) -> None:
    student, teacher = numbers(3, 4), numbers(3, 4, seed=1)
    p, q = (each.div(temperature).softmax(-1) for each in (teacher, student))
    wanted = sum(float(p[i, c]) * math.log(float(p[i, c]) / float(q[i, c])) for i in range(3) for c in range(4))
    assert float(soft_loss(student, teacher, temperature)) == pytest.approx(temperature**2 * wanted / 3, rel=1e-4)
    assert float(soft_loss(teacher, teacher, temperature)) == pytest.approx(0, abs=1e-6)


def test_the_feature_term_does_not_hang_on_a_sites_size() -> None:
    student, teacher = numbers(2, 3, 4), numbers(2, 3, 4, seed=1)
    per_image = (student - teacher).square().sum((1, 2)) / teacher.square().sum((1, 2))
    assert float(feature_loss(student, teacher)) == pytest.approx(float(per_image.mean()), rel=1e-5)
    assert float(feature_loss(100 * student, 100 * teacher)) == pytest.approx(float(per_image.mean()), rel=1e-5)


def test_the_loss_is_the_weighted_sum() -> None:
    settings = Distillation(hard=2.0, soft=3.0, feature=4.0)
    objective = Objective(settings, ("a", "b"), (0.5, 1.5))
    logits, targets = numbers(2, 4), torch.eye(4)[:2]
    features = [numbers(2, 3, seed=2), numbers(2, 5, seed=3)]
    teacher = (numbers(2, 4, seed=4), [numbers(2, 3, seed=5), numbers(2, 5, seed=6)])
    loss = objective.loss(logits, features, teacher, targets)
    a, b = (feature_loss(s, t) for s, t in zip(features, teacher[1], strict=True))
    wanted = 2 * hard_loss(logits, targets) + 3 * soft_loss(logits, teacher[0], 1.0) + 4 * (0.5 * a + 1.5 * b) / 2
    assert float(loss.total) == pytest.approx(float(wanted), rel=1e-6)
    assert list(loss.terms) == ["hard", "soft", "feature a", "feature b"]


def test_terms_of_no_weight_are_left_out() -> None:
    logits, teacher = numbers(2, 4), (numbers(2, 4, seed=1), [numbers(2, 3)])
    only_soft = Objective(Distillation(hard=0, feature=0), ("a",), (1.0,))
    assert list(only_soft.loss(logits, [numbers(2, 3)], teacher, torch.eye(4)[:2]).terms) == ["soft"]
    assert only_soft.needs_teacher
    only_hard = Objective(Distillation(soft=0, feature=0))
    assert list(only_hard.loss(logits, [], None, torch.eye(4)[:2]).terms) == ["hard"]
    assert not only_hard.needs_teacher


def test_weights_of_sites_are_by_what_is_left() -> None:
    assert residual_weights([0.1, 0.2, 0.3]) == pytest.approx((0.5, 1.0, 1.5))
    assert residual_weights([0.0, 0.0]) == (1.0, 1.0)
