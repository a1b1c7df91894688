"""`vitgraph inspect --cost --published`: every published figure, the cost model's answer, and the error."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from vitgraph.errors import InputError
from vitgraph.tools.command import Answer
from vitgraph.tools.drawing import group, table

if TYPE_CHECKING:
    from vitgraph.cost.published import Row, Summary
    from vitgraph.ir.program import Program

TERMS = {
    "fitted": "constants were chosen with these",
    "held": "held out",
    "assumed": "the source leaves something out, and what was taken is named above",
    "counted": "counts of operations, no times",
    "measured": "products alone, in microseconds, by number format above",
}


def show_published(model: str | None, targets: Sequence[str], as_json: bool) -> Answer:
    """The table; `InputError` for a MODEL or a target, which the figures name themselves."""
    if model is not None or targets:
        raise InputError("--published has its own models and targets; leave out MODEL and --target")
    from vitgraph.cost.published import document, rows, summarize

    found: list[Row] = list(rows(capture_named))
    summary = summarize(found)
    sources: dict[str, str] = {name: content["source"] for name, content in document()["groups"].items()}
    data = {
        "figures": [{**asdict(row), "error": row.error} for row in found],
        "summary": [asdict(each) for each in summary],
        "sources": sources,
    }
    return Answer(data, json.dumps(data, indent=2) if as_json else _draw(found, summary, sources))


def capture_named(name: str) -> Program:
    """A timm model's canonical program, weights not loaded."""
    from vitgraph.passes.prepared import prepare
    from vitgraph.tools.model_options import ModelSettings, open_program

    return prepare(open_program(name, ModelSettings(), values=False))


def _draw(found: Sequence[Row], summary: Sequence[Summary], sources: dict[str, str]) -> Any:
    groups = [
        group(source, _drawn_group(name, [row for row in found if row.group == name]))
        for name, source in sources.items()
    ]
    heads = ["terms", "figures", "median error", "largest", ""]
    sums = [[s.terms, str(s.figures), f"{s.median:.0%}", f"{s.largest:.0%}", TERMS[s.terms]] for s in summary]
    return group(*groups, table(heads, sums))


def _drawn_group(name: str, rows: Sequence[Row]) -> Any:
    """A line for each figure; of measured products, of which there are hundreds, one for each form (`--format json` has all)."""
    if rows and all(row.terms == "measured" for row in rows):
        return table([name, "figures", "median error", "largest"], list(_by_form(rows)))
    return table([name, "published", "model", "error", ""], [_row(row) for row in rows])


def _by_form(rows: Sequence[Row]) -> Iterator[list[str]]:
    for form in dict.fromkeys(row.what.partition(" us in ")[2] for row in rows):
        errors = [row.error for row in rows if row.what.endswith(f" us in {form}") and row.error is not None]
        if errors:
            worst = max(errors, key=abs)
            yield [form, str(len(errors)), f"{statistics.median(map(abs, errors)):.0%}", f"{worst:+.0%}"]


def _row(row: Row) -> list[str]:
    error = "" if row.error is None else f"{row.error:+.0%}"
    model = "none" if row.model is None else f"{row.model:.3g}"
    return [row.what, _range(row.published), model, error, row.why or (row.terms if row.terms == "fitted" else "")]


def _range(published: tuple[float, float] | None) -> str:
    if published is None:
        return ""
    low, high = published
    return f"{low:g}" if low == high else f"{low:g} to {high:g}"
