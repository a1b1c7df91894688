"""What a run of the coverage table says at its end, in a line."""

from __future__ import annotations

from collections.abc import Iterable

from tests.coverage.table import PENDING, read_table


def summary_of(passed: Iterable[str]) -> str:
    """Of the tests that passed, by their names: how many models are covered, and which are refused, as their tests hold."""
    named = {name.rpartition("[")[2].removesuffix("]") for name in passed if "[" in name}
    table = read_table()
    covered = [name for name in named if not isinstance(table.get(name, ""), str)]
    refused = sorted(name for name in named if isinstance(table.get(name), str))
    pending = sum(row == PENDING for row in table.values())
    told = f"; {len(refused)} refused: {', '.join(refused)}" if refused else ""
    return f"coverage: {len(covered)} of {len(table)} models with every product and softmax accounted for{told}; {pending} pending"
