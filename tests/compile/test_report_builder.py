"""What a report says is broken: logits that are no numbers."""

import pytest

from tests.compile.test_report import CONTENT
from vitgraph.compile.report import Report
from vitgraph.compile.report_builder import judge_logits

ACCURACY = {
    "images": 8,
    "top1_reference": 90.0,
    "top1": 50.0,
    "agreement": 50.0,
    "measured_on": "ort",
    "data_sha256": "ab",
}


@pytest.mark.parametrize("accuracy", [None, ACCURACY, ACCURACY | {"not_finite": 0}])
def test_finite_logits_are_no_violation(accuracy: object) -> None:
    assert judge_logits(Report.model_validate(CONTENT | {"accuracy": accuracy})) == []


def test_others_are() -> None:
    (violation,) = judge_logits(Report.model_validate(CONTENT | {"accuracy": ACCURACY | {"not_finite": 3}}))
    assert violation["planned"] == "finite logits"
    assert violation["found"] == "NaN or infinity for 3 of 8 images"
