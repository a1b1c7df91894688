"""The cost model held against published figures: each one, the model's, and the error.

The figures stand in `published.yaml`, each group with its source. Of every figure it says on what terms it is compared:

    fitted   the constants of `vitgraph.cost.shares` were chosen with it
    held     they were not
    assumed  its source leaves out the device, the batch, the type or the pattern, and the group says what was taken
    counted  it counts operations; no time is estimated
    measured products alone, measured by vitgraph: the share of a peak that dense INT8 reaches on an H200 was fitted to them

A figure that the model cannot answer has a row too, which says why.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from vitgraph.cost.kernel import linear
from vitgraph.cost.measured_files import shipped
from vitgraph.cost.measured_times import parts_of
from vitgraph.cost.published_forms import FORMS, Bench, Setting, Unanswered
from vitgraph.cost.shares import FITTED, Shares
from vitgraph.ir.program import Program
from vitgraph.reading import PUBLISHED, parse_yaml, read_text

TERMS = ("fitted", "held", "assumed", "counted", "measured")
MEASURED = "measured"
"""The form of a group that stands for a file of measured products."""


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


@cache
def document() -> dict[str, Any]:
    """The file: `encoders`, and `groups` of figures."""
    text = read_text(resources.files("vitgraph.cost").joinpath("published.yaml"), PUBLISHED)
    found: dict[str, Any] = parse_yaml(text, PUBLISHED.what)
    return found


def rows(
    capture: Callable[[str], Program], shares: Shares = FITTED, forms: Sequence[str] = (*FORMS, MEASURED)
) -> Iterator[Row]:
    """Every figure of these forms; `capture` gives a timm model's canonical program."""
    once = cache(capture)
    for name, group in document()["groups"].items():
        setting = Setting(**group.get("setting", {}))
        bench = Bench(document()["encoders"], setting, setting.roofline(shares), once)
        files: list[str] = group.get(MEASURED, []) if MEASURED in forms else []
        for file in files:
            yield from _measured(bench, name, file)
        for form in forms:
            entries: list[Any] = group.get(form, []) if form in FORMS else []
            for entry in entries:
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


def _measured(bench: Bench, group: str, name: str) -> Iterator[Row]:
    """Each product of a file in each form, in microseconds, beside the cost model's linear of that size and form."""
    for product in shipped(name).products:
        for time in product.times:
            kernel = linear("", product.rows, product.n, product.k, *parts_of(time.form))
            what = f"{product.rows} x {product.k} to {product.n}, us in {time.form}"
            published = None if time.us is None else (time.us, time.us)
            yield Row(group, what, published, 1e3 * kernel.estimate(bench.line).ms, MEASURED)


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
