"""Targets say what is in an image: its class, those of a mixed one by their areas and weights, nothing where there is no label."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tests.training.picture_files import numbers
from vitgraph.errors import InputError
from vitgraph.training.mixing import Mixing, smoothed_targets
from vitgraph.training.random_states import kept_generators
from vitgraph.training.settings import Augmentation

BATCH, CLASSES = 6, 6


def mix(settings: Augmentation, pixels: Tensor, targets: Tensor | None, step: int = 0) -> tuple[Tensor, Tensor | None]:
    with kept_generators():
        return Mixing(settings, len(pixels), seed=0)(pixels.clone(), targets, step)


def own_pixels() -> Tensor:
    """Image n has 1 in channel n and 0 elsewhere: the mean over a mixed image says what it is made of."""
    return torch.eye(BATCH)[:, :, None, None].expand(-1, -1, 8, 8).clone()


@given(
    labels=st.lists(st.none() | st.integers(0, 4), min_size=1, max_size=8),
    smoothing=st.floats(0, 0.9),
)
def test_plain_targets(labels: list[int | None], smoothing: float) -> None:
    targets = smoothed_targets(labels, 5, smoothing)
    assert (targets.shape, targets.dtype) == ((len(labels), 5), torch.float32)
    for row, label in zip(targets, labels, strict=True):
        if label is None:
            assert not row.any()
            continue
        loss = torch.nn.CrossEntropyLoss(label_smoothing=smoothing)
        logits = torch.linspace(-1, 2, 5)[None]
        expected = loss(logits, torch.tensor([label]))
        assert -(row * logits.log_softmax(-1)).sum() == pytest.approx(float(expected), rel=1e-4)


@pytest.mark.parametrize("settings", [Augmentation(mixup=0.8), Augmentation(cutmix=1.0)])
def test_targets_are_what_the_pixels_are_made_of(settings: Augmentation) -> None:
    plain = torch.eye(BATCH)
    shares = set[float]()
    for step in range(20):
        pixels, targets = mix(settings, own_pixels(), plain, step)
        assert targets is not None
        assert torch.allclose(targets, pixels.mean((2, 3)), atol=1e-5)
        assert torch.allclose(targets.sum(1), torch.ones(BATCH))
        shares.add(round(float(targets[0, 0]), 4))
    assert len(shares) > 10


def test_cutmix_cuts_and_mixup_blends() -> None:
    cut, _ = mix(Augmentation(cutmix=1.0), own_pixels(), None)
    blended, _ = mix(Augmentation(mixup=0.8), own_pixels(), None)
    assert set(numbers(cut)) == {0.0, 1.0}
    assert blended[:, :, 0, 0].allclose(blended[:, :, 7, 7])
    assert 0 < blended[0, 0, 0, 0] < 1


def test_a_row_weighs_as_much_as_of_it_is_labelled() -> None:
    """Image 0 has a label and its partner, the last, has none; images 2 and 3 have one each, 1 and 4 have none."""
    plain = smoothed_targets([0, None, 2, 3, None, None], CLASSES, 0.1)
    pixels, targets = mix(Augmentation(mixup=0.8), own_pixels(), plain)
    assert targets is not None
    share = float(pixels[0, 0, 0, 0])
    assert 0 < share < 1
    assert numbers(targets.sum(1)) == pytest.approx([share, 0, 1, 1, 0, 1 - share], abs=1e-6)
    assert torch.allclose(targets[0], plain[0] * share)
    assert torch.allclose(targets[5], plain[0] * (1 - share))
    assert torch.allclose(targets[2], plain[2] * share + plain[3] * (1 - share))


def test_some_steps_are_mixed_and_a_step_is_mixed_one_way() -> None:
    settings = Augmentation(mixup=0.8, cutmix=1.0, mixup_prob=0.5)
    kinds = list[str]()
    for step in range(60):
        pixels, _ = mix(settings, own_pixels(), None, step)
        assert torch.equal(pixels, mix(settings, own_pixels(), None, step)[0])
        plain = torch.equal(pixels, own_pixels())
        kinds.append("plain" if plain else "cut" if set(numbers(pixels)) == {0.0, 1.0} else "blended")
    assert 15 < kinds.count("plain") < 45
    assert kinds.count("cut") > 5
    assert kinds.count("blended") > 5


@pytest.mark.parametrize("settings", [Augmentation(), Augmentation(mixup=1.0, mixup_prob=0.0)])
def test_off(settings: Augmentation) -> None:
    pixels, targets = own_pixels(), torch.eye(BATCH)
    assert mix(settings, pixels[:5], targets[:5])[1] is not None  # an odd batch, which nothing pairs
    assert torch.equal(mix(settings, pixels, targets)[0], pixels)


def test_an_odd_batch_has_no_pairs() -> None:
    with pytest.raises(InputError, match=r"batch_size 5: mixup and cutmix .* in pairs; make it even, or set both to 0"):
        Mixing(Augmentation(cutmix=1.0), 5, 0)
