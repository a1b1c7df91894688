"""Families of transformers and torchvision, small: every linear has its role, every softmax of an attention is in one operator.

Their operators were once missing, or hid what was there: products by einsum (MaxViT, CvT), pooling to one (Swin, Hiera, FocalNet).
"""

from collections import Counter
from importlib import import_module
from typing import Any

import pytest
import torch
from torch import nn

from tests.pixels_model import Pixels
from vitgraph.analysis.attention import find_softmaxes
from vitgraph.analysis.sites import find_sites
from vitgraph.frontend.capture import capture
from vitgraph.passes import pipeline

STEPS = "canonicalize,fold-constants,fold-batch-norm,fuse-layer-norm,fold-layer-scale,fuse-attention"
BLOCK = {"q": 2, "k": 2, "v": 2, "proj": 2, "fc1": 2, "fc2": 2, "head": 1}
STAGES: dict[str, Any] = {"depths": [1, 1], "embed_dim": 32, "image_size": 64}
HEADS: dict[str, Any] = {**STAGES, "num_heads": [2, 4], "window_size": 4}
TRANSFORMERS: dict[str, tuple[str, dict[str, Any], dict[str, int]]] = {
    "Swin": ("ForImageClassification", HEADS, {**BLOCK, "merge": 1}),
    "Swinv2": ("ForImageClassification", HEADS, {**BLOCK, "merge": 1}),
    "Hiera": (
        "ForImageClassification",
        {**STAGES, "image_size": [64, 64], "num_heads": [1, 2], "num_query_pool": 1, "masked_unit_size": [4, 4]},
        {"qkv": 2, "proj": 2, "fc1": 2, "fc2": 2, "linear": 1, "head": 1},
    ),
    "FocalNet": (
        "ForImageClassification",
        {**STAGES, "hidden_sizes": [32, 64], "focal_levels": [2, 2], "focal_windows": [3, 3]},
        {"linear": 2, "fc1": 4, "fc2": 2, "head": 1},
    ),
    "Cvt": (
        "ForImageClassification",
        {"depth": [1, 2, 3], "embed_dim": [16, 32, 32], "num_heads": [1, 2, 2]},
        {"q": 6, "k": 6, "v": 6, "proj": 6, "fc1": 6, "fc2": 6, "head": 1},
    ),
    "Segformer": (
        "ForSemanticSegmentation",
        {"depths": [1, 1, 1, 1], "hidden_sizes": [16, 16, 32, 32], "num_attention_heads": [1, 1, 2, 2]},
        {"q": 4, "k": 4, "v": 4, "proj": 4, "fc1": 4, "fc2": 4, "linear": 4},
    ),
    "GLPN": (
        "ForDepthEstimation",
        {"depths": [1, 1, 1, 1], "hidden_sizes": [16, 16, 32, 32], "num_attention_heads": [1, 1, 2, 2]},
        {"q": 4, "k": 4, "v": 4, "proj": 4, "fc1": 4, "fc2": 4},
    ),
}
"""By prefix: the class, what its configuration is given, and how many linears there are of each role."""
MAXVIT: dict[str, Any] = {
    "input_size": (64, 64),
    "stem_channels": 16,
    "block_channels": [16],
    "block_layers": [1],
    "head_dim": 16,
    "stochastic_depth_prob": 0.0,
    "partition_size": 4,
}


def hold(model: nn.Module, roles: dict[str, int], attentions: int) -> None:
    """The roles of all linears; no softmax but in fused attentions."""
    program = pipeline(STEPS).run(capture(model.eval(), torch.zeros(1, 3, 64, 64)))
    sites = find_sites(program)
    assert Counter(site.role for site in sites.linears if not site.is_conv) == roles
    assert len(sites.fused_attentions) == len(sites.attentions) == len(find_softmaxes(program)) == attentions


@pytest.mark.slow
@pytest.mark.parametrize("prefix", TRANSFORMERS)
def test_transformers(prefix: str) -> None:
    package = import_module("transformers")
    kind, given, roles = TRANSFORMERS[prefix]
    config = getattr(package, f"{prefix}Config")(**given)
    attentions = roles.get("qkv", 0) + roles.get("q", 0)
    hold(Pixels(getattr(package, f"{prefix}{kind}")(config)), roles, attentions)


def test_torchvisions_maxvit() -> None:
    model: nn.Module = import_module("torchvision.models").MaxVit(**MAXVIT)
    hold(model, {"qkv": 2, "proj": 2, "fc1": 3, "fc2": 2, "head": 1}, 2)
