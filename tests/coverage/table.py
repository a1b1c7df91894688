"""The coverage table: what each model is expected to come to, one line a model in `table.txt`.

A line is: the model; its products in eager mode, linears and convolutions; its softmaxes, those inside of an attention operator, and those of
INT8 attentions; the least cosine to eager mode; the INT8 products by role; and why all others are none, by short names of `REASONS`.
`python -m tests.coverage NAME …` measures models and prints their lines.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.coverage.measuring import Measured
from tests.coverage.reasons import REASONS

FLOOR = 0.99
"""Of the cosine, unless a line says less."""
REFUSED = "refused:"
"""Stands in a line where the others have numbers; the reason follows."""
PENDING = "pending"
"""Stands there alone where nobody has measured a model yet."""
_TABLE = Path(__file__).with_name("table.txt")


@dataclass(frozen=True)
class Row:
    """A model's line."""

    linears: int
    convolutions: int
    softmaxes: int
    fused: int
    fused_int8: int
    cosine: float
    int8: str
    reasons: str

    @classmethod
    def of(cls, found: Measured) -> Row:
        """What was measured; the floor is the usual one, or just below the cosine where that is less."""
        counts = (found.eager.linears, found.eager.convolutions, found.eager.softmaxes, found.fused, found.fused_int8)
        floor = min(FLOOR, int(found.cosine * 100) / 100)
        return cls(*counts, floor, _counted(found.int8), _counted(_named(found.reasons)))

    @classmethod
    def read(cls, line: str) -> Row:
        """A line without its name."""
        numbers, int8, reasons = line.split(" | ")
        *counts, cosine = numbers.split()
        linears, convolutions, softmaxes, fused, fused_int8 = map(int, counts)
        return cls(linears, convolutions, softmaxes, fused, fused_int8, float(cosine), int8.strip(), reasons.strip())

    def __str__(self) -> str:
        counts = (self.linears, self.convolutions, self.softmaxes, self.fused, self.fused_int8)
        return "".join(f"{count:3} " for count in counts) + f"{self.cosine:.2f} | {self.int8} | {self.reasons}"

    @property
    def planned_int8(self) -> int:
        """How many products are INT8."""
        return sum(int(each.rsplit(" ", 1)[1]) for each in self.int8.split(", ") if each != "-")


def _counted(found: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {times}" for name, times in sorted(found.items())) or "-"


def _named(reasons: Mapping[str, int]) -> Counter[str]:
    """Reasons by their short names; a text without a name is shown itself."""
    found = Counter[str]()
    for why, times in reasons.items():
        found[next((name for name, text in REASONS.items() if text in why), f"??? {why}")] += times
    return found


def read_table() -> dict[str, Row | str]:
    """Every model's row; the reason why it is refused; or `PENDING`."""
    lines = [line.split(maxsplit=1) for line in _TABLE.read_text().splitlines() if line and not line.startswith("#")]
    return {name: Row.read(rest) if " | " in rest else rest.removeprefix(REFUSED).strip() for name, rest in lines}
