"""Operators that write into their argument, such as `relu_`, as ones that don't, where nothing else sees the write.

torch.export can do this for any graph, at the price of tracing the model a second time; here it takes one sweep.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import fx
from torch.fx.experimental.symbolic_shapes import statically_known_true

from vitgraph.ir.dialect import aten
from vitgraph.ir.operator_schema import HIGHER_ORDER, opname, overload_name, schema_of, writes


def may_be_made_functional(graph: fx.Graph) -> bool:
    """Is there no region with a graph of its own (autocast), and only writing that `make_functional` can undo?"""
    if any(isinstance(node.target, HIGHER_ORDER) for node in graph.nodes):
        return False
    return all(_owned(node) and _gives_what_it_writes(node) for node in graph.nodes if _writes(node))


def make_functional(graph: fx.Graph) -> None:
    """Replace each operator that writes by its twin; what read the written value afterwards reads the new one."""
    place = {node: position for position, node in enumerate(graph.nodes)}
    for node in [node for node in graph.nodes if _writes(node)]:
        written: Any = node.args[0]
        with graph.inserting_before(node):
            new = graph.call_function(_twin(node.target), node.args, dict(node.kwargs))
        new.meta = dict(node.meta)
        place[new] = place[node]
        node.replace_all_uses_with(new)
        for user in list(written.users):
            if place[user] > place[node]:
                user.replace_input_with(written, new)
        graph.erase_node(node)


def doubtful_write(graph: fx.Graph) -> tuple[fx.Node, str] | None:
    """The first operator that writes to what torch has no sure answer for, and what that is; None where there is none."""
    place = {node: position for position, node in enumerate(graph.nodes)}
    for node in graph.nodes:
        written = node.args[0] if _writes(node) or node.target in _SCATTERS else None
        if not isinstance(written, fx.Node):
            continue
        if _overlaps(written.meta.get("val")):
            return node, "a tensor of which several elements are one number, as `expand` and `unfold` make"
        if _writes(node) and _read_beside(written, place, place[node]):
            return node, "what may be a view or a copy, by how its elements lie, of a value that is read afterwards"
    return None


_SCATTERS = (
    aten.select_scatter.default, aten.slice_scatter.default, aten.diagonal_scatter.default, aten.as_strided_scatter.default,
)  # fmt: skip
"""What copies a tensor with its strides, and writes to the copy."""


def _overlaps(value: Any) -> bool:
    """Do elements of a tensor share memory? Sizes that are not known count as two."""
    if not isinstance(value, torch.Tensor):
        return False
    strides: list[Any] = list(value.stride())
    sizes: list[Any] = list(value.shape)
    known = [(stride, size if isinstance(size, int) else 2) for stride, size in zip(strides, sizes, strict=True)]
    room = 1
    for stride, size in sorted((stride, size) for stride, size in known if isinstance(stride, int) and size > 1):
        if stride < room:
            return True
        room += (size - 1) * stride
    return False


def _read_beside(written: fx.Node, place: dict[fx.Node, int], position: int) -> bool:
    """Is a value read after this position, of which the written one is a view or a copy, nobody knows?"""
    node, unsure = written, False
    while node.op == "call_function" and not _fresh(node) and isinstance(node.args[0], fx.Node) and not _writes(node):
        unsure = unsure or node.target in _SOMETIMES_VIEWS
        node = node.args[0]
        if unsure and any(place[user] > position for user in node.users):
            return True
    return False


def take_expansions_of_nothing(graph: fx.Graph) -> None:
    """Make an `expand` to the size that is there the alias that it is, in a graph that writes.

    torch undoes a write through `expand` as a + (written − a), which rounds; one through an alias it undoes exactly.
    """
    if not any(_writes(node) for node in graph.nodes):
        return
    for node in graph.nodes:
        if node.target in _EXPANSIONS and _same_size(node.args[0].meta["val"], node.meta["val"]):
            node.target, node.args, node.kwargs = aten.alias.default, node.args[:1], {}


def _same_size(first: torch.Tensor, second: torch.Tensor) -> bool:
    sizes = zip(first.shape, second.shape, strict=False)
    return first.dim() == second.dim() and all(statically_known_true(one == other) for one, other in sizes)


def unsaid_views_in(graph: fx.Graph) -> dict[Any, Callable[..., Any]]:
    """torch's decompositions of operators that torch takes for no views, where a graph has both them and writes."""
    found = {node.target for node in graph.nodes} & set(_UNSAID_VIEWS)
    if not found or not any(_writes(node) for node in graph.nodes):
        return {}
    known = torch.export.default_decompositions()
    return {target: known[target] for target in found if target in known}


def _writes(node: fx.Node) -> bool:
    return writes(node.target)


def _twin(target: Any) -> Any:
    """`aten.relu.default` for `aten.relu_.default`; None where there is none that takes the same arguments."""
    name, overload = opname(target), overload_name(target)
    if not name.endswith("_"):
        return None
    return getattr(getattr(getattr(torch.ops, target.namespace), name[:-1], None), overload, None)


def _gives_what_it_writes(node: fx.Node) -> bool:
    """Has the twin a result of the written type? `half.add_(single)` stays half, and `x.gt_(0)` what x is."""
    twin, written = _twin(node.target), node.args[0]
    if twin is None or not isinstance(written, fx.Node):
        return False
    known: Any = fx.map_arg((node.args, node.kwargs), lambda each: each.meta["val"])
    return bool(twin(*known[0], **known[1]).dtype == written.meta["val"].dtype)


def _owned(node: fx.Node) -> bool:
    """Is the value that is written seen under this one name only, no view of it and it no view of another?"""
    written = node.args[0]
    if not isinstance(written, fx.Node) or written.op != "call_function":
        return False
    others = [user for user in written.users if user is not node]
    return (_writes(written) or _fresh(written)) and all(_fresh(user) or _writes(user) for user in others)


def _fresh(node: fx.Node) -> bool:
    """Does this operator give memory of its own, whatever its arguments?"""
    if node.op == "output":
        return True
    schema = schema_of(node.target)
    if schema is None or node.target in _SOMETIMES_VIEWS:
        return False
    return all(result.alias_info is None for result in schema.returns)


_EXPANSIONS = (aten.expand.default, aten.expand_as.default, aten.broadcast_to.default)
_UNSAID_VIEWS = (
    aten.einsum.default, aten.sum_to_size.default, aten.meshgrid.default, aten.meshgrid.indexing,
    aten.broadcast_tensors.default, aten.atleast_1d.default, aten.atleast_2d.default, aten.atleast_3d.default,
    aten.dropout.default, aten.feature_dropout.default, aten.alpha_dropout.default, aten.feature_alpha_dropout.default,
    aten.type_as.default, aten.cartesian_prod.default,
)  # fmt: skip
"""Operators whose schema says that the result is new, though it may be a view: `einsum` of one operand is a permutation."""
_SOMETIMES_VIEWS = frozenset(
    {
        *_UNSAID_VIEWS,
        aten.reshape.default,
        aten.contiguous.default,
        aten.to.dtype,
        aten.to.device,
        aten.to.other,
        aten.to.dtype_layout,
        aten.flatten.using_ints,
        aten.expand_as.default,
        aten.view_as.default,
        aten.reshape_as.default,
    }
)
"""Operators whose schema leaves open whether the result is a view, and those that do not say it."""
