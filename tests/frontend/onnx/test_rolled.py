"""Activations that are written out become one operator, and what is only like them does not."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.frontend.onnx.files import furthest, model, node, write
from vitgraph.frontend.from_onnx.open_onnx import open_onnx
from vitgraph.ir.program import Program

ROOT2, HALF, ONE = 2**0.5, 0.5, 1.0
NUMBERS = {
    "root": ROOT2, "half": HALF, "one": ONE, "two": 2.0, "three": 3.0, "cubic": 0.044715, "pi": (2 / np.pi) ** 0.5, "other": 1.3, "fast": 1.702
}  # fmt: skip
ERF = [node("Div", "x root", "a"), node("Erf", "a", "b"), node("Add", "b one", "c")]
TANH = [
    node("Pow", "x three", "p"),
    node("Mul", "p cubic", "q"),
    node("Add", "x q", "r"),
    node("Mul", "r pi", "s"),
    node("Tanh", "s", "t"),
    node("Add", "t one", "c"),
]
SPELLINGS: dict[str, tuple[list[Any], str]] = {
    "gelu of torch": ([*ERF, node("Mul", "x c", "d"), node("Mul", "d half")], "aten.gelu.default(x)"),
    "gelu, halved first": ([*ERF, node("Mul", "x half", "d"), node("Mul", "d c")], "aten.gelu.default(x)"),
    "gelu, halved last": ([*ERF, node("Mul", "c half", "d"), node("Mul", "x d")], "aten.gelu.default(x)"),
    "gelu by a quotient": ([*ERF, node("Mul", "x c", "d"), node("Div", "d two")], "aten.gelu.default(x)"),
    "tanh form": ([*TANH, node("Mul", "x half", "d"), node("Mul", "d c")], "approximate='tanh'"),
    "silu": ([node("Sigmoid", "x", "a"), node("Mul", "x a")], "aten.silu.default(x)"),
    "silu by a quotient": (
        [node("Neg", "x", "a"), node("Exp", "a", "b"), node("Add", "b one", "c"), node("Div", "x c")],
        "aten.silu.default(x)",
    ),
    "hard swish": ([node("HardSigmoid", "x", "a", alpha=1 / 6, beta=0.5), node("Mul", "x a")], "aten.hardswish.default(x)"),
    "mish": ([node("Softplus", "x", "a"), node("Tanh", "a", "b"), node("Mul", "x b")], "aten.mish.default(x)"),
}  # fmt: skip


def _opened(nodes: list[Any], folder: Path) -> tuple[Program, Path]:
    read = {word for each in nodes for word in each.input}
    constants = {name: np.array(value, np.float32) for name, value in NUMBERS.items() if name in read}
    path = write(model(nodes, constants), folder)
    return open_onnx(path), path


@pytest.mark.parametrize("name", SPELLINGS)
def test_each_spelling_is_one_operator(name: str, tmp_path: Path) -> None:
    nodes, told = SPELLINGS[name]
    program, path = _opened(nodes, tmp_path)
    assert len(program.calls()) == 1
    assert told in str(program)
    assert furthest(program, path) < 1e-6


OTHERS: dict[str, list[Any]] = {
    "another factor": [*ERF, node("Mul", "x c", "d"), node("Mul", "d other")],
    "quick gelu": [node("Mul", "x fast", "a"), node("Sigmoid", "a", "b"), node("Mul", "x b")],
    "read in the middle": [*ERF, node("Mul", "x c", "d"), node("Mul", "d half", "e"), node("Add", "e b")],
    "of two values": [node("Sigmoid", "x", "a"), node("Relu", "x", "b"), node("Mul", "a b", "c"), node("Add", "c a")],
}


@pytest.mark.parametrize("name", OTHERS)
def test_what_is_only_like_one_stays(name: str, tmp_path: Path) -> None:
    program, path = _opened(OTHERS[name], tmp_path)
    assert not any(word in str(program) for word in ("gelu", "silu", "mish", "hardswish"))
    assert furthest(program, path) < 1e-6
