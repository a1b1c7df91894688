"""Features: cosines, neighbours, and what breaks them."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from vitgraph.compile import features
from vitgraph.compile.evaluation import compare_features
from vitgraph.compile.features import Features, embed
from vitgraph.errors import InputError


class Pairs:
    """Two images of each of some classes, pairs alike and unlike all others; the label is a tensor, as loaders have it."""

    def __init__(self, classes: int = 3, labelled: bool = True) -> None:
        one = torch.eye(classes, 4).repeat_interleave(2, 0)
        self.pixels = (one + torch.arange(2 * classes)[:, None] * 1e-3).reshape(-1, 1, 2, 2)
        self.labelled = labelled

    def __len__(self) -> int:
        return len(self.pixels)

    def batches(self, size: int) -> Iterator[tuple[Tensor, Tensor | None]]:
        for start in range(0, len(self), size):
            labels = torch.arange(len(self))[start : start + size] // 2
            yield self.pixels[start : start + size], labels if self.labelled else None


class Given:
    """Pixels, changed somehow, are the features."""

    def __init__(self, change: Tensor | None = None) -> None:
        self.change = torch.eye(4) if change is None else change

    def run(self, batch: Tensor) -> Tensor:
        return batch.flatten(1) @ self.change


def of(change: Tensor | None = None, images: Pairs | None = None, batch: int | None = None) -> Features:
    return embed(Given(change), images or Pairs(), batch)


@pytest.mark.parametrize("batch", [None, 1, 4])
def test_the_same_features_agree_in_all(batch: int | None) -> None:
    found = compare_features(of(), of(3 * torch.eye(4), batch=batch))
    assert (found.cosine_mean, found.cosine_worst) == (1.0, 1.0)
    assert (found.neighbour_agreement, found.knn_top1_reference) == (100.0, found.knn_top1)
    assert (found.size, found.neighbours, found.neighbours_why) == (4, 5, None)


def test_neighbours_vote_by_nearness() -> None:
    """Of five neighbours four are of other classes; the one near counts for more."""
    assert of().knn_top1 == 100.0


def test_broken_features_are_told() -> None:
    """The control: where all but one channel is lost nothing tells classes apart."""
    found = compare_features(of(), of(torch.diag(torch.tensor([0.0, 0.0, 0.0, 1.0]))))
    assert found.cosine_mean < 0.1
    assert found.knn_top1_reference == 100.0
    assert found.knn_top1 is not None
    assert found.knn_top1 < 50.0
    assert found.neighbour_agreement is not None
    assert found.neighbour_agreement < 100.0


def test_wrong_neighbours_of_another_class() -> None:
    swapped = of(images=Pairs()).values[[0, 2, 1, 3, 4, 5]]
    labels = torch.tensor([0, 0, 1, 1, 2, 2])
    broken = Features(swapped, labels, 0)
    assert broken.knn_top1 == pytest.approx(100 / 3)
    assert of().neighbour_agreement(broken) == pytest.approx(100 / 3)


def test_without_labels_and_with_one_image_it_says_why() -> None:
    found = compare_features(of(images=Pairs(labelled=False)), of(images=Pairs(labelled=False)))
    assert (found.knn_top1, found.neighbours_why) == (None, "the images have no labels")
    assert found.neighbour_agreement == 100.0
    one = Features(torch.ones(1, 1), torch.tensor([0]), 0)
    alone = compare_features(one, one)
    assert (alone.neighbour_agreement, alone.knn_top1, alone.neighbours) == (None, None, 0)
    assert alone.neighbours_why == "one image has no neighbour"


def test_what_is_not_finite_is_counted_and_like_nothing() -> None:
    class Broken(Given):
        def run(self, batch: Tensor) -> Tensor:
            return super().run(batch).where(batch.flatten(1)[:, :1] < 1, torch.inf)

    found = embed(Broken(), Pairs(), None)
    assert found.not_finite == 2
    assert of().cosines(found).count_nonzero() == 4
    assert of().neighbour_agreement(found) == pytest.approx(100 * 4 / 6)


def test_tokens_are_one_vector_an_image() -> None:
    class Tokens(Given):
        def run(self, batch: Tensor) -> Tensor:
            return super().run(batch).reshape(-1, 2, 2)

    assert torch.equal(embed(Tokens(), Pairs(), 4).values, of().values)


def test_rows_are_looked_at_some_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = of()
    monkeypatch.setattr(features, "_ROWS", 4)
    assert whole.neighbour_agreement(of()) == 100.0
    assert of().knn_top1 == whole.knn_top1


def test_features_that_memory_does_not_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "MOST_BYTES", 80)
    with pytest.raises(InputError, match=r"6 images with 4 features each.* give at most 5"):
        of()


def test_the_same_features_for_all_are_told(caplog: pytest.LogCaptureFixture) -> None:
    of()
    assert caplog.text == ""
    of(torch.zeros(4, 4))
    assert "all 6 images were given the same features" in caplog.text
