"""The linears of a plan by size: what `vitgraph tune` times, each size once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from vitgraph.backends.cuda.plan import PADDING, Plan, Step, Value, Weight
from vitgraph.cost.measured import Used
from vitgraph.errors import InputError
from vitgraph.ir.tensor_type import TensorType

_NAMES = {"linear": ("x", "w"), "sparse linear": ("x", "w"), "aten.linear.default": ("input", "weight")}
"""Which arguments of a step are its input and its weight."""


@dataclass(frozen=True)
class LinearSize:
    """`[rows, k]` by `[k, n]`, and where a plan has it."""

    rows: int
    n: int
    k: int
    used: tuple[Used, ...] = ()

    @property
    def padded(self) -> int:
        """Rows as a sparse product takes them."""
        return -(-self.rows // PADDING) * PADDING

    def __str__(self) -> str:
        return f"{self.rows} x {self.k} to {self.n}"


def linear_sizes(plan: Plan, batches: Sequence[int]) -> list[LinearSize]:
    """Every size at these batch sizes once, rows told apart as they are padded; `InputError` where the plan is for another batch, or has none."""
    fixed = plan.buffers[plan.inputs[0]].type.shape[0]
    if isinstance(fixed, int) and set(batches) != {fixed}:
        raise InputError(
            f"--batch {','.join(map(str, batches))}: {plan.name} was compiled for a batch of {fixed}; give that"
        )
    found = dict[tuple[int, int, int], tuple[int, dict[int, list[str]]]]()
    for batch in batches:
        for path, rows, n, k in _linears(plan, batch):
            _, used = found.setdefault((-(-rows // PADDING), n, k), (rows, {}))
            used.setdefault(batch, []).append(path)
    if not found:
        raise InputError(f"{plan.name}: has no linear to time")
    return [
        LinearSize(rows, n, k, tuple(Used(batch=batch, sites=sites) for batch, sites in used.items()))
        for (_, n, k), (rows, used) in found.items()
    ]


def _linears(plan: Plan, batch: int) -> Iterator[tuple[str, int, int, int]]:
    """Path, rows, N and K of each, in the plan's order."""
    for step in plan.steps:
        names = _NAMES.get(step.operator or step.kernel)
        if names is None:
            continue
        x, weight = step.arguments[names[0]], _type(plan, step, names[1])
        if isinstance(x, Value) and weight is not None and len(weight.shape) == 2:
            n, k = weight.at(batch)
            yield step.path, plan.buffers[x.name].matrix(batch)[0], n, k


def _type(plan: Plan, step: Step, name: str) -> TensorType | None:
    given = step.arguments[name]
    if isinstance(given, Weight):
        return plan.weights[given.name]
    return plan.buffers[given.name].type if isinstance(given, Value) else None
