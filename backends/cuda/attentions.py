"""Attention of INT8 codes, its operands read where they lie: views of one tensor of q, k and v."""

from __future__ import annotations

from torch import fx

from vitgraph.backends.cuda.building import Building, Held
from vitgraph.backends.cuda.operands import FP16, INT8, MOST_DEPTH, MOST_KEYS
from vitgraph.backends.cuda.plan import Argument, Value
from vitgraph.backends.cuda.quantizers import common_scale
from vitgraph.ir.calls import AttentionCall, PermuteCall, ReshapeCall
from vitgraph.ir.tensor_type import Dim, TensorType

_HEADS_INSIDE = [0, 2, 1, 3]
"""`[B, H, T, D]` to `[B, T, H, D]`, in which the kernel writes, and back."""


def lower_attention(b: Building, node: fx.Node) -> bool:
    """An attention by the INT8 kernel, or as torch computes it, with the reason."""
    why = _refusal(b, node)
    if why:
        b.torch_step(node)
        b.choose(node, f"fp{str(node.meta['type'].dtype).removeprefix('torch.float')}", "torch", why=why)
        return True
    call = AttentionCall(node)
    q, k, v = (b.held[each] for each in call.operands)
    probability = b.program.constant(call.probability_scale)
    assert probability is not None  # `_refusal`
    scale = common_scale(b.program, node)
    given: dict[str, Argument] = {"q": Value(q.name), "k": Value(k.name), "v": Value(v.name)}
    given |= {"score_factor": _scale(q) * _scale(k) * float(call.scale), "probability_scale": float(probability)}
    _store(b, node, scale, given | {"value_scale": _scale(v), "out_scale": scale})
    b.choose(node, "int8", "attention", ("quantize",) if scale is not None else ())
    return True


def _scale(held: Held) -> float:
    assert held.scale is not None  # `_refusal`
    return held.scale


def _store(b: Building, node: fx.Node, scale: float | None, given: dict[str, Argument]) -> None:
    """The step, which writes `[B, T, H · D]`, and the result as the graph has it: in that order, or `[B, H, T, D]`."""
    batch, heads, tokens, depth = node.meta["type"].shape
    rows = TensorType(FP16 if scale is None else INT8, (batch, tokens, heads * depth))
    joined = _joined(node, rows)
    out = b.buffer(b.names[joined] if joined else f"{b.names[node]}_rows", rows)
    b.step("attention", node, given, out)
    if joined is not None:
        b.held[joined] = Held(out, rows, scale)
        b.absorbed.update(node.users)
        return
    kind = TensorType(rows.dtype, (batch, tokens, heads, depth))
    shape = tuple(-1 if isinstance(size, Dim) else size for size in kind.shape)
    parted = b.called(
        node, f"{b.names[node]}_heads", "aten.reshape.default", {"self": Value(out), "shape": shape}, kind
    )
    moved = TensorType(rows.dtype, node.meta["type"].shape)
    order: dict[str, Argument] = {"self": Value(parted.name), "dims": tuple(_HEADS_INSIDE)}
    b.held[node] = b.called(node, b.names[node], "aten.permute.default", order, moved, scale)


def _joined(node: fx.Node, rows: TensorType) -> fx.Node | None:
    """The reshape that joins the heads again, where nothing else reads the attention."""
    chain = [node]
    for view in (PermuteCall, ReshapeCall):
        users = list(chain[-1].users)
        if len(users) != 1 or not view.views(users[0]):
            return None
        chain += users
    _, moved, joined = chain
    fits = PermuteCall(moved).dims == _HEADS_INSIDE and joined.meta["type"].shape == rows.shape
    return joined if fits else None


def _refusal(b: Building, node: fx.Node) -> str:
    """Why the INT8 kernel can't compute it; empty where it can."""
    call = AttentionCall(node)
    held = [b.held.get(each) for each in call.operands]
    if call.probability_format is None or call.probability_format.name != "int8":
        return "its probabilities are not rounded to INT8"
    if b.program.constant(call.probability_scale) is None:
        return "the scale of its probabilities is not a constant"
    if any(each is None or each.scale is None for each in held):
        return "its operands have no INT8 codes with one scale each"
    if call.bias is not None:
        return "it adds a bias to its scores, which the kernel does not"
    return _size_refusal(call)


def _size_refusal(call: AttentionCall) -> str:
    q, k, v = (each.meta["type"].shape for each in call.operands)
    if len(q) != 4 or q[:2] != k[:2] or k[:3] != v[:3] or q[3] != k[3] or v[3] != q[3]:
        return "q, k and v are not [B, H, T, D] of the same heads"
    keys, depth = k[2], q[3]
    if not isinstance(keys, int) or not isinstance(depth, int) or keys > MOST_KEYS or depth > MOST_DEPTH:
        return f"{keys} keys of depth {depth}; the kernel takes {MOST_KEYS} of depth {MOST_DEPTH}"
    return ""
