"""What the functions that launch kernels refuse, and how products are cut; no kernel runs here."""

import subprocess
import sys
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.backends.cuda.cases import codes, halves, qkv_codes
from tests.backends.cuda.interpreter import MODULES

if find_spec("triton") is None:
    pytest.skip("Triton is not installed", allow_module_level=True)

CODES, HALVES, ONES = codes("random", 4, 8), halves("random", 4, 8), torch.ones(8)
Q, K, V = qkv_codes(1, 4, 2, 8).unbind(2)
LINEAR = {"x": CODES, "w": codes("random", 8, 8), "scale": ONES}
NORM = {"x": HALVES, "weight": ONES, "bias": ONES, "eps": 1e-6}
ATTENTION = {"q": Q, "k": K, "v": V, "score_factor": 1.0, "probability_scale": 0.01, "value_scale": 1.0}


def launched(name: str, **arguments: Any) -> None:
    getattr(import_module(f"vitgraph.backends.cuda.kernels.{MODULES[name]}"), name)(**arguments)


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("linear", LINEAR | {"x": HALVES}, "x: torch.float16, not torch.int8"),
        ("linear", LINEAR | {"w": codes("random", 8, 9)}, r"w: shape \[8, 9\], not \[8, 8\]"),
        ("linear", LINEAR | {"w": LINEAR["w"].T}, "w: stride"),
        ("linear", LINEAR | {"scale": ONES[:7]}, "scale: shape"),
        ("linear", LINEAR | {"bias": ONES.double()}, "bias: torch.float64"),
        ("linear", LINEAR | {"residual": torch.ones(4, 7).half()}, "residual: shape"),
        ("linear", LINEAR | {"out_scale": 0.0}, "out_scale: 0.0 is no scale"),
        ("linear", LINEAR | {"out_scale": float("nan")}, "out_scale: nan is no scale"),
        ("linear", LINEAR | {"out": torch.empty(4, 8)}, "out: torch.float32, not torch.float16"),
        ("linear", LINEAR | {"out": torch.empty(3, 8).half()}, r"out: shape \[3, 8\], not \[4, 8\]"),
        ("normalize", NORM | {"x": torch.ones(1, 4097).half()}, "at most 4096"),
        ("normalize", NORM | {"eps": 0.0}, "eps: 0.0"),
        ("normalize", NORM | {"x": HALVES[:, ::2], "weight": ONES[:4], "bias": ONES[:4]}, "x: stride 2"),
        ("activate", {"x": HALVES, "bias": ONES[:4]}, "bias: shape"),
        ("activate", {"x": HALVES, "scale": 1e-40}, "scale: 1e-40 is no scale"),
        ("attention", ATTENTION | {"k": K[:, :3]}, "v: shape"),
        ("attention", ATTENTION | {"q": Q.transpose(2, 3)}, "q: stride 8 of the last dimension"),
        ("attention", ATTENTION | {"probability_scale": -1.0}, "probability_scale: -1.0"),
        ("attention", ATTENTION | dict(zip("qkv", qkv_codes(1, 1, 1, 129).unbind(2), strict=True)), "at most 128"),
        ("attention", ATTENTION | dict(zip("qkv", qkv_codes(1, 1025, 1, 1).unbind(2), strict=True)), "1 to 1024 keys"),
    ],
)
def test_refuses(name: str, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        launched(name, **arguments)


@pytest.mark.parametrize(("name", "arguments"), [("linear", LINEAR), ("normalize", NORM), ("attention", ATTENTION)])
def test_refuses_tensors_of_the_cpu(name: str, arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="CUDA device, not cpu"):
        launched(name, **arguments)


def test_refuses_what_offsets_of_32_bits_do_not_reach() -> None:
    qkv = torch.empty(2**12, 2**8, 3, 8, 128, device="meta", dtype=torch.int8)
    with pytest.raises(ValueError, match="3,221,223,424 elements is too large"):
        import_module("vitgraph.backends.cuda.triton_language").launch(None, (1,), qkv[:, :, 0])


@given(st.integers(1, 60_000), st.integers(1, 5000), st.integers(1, 5000), st.sampled_from((99, 163, 227)))
def test_blocks_fit_into_shared_memory(rows: int, columns: int, inner: int, kibibytes: int) -> None:
    linear = import_module("vitgraph.backends.cuda.kernels.linear")
    blocks = linear.blocks_for(rows, columns, inner, kibibytes * 1024)
    assert blocks.shared_memory <= kibibytes * 1024
    for size in (blocks.rows, blocks.columns, blocks.inner):
        assert size & (size - 1) == 0
    assert blocks.inner >= 32  # the least depth of a product of INT8 tiles


def test_large_products_get_large_blocks() -> None:
    linear = import_module("vitgraph.backends.cuda.kernels.linear")
    assert linear.blocks_for(197 * 128, 3072, 768) == linear.SQUARE
    assert linear.blocks_for(197 * 128, 3072, 768, 227 * 1024) == linear.WIDE
    assert linear.blocks_for(197, 768, 768) == linear.NARROW
    assert linear.blocks_for(1, 1000, 768) == linear.FEW_ROWS
    assert linear.blocks_for(197 * 128, 768, 147) == linear.ODD


def test_importing_the_package_needs_no_triton() -> None:
    modules = ("vitgraph.backends.cuda", "vitgraph.backends.cuda.reference", "vitgraph.backends.cuda.compiling")
    program = f"import sys; sys.modules['triton'] = None; import {', '.join(modules)}"
    done = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
