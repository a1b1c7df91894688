"""Rules of `canonicalize` for attention: the fused call, and softmax in any spelling."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import fx

from vitgraph.ir.call_arguments import argument, arguments
from vitgraph.ir.dialect import aten
from vitgraph.ir.program import Program
from vitgraph.passes.canonicalize.arithmetic import arithmetic
from vitgraph.passes.canonicalize.rule import Rule, cast_source, shape, source
from vitgraph.passes.constants import Constants


def softmax(program: Program, node: fx.Node) -> fx.Node | None:
    """Without a type; a softmax that was to change the type is given a changed input."""
    values = arguments(node)
    if values.get("dtype") is None and node.target in (aten.softmax.int, aten.log_softmax.int):
        return None
    logs = node.target in (aten.log_softmax.int, aten._log_softmax.default)
    target = aten.log_softmax.int if logs else aten.softmax.int
    return program.insert(node, target, cast_source(program, node), values["dim"])


def quotient(program: Program, node: fx.Node) -> fx.Node | None:
    """exp(x) over its own sum is the softmax of x, and so it is where the largest x was taken from x ahead of it.

    What would overflow as written does not as a softmax; else the two are the same function.
    """
    found = _softmax_of(node)
    return arithmetic(program, node) if found is None else program.insert(node, aten.softmax.int, *found)


def _softmax_of(node: fx.Node) -> tuple[fx.Node, int] | None:
    """Of what, and along which dimension, a quotient is the softmax; None for any other."""
    powers, below = argument(node, "self"), argument(node, "other")
    if node.target is aten.mul.Tensor:
        one = next((each for each in (powers, below) if _calls(each, aten.reciprocal.default)), None)
        if one is None:
            return None
        powers, below = (below if one is powers else powers), source(one)
    total = _past_views(below)
    if not _calls(powers, aten.exp.default) or not _calls(total, aten.sum.dim_IntList) or source(total) is not powers:
        return None
    dims = argument(total, "dim")
    kept = [1 if [at] == dims else size for at, size in enumerate(shape(powers))]
    if len(dims or []) != 1 or list(shape(below)) not in (kept, list(shape(powers))):
        return None
    return _without_largest(source(powers), dims[0]), dims[0]


def _without_largest(value: fx.Node, dim: int) -> fx.Node:
    """The x of `x - max(x)`, where the maximum is one number along the softmax's dimension; else the value itself."""
    if not _calls(value, aten.sub.Tensor):
        return value
    x, largest = argument(value, "self"), argument(value, "other")
    taken = _past_views(largest)
    if not _calls(taken, aten.amax.default) or source(taken) is not x:
        return value
    aligned = (1,) * (len(shape(x)) - len(shape(largest))) + shape(largest)
    return x if aligned[dim] == 1 else value


def _past_views(node: Any) -> Any:
    """A value ahead of a reshape or expand: a reduction that kept its dimension in steps."""
    while _calls(node, aten.reshape.default, aten.expand.default):
        node = source(node)
    return node


def _calls(node: Any, *targets: Any) -> bool:
    return isinstance(node, fx.Node) and node.target in targets


def power_of_logs(program: Program, node: fx.Node) -> fx.Node | None:
    """The exponential of a log-softmax is the softmax."""
    logs = source(node)
    if logs.target is not aten.log_softmax.int:
        return None
    return program.insert(node, aten.softmax.int, source(logs), argument(logs, "dim"))


def dot_product_attention(program: Program, node: fx.Node) -> fx.Node | None:
    """`(q, k, v, mask, 0.0, is_causal, scale=number)`, all given; a head of k and v for each of q."""
    values = arguments(node)
    if values["dropout_p"]:
        return None
    if values["enable_gqa"]:
        return _with_all_heads(program, node, values)
    width = shape(values["query"])[-1]
    assert isinstance(width, int)
    scale = 1.0 / math.sqrt(width) if values["scale"] is None else values["scale"]
    mask = _without_copies(program, values["attn_mask"])
    args = (values["query"], values["key"], values["value"], mask, 0.0, values["is_causal"])
    if _may_hide_everything(program, mask):
        return _zero_where_hidden(program, node, args, scale)
    if node.args == args and dict(node.kwargs) == {"scale": scale}:
        return None
    return program.insert(node, node.target, *args, scale=scale)  # type: ignore[arg-type]


