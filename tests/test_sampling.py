"""The policy by which sub-networks are drawn."""

import pytest
import torch

from tests.levels_model import SPACE
from vitgraph.sampling import VISITS, Policy, lean, threshold


def shares(policy: Policy, epsilon: float, draws: int = 400) -> torch.Tensor:
    """How often each level was drawn, over all layers."""
    generator = torch.Generator().manual_seed(0)
    drawn = torch.tensor([policy.draw(epsilon, generator) for _ in range(draws)])
    return torch.bincount(drawn.flatten(), minlength=3) / drawn.numel()


def test_leans_from_dense_to_sparse() -> None:
    assert [lean(done) for done in (0, 10 / 300, 0.5, 290 / 300, 1)] == pytest.approx([-1, -1, 0, 1, 1])
    values = [lean(step / 50) for step in range(51)]
    assert values == sorted(values)


def test_draws_by_density_and_fitness() -> None:
    policy = Policy(SPACE)
    first = torch.tensor([1 / 16, 1 / 4, 1.0])  # (M/N)^-1 times N/M
    torch.testing.assert_close(shares(policy, -1), first / first.sum(), atol=0.04, rtol=0)
    torch.testing.assert_close(shares(policy, 1), torch.full((3,), 1 / 3), atol=0.04, rtol=0)
    policy.learn([(0, 0, 0, 0), (1, 1, 1, 1), (2, 2, 2, 2)], [50.0, 50.0, 50.0])
    sparse = torch.tensor([4.0, 2.0, 1.0])
    torch.testing.assert_close(shares(policy, 1), sparse / sparse.sum(), atol=0.04, rtol=0)


@pytest.mark.parametrize(
    ("accuracies", "wanted"),
    [([70, 50, 30], 30), ([60, 58, 56, 50], 53.5), ([60, 59], 57), ([5, 30], 5), ([10, 10.5], 7.75)],
)
def test_thresholds(accuracies: list[float], wanted: float) -> None:
    assert threshold(accuracies) == pytest.approx(wanted)


def test_closes_what_does_worse_and_only_after_some_visits() -> None:
    policy = Policy(SPACE)
    choices = [(0, 1, 2, 1), (2, 1, 2, 1)]
    for _ in range(VISITS - 1):
        policy.learn(choices, [40.0, 80.0])
    assert bool(policy.open.all())
    policy.learn(choices, [40.0, 80.0])
    assert bool(policy.open[0].all())  # 40 is the threshold itself
    policy.learn([*choices, (2, 2, 2, 2)], [30.0, 80.0, 82.0])
    assert [bool(each) for each in policy.open[0]] == [False, True, True]
    generator = torch.Generator().manual_seed(0)
    assert all(policy.draw(1, generator)[0] != 0 for _ in range(50))


def test_a_layer_never_closes_altogether() -> None:
    policy = Policy(SPACE)
    bad = [(place,) * 4 for place in range(3)]
    for _ in range(VISITS):
        policy.learn(bad, [10.0, 10.0, 10.0])
    policy.learn([(2, 2, 2, 2)] * 99, [90.0] * 99)
    policy.sums[:] = 0
    policy.learn([(2, 2, 2, 2)], [90.0])
    assert policy.open.any(1).all()
    assert policy.open[:, 2].all()


def test_its_state_restores_it() -> None:
    policy = Policy(SPACE)
    policy.learn([(0, 1, 2, 0)], [50.0])
    again = Policy(SPACE)
    assert not torch.equal(again.weights(0.3), policy.weights(0.3))
    again.restore(policy.state())
    assert torch.equal(again.weights(0.3), policy.weights(0.3))
