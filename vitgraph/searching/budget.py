"""What `--budget` asks for, read: `2.9x`, `6.06G`, `0.8ms` or `12mJ`."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from vitgraph.domains import shortened
from vitgraph.errors import InputError

_TEXT = re.compile(r"(\d+(?:\.\d+)?)(x|G|M|ms|mJ)")
_SCALE = {"G": 1e9, "M": 1e6, "ms": 1.0, "mJ": 1.0}


@dataclass(frozen=True)
class Limit:
    """A limit as it was asked for."""

    text: str
    number: float
    suffix: str

    @property
    def unit(self) -> str:
        """What it limits: `FLOPs`, `ms` or `mJ`."""
        return self.suffix if self.suffix in ("ms", "mJ") else "FLOPs"

    def of(self, dense: float) -> float:
        """The limit in its unit, for a model that costs `dense` of it."""
        return dense / self.number if self.suffix == "x" else self.number * _SCALE[self.suffix]


def read_limit(text: str) -> Limit:
    """A limit from its text; `InputError` where it can't be read."""
    match = _TEXT.fullmatch(text)
    if match is None or not 0 < float(match[1]) < math.inf:
        raise InputError(
            f"--budget {shortened(text)}: write how many times fewer FLOPs than dense (2.9x), FLOPs for one image (6.06G, 350M), or"
            " what a batch is estimated to take (0.8ms, 12mJ)"
        )
    return Limit(text, float(match[1]), match[2])


def show_cost(value: float, unit: str) -> str:
    """A cost with its unit, to four digits."""
    if unit != "FLOPs":
        return f"{value:.4g} {unit}"
    scale, letter = (1e9, "G") if value >= 1e9 else (1e6, "M")
    return f"{value / scale:.4g} {letter}FLOPs"
