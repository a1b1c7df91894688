"""Masks that pay: by the cost model, by measured layers, and dropped by the pipeline that made them."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from vitgraph.backends.tensorrt.measured_kernels import read_measured_layers
from vitgraph.compile.mask_profit import (
    MaskProfit,
    MaskVerdict,
    MeasuredLayers,
    check_mask_profit,
    judge_masks,
    without_masks,
)
from vitgraph.compile.report import AccuracyPart
from vitgraph.errors import InputError
from vitgraph.frontend.capture import capture
from vitgraph.pass_manager.pass_contract import Context
from vitgraph.passes import pipeline
from vitgraph.targets.target import get_target

STEPS = "canonicalize,nm-mask{only=[*]},assign-precision{to=f16},materialize"


class TwoLayers(nn.Module):
    """A narrow product and a wide one."""

    def __init__(self) -> None:
        super().__init__()
        self.narrow, self.wide = nn.Linear(64, 4096), nn.Linear(4096, 4096)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.wide(self.narrow(x))
        return result


def judged(target: str, batch: int, measured: MeasuredLayers | None = None) -> dict[str, MaskVerdict]:
    torch.manual_seed(0)  # pyright: ignore[reportUnknownMemberType]
    program = pipeline(STEPS).run(capture(TwoLayers(), torch.randn(1, 196, 64)), Context())
    return {verdict.site: verdict for verdict in judge_masks(program, get_target(target), batch, measured)}


def test_a_mask_pays_where_its_product_is_large() -> None:
    small, large = judged("a100", 1), judged("a100", 64)
    assert not small["narrow"].pays
    assert large["wide"].pays
    for verdict in (*small.values(), *large.values()):
        assert verdict.estimated_us_dense is not None
        assert verdict.estimated_us_masked is not None
        assert verdict.pays == (verdict.estimated_us_masked < verdict.estimated_us_dense)
        assert verdict.mask == "2:4"
        assert verdict.saliency_lost is not None
        assert 0.02 < verdict.saliency_lost < 0.5


def test_no_mask_pays_without_units_for_it() -> None:
    for verdict in judged("rtx-turing", 64).values():
        assert not verdict.pays
        assert verdict.estimated_us_dense == verdict.estimated_us_masked
        assert "no product in fp16" in verdict.why


def test_evidence_goes_before_the_estimate() -> None:
    found = judged("a100", 64, {"wide": None, "other": "sparse"})
    assert not found["wide"].pays
    assert found["wide"].estimated_us_dense is None
    assert "estimated" in found["narrow"].why
    with pytest.raises(InputError, match="name none of the 2 masked sites"):
        judged("a100", 64, {"other": None})


@pytest.mark.parametrize(
    ("steps", "target", "measured", "why"),
    [
        (STEPS, "a100", None, None),
        (STEPS, "a100", {"wide": None}, None),
        (STEPS, "cpu", {"wide": None}, None),
        (STEPS, "cpu", None, "no time can be estimated for cpu"),
        ("canonicalize", "a100", {"wide": None}, "has no nm-mask"),
    ],
)
def test_it_needs_a_mask_and_an_estimate_or_a_measurement(
    steps: str, target: str, measured: MeasuredLayers | None, why: str | None
) -> None:
    if why is None:
        check_mask_profit(pipeline(steps), get_target(target), measured)
        return
    with pytest.raises(InputError, match=why):
        check_mask_profit(pipeline(steps), get_target(target), measured)


def test_linears_of_one_module_are_kept_or_taken_back_together() -> None:
    """A selector names a module: dropping one of its masks would drop the other."""
    torch.manual_seed(0)  # pyright: ignore[reportUnknownMemberType]
    program = pipeline(STEPS).run(capture(TwoLayers(), torch.randn(1, 196, 64)), Context())
    for node in program.calls(torch.ops.aten.linear.default):
        node.meta["path"] = "both"
    for at, entry in enumerate(next(each for each in program.ledger if each["name"] == "nm-mask")["found"]):
        entry.update(masked="both", place=at)
    narrow, wide = judge_masks(program, get_target("a100"), 8)
    assert narrow.pays
    assert wide.pays
    assert narrow.why.startswith("another linear of this module pays; it by itself: estimated")
    assert narrow.estimated_us_dense != wide.estimated_us_dense


def test_sites_are_added_to_what_every_mask_skips() -> None:
    before = pipeline("canonicalize,nm-mask{skip=[a]},nm-mask{n=1 only=[b]},materialize")
    after = without_masks(before, ["c", "d"])
    assert str(after) == "canonicalize,nm-mask{skip=[a,c,d]},nm-mask{n=1 only=[b] skip=[c,d]},materialize"


def test_what_was_regained_needs_both_accuracies() -> None:
    def accuracy(top1: float | None) -> AccuracyPart:
        return AccuracyPart(images=1, top1_reference=1.0, top1=top1, agreement=1.0, measured_on="m", data_sha256="")

    verdict = MaskVerdict("a", "2:4", None, 1.0, 2.0, False, "slower")
    found = MaskProfit([verdict], accuracy(50.0), None).against(accuracy(60.5))
    assert (found["dropped"], found["top1_all_masks"], found["top1_regained"]) == (1, 50.0, 10.5)
    assert MaskProfit([verdict], None, "no images").against(accuracy(60.5))["top1_regained"] is None


def test_reads_what_trtexec_wrote(tmp_path: Path) -> None:
    def layer(name: str, tactic: str) -> dict[str, str]:
        metadata = f"[ONNX Layer: {name}/MatMul]"
        return {"Name": name, "LayerType": "gemm", "TacticName": tactic, "Metadata": metadata}

    file = tmp_path / "layers.json"
    file.write_text(json.dumps({"Layers": [layer("a", "sm80_xmma_gemm_f16f16"), layer("b", "x_sptensor16x8x64")]}))
    assert read_measured_layers(file) == {"a": None, "b": "x_sptensor16x8x64"}


@pytest.mark.parametrize("text", ["", "[]", '{"Layers": ["a"]}', '{"Layers": 3}', '{"layers": []}'])
def test_refuses_what_holds_no_layers(tmp_path: Path, text: str) -> None:
    (tmp_path / "layers.json").write_text(text)
    with pytest.raises(
        InputError, match=r"layers\.json(: no measured times and no engine's layers|: none of its layers| is not JSON)"
    ):
        read_measured_layers(tmp_path / "layers.json")
    with pytest.raises(InputError, match="nowhere"):
        read_measured_layers(tmp_path / "nowhere")
