"""The policy by which sub-networks are drawn."""

import pytest
import torch

from tests.levels_model import SPACE
from vitgraph.searching.sampling import VISITS, Policy, lean, tolerance


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
    [([90, 50, 40, 20], 20), ([70, 50, 30], 20), ([60, 50], 5), ([60, 59], 2.5), ([9, 30], 10.5)],
)
def test_tolerance(accuracies: list[float], wanted: float) -> None:
    assert tolerance(accuracies) == pytest.approx(wanted)


def test_closes_what_does_worse_and_only_after_some_visits() -> None:
    policy = Policy(SPACE)
    choices = [(0, 1, 2, 1), (2, 1, 2, 1), (1, 1, 2, 1)]
    for _ in range(VISITS - 1):
        policy.learn(choices, [70.0, 75.0, 75.0])
    assert bool(policy.open.all())
    policy.learn(choices, [70.0, 75.0, 75.0])
    assert [bool(each) for each in policy.open[0]] == [False, True, True]
    assert bool(policy.open[1:].all())
    generator = torch.Generator().manual_seed(0)
    assert all(policy.draw(1, generator)[0] != 0 for _ in range(50))


def test_what_was_judged_while_all_did_worse_stays_open() -> None:
    policy = Policy(SPACE)
    for _ in range(VISITS):
        policy.learn([(0, 0, 0, 0), (0, 0, 0, 0)], [40.0, 41.0])
    for _ in range(VISITS):
        policy.learn([(1, 1, 1, 1), (1, 1, 1, 1)], [70.0, 71.0])
    assert bool(policy.open.all())


def test_dense_is_never_closed() -> None:
    policy = Policy(SPACE)
    for _ in range(2 * VISITS):
        policy.learn([(2, 2, 2, 2), (1, 1, 1, 1)], [10.0, 90.0])
    assert bool(policy.open[:, 2].all())


def test_its_state_restores_it() -> None:
    policy = Policy(SPACE)
    policy.learn([(0, 1, 2, 0)], [50.0])
    again = Policy(SPACE)
    assert not torch.equal(again.weights(0.3), policy.weights(0.3))
    again.restore(policy.state())
    assert torch.equal(again.weights(0.3), policy.weights(0.3))
