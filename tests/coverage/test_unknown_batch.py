"""Families captured with an unknown batch: the canonical form gives the numbers of eager mode at any."""

import pytest
import torch

from tests.coverage.measuring import Noise, made
from tests.coverage.sources import MODELS
from vitgraph.frontend.capture import capture
from vitgraph.pass_manager.numerics import objection
from vitgraph.pass_manager.pipeline import Pipeline
from vitgraph.passes.canonicalize.canonicalize import Canonicalize

NAMES = (
    "timm/vision_transformer",
    "timm/levit",
    "timm/maxxvit/coatnet",
    "timm/swin_transformer",
    "timm/efficientvit_mit",
)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_an_unknown_batch_works_at_any(name: str) -> None:
    module, three = made(MODELS[name]), Noise.of(MODELS[name].shape, 3).pixels
    program = Pipeline((Canonicalize(),)).run(capture(module, three[:2], dynamic_batch=True))
    with torch.no_grad():
        wanted = module(three)
    assert objection(Canonicalize().declares(), wanted, program.run(three)) is None
