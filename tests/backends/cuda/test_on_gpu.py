"""The kernels on a GPU, at sizes of models, held to the same references; skipped where there is none."""

from importlib import import_module
from typing import Any, cast

import pytest
import torch
from torch import Tensor

from tests.backends.cuda.cases import halves, linear_operands, qkv_codes
from tests.backends.cuda.comparison import (
    attention_fault,
    gelu_tolerance,
    norm_tolerance,
    not_equal,
    not_rounded,
)
from tests.backends.cuda.interpreter import MODULES
from vitgraph.backends.cuda import reference

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


def run_all(name: str, **arguments: Any) -> list[Tensor]:
    """All results of a kernel on the GPU, on the CPU."""
    function = getattr(import_module(f"vitgraph.backends.cuda.kernels.{MODULES[name]}"), name)
    moved = {key: value.cuda() if isinstance(value, Tensor) else value for key, value in arguments.items()}
    if "qkv" in moved:
        moved |= dict(zip("qkv", moved.pop("qkv").unbind(2), strict=True))
    found: Tensor | tuple[Tensor, ...] = function(**moved)
    return [each.cpu() for each in (found if isinstance(found, tuple) else (found,))]


def run(name: str, **arguments: Any) -> Tensor:
    """The first result."""
    return run_all(name, **arguments)[0]


@pytest.mark.parametrize(
    "sizes", [(1, 1000, 768), (197, 768, 3072), (1576, 2304, 768), (6304, 3072, 768), (63, 65, 147)]
)
def test_linear(sizes: tuple[int, int, int]) -> None:
    operands = linear_operands(*sizes)
    assert not_equal(run("linear", **operands, out_scale=0.02), reference.linear(**operands, out_scale=0.02)) is None
    assert not_equal(run("linear", **operands), reference.linear(**operands)) is None
    value = reference.linear_values(**operands, gelu=True)
    assert not_rounded(run("linear", **operands, gelu=True, out_scale=0.02), value, 0.02, gelu_tolerance(value)) is None


@pytest.mark.parametrize("blocks", ["WIDE", "SQUARE", "NARROW", "FEW_ROWS", "ODD"])
def test_linear_in_blocks_of_every_size(blocks: str) -> None:
    operands = linear_operands(333, 544, 304)
    cut = getattr(import_module("vitgraph.backends.cuda.kernels.linear"), blocks)
    device = cast(Any, torch.cuda).get_device_properties(0)
    if cut.shared_memory > device.shared_memory_per_block_optin:
        pytest.skip("tiles larger than the shared memory of this device")
    found = run("linear", **operands, blocks=cut, out_scale=0.02)
    assert not_equal(found, reference.linear(**operands, out_scale=0.02)) is None


@pytest.mark.parametrize(("rows", "width"), [(1, 192), (197, 768), (6304, 1024), (5, 4096), (33, 769)])
@pytest.mark.parametrize("scale", [None, 0.02])
def test_normalize(rows: int, width: int, scale: float | None) -> None:
    x, residual = halves("random", rows, width), torch.randn(rows, width).half()
    weight, bias = torch.randn(width), torch.randn(width)
    operands = {"x": x, "weight": weight, "bias": bias, "eps": 1e-6, "residual": residual, "scale": scale}
    found, total = run_all("normalize", **operands)
    assert not_equal(total, x + residual) is None
    value = reference.normalized_values(x + residual, weight, bias, 1e-6)
    assert not_rounded(found, value, scale, norm_tolerance(value, bias)) is None


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (197, 3072), (6304, 4096)])
@pytest.mark.parametrize("scale", [None, 0.02])
def test_activation(rows: int, columns: int, scale: float | None) -> None:
    x, bias = halves("random", rows, columns), torch.randn(columns)
    wanted = reference.activate(x, bias, gelu=False, scale=scale)
    assert not_equal(run("activate", x=x, bias=bias, gelu=False, scale=scale), wanted) is None
    value = reference.activated_values(x.float(), bias)
    assert not_rounded(run("activate", x=x, bias=bias, scale=scale), value, scale, gelu_tolerance(value)) is None


@pytest.mark.parametrize(
    "sizes", [(2, 197, 3, 64), (1, 1, 1, 64), (2, 49, 3, 32), (1, 256, 2, 64), (1, 577, 2, 64), (1, 1024, 1, 128)]
)
@pytest.mark.parametrize("out_scale", [None, 2e-3])
def test_attention(sizes: tuple[int, int, int, int], out_scale: float | None) -> None:
    qkv = qkv_codes(*sizes)
    scales: dict[str, Any] = {"score_factor": 2e-4, "probability_scale": 4 / sizes[1] / 127, "value_scale": 0.02}
    found = run("attention", qkv=qkv, **scales, out_scale=out_scale)
    assert attention_fault(found, qkv, **scales, out_scale=out_scale) is None
