"""Every call of a program, held to what ONNX Runtime computes for it from the file that the program was lowered to.

Two ways of adding up differ in the last bits, and where a value is rounded to INT8 a last bit decides a whole step: at the output of
ViT-Tiny in INT8 file and program are 6 % apart, both right, which hides an operator that is 6 % wrong. So the file is cut at every call,
and each part gets the program's own values: an error shows where it arises, and nothing adds up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, fx

from vitgraph.backends.onnx.cut import Cutter
from vitgraph.backends.ort.answers import Answers, first_line
from vitgraph.backends.ort.distance import place_of
from vitgraph.backends.ort.parts import Parts
from vitgraph.ir.program import Program
from vitgraph.runtime.backend import Violation
from vitgraph.runtime.onnx_model import OnnxModel

PART_BYTES = 64 << 20
"""How many bytes of values and constants a part reads and gives before the file is asked about it."""


@dataclass(frozen=True)
class LoweringCheck:
    """How many calls there are and were compared, the one that is furthest off measured by its limit, and what is wrong."""

    calls: int
    """Those whose value depends on the input, or is computed in the file all the same."""
    compared: int
    worst: float | None
    """None where nothing was compared."""
    worst_at: str | None
    violations: tuple[Violation, ...]
    why: str | None
    """Why the first of those that were not compared was not, in one line; None where all were."""

    def to_json(self) -> dict[str, Any]:
        """Report key `lowering`."""
        worst = {"worst_relative_l2": self.worst, "worst_at": self.worst_at}
        return {"calls": self.calls, "compared": self.compared, **worst, "why": self.why}


def check_lowering(program: Program, model: OnnxModel, batch: Tensor) -> LoweringCheck:
    """Compare the file of `program` with it on a batch `[B, ...]`, call by call.

    What can't be computed here (bfloat16 on a CPU) is counted, with the reason; a file that ONNX Runtime refuses for another is wrong.
    """
    walk = _Walk(program, model)
    with torch.no_grad():
        walk.run(batch)
        walk.compare()
    answers = walk.answers
    worst = max(answers.found, key=lambda each: each.share, default=None)
    return LoweringCheck(
        calls=len(walk.calls),
        compared=len(walk.calls - answers.left.keys()),
        worst=None if worst is None else float(f"{worst.distance:.2g}"),
        worst_at=None if worst is None else place_of(worst.node),
        violations=(*(each.violation() for each in answers.found if not each.share <= 1), *answers.refused),
        why=next(map(first_line, answers.left.values()), None),
    )


class _Walk(fx.Interpreter):
    """Runs the program, and has the file compute what each call gives from the same values."""

    def __init__(self, program: Program, model: OnnxModel) -> None:
        super().__init__(program.module)
        self.calls = set[fx.Node]()
        self._cutter = Cutter(model.path)
        self.answers = Answers(Parts(self._cutter, model.path.parent))
        self._names = {node.name: (name,) for node, name in zip(program.inputs, model.inputs, strict=True)} | dict(
            model.values
        )
        self._moving = set[fx.Node](program.inputs)
        """Whatever depends on the input."""
        self._inputs = dict[str, Tensor]()
        self._asked = dict[str, fx.Node]()
        self._values = dict[str, Tensor]()
        self._bytes = 0
        self._seen = set[str]()

    def run_node(self, n: fx.Node) -> Any:
        """Keep what a call gives and reads until there is enough to ask the file about."""
        value = super().run_node(n)
        if n.op == "placeholder":
            self._inputs |= self._named(n, value)
        if not self._moving.isdisjoint(n.all_input_nodes) and n.op != "output":
            self._moving.add(n)
        if n.op == "call_function" and any(isinstance(each, Tensor) for each in _parts(value)):
            given = self._named(n, value)
            if n in self._moving or any(map(self._cutter.makes, given)):
                self._keep(n, value, given)
        if self._bytes > PART_BYTES:
            self.compare()
        return value

    def compare(self) -> None:
        """Ask the file for the calls that were kept."""
        asked, values = self._asked, self._inputs | self._values
        self._asked, self._values, self._bytes = {}, {}, 0
        if asked:
            self.answers.ask(asked, values)

    def _keep(self, n: fx.Node, value: Any, given: dict[str, Tensor]) -> None:
        if given and given.keys() <= self._seen | self._inputs.keys():
            return  # it only passes on what another call gave
        self.calls.add(n)
        lost = [name for name in given if not self._cutter.has(name)]
        if lost or not given:
            self.answers.left[n] = (
                f"model.onnx has no value {lost[0]}" if lost else f"model.onnx has no value of {place_of(n)}"
            )
            return
        new = {name for name in given if self._cutter.makes(name) and self._cutter.knows(name)} - self._seen
        self._seen |= given.keys()
        if not new:
            self.answers.left[n] = f"model.onnx does not say of which type {next(iter(given))} is"
            return
        self._asked.update(dict.fromkeys(sorted(new), n))
        self._values.update(given)
        for operand in n.all_input_nodes:
            self._values.update(self._named(operand, self.env[operand]))
        self._bytes += _bytes(value) + sum(_bytes(self.env[operand]) for operand in n.all_input_nodes)

    def _named(self, node: fx.Node, value: Any) -> dict[str, Tensor]:
        """The tensors of a node by their names in the file; none for a constant, or for a size."""
        pairs = zip(self._names.get(node.name, ()), _parts(value), strict=False)
        return {name: each for name, each in pairs if isinstance(each, Tensor)}


def _parts(value: Any) -> Sequence[Any]:
    return cast(Sequence[Any], value if isinstance(value, tuple | list) else (value,))


def _bytes(value: Any) -> int:
    return sum(each.nbytes for each in _parts(value) if isinstance(each, Tensor))
