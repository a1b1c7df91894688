"""Take the shift of a pair ahead of it, and let biases make up for it: an engine's pairs stand around zero.

Before:
    xq = vitgraph.fake_quantize.default(x, x_scale, None, 'int8', z)       # round(x - z) + z
    wq = vitgraph.fake_quantize.default(w, w_scale, 0)
    y = aten.linear.default(xq, wq, b)

After:
    c = aten.sub.Tensor(x, z)
    xq = vitgraph.fake_quantize.default(c, x_scale, None)
    wq = vitgraph.fake_quantize.default(w, w_scale, 0)
    y = aten.linear.default(xq, wq, b_centred)                             # b + wq z: the rounded weights, they are what z is taken from

TensorRT refuses zero points other than 0. What reads the pair and is no product with a bias gets z added again. The sums are
taken in another order, and after rounding that is no small matter: a value beside the middle of two codes falls to the other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import fx

from vitgraph.ir import dialect
from vitgraph.ir.calls import QuantizeCall
from vitgraph.ir.dialect import aten
from vitgraph.ir.navigate import path_of
from vitgraph.ir.program import Program
from vitgraph.pass_manager.pass_contract import Context, Effect, Pass
from vitgraph.passes.quantization.channel_shifts import may_shift, move_bias


@dataclass(frozen=True)
class AbsorbShifts(Pass):
    """Shifts become a subtraction and biases."""

    name: ClassVar[str] = "absorb-shifts"
    effect: ClassVar[Effect] = Effect.LOSSY
    floor_db: ClassVar[float] = 10.0

    def run(self, program: Program, context: Context) -> None:
        """Fold every shift; nothing is refused."""
        for pair in program.calls(dialect.fake_quantize):
            if QuantizeCall(pair).shift is not None and context.take(self.name, path_of(pair)):
                _fold(program, pair)


def _fold(program: Program, pair: fx.Node) -> None:
    call, path = QuantizeCall(pair), pair.meta.get("path", "")
    z = call.shift
    assert z is not None
    products = [reader for reader in pair.users if may_shift(program, reader, pair, z)]
    others = [reader for reader in pair.users if reader not in products]
    for product in products:
        move_bias(program, product, program.tensor(str(z.target)), "centred")
    centred = program.insert(pair, aten.sub.Tensor, call.data, z, path=path)
    pair.args = QuantizeCall.written(centred, call.scale, call.axis, call.format)
    if others:
        back = program.insert(pair.next, aten.add.Tensor, pair, z, path=path)
        for reader in others:
            reader.replace_input_with(pair, back)
