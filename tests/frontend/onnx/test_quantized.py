"""Files with QuantizeLinear and DequantizeLinear: kept as the program's own pairs, weights on the linears that read them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.frontend.onnx.files import furthest, images_for, model, node, write
from vitgraph.analysis.sites import find_sites
from vitgraph.backends.onnx.lowering import lower
from vitgraph.frontend.capture import capture_model
from vitgraph.frontend.from_onnx.open_onnx import open_onnx
from vitgraph.frontend.models import load_model
from vitgraph.frontend.saved_programs import lowered
from vitgraph.images.data_sources import open_data
from vitgraph.ir.dialect import aten, attention, dequantize, fake_quantize
from vitgraph.pass_manager.pass_contract import Context
from vitgraph.passes import pipeline
from vitgraph.passes.prepared import prepare

SCALE, ROWS = np.array(0.05, np.float32), np.full(5, 0.02, np.float32)
ZERO, ZEROS = np.array(0, np.int8), np.zeros(5, np.int8)
CODES = np.random.default_rng(1).integers(-127, 128, (8, 5), np.int8)
INPUT = [node("QuantizeLinear", "x s z", "q"), node("DequantizeLinear", "q s z", "d")]
SPELLINGS: dict[str, tuple[list[Any], dict[str, Any]]] = {
    "codes as stored": (
        [*INPUT, node("DequantizeLinear", "w r t", "v", axis=1), node("MatMul", "d v")],
        {"w": CODES, "r": ROWS, "t": ZEROS},
    ),
    "codes by rows, transposed": (
        [*INPUT, node("DequantizeLinear", "w r t", "v", axis=0), node("Transpose", "v", "u"), node("MatMul", "d u")],
        {"w": CODES.T.copy(), "r": ROWS, "t": ZEROS},
    ),
    "weights in floating point": (
        [*INPUT, node("QuantizeLinear", "w r t", "c", axis=1), node("DequantizeLinear", "c r t", "v", axis=1),
         node("MatMul", "d v")],
        {"w": CODES.astype(np.float32) * 0.01, "r": ROWS, "t": ZEROS},
    ),
    "one scale": (
        [*INPUT, node("DequantizeLinear", "w s z", "v"), node("MatMul", "d v")], {"w": CODES},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SPELLINGS)
def test_a_quantized_weight_is_the_linear_s(name: str, tmp_path: Path) -> None:
    nodes, constants = SPELLINGS[name]
    path = write(model(nodes, {"s": SCALE, "z": ZERO, **constants}), tmp_path)
    program = open_onnx(path)
    (linear,) = program.calls(aten.linear.default)
    data, weight = linear.all_input_nodes
    assert data.target is fake_quantize
    assert weight.target in (dequantize, fake_quantize)
    assert weight.all_input_nodes[0].op == "get_attr"
    assert weight.meta["type"].shape == (5, 8)
    assert furthest(program, path) < 1e-4
    assert lowered(program) == "is quantized already"


def test_what_int8_lowers_to_comes_back(tmp_path: Path) -> None:
    """Same numbers as the quantized program, and its linears with the same weights' codes."""
    program = prepare(capture_model(load_model("digits-vit", weights="random")))
    images = images_for(program, 1)
    program = pipeline("quantize,materialize").run(
        program, Context(calibration=open_data("random", None, 4, shape=(1, 24, 24))), []
    )
    lower(program, tmp_path / "m.onnx")
    found = open_onnx(tmp_path / "m.onnx")
    assert torch.allclose(program.run(images), found.run(images), atol=1e-4)
    found = prepare(found)
    assert torch.allclose(program.run(images), found.run(images), atol=1e-4)
    rounded = [[call.args[5] for call in each.calls(attention)] for each in (program, found)]
    assert [len(each) for each in rounded] == [4, 4]
    assert None not in rounded[1]
    assert len(program.calls(fake_quantize)) == len(found.calls(fake_quantize)) > 0
    assert len(program.calls(dequantize)) == len(found.calls(dequantize)) > 0
    assert [site.path for site in find_sites(program).linears] == [site.path for site in find_sites(found).linears]
