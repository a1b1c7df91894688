"""A graph's text, as `vitgraph.ir.printer` writes it, read back to a Program."""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, fx

from vitgraph.ir.dialect import OWN
from vitgraph.ir.mask_patterns import thin
from vitgraph.ir.packing import Packing
from vitgraph.ir.program import Form, Program, SiteKey
from vitgraph.ir.tensor_type import DTYPES, TensorType, parse_type

_NAMESPACES = ("aten", "vitgraph", "prims", "torchvision")


class TextError(Exception):
    """A text that is not a graph; the message names the line."""


def parse(text: str, tensors: Mapping[str, Tensor] | None = None, seed: int = 0) -> Program:
    """Read a text; weights come from `tensors`, or are drawn at random (seeded) where none are given.

    Raises `TextError` naming the line that can't be read.
    """
    module = fx.GraphModule(torch.nn.Module(), fx.Graph())
    name, form = _headers(text)
    program = Program(module, name, form)
    known = dict[str, fx.Node]()
    generator = torch.Generator().manual_seed(seed)
    for number, line in enumerate(text.splitlines(), start=1):
        code, path = _split_comment(line)
        if not code.strip() and not path.startswith("mask:"):
            continue
        try:
            if not code.strip():
                program.masks.update([_mask(path)])
                continue
            _read(program, code, path, known, tensors, generator)
        except (SyntaxError, ValueError, KeyError, AttributeError, TypeError) as error:
            raise TextError(f"line {number}: {line.strip()}\n  {error}") from error
    if not any(node.op == "output" for node in program.graph.nodes):
        raise TextError("the text has no return_(…) line")
    if tensors is None:
        thin(program)
    module.recompile()
    return program


def _headers(text: str) -> tuple[str, Form]:
    found = dict(re.findall(r"^# (program|form): (.*)$", text, re.MULTILINE))
    return found.get("program", "unnamed"), "captured" if found.get("form") == "captured" else "canonical"


_MASK = re.compile(r"mask: (.+) (\d+):(\d+)((?: (?:group_size|v|occurrence)=\d+)*)")


def _mask(comment: str) -> tuple[SiteKey, Packing]:
    """The place and the pattern of a mask in the header."""
    found = _MASK.fullmatch(comment)
    if found is None:
        raise ValueError("a mask is `# mask: path n:m`, with group_size=, v= or occurrence= after it")
    rest = {name: int(value) for name, value in re.findall(r" (\w+)=(\d+)", found[4])}
    place = (found[1], rest.pop("occurrence", 0))
    pattern = Packing(int(found[2]), int(found[3]), **rest)
    if not 0 < pattern.n < pattern.m or min(pattern.group_size, pattern.v) < 1:
        raise ValueError("of a mask n:m, 0 < n < m, and group_size and v are at least 1")
    return place, pattern


def _split_comment(line: str) -> tuple[str, str]:
    """A line's code and the path in its comment; a `#` inside a string is not a comment."""
    quoted = False
    for position, letter in enumerate(line):
        quoted ^= letter in "\"'"
        if letter == "#" and not quoted:
            return line[:position], line[position + 1 :].strip()
    return line, ""


def _read(
    program: Program,
    code: str,
    path: str,
    known: dict[str, fx.Node],
    tensors: Mapping[str, Tensor] | None,
    generator: torch.Generator,
) -> None:
    head, equals, call_text = code.strip().partition(" = ")
    scalar = head.replace("[]", "[()]")  # the type of a single number, f32[], is no Python by itself
    statement = ast.parse(scalar + equals + call_text).body[0]
    graph = program.graph
    if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call):
        graph.output(_value(statement.value.args[0], known))
        return
    if not isinstance(statement, ast.AnnAssign) or not isinstance(statement.value, ast.Call):
        raise ValueError("a line is `name: type = operator(arguments)` or `return_(value)`")
    name = ast.unparse(statement.target)
    if name in known:
        raise ValueError(f"the name {name!r} is given twice")
    declared = parse_type(ast.unparse(statement.annotation).replace("[()]", "[]"))
    call = statement.value
    function = ast.unparse(call.func)
    if function == "input":
        node = graph.placeholder(name)
    elif function in ("weight", "constant"):
        assert isinstance(declared, TensorType)
        target = ast.literal_eval(call.args[0])
        tensor = _draw(declared, generator) if tensors is None else tensors[target]
        if program.add_tensor(target, tensor, trainable=function == "weight") != target:
            raise ValueError(f"the tensor {target!r} is given twice")
        node = graph.get_attr(target)
    else:
        args = tuple(_value(arg, known) for arg in call.args)
        kwargs = {str(keyword.arg): _value(keyword.value, known) for keyword in call.keywords}
        node = graph.call_function(_operator(function), args, kwargs)
    node.meta["type"] = declared
    node.meta["path"] = path
    known[name] = node


def _draw(declared: TensorType, generator: torch.Generator) -> Tensor:
    """Random values of a type: small for floats, so that deep graphs stay finite; zeros for whole numbers."""
    shape = declared.static
    if declared.dtype == torch.bool:
        return torch.rand(shape, generator=generator) > 0.5
    if not declared.dtype.is_floating_point:
        return torch.zeros(shape, dtype=declared.dtype)
    return (torch.randn(shape, generator=generator) * 0.2).to(declared.dtype)


def _operator(spelling: str) -> Callable[..., Any]:
    namespace, *rest = spelling.split(".")
    if namespace == "operator" and len(rest) == 1:
        return getattr(operator, rest[0])  # type: ignore[no-any-return]
    if namespace not in _NAMESPACES or len(rest) != 2:
        raise ValueError(f"{spelling!r} is no operator; write for example aten.linear.default")
    assert len(OWN) > 0  # loading the dialect registers vitgraph's operators
    return getattr(getattr(getattr(torch.ops, namespace), rest[0]), rest[1])  # type: ignore[no-any-return]


def _value(tree: ast.expr, known: dict[str, fx.Node]) -> Any:
    if isinstance(tree, ast.Name):
        return _named(tree.id, known)
    if isinstance(tree, ast.List):
        return [_value(item, known) for item in tree.elts]
    if isinstance(tree, ast.Tuple):
        return tuple(_value(item, known) for item in tree.elts)
    if isinstance(tree, ast.UnaryOp) and isinstance(tree.op, ast.USub) and isinstance(tree.operand, ast.Name):
        return -_named(tree.operand.id, known)
    if isinstance(tree, ast.Call):
        return _OBJECTS[ast.unparse(tree.func)](ast.literal_eval(tree.args[0]))
    return ast.literal_eval(tree)


_OBJECTS: dict[str, Callable[[str], Any]] = {
    "device": torch.device,
    "memory_format": lambda text: getattr(torch, text.removeprefix("torch.")),
    "layout": lambda text: getattr(torch, text.removeprefix("torch.")),
}
_CONSTANTS: dict[str, Any] = {"inf": float("inf"), "nan": float("nan"), **DTYPES}


def _named(name: str, known: dict[str, fx.Node]) -> Any:
    if name in known:
        return known[name]
    if name in _CONSTANTS:
        return _CONSTANTS[name]
    raise ValueError(f"the name {name!r} is not known yet; a value stands above its first use")
