"""A plan as text: one line a step, for golden tests and for people.

    blocks_0: i8[N, 37, 64] = normalize(x=add, weight=%blocks.0.norm1.weight, bias=%blocks.0.norm1.bias, eps=1e-06, scale=0.0312)  # blocks.0.norm1

Buffers with padded rows end in `+`, weights begin with `%`, operators of torch stand by their own names. Numbers are rounded to four
digits, and arguments that are None or False left out: the text is to be read, the file (`plan_file`) is exact.
"""

from __future__ import annotations

import torch

from vitgraph.backends.cuda.plan import Argument, Plan, SiteChoice, Step, Value, Weight
from vitgraph.ir.tensor_type import DTYPE_NAMES


def show_plan(plan: Plan) -> str:
    """Inputs, steps, outputs, and what became of each site."""
    inputs = [f"{name}: {plan.buffers[name].type} = input()" for name in plan.inputs]
    steps = [_step(plan, step) for step in plan.steps]
    sites = [_site(site) for site in plan.sites]
    return "\n".join([f"# plan: {plan.name}", *inputs, *steps, f"return_({', '.join(plan.outputs)})", *sites]) + "\n"


def _step(plan: Plan, step: Step) -> str:
    written = [f"{name}: {plan.buffers[name].type}{'+' * plan.buffers[name].padded}" for name in step.outputs]
    given = [
        f"{name}={show_argument(each)}" for name, each in step.arguments.items() if not (each is None or each is False)
    ]
    name = step.operator or step.kernel.replace(" ", "_")
    path = f"  # {step.path}" if step.path else ""
    return f"{', '.join(written)} = {name}({', '.join(given)}){path}"


def _site(site: SiteChoice) -> str:
    more = f" with {', '.join(site.epilogue)}" if site.epilogue else ""
    return f"# site {site.path}: {site.format}, {site.kernel}{more}{f'; {site.why}' if site.why else ''}"


def show_argument(argument: Argument) -> str:
    """One argument, as a person reads it."""
    if isinstance(argument, Value):
        return argument.name
    if isinstance(argument, Weight):
        return f"%{argument.name}"
    if isinstance(argument, tuple):
        return f"[{', '.join(map(show_argument, argument))}]"
    if isinstance(argument, torch.dtype):
        return DTYPE_NAMES[argument]
    return f"{argument:.4g}" if isinstance(argument, float) else str(argument)
