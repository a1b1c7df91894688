"""On real weights and images: budgets are met, curves of gradients beat magnitude, and what was emptied leaves without a trace."""

from pathlib import Path

import pytest
import torch

from vitgraph import Context, Program, capture_model, load_model, open_images, read_pipeline
from vitgraph.cost.counts import count
from vitgraph.frontend.models import LoadedModel
from vitgraph.images.preprocess import PreprocessingOptions
from vitgraph.ir.batch import parse_batch

pytestmark = pytest.mark.slow
PREPARED = "canonicalize,fold-constants,fuse-layer-norm,fuse-attention,fold-constants"
SMALL = {
    "img_size": 32,
    "patch_size": 4,
    "embed_dim": 128,
    "depth": 4,
    "num_heads": 4,
    "mlp_ratio": 2,
    "num_classes": 10,
}
SIZE = PreprocessingOptions.parse("32", "0.4914,0.4822,0.4465", "0.2470,0.2435,0.2616", "32x32", "none", None)


def cifar(data: Path) -> LoadedModel:
    weights = data / "weights" / "vit_cifar10_p4_d128_l4_h4.safetensors"
    return load_model("vit_tiny_patch16_224", weights=weights, model_args=SMALL, preprocessing=SIZE)


def prepared(model: LoadedModel) -> Program:
    return read_pipeline(PREPARED).run(capture_model(model, parse_batch("1:8:64")))


def test_fewer_tiles_by_what_images_show(data: Path) -> None:
    """Top-1 of 1,000 images at 70 % of the multiply-accumulates, dense 69 %: the least that the benchmark's table promises."""
    model = cifar(data)
    calibration = open_images(str(data / "cifar10" / "train50000.zip"), model.preprocessing, limit=256)
    evaluation = open_images(str(data / "cifar10" / "test5000.zip"), model.preprocessing, limit=1000)
    (pixels,) = (batch for batch, _ in evaluation.batches(1000))
    labels, dense = torch.tensor(list(evaluation.labels or ())), prepared(model)
    top1 = list[float]()
    for options in (
        "score=magnitude",
        "score=magnitude uniform=true",
        "",
        "refit=true",
        "granularity=units refit=true",
    ):
        steps = f"block-prune{{rows=16 cols=16 budget=0.7 {options}}}"
        pruned = read_pipeline(steps).run(dense, Context(calibration=calibration))
        left = count(pruned).nonzero_macs / count(dense).macs
        assert 0.693 < left <= 0.7, options
        top1.append(100 * float((pruned.run(pixels).argmax(-1) == labels).double().mean()))
    magnitude, even, fisher, fitted, units = top1
    assert fisher > max(magnitude, even) + 10
    assert fitted > 60
    assert units > 60


def test_units_that_magnitude_chose_are_made_good(data: Path) -> None:
    """Top-1 of 1,000 images at 80 %: a fit to outputs that lack what went leaves it where it was (54.9 of 55.6 %, measured)."""
    model = cifar(data)
    calibration = open_images(str(data / "cifar10" / "train50000.zip"), model.preprocessing, limit=256)
    evaluation = open_images(str(data / "cifar10" / "test5000.zip"), model.preprocessing, limit=1000)
    (pixels,) = (batch for batch, _ in evaluation.batches(1000))
    labels, dense = torch.tensor(list(evaluation.labels or ())), prepared(model)
    top1 = dict[bool, float]()
    for refit in (False, True):
        steps = f"block-prune{{granularity=units score=magnitude budget=0.8 refit={str(refit).lower()}}},remove-pruned"
        pruned = read_pipeline(steps).run(dense, Context(calibration=calibration))
        top1[refit] = 100 * float((pruned.run(pixels).argmax(-1) == labels).double().mean())
    assert top1[True] > top1[False] + 4


def test_what_was_emptied_leaves_without_a_trace(data: Path) -> None:
    """Of a ViT-Tiny with ImageNet weights: outputs equal, and fewer heads and hidden units than before."""
    weights = data / "weights" / "vit_tiny_patch16_224_in1k.safetensors"
    model = load_model("vit_tiny_patch16_224", weights=weights)
    calibration = open_images(str(data / "imagenet" / "calibration500.zip"), model.preprocessing, limit=16)
    dense = prepared(model)
    masked = read_pipeline("block-prune{granularity=units budget=0.8}").run(dense, Context(calibration=calibration))
    small = read_pipeline("remove-pruned").run(masked)
    pixels, _ = next(iter(calibration.batches(4)))
    before, after = masked.run(pixels), small.run(pixels)
    assert float((before - after).abs().max() / before.abs().max()) < 1e-5
    assert 0.792 < count(small).macs / count(dense).macs <= 0.8
    assert {entry["units"] for entry in small.ledger[-1]["found"]} == {"hidden units", "heads"}
    assert count(small).parameters < 0.85 * count(dense).parameters
