"""How the cost model answers each kind of published figure: a time, a gain, a power, a share of zeros, a count.

A group of `published.yaml` is measured on one device with one software (`Setting`); each of its entries becomes what the
figure is, what was published, and the model's answer (`FORMS`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from vitgraph.cost.counts import count
from vitgraph.cost.encoder import Encoder
from vitgraph.cost.fusion import find_kernels
from vitgraph.cost.kernel import Kernel, linear, refusal, total
from vitgraph.cost.roofline import Estimate, Roofline, roofline
from vitgraph.cost.shares import Shares
from vitgraph.cost.workload import DENSE, Zeros, two_of_four
from vitgraph.ir.program import Program
from vitgraph.targets.capability import AttentionKernel
from vitgraph.targets.target import get_target


@dataclass(frozen=True)
class Setting:
    """How a group of figures was measured."""

    target: str = "a100"
    bandwidth: float | None = None
    """GB/s, where it is not the target's."""
    system: str = "tensorrt"
    fused_tokens: int | None = None
    """The longest sequence that the software has a fused attention for, where that is not the target's builder."""

    def roofline(self, shares: Shares) -> Roofline:
        """The model of that device, with that software's attention."""
        target = get_target(self.target)
        if self.fused_tokens is not None:
            fused = AttentionKernel(max_tokens=self.fused_tokens, source="published.yaml")
            target = target.model_copy(update={"attention_kernels": dict.fromkeys(("fp16", "bf16", "int8"), fused)})
        line = roofline(target, shares)
        assert isinstance(line, Roofline), f"published.yaml compares with {self.target}, of which {line}"
        return replace(line, bandwidth=self.bandwidth or line.bandwidth)


@dataclass(frozen=True)
class Bench:
    """The cost model set up as one group of figures was measured."""

    encoders: Mapping[str, Mapping[str, int]]
    setting: Setting
    line: Roofline
    capture: Callable[[str], Program]
    """A timm model's canonical program, by name."""

    def run(self, model: str, batch: int, form: str) -> Estimate:
        """One encoder, named `deit-b`, or `bert-base@384` for other tokens than its own."""
        name, _, tokens = model.partition("@")
        encoder = Encoder(**(dict(self.encoders[name]) | ({"tokens": int(tokens)} if tokens else {})))
        return self.estimate(kernels_of(encoder, self.setting.system, form), batch)

    def estimate(self, kernels: Sequence[Kernel], batch: int) -> Estimate:
        """All of them, with the sparse kernels that were asked for even where dense ones are faster."""
        why = refusal(kernels, self.line)
        if why is not None:
            raise Unanswered(why)
        each = {kernel: kernel.estimate(self.line, batch) for kernel in dict.fromkeys(kernels)}  # layers are alike
        return total(each[kernel] for kernel in kernels)


class Unanswered(Exception):
    """The model has no answer, and why; it becomes the row's."""


def kernels_of(encoder: Encoder, system: str, form: str) -> tuple[Kernel, ...]:
    """An encoder in a form such as `fp16`, `int8 2:4`, `bf16 2:4 mlp` or `fp32 10% in 32 mlp`, which are tiles."""
    kind, *words = form.split()
    mlp_only = "mlp" in words
    zeros = zeros_of(kind, [word for word in words if word != "mlp"])
    return encoder.kernels(system, kind, DENSE if mlp_only else zeros, zeros)


def zeros_of(kind: str, words: Sequence[str]) -> Zeros:
    """`2:4` as the type's sparse products have it, `10% in 32` as tiles of which a tenth is kept, nothing as no zeros."""
    if not words:
        return DENSE
    if words[0] == "2:4":
        return two_of_four(kind)
    kept, _, side = words
    return Zeros(side=int(side), kept=float(kept.removesuffix("%")) / 100)


PublishedAnswer = tuple[str, tuple[float, float], Callable[[], float]]
"""What the figure is, as published, and how the model answers."""


def _ms(bench: Bench, model: str, batch: int, form: str, ms: float) -> PublishedAnswer:
    return f"{model} batch {batch} {form}, ms", (ms, ms), lambda: bench.run(model, batch, form).ms


def _gain(bench: Bench, model: str, batch: int, form: str, other: str, low: float, high: float) -> PublishedAnswer:
    what = f"{model} batch {batch}, time of {form} over {other}"
    return what, (low, high), lambda: bench.run(model, batch, form).ms / bench.run(model, batch, other).ms


def _power(bench: Bench, model: str, batch: int, form: str, other: str, ratio: float) -> PublishedAnswer:
    def watts(form: str) -> float:
        found = bench.run(model, batch, form)
        assert found.mj is not None, "a target of published.yaml has a power"
        return found.mj / found.ms

    return f"{model} batch {batch}, power of {form} over {other}", (ratio, ratio), lambda: watts(form) / watts(other)


def _linear_gain(bench: Bench, rows: int, n: int, k: int, kind: str, low: float, high: float) -> PublishedAnswer:
    def ms(zeros: Zeros) -> float:
        return linear("fc1", rows, n, k, kind, zeros).estimate(bench.line).ms

    what = f"linear {k} to {n}, {rows} rows {kind}, time of dense over 2:4"
    return what, (low, high), lambda: ms(DENSE) / ms(two_of_four(kind))


def _break_even(bench: Bench, side: int, sparsity: float) -> PublishedAnswer:
    def zeros() -> float:
        pays = (kept for kept in range(1000, 0, -1) if bench.line.time_left(Zeros(side=side, kept=kept / 1000)) < 1)
        return 1 - next(pays) / 1000

    return f"share of zeros from which tiles of {side} pay", (sparsity, sparsity), zeros


def _program_ms(bench: Bench, model: str, batch: int, kind: str, ms: float) -> PublishedAnswer:
    def answer() -> float:
        kernels = find_kernels(bench.capture(model))
        return bench.estimate([kernel.in_type(kind) for kernel in kernels], batch).ms

    return f"{model} batch {batch} {kind}, ms", (ms, ms), answer


def _gigamacs(bench: Bench, model: str, kept: float, giga: float) -> PublishedAnswer:
    return f"{model} {100 * kept:.4g} % kept, G", (giga, giga), lambda: kept * count(bench.capture(model)).macs / 1e9


FORMS: Mapping[str, Callable[..., PublishedAnswer]] = {
    "ms": _ms, "gain": _gain, "power": _power, "linear_gain": _linear_gain, "break_even": _break_even,
    "program_ms": _program_ms, "gigamacs": _gigamacs,
}  # fmt: skip
"""What a group of `published.yaml` may list."""
