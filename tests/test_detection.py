"""Detection transformers: capture, what each linear is for, what is one attention operator, and why the rest is none."""

from collections import Counter
from functools import cache

import pytest
import torch

from tests.detection_models import MODELS, SIZE, choice_of, make_detector
from vitgraph.analysis.attention import find_softmaxes
from vitgraph.analysis.sites import find_sites
from vitgraph.frontend.capture import capture
from vitgraph.ir.program import Program
from vitgraph.pass_manager.pass_contract import Context
from vitgraph.passes import pipeline

STEPS = "canonicalize,fold-constants,fold-batch-norm,fuse-layer-norm,fold-layer-scale,fuse-attention"
SAMPLED = "its softmax weighs points sampled from an image (deformable attention), not the values of all tokens"
_HYBRID = {"q": 3, "k": 3, "v": 3, "proj": 3, "fc1": 6, "fc2": 10, "linear": 5, "head": 4, "positions": 4, "weights": 2}
_WINDOWS = {"q": 4, "k": 4, "v": 3, "proj": 4, "fc1": 7, "fc2": 9, "linear": 3, "head": 3, "positions": 3, "weights": 2}
ROLES = {
    "detr": {"q": 3, "k": 4, "v": 4, "proj": 4, "fc1": 4, "fc2": 4, "head": 2},
    "conditional-detr": {"q": 4, "k": 4, "v": 4, "proj": 4, "fc1": 5, "fc2": 5, "head": 2},
    "deformable-detr": {
        "q": 1, "k": 1, "v": 1, "proj": 1, "fc1": 5, "fc2": 5, "linear": 6, "head": 4, "positions": 2, "weights": 2,
    },
    "deformable-detr-refined": {
        "q": 1, "k": 1, "v": 1, "proj": 1, "fc1": 7, "fc2": 7, "linear": 6, "head": 5, "positions": 3, "weights": 2,
    },
    "deformable-detr-two-stage": {
        "q": 2, "k": 2, "v": 2, "proj": 2, "fc1": 8, "fc2": 8, "linear": 8, "head": 6, "positions": 5, "weights": 3,
    },
    "rt-detr": _HYBRID,
    "rt-detr-v2": _HYBRID,
    "d-fine": {"q": 3, "k": 3, "v": 3, "proj": 3, "fc1": 11, "fc2": 11, "head": 4, "positions": 5, "weights": 4},
    "yolos": {"q": 2, "k": 2, "v": 2, "proj": 2, "fc1": 4, "fc2": 4, "head": 2},
    "lw-detr": _WINDOWS,
    "rf-detr": _WINDOWS,
}  # fmt: skip
ATTENTIONS = {
    "detr": 4, "conditional-detr": 4, "deformable-detr": 1, "deformable-detr-refined": 1, "deformable-detr-two-stage": 2,
    "rt-detr": 3, "rt-detr-v2": 3, "d-fine": 3, "yolos": 2, "lw-detr": 4, "rf-detr": 4,
}  # fmt: skip
"""Fused, of all that multiply two matrices. The first of a decoder whose queries are learned alone is a constant."""
DEFORMABLE = {
    "deformable-detr": 2, "deformable-detr-refined": 2, "deformable-detr-two-stage": 3, "rt-detr": 2, "rt-detr-v2": 2, "d-fine": 2,
    "lw-detr": 2, "rf-detr": 2,
}  # fmt: skip
"""Attentions that sample."""


_SLOW = {"rt-detr", "rt-detr-v2", "d-fine", "deformable-detr-two-stage", "deformable-detr-refined", "rf-detr"}
each_model = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name in _SLOW else name for name in MODELS]
)


@cache
def captured(name: str) -> Program:
    """With weights as training leaves them."""
    return capture(make_detector(name), torch.zeros(1, 3, SIZE, SIZE))


@cache
def prepared(name: str) -> tuple[Program, tuple[str, ...]]:
    """The program ahead of any number format, and why attentions are not fused."""
    context = Context()
    program = pipeline(STEPS).run(captured(name), context)
    return program, tuple(each.why for each in context.refusals)


@each_model
def test_every_linear_has_its_role(name: str) -> None:
    program, _ = prepared(name)
    assert Counter(site.role for site in find_sites(program).linears if not site.is_conv) == ROLES[name]


@each_model
def test_attentions_are_one_operator_or_sample(name: str) -> None:
    program, refused = prepared(name)
    sites = find_sites(program)
    assert len(sites.fused_attentions) == len(sites.attentions) == ATTENTIONS[name]
    assert refused.count(SAMPLED) == DEFORMABLE.get(name, 0)
    left = Counter(spelling for spelling, _ in find_softmaxes(program))["softmax"]
    distances = 3 if name == "d-fine" else 0  # of two layers' boxes; the last ones' best are read beside
    assert left == DEFORMABLE.get(name, 0) + distances


@pytest.mark.slow
def test_what_tells_places_and_boxes_is_named_so() -> None:
    found = {site.path.removeprefix("model.model."): site.role for site in find_sites(prepared("rt-detr")[0]).linears}
    assert found["decoder.layers.0.encoder_attn.sampling_offsets"] == "positions"
    assert found["decoder.layers.0.encoder_attn.attention_weights"] == "weights"
    assert found["decoder.layers.0.encoder_attn.value_proj"] == "linear"
    assert found["decoder.layers.0.encoder_attn.output_proj"] == "linear"
    assert found["enc_score_head"] == "head", "its scores choose the queries"
    assert found["enc_bbox_head.layers.2"] == "positions", "the boxes of the queries are where the decoder samples"
    assert found["decoder.bbox_embed.0.layers.2"] == "positions"
    assert found["decoder.bbox_embed.1.layers.2"] == "head"


@each_model
def test_queries_are_chosen_where_the_paper_says(name: str) -> None:
    learned = {"detr", "conditional-detr", "deformable-detr", "deformable-detr-refined", "yolos"}
    assert (choice_of(prepared(name)[0]) is None) == (name in learned)
