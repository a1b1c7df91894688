"""Every model of the table, from eager mode to an engine: all products and softmaxes are where they are to be, or it is said why not."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from tests.coverage.canonical_form import hold_to_canonical_form
from tests.coverage.measuring import TARGET, Captured, measure
from tests.coverage.sources import MODELS
from tests.coverage.table import FLOOR, PENDING, Row, read_table
from vitgraph.backends.tensorrt.backend import unbuildable_why
from vitgraph.errors import VitgraphError
from vitgraph.pass_manager.pass_contract import Effect

TABLE = read_table()
ROWS = {name: row for name, row in TABLE.items() if isinstance(row, Row)}
REFUSED = {name: why for name, why in TABLE.items() if isinstance(why, str) and why != PENDING}
CHOICES = 0.1
"""By how much a cosine under the usual floor may be less on another processor: these models choose places, and rounding moves choices."""
LEAST = 160
"""So many models are measured; the others are `PENDING`."""
ROUNDED = ("torchvision/vit", "transformers/beit", "transformers/zoedepth")
"""In eager mode these take kernels of torch that export takes apart: captured they are equal but for rounding."""
needs_builder = pytest.mark.skipif(unbuildable_why(TARGET) is not None, reason=f"no engine: {unbuildable_why(TARGET)}")


@pytest.mark.slow
@needs_builder
@pytest.mark.parametrize("name", ROWS)
def test_every_product_and_softmax_is_accounted_for(name: str, tmp_path: Path) -> None:
    row, captured = ROWS[name], Captured.of(MODELS[name])
    hold_to_canonical_form(captured, Effect.REORDERS if name in ROUNDED else Effect.EXACT)
    found = measure(captured, tmp_path)
    assert found.gaps == []
    assert (found.linears, found.convolutions) == (found.eager.linears, found.eager.convolutions)
    assert found.softmaxes == found.eager.softmaxes
    assert found.cosine >= row.cosine - (0.0 if row.cosine == FLOOR else CHOICES)
    assert str(replace(Row.of(found), cosine=row.cosine)) == str(row)
    planned = row.planned_int8
    assert found.engine["linears"] == {"planned_int8": planned, "int8": planned, "fallback": []}
    assert found.engine["attention"]["fused_int8"] == row.fused_int8
    assert found.violations == []


@pytest.mark.slow
@needs_builder
@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_is_refused_with_its_reason(name: str, tmp_path: Path) -> None:
    with pytest.raises(VitgraphError, match=re.escape(REFUSED[name])):
        measure(Captured.of(MODELS[name]), tmp_path)


def test_the_table_has_every_model_and_names_every_reason() -> None:
    assert TABLE.keys() == MODELS.keys()
    assert len(TABLE) >= 110
    assert len(ROWS) >= LEAST
    assert not [name for name, row in ROWS.items() if "???" in row.reasons]
