"""Whether tensors are the weights that a plan names, and those of sparse products 2:4."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from vitgraph.backends.cuda.plan import Plan, Weight
from vitgraph.errors import InputError
from vitgraph.ir.packing import Packing
from vitgraph.ir.tensor_type import type_of


def sparse_weights(plan: Plan) -> set[str]:
    """The names of the weights of sparse products."""
    found = [step.arguments.get("w") for step in plan.steps if step.kernel == "sparse linear"]
    return {each.name for each in found if isinstance(each, Weight)}


def check_tensors(plan: Plan, tensors: Mapping[str, Tensor]) -> None:
    """That these are the plan's weights; `InputError` where they are not, or a sparse product's weight is not 2:4."""
    if violations := plan.violations():
        raise InputError(f"{plan.name}: the steps of the plan do not fit together: {violations[0]}")
    for name, kind in plan.weights.items():
        found = type_of(tensors[name]) if name in tensors else "missing"
        if found != kind:
            raise InputError(f"{plan.name}: weight {name} is {found}, and the plan has {kind}; compile the model again")
    for name in sorted(sparse_weights(plan)):
        if tensors[name].dim() != 2 or not Packing(2, 4).holds(tensors[name] != 0):
            raise InputError(
                f"{plan.name}: weight {name} is not 2:4, and its product is sparse; compile the model again"
            )
