"""Images to choose by are none that are trained with, and none that accuracy is reported on."""

import pytest
import torch

from vitgraph.errors import InputError
from vitgraph.frontend.from_digits import PREPROCESSING
from vitgraph.images.image_set import open_images
from vitgraph.training.held_out import Judge, check_apart, split


def test_no_image_is_in_both_parts() -> None:
    images = open_images("digits:train", PREPROCESSING)
    training, held = split(images, 200, 0)
    assert (len(training), len(held)) == (len(images) - 200, 200)
    assert not set(training.names) & set(held.names)
    assert set(training.names) | set(held.names) == set(images.names)
    assert split(images, 200, 0)[1] == held
    assert split(images, 200, 1)[1] != held
    (pixels, labels) = next(iter(held.batches(5)))
    whole = dict(zip(images.names, images.labels or (), strict=True))
    assert labels is not None
    assert [int(label) for label in labels] == [whole[name] for name in held.names[:5]]
    assert pixels.shape == (5, 1, 24, 24)


def test_too_few_images() -> None:
    images = open_images("digits:train", PREPROCESSING, limit=30)
    with pytest.raises(InputError, match="30, of which 16 are to be held out"):
        split(images, 16, 0)


def test_evaluation_images_may_not_be_among_them() -> None:
    images = open_images("digits:train", PREPROCESSING)
    check_apart(images, open_images("digits:test", PREPROCESSING))
    with pytest.raises(InputError, match=r"digits:train: 3 of 3 are among the images"):
        check_apart(images, open_images("digits:train", PREPROCESSING, limit=3))


def test_scores() -> None:
    images = open_images("digits:train", PREPROCESSING, limit=150)
    linear = torch.nn.Linear(24 * 24, 10)
    judge = Judge(images, lambda x: linear(x.flatten(1)))
    same = judge.score(lambda x: linear(x.flatten(1)))
    assert same.divergence == pytest.approx(0, abs=1e-6)
    other = judge.score(lambda x: -linear(x.flatten(1)))
    assert other.divergence > 0.01
    labels = torch.tensor(images.labels)
    right = judge.score(lambda x: torch.nn.functional.one_hot(_labels_of(judge, x), 10).float())
    assert right.accuracy == 100
    assert same.accuracy == pytest.approx(100 * float((judge.reference.argmax(-1) == labels).float().mean()))


def _labels_of(judge: Judge, pixels: torch.Tensor) -> torch.Tensor:
    place = next(index for index, batch in enumerate(judge.batches) if batch is pixels)
    return judge.labels[place * 100 : place * 100 + len(pixels)]


def test_without_labels_agreement_counts() -> None:
    images = open_images("random", PREPROCESSING, limit=20)
    linear = torch.nn.Linear(24 * 24, 10)
    judge = Judge(images, lambda x: linear(x.flatten(1)))
    assert not judge.labelled
    assert judge.score(lambda x: linear(x.flatten(1))).accuracy == 100
    assert judge.score(lambda x: -linear(x.flatten(1))).accuracy < 100


def test_varied_views_are_the_same_for_all_and_those_of_the_seed() -> None:
    images = open_images("digits:train", PREPROCESSING, limit=150)
    linear = torch.nn.Linear(24 * 24, 10)
    plain, first, again, other = (Judge(images, lambda x: linear(x.flatten(1)), seed=seed) for seed in (None, 0, 0, 1))
    assert all(torch.equal(*both) for both in zip(first.batches, again.batches, strict=True))
    assert torch.equal(first.reference, again.reference)
    assert torch.equal(torch.cat(plain.batches), next(images.batches(150))[0])
    assert not torch.equal(first.batches[0], plain.batches[0])
    assert not torch.equal(first.batches[0], other.batches[0])
    assert first.score(lambda x: linear(x.flatten(1))).divergence == pytest.approx(0, abs=1e-6)
