"""On a real ViT-Tiny and real images: what 2:4 on all 48 linears costs, and what images make good of it, without a label."""

from pathlib import Path

import pytest
import torch

from vitgraph import Context, Program, capture_model, load_model, open_images, read_pipeline
from vitgraph.compile.accuracy import predict
from vitgraph.ir.batch import parse_batch
from vitgraph.pass_manager.numerics import objection

pytestmark = pytest.mark.slow
PREPARED = "canonicalize,fold-constants,fuse-layer-norm,fuse-attention,fold-constants"


class Eager:
    def __init__(self, program: Program) -> None:
        self.program = program

    def run(self, batch: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.program.run(batch)
        return result


def test_images_make_good_most_of_what_magnitude_loses(data: Path) -> None:
    model = load_model("vit_tiny_patch16_224", weights=data / "weights" / "vit_tiny_patch16_224_in1k.safetensors")
    calibration = open_images(str(data / "imagenet" / "calibration500.zip"), model.preprocessing, limit=128)
    evaluation = open_images(str(data / "imagenet" / "validation500.zip"), model.preprocessing, limit=200)
    dense = read_pipeline(PREPARED).run(capture_model(model, parse_batch("1:8:64")))
    top1 = dict[str, float]()
    for steps in ("nm-mask", "permute-channels{rounds=40},nm-mask{score=sparsegpt refit=true}"):
        sparse = read_pipeline(steps).run(dense, Context(calibration=calibration))
        assert sum("masked" in each for each in sparse.ledger[-1]["found"]) == 48
        top1[steps] = predict(Eager(sparse), evaluation, None).top1 or 0.0
    magnitude, fitted = top1.values()
    assert magnitude < 15
    assert fitted > 42


def test_an_order_of_channels_leaves_the_outputs_as_they_are(data: Path) -> None:
    model = load_model("vit_tiny_patch16_224", weights=data / "weights" / "vit_tiny_patch16_224_in1k.safetensors")
    images = open_images(str(data / "imagenet" / "validation500.zip"), model.preprocessing, limit=2)
    dense = read_pipeline(PREPARED).run(capture_model(model, parse_batch("1:8:64")))
    step = read_pipeline("permute-channels{rounds=5}")
    permuted = step.run(dense)
    assert len(permuted.ledger[-1]["found"]) == 24
    pixels, _ = next(iter(images.batches(2)))
    assert objection(step.passes[0].declares(), dense.run(pixels), permuted.run(pixels)) is None
