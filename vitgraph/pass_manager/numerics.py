"""How two outputs are compared, and what each effect allows."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

import torch
from torch import Tensor, fx

from vitgraph.ir.call_arguments import argument
from vitgraph.ir.dialect import aten, attention
from vitgraph.ir.operator_classes import LINEARS
from vitgraph.ir.program import Program
from vitgraph.ir.tensor_type import TensorType
from vitgraph.pass_manager.pass_contract import Effect

REORDERS_LIMIT = {torch.float32: 1e-4, torch.float16: 2e-2, torch.bfloat16: 1e-1}
"""The largest relative L2 distance that another order of rounding may cause, by the coarsest type that anything is computed in."""

_SITES = (*LINEARS, attention)


@dataclass(frozen=True)
class Drift:
    """How far one output is from another."""

    max_abs: float
    relative_l2: float
    cosine: float
    top1_agreement: float

    def to_json(self) -> dict[str, float]:
        """Report key `drift`."""
        return asdict(self)


def flatten_outputs(outputs: Any) -> list[Tensor]:
    """The floating-point tensors among a model's outputs, in order."""
    if isinstance(outputs, Tensor):
        return [outputs]
    if isinstance(outputs, list | tuple):
        return [tensor for item in outputs for tensor in flatten_outputs(item)]  # pyright: ignore[reportUnknownVariableType]
    return []


def measure(reference: Any, found: Any) -> Drift:
    """Distance of each output by itself, the worst told; top-1 is taken along the last dimension of the first.

    Outputs are not put together: class scores of 1 would hide what boxes of 0.1 lose. Truth values count as 0 and 1. NaN is
    no distance from NaN, nor infinity from the same infinity; from all else both are infinitely far.
    """
    before, after = flatten_outputs(reference), flatten_outputs(found)
    drifts = [_drift(*pair) for pair in zip(before, after, strict=True)]
    return Drift(
        max(each.max_abs for each in drifts),
        max(each.relative_l2 for each in drifts),
        min(each.cosine for each in drifts),
        drifts[0].top1_agreement,
    )


def _drift(reference: Tensor, found: Tensor) -> Drift:
    a, b = (each.detach().double().flatten() for each in (reference, found))
    apart, known = _apart(a, b), a.isfinite() & b.isfinite()
    size = _length(a[a.isfinite()])
    distance = _length(apart)
    relative = distance / size if size else (0.0 if distance == 0.0 else math.inf)
    norms = _length(a[known]) * _length(b[known])
    cosine = float(a[known] @ b[known]) / norms if norms else (1.0 if distance == 0.0 else 0.0)
    largest = float(apart.max()) if apart.numel() else 0.0
    return Drift(largest, relative, min(1.0, cosine), _top1_agreement(reference, found))


def _apart(a: Tensor, b: Tensor) -> Tensor:
    """How far each element is from its counterpart."""
    return torch.where(_alike(a, b), 0.0, (a - b).abs()).nan_to_num(nan=math.inf, posinf=math.inf)


def _alike(a: Tensor, b: Tensor) -> Tensor:
    """Where two tensors hold the same number, or both NaN."""
    return (a == b) | (a.isnan() & b.isnan())


def _length(values: Tensor) -> float:
    return float(values.square().sum().sqrt())


def _top1_agreement(reference: Tensor, found: Tensor) -> float:
    if reference.dim() == 0 or reference.numel() == 0:
        return 1.0
    return float((reference.double().argmax(-1) == found.double().argmax(-1)).double().mean())


def reorders_limit(*programs: Program) -> float:
    """Of `REORDERS_LIMIT` the entry of the coarsest type that a call of these programs gives."""
    kinds = [node.meta.get("type") for program in programs for node in program.calls()]
    return max((REORDERS_LIMIT.get(kind.dtype, 0.0) for kind in kinds if isinstance(kind, TensorType)), default=0.0)


def objection(effect: Effect, reference: Any, found: Any, limit: float = 0.0) -> str | None:
    """Why `found` is further from `reference` than the effect allows, or None. `LOSSY` is judged by `site_snr`.

    `limit` is the programs' `reorders_limit`; outputs of a coarser type are allowed that type's.
    """
    before, after = flatten_outputs(reference), flatten_outputs(found)
    if [tuple(t.shape) for t in before] != [tuple(t.shape) for t in after]:
        return f"the outputs' shapes went from {[list(t.shape) for t in before]} to {[list(t.shape) for t in after]}"
    if effect is Effect.EXACT:
        same = all(bool(_alike(a, b).all()) for a, b in zip(before, after, strict=True))
        return None if same else f"declared exact, but the outputs moved by {measure(reference, found).max_abs:.3g}"
    if effect is Effect.REORDERS:
        limit = max([limit, *(REORDERS_LIMIT.get(t.dtype, 1e-4) for t in after)])
        drift = measure(reference, found).relative_l2
        return None if drift <= limit else f"declared reorders, but the relative L2 drift is {drift:.3g} > {limit:g}"
    if effect is Effect.RANKING:
        same = all(_keeps_order(a, b) for a, b in zip(before, after, strict=True))
        return None if same else "declared ranking, but the order of the outputs changed"
    return None


