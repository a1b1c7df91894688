"""Is this program valid? All violations at once, each under the line of text it is about.

Checked: every operator is one the form allows; every weight is there and finite, every constant
there and free of NaN (masks hold infinities); the type each node carries is the
type its operator gives for its arguments; values stand before their uses; scales are positive and finite, codes are ones of their
format; masked weights still have their pattern; there is one output.
"""

from __future__ import annotations

import operator

import torch
from torch import fx

from vitgraph.errors import InputError, PassError
from vitgraph.ir.call_arguments import argument
from vitgraph.ir.calls import DequantizeCall
from vitgraph.ir.dialect import ATEN, INTEGER, OWN
from vitgraph.ir.divisors import check_divisor
from vitgraph.ir.mask_patterns import homeless, lost
from vitgraph.ir.operator_classes import PAIRS, ROUNDS
from vitgraph.ir.operator_schema import schema_of, writes
from vitgraph.ir.printer import show
from vitgraph.ir.program import Program, infer_node
from vitgraph.ir.tensor_type import TensorType
from vitgraph.ir.trusted_arguments import check_trusted

Violations = dict[fx.Node, list[str]]


def verify(program: Program, *, masks: bool = True) -> Violations:
    """Everything wrong with the program, by node; empty where it is valid. `masks` holds weights to their masks' patterns too."""
    found: Violations = {}
    seen = set[fx.Node]()
    for node in program.graph.nodes:
        violations = _order(node, seen) or _content(program, node)
        if violations:
            found[node] = violations
        seen.add(node)
    for node, pattern in lost(program) if masks and not found else ():
        found[node] = [f"its weight was masked {pattern} and is denser now"]
    nodes = list(program.graph.nodes)
    outputs = [node for node in nodes if node.op == "output"]
    for path, occurrence in homeless(program) if nodes else ():
        said = f"the mask of {path!r} ({occurrence}) is of no linear or convolution here"
        found.setdefault(nodes[-1], []).append(f"{said}; what took it out has to take out the mask")
    if len(outputs) != 1 and nodes:
        found.setdefault(nodes[-1], []).append(f"a graph has one output; this one has {len(outputs)}")
    return found


def check(program: Program, what: str) -> None:
    """Raise `PassError` with the annotated text if the program is not valid; `what` says who left it so."""
    if fault := _describe(program):
        raise PassError(f"{what} left an invalid graph, {fault}")


def check_read(program: Program, origin: str, *, masks: bool = False) -> Program:
    """The program that was read from a file, verified before anything runs it; `InputError` where it is not valid.

    Weights are held to their masks where `masks` says so: those of a text are drawn to fit; saved ones may have lost a
    mask, which harms nobody, and `inspect` tells it.
    """
    if fault := _describe(program, masks=masks):
        raise InputError(f"{origin}: its graph is not valid, {fault}")
    if not program.inputs:
        raise InputError(f"{origin}: its graph is not valid: it takes no input; begin it with `x: f32[…] = input()`")
    for node in program.calls():
        _check_safe(program, node, origin)
    return program


def _check_safe(program: Program, node: fx.Node, origin: str) -> None:
    """What a type does not tell: a call that the verifier agrees to, and that would harm the process that runs it."""
    try:
        check_trusted(node)
        check_divisor(program, node)
    except ValueError as error:
        raise InputError(f"{origin}: its graph is not run: {node.name}: {error}") from error


def _describe(program: Program, *, masks: bool = True) -> str:
    """How many violations there are, which, and the text around them; empty for a valid program."""
    violations = verify(program, masks=masks)
    count = sum(len(lines) for lines in violations.values())
    summary = "; ".join(dict.fromkeys(line for lines in violations.values() for line in lines))[:400]
    return f"{count} violation(s): {summary}\n{_excerpt(show(program, violations))}" if violations else ""


def _excerpt(text: str, around: int = 2) -> str:
    """The violations of a long text with a few lines around each."""
    lines = text.splitlines()
    marked = [number for number, line in enumerate(lines) if line.startswith("#   ^ ")]
    keep = sorted({n for m in marked for n in range(m - around - 1, m + around + 1) if 0 <= n < len(lines)})
    return "\n".join(
        ("…\n" if position and number != keep[position - 1] + 1 else "") + lines[number]
        for position, number in enumerate(keep)
    )


def _order(node: fx.Node, seen: set[fx.Node]) -> list[str]:
    late = [other.name for other in node.all_input_nodes if other not in seen]
    return [f"uses {', '.join(late)}, which stands below or is not in this graph"] if late else []


def _content(program: Program, node: fx.Node) -> list[str]:
    if node.op == "placeholder":
        return [] if isinstance(node.meta.get("type"), TensorType) else ["an input needs a tensor type"]
    if node.op == "get_attr":
        return _weight(program, node)
    if node.op == "call_function":
        unfit = _operator(program, node) or _type(node)  # what is no operator of a graph is not run, even for its type
        return unfit or _scale(program, node) + _codes(program, node)
    return [] if node.op == "output" else [f"{node.op} has no place in a graph"]


def _weight(program: Program, node: fx.Node) -> list[str]:
    try:
        tensor = program.tensor(str(node.target))
    except KeyError:
        return [f"there is no tensor {node.target!r}"]
    violations = list[str]()
    if node.meta.get("type") != TensorType(tensor.dtype, tuple(tensor.shape)):
        violations.append(f"carries {node.meta.get('type')}, but the tensor is {tensor.dtype}{list(tensor.shape)}")
    return violations + _values(str(node.target), tensor)


def _values(name: str, tensor: torch.Tensor) -> list[str]:
    if not tensor.is_floating_point():
        return []
    if bool(tensor.isnan().any()):
        return [f"{name} holds NaN"]
    trained = isinstance(tensor, torch.nn.Parameter)
    return [f"{name} is a weight and holds infinities"] if trained and not bool(tensor.isfinite().all()) else []


def _operator(program: Program, node: fx.Node) -> list[str]:
    if schema_of(node.target) is not None:
        if writes(node.target):
            return [f"{node.target} writes into its argument; a graph is functional"]
        if program.form == "canonical" and node.target not in ATEN and node.target not in OWN:
            return [f"{node.target} is not of the dialect; canonicalize has another spelling for it, or lacks one"]
        return []
    if node.target in INTEGER or node.target is operator.getitem:
        return []
    return [f"{node.target} is no operator of a graph"]


def _type(node: fx.Node) -> list[str]:
    if any("type" not in other.meta for other in node.all_input_nodes):
        return []  # said where that node stands
    try:
        inferred = infer_node(node)
    except Exception as error:  # noqa: BLE001  any operator may object in its own way; the objection is the violation
        said = [line for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
        return [f"its arguments don't fit: {said[0]}"]
    carried = node.meta.get("type")
    return [] if carried == inferred else [f"carries type {carried}, but gives {inferred}"]


def _scale(program: Program, node: fx.Node) -> list[str]:
    scale = program.constant(argument(node, "scale")) if node.target in PAIRS | ROUNDS else None
    if scale is None or bool(((scale > 0) & scale.isfinite()).all()):
        return []
    return ["a scale must be positive and finite"]


def _codes(program: Program, node: fx.Node) -> list[str]:
    """INT4 codes lie in bytes, which hold others too; the ONNX file would cut those off."""
    call = DequantizeCall.of(node)
    codes = None if call is None else program.constant(call.codes)
    if call is None or codes is None or codes.dtype.is_floating_point:
        return []
    grid = call.format
    return (
        [] if torch.equal(codes, codes.clamp(grid.low, grid.high)) else [f"holds codes that {grid.name} does not have"]
    )
