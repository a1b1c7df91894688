"""The embedded example: what is in the package is what the training script makes, and it is as good as it says."""

from importlib.resources import files

import pytest
import torch

from tests.assets.train_digits import HELD_OUT, block_linears, keep_two_of_four, split_digits
from vitgraph.digits import build_digits_vit, load_images
from vitgraph.frontend.models import LoadedModel, load_model
from vitgraph.images.image_set import open_images


def top1(model: LoadedModel) -> float:
    images = open_images("digits:test", model.preprocessing)
    hits = 0
    for batch, labels in images.batches(250):
        with torch.no_grad():
            hits += int((model.module(batch).argmax(dim=1) == labels).sum())
    return hits / len(images)


def test_held_out_accuracy_dense_and_pruned() -> None:
    model = load_model("digits-vit")
    assert top1(model) >= 0.97
    for linear in block_linears(model.module):
        linear.weight.data *= keep_two_of_four(linear.weight.data)
    assert top1(model) >= 0.95
    assert top1(load_model("digits-vit", weights="random")) < 0.4


def test_weights_are_dense_and_small() -> None:
    model = load_model("digits-vit")
    assert all(
        int((linear.weight == 0).sum()) < 0.001 * linear.weight.numel() for linear in block_linears(model.module)
    )
    assert len((files("vitgraph.digits") / "digits.safetensors").read_bytes()) < 500_000


def test_split_is_scikit_learns_digits_without_overlap() -> None:
    pytest.importorskip("sklearn")
    made = split_digits()
    for part in ("train", "test"):
        images, labels = load_images(part)
        assert torch.equal(made[f"{part}.images"], images)
        assert torch.equal(made[f"{part}.labels"].long(), labels)
    train, test = ({image.numpy().tobytes() for image in load_images(part)[0]} for part in ("train", "test"))
    assert len(test) == HELD_OUT
    assert not train & test


def test_shapes_suit_sparse_int8() -> None:
    linears = block_linears(build_digits_vit())
    assert len(linears) == 16
    assert all(linear.in_features % 64 == 0 for linear in linears)


def test_keep_two_of_four_keeps_the_largest() -> None:
    weight = torch.tensor([[1.0, -3.0, 2.0, 0.5, 0.0, 0.0, 0.1, -0.2]])
    kept = torch.tensor([[False, True, True, False, False, False, True, True]])
    assert torch.equal(keep_two_of_four(weight), kept)
