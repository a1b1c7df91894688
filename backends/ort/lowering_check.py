"""Every call of a program, held to what ONNX Runtime computes for it from the file that the program was lowered to.

Two ways of adding up differ in the last bits, and where a value is rounded to INT8 a last bit decides a whole step: at the output of
ViT-Tiny in INT8 file and program are 6 % apart, both right, which hides an operator that is 6 % wrong. So the file is cut at every call,
and each part gets the program's own values: an error shows where it arises, and nothing adds up.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import onnx
import torch
from torch import Tensor, fx

from vitgraph.backends.onnx.cut import Cutter, fed
from vitgraph.backends.ort.session import open_session
from vitgraph.errors import InputError
from vitgraph.ir.calls import AttentionCall
from vitgraph.ir.dialect import attention
from vitgraph.ir.program import Program
from vitgraph.ir.tensor_type import TensorType
from vitgraph.pass_manager.numerics import REORDERS_LIMIT
from vitgraph.runtime.backend import Violation
from vitgraph.runtime.onnx_model import OnnxModel

ROUNDED_LIMIT = 2e-2
"""The largest relative L2 distance of an attention that rounds its probabilities to INT8 on the way."""
OTHER_LIMIT = 1e-3
"""The largest share of whole numbers and truth values that differ: a few may follow from a tie."""
PART_BYTES = 64 << 20
"""How many bytes of values and constants a part reads and gives before the file is asked about it."""


@dataclass(frozen=True)
class LoweringCheck:
    """How many calls were compared, the one that is furthest off measured by its limit, and those over their limits."""

    calls: int
    worst: float
    worst_at: str
    violations: tuple[Violation, ...]

    def to_json(self) -> dict[str, Any]:
        """Report key `lowering`."""
        return {"calls": self.calls, "worst_relative_l2": self.worst, "worst_at": self.worst_at}


def check_lowering(program: Program, model: OnnxModel, batch: Tensor) -> LoweringCheck | str:
    """Compare the file of `program` with it on a batch `[B, ...]`, call by call; a text says why that can't be done here."""
    walk = _Walk(program, model)
    try:
        with torch.no_grad():
            walk.run(batch)
            walk.compare()
    except InputError as error:  # bfloat16 on a CPU
        return str(error)
    worst = max(walk.found, key=lambda each: each.share, default=None)
    violations = tuple(each.violation() for each in walk.found if not each.share <= 1)
    if worst is None:
        return LoweringCheck(0, 0.0, "", violations)
    return LoweringCheck(len(walk.found), float(f"{worst.distance:.2g}"), worst.place, violations)


@dataclass(frozen=True)
class _Compared:
    """One value of the file beside the program's."""

    node: fx.Node
    distance: float
    limit: float

    @property
    def share(self) -> float:
        """How much of its limit it is off."""
        return self.distance / self.limit

    @property
    def place(self) -> str:
        return f"{self.node.meta.get('path') or 'the model itself'} ({self.node.target})"

    def violation(self) -> Violation:
        """Of a value that is further off than it may be."""
        return Violation(
            site=self.place,
            planned="model.onnx computes what the program does",
            found=f"{self.distance:.2g} off by relative L2, over {self.limit:g}",
            why="its ONNX form is wrong, or ONNX Runtime's kernel is; please report it with program/graph.txt",
        )


class _Walk(fx.Interpreter):
    """Runs the program, and has the file compute what each call gives from the same values."""

    def __init__(self, program: Program, model: OnnxModel) -> None:
        super().__init__(program.module)
        self.found = list[_Compared]()
        self._cutter = Cutter(model.path)
        self._folder = model.path.parent
        self._names = {node.name: (name,) for node, name in zip(program.inputs, model.inputs, strict=True)} | dict(
            model.values
        )
        self._asked = dict[str, fx.Node]()
        self._values = dict[str, Tensor]()
        self._bytes = 0
        self._seen = set[str]()

    def run_node(self, n: fx.Node) -> Any:
        """Keep what a call gives and reads until there is enough to ask the file about."""
        value = super().run_node(n)
        given = self._named(n, value)
        new = {name for name in given if self._cutter.makes(name)} - self._seen
        if new:
            self._seen |= new
            self._asked.update(dict.fromkeys(sorted(new), n))
            self._values.update(given)
            for operand in n.all_input_nodes:
                self._values.update(self._named(operand, self.env[operand]))
            self._bytes += _bytes(value) + sum(_bytes(self.env[operand]) for operand in n.all_input_nodes)
        if self._bytes > PART_BYTES:
            self.compare()
        return value

    def compare(self) -> None:
        """Ask the file for the calls that were kept."""
        asked, values = self._asked, self._values
        self._asked, self._values, self._bytes = {}, {}, 0
        if not asked:
            return
        found = _compute(self._cutter.part(list(asked), list(values)), values, self._folder)
        for name, node in asked.items():
            wanted = values[name]
            self.found.append(_Compared(node, _distance(wanted, found[name]), _limit(node, wanted)))

    def _named(self, node: fx.Node, value: Any) -> dict[str, Tensor]:
        """The tensors of a node by their names in the file; none for a constant, or for a size."""
        parts = cast(Sequence[Any], value if isinstance(value, tuple | list) else (value,))
        return {
            name: each
            for name, each in zip(self._names.get(node.name, ()), parts, strict=False)
            if isinstance(each, Tensor)
        }


def _bytes(value: Any) -> int:
    parts = cast(Sequence[Any], value if isinstance(value, tuple | list) else (value,))
    return sum(each.nbytes for each in parts if isinstance(each, Tensor))


def _compute(part: onnx.ModelProto, values: dict[str, Tensor], folder: Path) -> dict[str, Tensor]:
    """What ONNX Runtime makes of a part of a file in `folder`; `InputError` where it has no kernel for it."""
    session = open_session(part.SerializeToString(), "a part of model.onnx", constants_in=folder)
    names = [str(each.name) for each in session.get_outputs()]
    feeds = {fed(name): value for name, value in values.items()} | values
    taken = {str(each.name): feeds[str(each.name)].contiguous().numpy() for each in session.get_inputs()}
    return {name: torch.from_numpy(each) for name, each in zip(names, session.run(names, taken), strict=True)}  # pyright: ignore[reportUnknownMemberType]


def _distance(wanted: Tensor, found: Tensor) -> float:
    """Relative L2; for whole numbers and truth values the share that differs. Infinite where shapes or NaN and infinities differ."""
    if wanted.shape != found.shape:
        return math.inf
    if not wanted.is_floating_point():
        return float((wanted != found).double().mean()) if wanted.numel() else 0.0
    a, b = wanted.double(), found.double()
    finite = a.isfinite()
    if not torch.allclose(a[~finite], b[~finite], equal_nan=True) or not b[finite].isfinite().all():
        return math.inf
    a, b = a[finite], b[finite]
    size, distance = float(a.square().sum().sqrt()), float((a - b).square().sum().sqrt())
    return distance / size if size else distance


def _limit(node: fx.Node, value: Tensor) -> float:
    """By the coarsest type that the call reads or gives, as for passes that reorder sums."""
    kinds = [each.meta["type"] for each in node.all_input_nodes]
    types = [value.dtype, *(kind.dtype for kind in kinds if isinstance(kind, TensorType))]
    limits = [REORDERS_LIMIT[each] for each in types if each in REORDERS_LIMIT]
    if node.target is attention and AttentionCall(node).is_rounded:
        limits.append(ROUNDED_LIMIT)
    return max(limits, default=OTHER_LIMIT)
