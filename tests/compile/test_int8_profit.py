"""INT8 sites and masks judged by products that were measured on a device: the H200's rows, and rows with a planted fault."""

from functools import cache

import pytest
import torch

from tests.backends.cuda.lowered_models import vit_program
from tests.compile.test_mask_profit import TwoLayers
from vitgraph.compile.int8_profit import Int8Profit, Int8Verdict, judge_int8
from vitgraph.compile.mask_profit import check_mask_profit, judge_masks
from vitgraph.compile.profit import Profit
from vitgraph.compile.report import AccuracyPart
from vitgraph.cost.measured import Measured
from vitgraph.cost.measured_files import shipped
from vitgraph.cost.measured_times import MeasuredTimes
from vitgraph.cost.roofline import Roofline, roofline
from vitgraph.errors import InputError
from vitgraph.frontend.capture import capture
from vitgraph.ir.program import Program
from vitgraph.pass_manager.pass_contract import Context
from vitgraph.passes import pipeline
from vitgraph.targets.target import get_target

H200 = get_target("h200")
LINEARS = ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")
TINY, BASE = {"embed_dim": 192, "num_heads": 3}, {"embed_dim": 768, "num_heads": 12}


def times_of(measured: Measured) -> MeasuredTimes:
    line = roofline(H200)
    assert isinstance(line, Roofline)
    return MeasuredTimes(line, measured)


@cache
def sparse_vit(**width: int) -> Program:
    """One block of a ViT with 197 tokens, 2:4 and INT8, in its final types."""
    return vit_program("sparse-int8", img_size=224, depth=1, **width)


def planted(rows: int, n: int, k: int, **us: float) -> MeasuredTimes:
    """The H200's rows, with other times for one size."""
    products = list(shipped().products)
    (at,) = [at for at, each in enumerate(products) if each.padded == (rows, n, k)]
    times = [
        time.model_copy(update={"us": us.get(time.form.replace(" 2:4", "_sparse"), time.us)})
        for time in products[at].times
    ]
    products[at] = products[at].model_copy(update={"times": times})
    return times_of(shipped().model_copy(update={"products": products}))


@pytest.mark.slow
def test_vit_tiny_is_left_dense_and_deit_b_sparse_at_batch_128() -> None:
    """The issue's acceptance, with the rows that come with vitgraph: all products are measured, passes between them estimated."""
    for width, pays in ((TINY, False), (BASE, True)):
        program = sparse_vit(**width)
        verdicts = judge_masks(program, H200, 128, times_of(shipped()))
        assert {verdict.site: verdict.pays for verdict in verdicts} == {f"blocks.0.{name}": pays for name in LINEARS}
        for verdict in verdicts:
            assert verdict.why.count("us measured") == 3, "sparse, dense and FP16"
            assert "on NVIDIA H200 at batch 128" in verdict.why
            assert verdict.estimated_us_dense is not None
            assert verdict.estimated_us_masked is not None
        sites = {verdict.site: verdict for verdict in judge_int8(program, times_of(shipped()), 128)}
        assert {path: verdict.pays for path, verdict in sites.items() if path.startswith("blocks.")} == {
            f"blocks.0.{name}": pays for name in LINEARS
        }


@pytest.mark.slow
def test_a_wrong_row_keeps_a_mask_that_pays_nothing() -> None:
    """A negative control: with one product of ViT-Tiny told to be quick, its mask stays, and INT8 with it."""
    program, wrong = sparse_vit(**TINY), planted(25216, 768, 192, int8_sparse=0.1, fp16=90.0)
    masks = {verdict.site: verdict.pays for verdict in judge_masks(program, H200, 128, wrong)}
    sites = {verdict.site: verdict.pays for verdict in judge_int8(program, wrong, 128)}
    assert masks == {f"blocks.0.{name}": name == "mlp.fc1" for name in LINEARS}
    assert [path for path, pays in sites.items() if pays] == ["blocks.0.mlp.fc1"]


@pytest.mark.slow
def test_a_quick_dense_kernel_drops_the_mask_and_keeps_int8() -> None:
    quick = planted(25216, 3072, 768, int8=0.1)
    program = sparse_vit(**BASE)
    masks = {verdict.site: verdict.pays for verdict in judge_masks(program, H200, 128, quick)}
    sites = {verdict.site: verdict for verdict in judge_int8(program, quick, 128)}
    assert not masks["blocks.0.mlp.fc1"]
    assert sites["blocks.0.mlp.fc1"].pays
    assert sites["blocks.0.mlp.fc1"].format == "int8"


@pytest.mark.slow
def test_only_linears_in_int8_are_judged() -> None:
    sites = [verdict.site for verdict in judge_int8(sparse_vit(**TINY), times_of(shipped()), 128)]
    assert not any("patch_embed" in site for site in sites), "a convolution"
    fp16 = pipeline("canonicalize,assign-precision{to=f16},materialize")
    program = fp16.run(capture(TwoLayers(), torch.randn(1, 196, 64)), Context())
    assert judge_int8(program, times_of(shipped()), 8) == []


@pytest.mark.parametrize(("steps", "asked", "why"), [
    ("canonicalize,quantize", False, None), ("canonicalize,nm-mask", False, None), ("canonicalize,nm-mask", True, None),
    ("canonicalize,quantize", True, "the pipeline has no nm-mask"), ("canonicalize", False, "masks and quantizes nothing"),
])  # fmt: skip
def test_times_of_products_judge_what_there_is(steps: str, asked: bool, why: str | None) -> None:
    if why is None:
        check_mask_profit(pipeline(steps), H200, times_of(shipped()), asked)
        return
    with pytest.raises(InputError, match=why):
        check_mask_profit(pipeline(steps), H200, times_of(shipped()), asked)


def accuracy(top1: float | None) -> AccuracyPart:
    return AccuracyPart(images=1, top1_reference=1.0, top1=top1, agreement=1.0, measured_on="m", data_sha256="")


VERDICTS = [
    Int8Verdict("a", "int8", 12.0, 8.0, "measured", False, "slower"),
    Int8Verdict("b", "int8 2:4", 5.0, 8.0, "measured", True, "faster"),
]


def test_what_falling_back_gives_back_is_told() -> None:
    found = Int8Profit(VERDICTS, accuracy(70.0), None).against(accuracy(70.5))
    assert (found["kept"], found["fallen_back"], found["us_gained"], found["top1_regained"]) == (1, 1, 4.0, 0.5)
    unknown = Int8Profit(VERDICTS, None, "no images").against(accuracy(70.5))
    assert (unknown["top1_regained"], unknown["top1_why"]) == (None, "no images")


def test_the_pipeline_leaves_out_what_buys_no_time() -> None:
    steps = pipeline("canonicalize,nm-mask,quantize,reconstruct,materialize")
    found = str(Profit(None, VERDICTS).applied(steps))
    assert found == "canonicalize,nm-mask,quantize,mixed-precision{unprofitable=[a]},reconstruct,materialize"
    kept = Profit(None, VERDICTS[1:])
    assert not kept.idle
    assert kept.applied(steps) == steps
