"""Findings go into the ledger as plain JSON, and are read back from it by kind."""

import json
from dataclasses import MISSING, dataclass, fields
from typing import Any, get_type_hints

import pytest

from tests.planted import MLP
from vitgraph.ir.packing import Packing
from vitgraph.ir.parser import parse
from vitgraph.pass_manager.findings import (
    AttentionFinding,
    BudgetFinding,
    Finding,
    MaskFinding,
    PlacementFinding,
    RemovedFinding,
    findings_of,
)
from vitgraph.passes import pipeline

KINDS = Finding.__subclasses__()
VALUES: dict[Any, Any] = {str: "fc1", int: 7, float: 0.25, float | None: 0.5}


def made(kind: type[Finding], whole: bool) -> Finding:
    """One of a kind; with `whole`, its optional values are there too."""
    hints = get_type_hints(kind)
    return kind(
        **{field.name: VALUES[hints[field.name]] for field in fields(kind) if whole or field.default is MISSING}
    )


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_a_finding_reads_back_as_what_it_was_and_as_nothing_else(kind: type[Finding], whole: bool) -> None:
    finding = made(kind, whole)
    ledger = [{"found": json.loads(json.dumps([finding.to_json()]))}, {"name": "a pass that found nothing"}]
    assert {other: findings_of(ledger, other) for other in KINDS} == {
        other: [finding] if other is kind else [] for other in KINDS
    }


def test_what_is_usual_is_not_written() -> None:
    plain = MaskFinding.of(("fc1", 0), Packing(2, 4), weights_lost=0.1)
    assert plain.to_json() == {"masked": "fc1", "n": 2, "m": 4, "weights_lost": 0.1}
    tiled = MaskFinding.of(("fc1", 1), Packing(2, 8, v=64), output_lost=0.2)
    assert list(tiled.to_json().items()) == [
        ("masked", "fc1"), ("n", 2), ("m", 8), ("place", 1), ("v", 64), ("output_lost", 0.2),
    ]  # fmt: skip
    assert tiled.pattern == Packing(2, 8, v=64)
    assert (plain.saliency_lost, tiled.saliency_lost) == (0.1, 0.2)


def test_no_bound_is_written_as_none() -> None:
    """What has no default is always there."""
    finding = PlacementFinding("met", None, 0.1, 0.2, 99.0, 0.1, 0.2, 0, 4, 12)
    assert finding.to_json()["max_drop"] is None


def test_entries_of_nobody_and_of_other_keys_are_passed_over() -> None:
    ledger: list[dict[str, Any]] = [{"found": [{"attention": "a"}, {"attention": "a", "kind": "linear", "more": 1}]}]
    assert findings_of(ledger, AttentionFinding) == []


@dataclass(frozen=True)
class Foreign(Finding):
    """What a package of somebody else's finds."""

    knot: str


def test_a_package_of_somebody_else_has_findings_of_its_own() -> None:
    ledger = [{"found": [Foreign("here").to_json(), BudgetFinding("flops", 0.8, 0.79, "").to_json()]}]
    assert findings_of(ledger, Foreign) == [Foreign("here")]
    assert [each.left for each in findings_of(ledger, BudgetFinding)] == [0.79]
    assert findings_of(ledger, RemovedFinding) == []


def test_a_pipeline_writes_what_its_passes_found() -> None:
    program = pipeline("nm-mask{only=[fc1,fc2]},materialize").run(parse(MLP))
    assert [each.masked for each in findings_of(program.ledger, MaskFinding)] == ["fc1", "fc2"]
    assert "found" not in program.ledger[1]
