"""An accuracy that fell is told, with what regains it."""

import pytest

from vitgraph.compile.accuracy_warning import warnings_of
from vitgraph.compile.report import AccuracyPart
from vitgraph.passes import pipeline

SPARSE, DENSE = pipeline("canonicalize,nm-mask,quantize"), pipeline("canonicalize,quantize")


def measured(before: float | None, after: float | None, agreement: float = 50.0) -> AccuracyPart:
    return AccuracyPart(
        images=500, top1_reference=before, top1=after, agreement=agreement, measured_on="ort", data_sha256="0"
    )


@pytest.mark.parametrize(
    ("accuracy", "most", "told"),
    [
        (measured(82.2, 10.0), 2.0, "top-1 fell by 72.20 points, from 82.20 to 10.00 %"),
        (measured(82.2, 80.2), 2.0, None),
        (measured(82.2, 80.1), 2.0, "top-1 fell by 2.10 points"),
        (measured(82.2, 80.1), 3.0, None),
        (measured(80.0, 82.0), 2.0, None),
        (measured(None, None, 85.0), 2.0, "another class is predicted for 15.0 % of the images"),
        (measured(None, None, 95.0), 2.0, None),
        (None, 2.0, None),
    ],
)
def test_what_is_told(accuracy: AccuracyPart | None, most: float, told: str | None) -> None:
    found = warnings_of(accuracy, DENSE, "int8", most)
    assert len(found) == (told is not None)
    assert told is None or found[0].startswith(told)


def test_the_remedy_is_by_what_cost_it() -> None:
    fallen = measured(80.0, 10.0)
    assert "--recipe sparse-int8-best" in warnings_of(fallen, SPARSE, "sparse-int8", 2.0)[0]
    assert "--recipe" not in warnings_of(fallen, SPARSE, "sparse-int8-best", 2.0)[0]
    assert "--recipe int8-best" in warnings_of(fallen, DENSE, "int8", 2.0)[0]
    assert "--max-drop" in warnings_of(fallen, DENSE, "int8-best", 2.0)[0]
