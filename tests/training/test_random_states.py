"""The global generators are lent and restored, and what they give depends on the seed, the purpose and the number."""

import random

import numpy
import pytest
import torch

from vitgraph.training.random_states import kept_generators, seed_generators


def draws() -> tuple[float, float, float]:
    return random.random(), float(numpy.random.rand()), float(torch.rand(()))


def test_what_a_block_draws_is_not_seen_after_it() -> None:
    states = random.getstate(), numpy.random.get_state()[1].tolist(), torch.get_rng_state()  # type: ignore[index]
    with kept_generators():
        seed_generators(0, "x", 0)
        draws()
    assert random.getstate() == states[0]
    assert numpy.random.get_state()[1].tolist() == states[1]  # type: ignore[index]
    assert torch.equal(torch.get_rng_state(), states[2])
    expected = draws()
    assert draws() != expected


def test_nor_after_an_error() -> None:
    with kept_generators():
        expected = draws()
    with pytest.raises(ZeroDivisionError), kept_generators():
        random.seed(1 / int(random.random() > 2))
    assert draws() == expected


def test_each_seed_purpose_and_number_has_its_own() -> None:
    seen = set[float]()
    with kept_generators():
        for key in ((0, "x", 0), (1, "x", 0), (0, "y", 0), (0, "x", 1)):
            seed_generators(*key)
            first = draws()
            seed_generators(*key)
            assert draws() == first
            seen.update(first)
    assert len(seen) == 12
