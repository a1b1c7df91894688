"""Each layer alone at each level: which choices are tried, and what their divergences say of others."""

import pytest

from tests.levels_model import SPACE
from vitgraph.searching.level_sensitivity import LevelSensitivity, lone


def test_every_level_of_every_layer_is_tried_with_the_rest_dense() -> None:
    choices = lone(SPACE)
    assert choices[:3] == [(0, 2, 2, 2), (1, 2, 2, 2), (2, 0, 2, 2)]
    assert len(set(choices)) == len(choices) == 8
    assert all(sum(place != 2 for place in choice) == 1 for choice in choices)


def test_a_choice_is_expected_to_cost_the_sum_of_its_layers() -> None:
    found = LevelSensitivity.of(SPACE, [8, 4, 0.8, 0.4, 0.08, 0.04, 0.008, 0.004])
    assert found.expected(SPACE.dense) == 0
    assert found.expected((0, 1, 0, 1)) == pytest.approx(8 + 0.4 + 0.08 + 0.004)
    for choice, divergence in zip(lone(SPACE), [8, 4, 0.8, 0.4, 0.08, 0.04, 0.008, 0.004], strict=True):
        assert found.expected(choice) == divergence
    assert found.expected((2, 0, 0, 0)) < found.expected(
        (1, 2, 2, 2)
    )  # three layers that bear zeros against one that does not


def test_a_divergence_for_each() -> None:
    with pytest.raises(ValueError, match="zip"):
        LevelSensitivity.of(SPACE, [1.0] * 7)