def _keeps_order(reference: Tensor, found: Tensor) -> bool:
    """Does `found` fall where `reference` falls, along the last dimension? What the reference rounds to a tie is free."""
    falling = found.argsort(-1, descending=True)
    order = falling.gather(-1, reference.gather(-1, falling).argsort(dim=-1, descending=True, stable=True))
    return bool((found.gather(-1, order).diff(dim=-1) <= 0).all())


def snr_db(reference: Tensor, found: Tensor, silence: float = 0.0) -> float:
    """Signal-to-noise ratio in decibels: energy of the reference over energy of the difference.

    A reference whose mean square is under `silence` counts as one of that: a ratio to nothing says nothing of the noise.
    """
    a, b = reference.detach().double(), found.detach().double()
    noise = float((a - b).square().sum())
    signal = max(float(a.square().sum()), silence * a.numel())
    if noise == 0.0:
        return math.inf
    return 10 * math.log10(signal / noise) if signal and math.isfinite(noise) else -math.inf


def site_keys(program: Program) -> dict[fx.Node, str]:
    """A stable name for each place where a lossy pass is judged: module path and operator, and the output."""
    keys = dict[fx.Node, str]()
    taken = dict[str, int]()
    for node in program.calls(*_SITES):
        stem = node.meta.get("path") or str(node.target)
        taken[stem] = taken.get(stem, 0) + 1
        keys[node] = stem if taken[stem] == 1 else f"{stem}#{taken[stem]}"
    return keys


def _choices(program: Program) -> dict[fx.Node, str]:
    """A name for each choice of the largest: what it gives is discontinuous, and no measure of the rounding ahead of it."""
    return {node: f"choice {number}" for number, node in enumerate(program.calls(aten.topk.default))}


class _Recorder(fx.Interpreter):
    """Runs a graph and keeps the value of each site, and which places each choice took."""

    def __init__(self, program: Program) -> None:
        super().__init__(program.module)
        self.keys, self.choices = site_keys(program), _choices(program)
        self.values = dict[str, Tensor]()

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        if n in self.choices:
            self.values[self.choices[n]] = value[1]
        if n in self.keys:
            self.values[self.keys[n]] = value
        return value


_SILENCE = 1e-10
"""Mean square of a signal beside that of the model's others (-100 dB) below which it is none: what FP32 leaves of a zero."""


def _silence(sites: dict[str, Tensor]) -> float:
    """The mean square below which a site of this model has no signal."""
    values = [value for value in sites.values() if value.is_floating_point() and value.numel()]
    energies = [float(value.detach().double().square().mean()) for value in values]
    return _SILENCE * median([each for each in energies if each > 0] or [0.0])


class _Judge(fx.Interpreter):
    """Runs a graph, holds each site to the reference, and goes on with the reference's value: clean inputs for all.

    Sites of `spoilt`, and whatever depends on them, keep the values that they have.
    """

    def __init__(self, program: Program, reference: dict[str, Tensor], spoilt: Collection[str] = ()) -> None:
        super().__init__(program.module)
        self.keys, self.choices = site_keys(program), _choices(program)
        self.reference, self.silence, self.spoilt = reference, _silence(reference), spoilt
        self.ratios, self.depend = dict[str, float](), set[fx.Node]()

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        if self.keys.get(n) in self.spoilt or not self.depend.isdisjoint(n.all_input_nodes):
            self.depend.add(n)
        if n in self.choices:
            return self._chosen(n, value)
        wanted = self.reference.get(self.keys.get(n, ""))
        if wanted is None or wanted.shape != value.shape:
            return value
        self.ratios[self.keys[n]] = snr_db(wanted, value, self.silence)
        return value if n in self.depend else wanted.to(value.dtype)

    def _chosen(self, n: fx.Node, value: Any) -> Any:
        """The places that the reference took, and what stands there now."""
        places = self.reference.get(self.choices[n])
        if places is None or places.shape != value[1].shape:
            return value
        data = self.env[n.all_input_nodes[0]]
        dim = argument(n, "dim")
        return data.gather(-1 if dim is None else dim, places), places


def record(program: Program, inputs: list[Tensor]) -> tuple[Any, dict[str, Tensor]]:
    """The outputs on a probe batch, and the value of every site."""
    recorder = _Recorder(program)
    with torch.no_grad():
        return recorder.run(*inputs), recorder.values


def site_snr(
    program: Program, inputs: list[Tensor], outputs: Any, sites: dict[str, Tensor], spoilt: Collection[str] = ()
) -> dict[str, float]:
    """Signal-to-noise ratio (dB) of every site and of `output`, each fed with the reference's clean values.

    Of `output` alone where sites are `spoilt`: their errors go on to it, and nothing downstream of them is clean.
    """
    judge = _Judge(program, sites, spoilt)
    with torch.no_grad():
        found = judge.run(*inputs)
    pairs = zip(flatten_outputs(outputs), flatten_outputs(found), strict=True)
    return {**judge.ratios, "output": min(snr_db(a, b, judge.silence) for a, b in pairs)}
