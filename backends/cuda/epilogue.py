"""What follows a product or an activation and can be computed before its result is stored.

    linear -> to -> gelu -> mul(c) -> sub(d) -> to -> fake_quantize      bias, GELU, a factor, a summand, codes
    linear -> fake_quantize -> to -> mul(c) -> add(stream)               bias, Q/DQ, a factor; the sum is the normalization's

Each stage is taken at most once and in this order: GELU, Q/DQ, factor, summand, codes.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, fx

from vitgraph.backends.cuda.building import Building
from vitgraph.backends.cuda.plan import Argument
from vitgraph.backends.cuda.quantizers import common_scale, reads_codes, tensor_scale
from vitgraph.ir.call_arguments import arguments
from vitgraph.ir.calls import BinaryCall
from vitgraph.ir.dialect import aten
from vitgraph.ir.operator_classes import is_pointwise

STAGES = ("gelu", "round_scale", "multiplier", "offset")


@dataclass
class Epilogue:
    """The stages, and the node whose value they end in."""

    last: fx.Node
    gelu: bool = False
    round_scale: float | None = None
    vectors: dict[str, Tensor] = field(default_factory=dict[str, Tensor])
    scale: float | None = None
    """Of the codes that are stored; None for FP16."""
    stage: int = 0
    """How many of `STAGES` have passed."""
    absorbed: list[fx.Node] = field(default_factory=list[fx.Node])
    why: str = ""
    """Why the next pointwise operator is not taken in; empty where there is none."""

    def names(self) -> list[str]:
        """The stages there are, for people."""
        said = {"gelu": self.gelu, "round": self.round_scale is not None, "quantize": self.scale is not None}
        return [name for name in ("gelu", "round", *self.vectors, "quantize") if said.get(name, name in self.vectors)]

    def arguments(self, b: Building) -> dict[str, Argument]:
        """What the kernels are given of it, but for `scale`."""
        vectors = {name: b.weight(f"{b.names[self.last]}.{name}", vector) for name, vector in self.vectors.items()}
        return {"gelu": self.gelu, "round_scale": self.round_scale, **vectors}


def follow(b: Building, node: fx.Node, *, gelu: bool = False) -> Epilogue:
    """The epilogue of a product (or of a GELU itself: `gelu`), by the chain of nodes with one consumer each."""
    found = Epilogue(node, gelu, stage=int(gelu))
    while (scale := common_scale(b.program, found.last)) is None and len(found.last.users) == 1:
        (user,) = found.last.users
        if not _take(b, found, user):
            found.why = "" if _is_sum(user) or not is_pointwise(user.target) else f"{user.target} is not taken in"
            break
        found.absorbed.append(found.last)
        found.last = user
    found.scale = scale
    b.absorbed.update(found.absorbed)
    return found


def _take(b: Building, found: Epilogue, user: fx.Node) -> bool:
    """Take a node in, if its stage has not passed."""
    if user.target is aten.to.dtype:
        return bool(user.meta["type"].dtype.is_floating_point)
    if user.target is aten.gelu.default:
        exact = arguments(user)["approximate"] == "none"
        return exact and _advance(found, "gelu") and _set(found, gelu=True)
    scale = tensor_scale(b.program, user)
    if scale is not None:
        return not reads_codes(user) and _advance(found, "round_scale") and _set(found, round_scale=scale)
    return _take_vector(b, found, user)


def _take_vector(b: Building, found: Epilogue, user: fx.Node) -> bool:
    """A factor or a summand for each column."""
    call = BinaryCall.of(user)
    if call is None or call.left is not found.last or call.factor != 1:
        return False
    columns = user.meta["type"].shape[-1]
    vector = _vector(b, call.right, columns)
    if vector is None or user.meta["type"].shape != found.last.meta["type"].shape:
        return False
    name = "offset" if user.target in (aten.add.Tensor, aten.sub.Tensor) else "multiplier"
    if not _advance(found, name):
        return False
    signed = -vector if user.target is aten.sub.Tensor else vector
    found.vectors[name] = 1 / signed if call.divides else signed
    return True


def _is_sum(user: fx.Node) -> bool:
    """Whether this adds two computed values: the normalization's business."""
    return user.target is aten.add.Tensor and all(each.op == "call_function" for each in user.all_input_nodes)


def _vector(b: Building, value: fx.Node | float, columns: int) -> Tensor | None:
    """A constant of one number, or of one for each column, as FP32 `[columns]`."""
    constant = b.program.constant(value) if isinstance(value, fx.Node) else torch.tensor(float(value))
    if (
        constant is None
        or constant.numel() not in (1, columns)
        or (constant.dim() and constant.shape[-1] != constant.numel())
    ):
        return None
    return constant.detach().float().reshape(-1).expand(columns).contiguous()


def _advance(found: Epilogue, stage: str) -> bool:
    at = STAGES.index(stage)
    if at < found.stage:
        return False
    found.stage = at + 1
    return True


def _set(found: Epilogue, *, gelu: bool = False, round_scale: float | None = None) -> bool:
    found.gelu = found.gelu or gelu
    found.round_scale = found.round_scale if round_scale is None else round_scale
    return True
