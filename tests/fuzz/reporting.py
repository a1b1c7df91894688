"""A find as a test, and a run as a few lines."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field

from tests.fuzz.recipe import Recipe
from tests.fuzz.verdict import Kind, Verdict, gist


def as_test(recipe: Recipe, verdict: Verdict, seed: int) -> str:
    """A file for `tests/fuzz/corpus/`, whose modules test_corpus.py expects to be compiled rightly."""
    given, source = recipe.input, recipe.source()
    options = "" if str(given.dtype) == "torch.float32" else f", {given.dtype}"
    options += ", dynamic=True" if given.dynamic else ""
    names = "Input, seed" if recipe.weights else "Input"
    used = [line for name, line in _IMPORTS.items() if re.search(rf"\b{name}\.", source + options)]
    imports = [*used, "from torch import Tensor, nn", "", f"from tests.fuzz.recipe import {names}"]
    return "\n".join(
        [
            f'"""{_plain(str(verdict))} (graph {seed})."""',
            "",
            *imports,
            "",
            f"INPUT = Input({given.shape}{options})",
            "",
            "",
            source.rstrip(),
            "",
        ]
    )


_IMPORTS = {"math": "import math\n", "torch": "import torch", "F": "import torch.nn.functional as F"}


def _plain(text: str) -> str:
    return text.replace("\\", "/").replace('"', "'")[:90]


@dataclass
class Summary:
    """What a run has found so far."""

    counts: Counter[Kind] = field(default_factory=Counter[Kind])
    refused: Counter[str] = field(default_factory=Counter[str])
    faults: dict[str, list[int]] = field(default_factory=dict[str, list[int]])
    """Seeds by the gist of their verdict."""
    runtimes: dict[str, list[int]] = field(default_factory=dict[str, list[int]])
    """The same of faults that are a runtime's own."""

    def add(self, seed: int, verdict: Verdict) -> bool:
        """Count a graph; True where it shows a fault that was not seen before."""
        self.counts[verdict.kind] += 1
        if verdict.kind is Kind.REFUSED:
            self.refused.update(operators(verdict.why) or [f"{verdict.stage}: {gist(verdict.why)}"])
        if not (verdict.kind.is_fault or verdict.kind is Kind.RUNTIME):
            return False
        kept = self.faults if verdict.kind.is_fault else self.runtimes
        known = kept.setdefault(f"{verdict.kind.value} · {verdict.stage} · {gist(verdict.why)}", [])
        known.append(seed)
        return len(known) == 1

    @property
    def graphs(self) -> int:
        """How many were tried."""
        return self.counts.total()

    def line(self) -> str:
        """In one line, for progress."""
        counts = ", ".join(f"{self.counts[kind]} {kind.value}" for kind in Kind if self.counts[kind])
        return f"{self.graphs} graphs: {counts}"

    def text(self) -> str:
        """In full: what was refused most often, and every fault with its graphs."""
        reasons = [f"  {count:5} {reason}" for reason, count in self.refused.most_common(12)]
        faults, runtimes = (
            [f"  {len(seeds):5} {what}\n        graphs {_few(seeds)}" for what, seeds in kept.items()]
            for kept in (self.faults, self.runtimes)
        )
        parts = [self.line()]
        parts += ["refused most often:", *reasons] if reasons else []
        parts += ["faults of a runtime, of files that another computes rightly:", *runtimes] if runtimes else []
        parts += ["faults:", *faults] if faults else ["no fault"]
        return "\n".join(parts)


def _few(seeds: list[int]) -> str:
    return ", ".join(map(str, seeds[:8])) + (", …" if len(seeds) > 8 else "")


def operators(why: str) -> list[str]:
    """The operators that a refusal names."""
    return list(dict.fromkeys(re.findall(r"aten\.\w+\.\w+", why)))
