"""The cost model held against published figures: each one, the model's, and the error.

The figures stand in `published.yaml`, each group with its source. Of every figure it says on what terms it is compared:

    fitted   the constants of `vitgraph.roofline` were chosen with it
    held     they were not
    assumed  its source leaves out the device, the batch, the type or the pattern, and the group says what was taken
    counted  it counts operations; no time is estimated

A figure that the model cannot answer has a row too, which says why.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources
from typing import Any

import yaml

from vitgraph.cost import count
from vitgraph.encoder import Encoder
from vitgraph.fusion import find_kernels
from vitgraph.kernel import Kernel, linear, refusal, total
from vitgraph.packing import SPARSE
from vitgraph.program import Program
from vitgraph.roofline import FITTED, Estimate, Roofline, Shares, roofline
from vitgraph.target import AttentionKernel, get_target
from vitgraph.workload import BITS, DENSE, Zeros

TERMS = ("fitted", "held", "assumed", "counted")


@dataclass(frozen=True)
class Row:
    """One figure: what it is, the published one (or the ends of a range) and the model's, which is None where `why` says so."""

    group: str
    what: str
    published: tuple[float, float] | None
    model: float | None
    terms: str
    why: str | None = None

    @property
    def error(self) -> float | None:
        """The model's over the published, less one: 0 inside a range, else from its nearer end."""
        if self.model is None or self.published is None:
            return None
        low, high = self.published
        return self.model / min(max(self.model, low), high) - 1


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
        return Zeros(SPARSE[min(16, BITS[kind])])
    kept, _, side = words
    return Zeros(side=int(side), kept=float(kept.removesuffix("%")) / 100)


Answer = tuple[str, tuple[float, float], Callable[[], float]]
"""What the figure is, as published, and how the model answers."""


def _ms(bench: Bench, model: str, batch: int, form: str, ms: float) -> Answer:
    return f"{model} batch {batch} {form}, ms", (ms, ms), lambda: bench.run(model, batch, form).ms


def _gain(bench: Bench, model: str, batch: int, form: str, other: str, low: float, high: float) -> Answer:
    what = f"{model} batch {batch}, time of {form} over {other}"
    return what, (low, high), lambda: bench.run(model, batch, form).ms / bench.run(model, batch, other).ms


def _power(bench: Bench, model: str, batch: int, form: str, other: str, ratio: float) -> Answer:
    def watts(form: str) -> float:
        found = bench.run(model, batch, form)
        assert found.mj is not None, "a target of published.yaml has a power"
        return found.mj / found.ms

    return f"{model} batch {batch}, power of {form} over {other}", (ratio, ratio), lambda: watts(form) / watts(other)


def _linear_gain(bench: Bench, rows: int, n: int, k: int, kind: str, low: float, high: float) -> Answer:
    def ms(zeros: Zeros) -> float:
        return linear("fc1", rows, n, k, kind, zeros).estimate(bench.line).ms

    what = f"linear {k} to {n}, {rows} rows {kind}, time of dense over 2:4"
    return what, (low, high), lambda: ms(DENSE) / ms(zeros_of(kind, ["2:4"]))


def _break_even(bench: Bench, side: int, sparsity: float) -> Answer:
    def zeros() -> float:
        pays = (kept for kept in range(1000, 0, -1) if bench.line.time_left(Zeros(side=side, kept=kept / 1000)) < 1)
        return 1 - next(pays) / 1000

    return f"share of zeros from which tiles of {side} pay", (sparsity, sparsity), zeros


def _program_ms(bench: Bench, model: str, batch: int, kind: str, ms: float) -> Answer:
    def answer() -> float:
        kernels = find_kernels(bench.capture(model))
        return bench.estimate([kernel.in_type(kind) for kernel in kernels], batch).ms

    return f"{model} batch {batch} {kind}, ms", (ms, ms), answer


def _gigamacs(bench: Bench, model: str, kept: float, giga: float) -> Answer:
    return f"{model} {100 * kept:.4g} % kept, G", (giga, giga), lambda: kept * count(bench.capture(model)).macs / 1e9


FORMS: Mapping[str, Callable[..., Answer]] = {
    "ms": _ms, "gain": _gain, "power": _power, "linear_gain": _linear_gain, "break_even": _break_even,
    "program_ms": _program_ms, "gigamacs": _gigamacs,
}  # fmt: skip
"""What a group of `published.yaml` may list."""


@cache
def document() -> dict[str, Any]:
    """The file: `encoders`, and `groups` of figures."""
    text = resources.files("vitgraph").joinpath("published.yaml").read_text(encoding="utf-8")
    found: dict[str, Any] = yaml.safe_load(text)
    return found


def rows(
    capture: Callable[[str], Program], shares: Shares = FITTED, forms: Sequence[str] = tuple(FORMS)
) -> Iterator[Row]:
    """Every figure of these forms; `capture` gives a timm model's canonical program."""
    once = cache(capture)
    for name, group in document()["groups"].items():
        setting = Setting(**group.get("setting", {}))
        bench = Bench(document()["encoders"], setting, setting.roofline(shares), once)
        for form in forms:
            for entry in group.get(form, []):
                yield _row(bench, name, form, entry, group.get("terms", "held"))
        yield from (Row(name, what, None, None, "unanswered", why) for what, why in group.get("unanswered", []))


def _row(bench: Bench, group: str, form: str, entry: Sequence[Any], terms: str) -> Row:
    if entry[-1] == "fitted":
        entry, terms = entry[:-1], "fitted"
    what, published, answer = FORMS[form](bench, *entry)
    try:
        return Row(group, what, published, answer(), terms)
    except Unanswered as none:
        return Row(group, what, published, None, terms, str(none))


@dataclass(frozen=True)
class Summary:
    """How far the model is off on the figures of one kind of terms, as shares of the published ones."""

    terms: str
    figures: int
    median: float
    largest: float


def summarize(found: Sequence[Row]) -> tuple[Summary, ...]:
    """One line for each kind of terms that occurs."""
    errors = {
        terms: [abs(row.error) for row in found if row.error is not None and row.terms == terms] for terms in TERMS
    }
    return tuple(
        Summary(terms, len(each), statistics.median(each), max(each)) for terms, each in errors.items() if each
    )
