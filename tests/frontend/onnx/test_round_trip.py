"""What the lowering writes is read back as the same program."""

from pathlib import Path

import pytest
import torch

from tests.backends.operator_cases import CASES, batch_for, build
from tests.frontend.onnx.files import furthest
from vitgraph.analysis.sites import find_sites
from vitgraph.backends.onnx.lowering import lower
from vitgraph.errors import InputError
from vitgraph.frontend.capture import capture_model
from vitgraph.frontend.from_onnx.open_onnx import open_onnx, to_program
from vitgraph.frontend.from_onnx.read_file import read_file
from vitgraph.frontend.models import load_model
from vitgraph.ir.batch import Batch
from vitgraph.passes.prepared import prepare

REFUSED = {
    "avg_pool_ceil": "pads that differ",
    "index_of_batch": "computes with the size of the batch as a number",
    "grid_sampler": "GridSample",
    "fake_quantize_int4": "element type 22",
    "dequantize_int4": "element type 22",
    "dequantize_groups": "element type 22",
    "linear_of_groups": "element type 22",
}
"""Operators of the dialect that are not read back, and what is said."""


@pytest.mark.parametrize("name", [name for name in CASES if len(build(CASES[name]).inputs) == 1])
def test_operators_of_the_dialect_come_back(name: str, tmp_path: Path) -> None:
    program = build(CASES[name])
    lower(program, tmp_path / "m.onnx")
    file = read_file(tmp_path / "m.onnx")
    if name in REFUSED:
        with pytest.raises(InputError, match=REFUSED[name]):
            to_program(file, "x", program.input_types()[0])
        return
    found = to_program(file, "x", program.input_types()[0])
    images = batch_for(program)
    pairs = zip(_several(program.run(images)), _several(found.run(images)), strict=True)
    assert all(torch.allclose(a.float(), b.float(), atol=1e-4, rtol=1e-4, equal_nan=True) for a, b in pairs)


def _several(result: object) -> list[torch.Tensor]:
    return [*result] if isinstance(result, tuple | list) else [result]  # type: ignore[list-item]


@pytest.mark.parametrize("batch", [Batch(2, 2, 2), Batch(1, 2, 8)], ids=["fixed", "open"])
def test_a_model_comes_back_with_its_sites_and_names(batch: Batch, tmp_path: Path) -> None:
    program = prepare(capture_model(load_model("digits-vit", weights="random"), batch))
    lower(program, tmp_path / "m.onnx")
    found = prepare(open_onnx(tmp_path / "m.onnx"))
    assert furthest(found, tmp_path / "m.onnx") < 1e-4
    ours, theirs = find_sites(program), find_sites(found)
    assert [(site.path, site.role) for site in ours.linears] == [(site.path, site.role) for site in theirs.linears]
    for kind in ("attentions", "fused_attentions", "norms", "residuals"):
        assert len(getattr(ours, kind)) == len(getattr(theirs, kind))
    assert program.input_types() == found.input_types()
    weights = program.tensors()
    same = [name for name, tensor in found.tensors().items() if name in weights and torch.equal(tensor, weights[name])]
    assert len(same) > 0.9 * len(weights)


def test_a_changed_weight_is_seen(tmp_path: Path) -> None:
    """The control: the comparison above finds a program that computes something else."""
    program = prepare(capture_model(load_model("digits-vit", weights="random")))
    lower(program, tmp_path / "m.onnx")
    found = open_onnx(tmp_path / "m.onnx")
    weight = found.tensors()["blocks.0.mlp.fc1.weight"]
    with torch.no_grad():
        weight.mul_(1.5)
    assert furthest(found, tmp_path / "m.onnx", 1) > 1e-4
