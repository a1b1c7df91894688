"""Nobody reads the arguments of a call by number: names are read by the typed views and `call_arguments`."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("passes", "backends", "vitgraph")
HOME = "vitgraph/ir/call_arguments.py"


def numbered(source: str) -> Iterator[str]:
    """Each reading of an argument by a number other than 0, and each count of arguments, as `line: text`."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Subscript) and _is_args(node.value) and ast.unparse(node.slice) not in ("0", ":1"):
            yield f"{node.lineno}: {ast.unparse(node)}"
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "len" and any(map(_is_args, node.args)):
            yield f"{node.lineno}: {ast.unparse(node)}"
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Tuple) and _is_args(node.value):
            yield f"{node.lineno}: {ast.unparse(node)}"


def _is_args(node: ast.AST) -> bool:
    return isinstance(node, ast.Attribute) and node.attr == "args"


def readings(root: Path) -> list[str]:
    inner = {root / "vitgraph" / name for name in ("passes", "backends", "tools")}
    files = [file for folder in FOLDERS for file in sorted((root / folder).rglob("*.py"))]
    own = [file for file in files if not inner & set(file.parents) and file != root / HOME]
    return [f"{file.relative_to(root)}:{each}" for file in own for each in numbered(file.read_text(encoding="utf-8"))]


def test_nobody_reads_arguments_by_number() -> None:
    assert readings(ROOT) == []


@pytest.mark.parametrize(
    "text",
    [
        "bias = node.args[2]",
        "q, k, v = node.args[:3]",
        "rest = site.node.args[5:]",
        "last = node.args[-1]",
        "value = node.args[position]",
        "quantized = len(node.args) > 5",
        "left, right = node.args",
    ],
)
def test_a_planted_reading_is_found(text: str, tmp_path: Path) -> None:
    (tmp_path / "passes").mkdir()
    (tmp_path / "passes" / "planted.py").write_text(f"def f(node, site):\n    x = node.args[0]\n    {text}\n")
    (found,) = readings(tmp_path)
    assert found.startswith("passes/planted.py:3: ")
