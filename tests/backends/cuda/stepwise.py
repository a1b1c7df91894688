"""Each step of a plan by itself, held to what the program computes: an error shows where it arises, and nothing adds up.

The distance of two runtimes at the end of a network of INT8 values proves nothing. For the sparse INT8 ViT-Tiny of ImageNet,
other last bits of the FP32 input move the logits by 5.2 % (relative L2) and 4.5 % of the answers (`benchmarks/last_bit.py`): where
a value is rounded to a code, a last bit decides a whole step, and the next layers round again. Two right runtimes differ by more
than a lowering that is a little wrong. So each step is given the program's own values, and its result may differ by one code.

Measured worst, digits-vit and ViT-Tiny, dense and sparse: one code apart everywhere but in attention, whose probabilities are codes
too and are summed: there 1 of 9,000 codes is two apart. Relative L2 is 2.4e-5 of FP16 values that no code was made of, and 7.8e-3 of
codes and of values made of codes, where a few in a thousand fall to the other side.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx

from vitgraph.backends.cuda.plan import Step, Weight
from vitgraph.backends.cuda.twin import Twin
from vitgraph.ir.dialect import quantize_values
from vitgraph.ir.printer import node_lines
from vitgraph.ir.program import Program


class StepError(NamedTuple):
    """How far a step's result is off."""

    name: str
    kernel: str
    rounded: bool
    """Whether it is codes, or has been."""
    relative: float
    """Relative L2."""
    most: int
    """Codes that the furthest is apart; 0 of a result that is not made of codes."""
    far: float
    """The share of codes that are further apart than one."""

    @property
    def wrong(self) -> bool:
        """Whether it is more than rounding."""
        attends = self.kernel == "attention"
        near = self.relative <= (1e-2 if self.rounded else 1e-4)
        return not (near and self.most <= 1 + attends and self.far <= 1e-3 * attends)


def relative_l2(found: Tensor, wanted: Tensor) -> float:
    """‖found - wanted‖ / ‖wanted‖."""
    return float(((found.double() - wanted.double()).square().sum() / wanted.double().square().sum()).sqrt())


def step_errors(program: Program, twin: Twin, batch: Tensor) -> Iterator[StepError]:
    """Every buffer that a node of the program has the name of, kernels' and torch's."""
    wanted, values = _values(program, batch), {twin.plan.inputs[0]: batch}
    for step in twin.plan.steps:
        twin.run_step(step, values, len(batch))
        for name in step.outputs:
            expected = _expected(step, name, wanted, values[name])
            if expected is None:
                continue
            yield _error(step, twin, name, values[name], expected)
            if step.kernel != "torch":
                values[name].copy_(expected)  # in the memory that the next step reads
            else:
                values[name] = expected


def _error(step: Step, twin: Twin, name: str, found: Tensor, wanted: Tensor) -> StepError:
    """The two compared."""
    apart = _codes_apart(step, twin, found, wanted)
    relative = relative_l2(found, wanted)
    if apart is None:
        return StepError(name, step.kernel, False, relative, 0, 0.0)
    return StepError(name, step.kernel, True, relative, int(apart.max()), float((apart > 1).double().mean()))


def _codes_apart(step: Step, twin: Twin, found: Tensor, wanted: Tensor) -> Tensor | None:
    """By how many codes each value differs; None where it is not made of codes. FP16 hides less than a tenth of a code."""
    if wanted.dtype == torch.int8:
        return (found.int() - wanted.int()).abs()
    scale, multiplier = step.arguments.get("round_scale"), step.arguments.get("multiplier")
    if not isinstance(scale, float):
        return None
    factor = twin.weights[multiplier.name] if isinstance(multiplier, Weight) else torch.ones(1)
    return ((found.double() - wanted.double()) / (scale * factor.double().abs().clamp(min=1e-9))).abs().round()


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
