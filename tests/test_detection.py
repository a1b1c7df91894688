"""Detection transformers: capture, what each linear is for, what is one attention operator, and why the rest is none."""

from collections import Counter
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.detection_models import MODELS, SIZE, Distance, Run, choice_of, detect, distance, eager, make_detector
from tests.passes.quantization.test_quantize import Noise
from vitgraph.analysis.attention import find_softmaxes
from vitgraph.analysis.sites import find_sites
from vitgraph.backends.onnx.lowering import lower
from vitgraph.backends.ort.session import open_session
from vitgraph.compile.image_outputs import outputs_of
from vitgraph.compile.recipe import load_recipe
from vitgraph.errors import InputError
from vitgraph.frontend.capture import capture
from vitgraph.ir.dialect import aten
from vitgraph.ir.operator_classes import PAIRS
from vitgraph.ir.parser import parse
from vitgraph.ir.program import Program
from vitgraph.pass_manager.instruments import Compare, Verify
from vitgraph.pass_manager.numerics import record, site_snr
from vitgraph.pass_manager.pass_contract import Context, Refusal
from vitgraph.passes import find_pass, pipeline
from vitgraph.passes.quantization.left_in_float import LEFT_ALONE
from vitgraph.progress import silent
from vitgraph.targets.target import get_target

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


IMAGE = torch.randn(1, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(7))
A100 = get_target("a100")
LEAST = 0.99
"""Cosine of class scores and of boxes."""


def int8(program: Program) -> tuple[Program, list[Refusal]]:
    """The recipe, every pass of it held to its declared effect, and what was refused."""
    context = Context(A100, calibration=Noise((3, SIZE, SIZE), count=4), probe=[IMAGE])
    return load_recipe("int8", find_pass).pipeline.run(program, context, [Verify(), Compare()]), context.refusals


def far(program: Program, other: Program, run: Run = eager, image: Tensor = IMAGE) -> Distance:
    """Of what another program makes of an image, with the places that the first chooses."""
    reference = detect(program, IMAGE)
    places = reference.places[None] if reference.places.numel() else None
    return distance(reference, detect(other, image, run, places))


def in_onnx_runtime(folder: Path) -> Run:
    def run(program: Program, inputs: Sequence[Tensor]) -> list[Tensor]:
        model = lower(program, folder / "part.onnx")
        feeds = {name: each.numpy() for name, each in zip(model.inputs, inputs, strict=True)}
        found: list[Any] = open_session(str(model.path), "part.onnx", 1).run(None, feeds)
        return [torch.from_numpy(each) for each in found]  # pyright: ignore[reportUnknownMemberType]

    return run


def test_yolos_in_int8_gives_the_same_boxes_and_scores() -> None:
    program, refused = int8(captured("yolos"))
    found = far(captured("yolos"), program)
    assert min(found.scores, found.boxes) >= LEAST
    heads = {each.site for each in refused if LEFT_ALONE["head"] in each.why}
    assert heads == {"model.class_labels_classifier.layers.2", "model.bbox_predictor.layers.2"}


def test_the_distance_sees_another_model_and_another_image() -> None:
    program = captured("yolos")
    other = capture(make_detector("yolos", seed=1), torch.zeros(1, 3, SIZE, SIZE))
    same = far(program, program)
    assert min(same.scores, same.boxes, same.same) > 1 - 1e-6
    assert same.moved == 0.0
    assert far(program, other).scores < LEAST
    assert far(program, program, image=0 * IMAGE).scores < LEAST


CHOICE = """
# form: canonical
x: f32[1, 4, 2] = input()
w: f32[2, 2] = weight("w")
l: f32[1, 4, 2] = aten.linear.default(x, w, None)  # scores
a: f32[1, 4] = aten.amax.default({}, [2], False)
t: (f32[1, 2], i64[1, 2]) = aten.topk.default(a, 2)
n: i64[1, 2] = operator.getitem(t, 1)
m: i64[1, 2, 1] = aten.reshape.default(n, [1, 2, 1])
e: i64[1, 2, 2] = aten.expand.default(m, [1, 2, 2])
y: f32[1, 2, 2] = aten.gather.default(x, 1, e)
return_(y)
"""


def test_a_pass_is_not_blamed_for_two_scores_that_change_places() -> None:
    """Its sites are judged with the places of the reference."""
    weight = {"w": torch.eye(2)}
    before, after = (
        parse(CHOICE.format("l"), weight),
        parse(CHOICE.format("l"), {"w": torch.tensor([[1.0, 0.0], [0.0, 1.1]])}),
    )
    image = torch.tensor([[[1.0, 0.0], [0.0, 0.99], [0.0, 0.0], [0.5, 0.5]]])
    assert not torch.equal(before.run(image), after.run(image))
    ratios = site_snr(after, [image], *record(before, [image]))
    assert ratios["output"] > 100 > ratios["scores"]


def test_a_vector_of_weights_is_a_linear_of_one_row() -> None:
    text = 'x: f32[2, 3, 4] = input()\nw: f32[4] = weight("w")\ny: f32[2, 3] = aten.linear.default(x, w, None)  # here\nreturn_(y)\n'
    program = parse(text)
    canonical = pipeline("canonicalize").run(program)
    (site,) = find_sites(canonical).linears
    assert (site.n, site.k) == (1, 4)
    x = torch.randn(2, 3, 4)
    torch.testing.assert_close(canonical.run(x), program.run(x))


def test_an_evaluation_of_several_outputs_is_refused() -> None:
    class Two:
        def run(self, batch: Tensor) -> Any:
            return batch, batch

    with pytest.raises(InputError, match="gives 2 outputs, as a detector does"):
        list(outputs_of(Two(), Noise((3, 4, 4), count=1), None, silent, "evaluation"))


def rounded(program: Program) -> set[Any]:
    """The operators that read or give a value rounded to INT8."""
    pairs = program.calls(*PAIRS)
    return {user.target for pair in pairs for user in pair.users} | {pair.all_input_nodes[0].target for pair in pairs}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["detr", "deformable-detr", "rt-detr", "d-fine", "rf-detr"])
def test_int8_in_onnx_runtime(name: str, tmp_path: Path) -> None:
    """What tells places, weights and boxes is in FP16, with a reason; the engines are in the table of `tests/coverage`."""
    program, refused = int8(captured(name))
    found = far(captured(name), program, in_onnx_runtime(tmp_path))
    assert min(found.scores, found.boxes) >= LEAST
    assert found.same >= 0.75  # of eight places
    said = Counter(role for each in refused for role, why in LEFT_ALONE.items() if why in each.why)
    roles = Counter(site.role for site in find_sites(program).linears)
    assert said == {role: count for role, count in roles.items() if role in LEFT_ALONE}
    assert aten.grid_sampler.default not in rounded(program)


@pytest.mark.slow
def test_queries_of_any_batch_are_no_constants_and_are_quantized() -> None:
    """A decoder's first keys are the same for all images; Deformable DETR's do not depend on a weight that is trained."""
    program = capture(make_detector("deformable-detr"), torch.zeros(2, 3, SIZE, SIZE), dynamic_batch=True)
    context = Context(A100, calibration=Noise((3, SIZE, SIZE), count=4))
    found = far(program, load_recipe("int8", find_pass).pipeline.run(program, context))
    assert min(found.scores, found.boxes) >= LEAST
