"""Each step of a plan by itself, held to what the program computes: an error shows where it arises, and nothing adds up.

Two ways of adding up differ in the last bits, and where a value is rounded to INT8 a last bit decides a whole step: over many
layers this hides a step that is a little wrong. So each step is given the program's own values.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx

from vitgraph.backends.cuda.plan import Step
from vitgraph.backends.cuda.twin import Twin
from vitgraph.ir.dialect import quantize_values
from vitgraph.ir.printer import node_lines
from vitgraph.ir.program import Program


class StepError(NamedTuple):
    """How far a step's result is off: relative L2, and the codes that differ by more than one."""

    name: str
    relative: float
    far: int

    @property
    def wrong(self) -> bool:
        """Whether it is more than rounding: FP16 in other places moves few codes by one, hardly any by two."""
        return self.far > 5 or self.relative > 1e-2


def step_errors(program: Program, twin: Twin, batch: Tensor) -> Iterator[StepError]:
    """Every buffer that a node of the program has the name of, kernels' and torch's."""
    wanted, values = _values(program, batch), {twin.plan.inputs[0]: batch}
    for step in twin.plan.steps:
        twin.run_step(step, values, len(batch))
        for name in step.outputs:
            expected = _expected(step, name, wanted, values[name])
            if expected is None:
                continue
            off = values[name].double() - expected.double()
            far = int((off.abs() > 1).sum()) if expected.dtype == torch.int8 else 0
            yield StepError(name, float(off.norm() / expected.double().norm()), far)
            if step.kernel != "torch":
                values[name].copy_(expected)  # in the memory that the next step reads
            else:
                values[name] = expected


def _expected(step: Step, name: str, wanted: dict[str, Tensor], found: Tensor) -> Tensor | None:
    scale: Any = step.arguments.get("out_scale", step.arguments.get("scale"))
    if name not in wanted or (found.dtype == torch.int8 and not isinstance(scale, float)):
        return None
    value = wanted[name]
    if found.dtype == torch.int8:
        return quantize_values(value.float(), torch.tensor(scale))
    return value.to(found.dtype)


def _values(program: Program, batch: Tensor) -> dict[str, Tensor]:
    """What every node gives, by its name in the program's text."""
    names = {node: line.partition(":")[0] for node, line in node_lines(program)}
    found = dict[str, Tensor]()

    class Recorder(fx.Interpreter):
        def run_node(self, n: fx.Node) -> Any:
            result = super().run_node(n)
            if isinstance(result, Tensor) and n in names:
                found[names[n]] = result.detach()
            return result

    with torch.no_grad():
        Recorder(program.module).run(batch)
    return found