def _with_all_heads(program: Program, node: fx.Node, values: dict[str, Any]) -> fx.Node:
    """Grouped queries: each head of k and v as often as it is read."""
    heads = shape(values["query"])[-3]
    for name in ("key", "value"):
        own = shape(values[name])[-3]
        assert isinstance(heads, int)
        assert isinstance(own, int)
        if own != heads:
            values[name] = program.insert(
                node, aten.repeat_interleave.self_int, values[name], heads // own, len(shape(values[name])) - 3
            )
    args = [values[name] for name in ("query", "key", "value", "attn_mask", "dropout_p", "is_causal")]
    return program.insert(node, node.target, *args, scale=values["scale"])  # type: ignore[arg-type]


def _without_copies(program: Program, mask: fx.Node | None) -> fx.Node | None:
    """The mask ahead of an `expand` over images: the call repeats it by itself, and one for all can be a constant."""
    if mask is None or not _calls(mask, aten.expand.default):
        return mask
    one, copies = shape(source(mask)), shape(mask)
    first = 1 if len(one) < len(copies) else one[0]
    if first == copies[0]:
        return mask
    wanted = [first, *copies[1:]]
    if list(one) == wanted:
        return source(mask)
    known = all(isinstance(size, int) for size in wanted)
    return program.insert(mask, aten.expand.default, source(mask), wanted) if known else mask


def _may_hide_everything(program: Program, mask: fx.Node | None) -> bool:
    """Can a row of this mask allow no key? torch gives zeros there, where a softmax gives NaN."""
    if mask is None or _is_guarded(mask):
        return False
    constants = Constants(program)
    if constants.holds(mask):
        known = constants.value(mask)
        hidden = ~known if known.dtype == torch.bool else known == -math.inf
        return bool(hidden.all(-1).any())
    return mask.meta["type"].dtype == torch.bool or _reads_infinity(program, mask)


def _reads_infinity(program: Program, mask: fx.Node) -> bool:
    """Is minus infinity written into a mask, or into anything that it is computed from?"""
    queue, seen = [mask], set[fx.Node]()
    while queue:
        node = queue.pop()
        tensor = program.constant(node)
        filled = -math.inf in node.args
        if filled or (tensor is not None and tensor.is_floating_point() and bool((tensor == -math.inf).any())):
            return True
        queue += [each for each in node.all_input_nodes if each not in seen]
        seen.update(queue)
    return False


def _zero_where_hidden(program: Program, node: fx.Node, args: tuple[Any, ...], scale: float) -> fx.Node:
    """Rows that allow no key allow all of them, and their results are overwritten by zeros."""

    def step(target: Any, *args: Any) -> fx.Node:
        return program.insert(node, target, *args)

    q, k, v, mask, *rest = args
    truth = mask.meta["type"].dtype == torch.bool
    seen = mask if truth else step(aten.ne.Scalar, mask, -math.inf)
    none = step(aten.logical_not.default, step(aten.any.dim, seen, -1, True))
    mask = step(aten.logical_or.default, mask, none) if truth else step(aten.masked_fill.Scalar, mask, none, 0.0)
    found = program.insert(node, node.target, q, k, v, mask, *rest, scale=scale)  # type: ignore[arg-type]
    return step(aten.masked_fill.Scalar, found, none, 0.0)


def _is_guarded(mask: fx.Node) -> bool:
    """Is this the mask of `_zero_where_hidden`?"""
    names: dict[Any, str] = {aten.logical_or.default: "other", aten.masked_fill.Scalar: "mask"}
    if mask.target not in names:
        return False
    none = argument(mask, names[mask.target])
    return _calls(none, aten.logical_not.default) and argument(mask, "self") in _upstream(none)


def _upstream(node: Any, steps: int = 5) -> set[fx.Node]:
    found = {node}
    for _ in range(steps):
        found |= {each for one in found for each in one.all_input_nodes}
    return found


ATTENTION: dict[Any, Rule] = {
    **dict.fromkeys(
        (aten.softmax.int, aten._softmax.default, aten.log_softmax.int, aten._log_softmax.default), softmax
    ),
    **dict.fromkeys((aten.div.Tensor, aten.mul.Tensor), quotient),
    aten.exp.default: power_of_logs,
    aten.scaled_dot_product_attention.default: dot_product_attention,
}
"""Rule by operator."""
