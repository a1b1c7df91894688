"""What a search leaves, from a choice: masks by level, and the rows that are compared."""

from typing import Any

from tests.levels_model import COST, SPACE
from vitgraph.compile.page import render
from vitgraph.searching.elsa_report import describe_subnet, mask_steps
from vitgraph.searching.evolution import Subnet
from vitgraph.training.held_out import HeldOutScore


def subnet(*choice: int) -> Subnet:
    return Subnet(choice, COST.of(choice), HeldOutScore(70.1239, 0.123456), 3)


def test_one_mask_a_level_and_none_for_dense() -> None:
    assert mask_steps(SPACE, (0, 1, 2, 1)) == [{"n": 1, "m": 4, "only": ["a"]}, {"n": 2, "m": 4, "only": ["b", "d"]}]
    assert mask_steps(SPACE, SPACE.dense) == []


def test_a_choice_with_its_levels() -> None:
    found = describe_subnet(SPACE, subnet(0, 1, 2, 1))
    assert found["levels"] == {"a": "1:4", "b": "2:4", "c": "4:4", "d": "2:4"}
    assert found["cost"] == COST.of((0, 1, 2, 1))
    assert (found["held_out_accuracy"], found["held_out_divergence"]) == (70.124, 0.12346)


def test_the_page_says_what_was_not_measured() -> None:
    rows = {name: {**describe_subnet(SPACE, subnet(1, 1, 1, 1)), "top1": None} for name in ("uniform", "dense")}
    data: dict[str, Any] = {
        "method": "elsa",
        "model": {"name": "<toy>"},
        "target": "vegeta",
        "budget": {"text": "2x", "unit": "FLOPs", "limit": 3.0e9},
        "images": {"trained_with": 10, "held_out": 5, "source": "toy"},
        "original": {"held_out_accuracy": 80.0, "held_out_divergence": 0.0, "top1": None},
        "evaluation": None,
        "evaluation_why": "no images to evaluate on; give --evaluate-data",
        "chosen": {**describe_subnet(SPACE, subnet(0, 2, 0, 2)), "top1": None},
        "baselines": rows,
        "space": [{"path": layer.path, "role": layer.role} for layer in SPACE.layers],
        "refused": [{"site": "blocks.9", "why": "K = 6"}],
        "front": [],
        "population": [],
    }
    page = render("elsa.html.j2", found=data)
    assert page.index("<th>chosen</th>") < page.index("<th>uniform</th>") < page.index("<th>dense</th>")
    assert "No top-1: no images to evaluate on" in page
    assert "&lt;toy&gt;" in page
    assert "<toy>" not in page
    assert "K = 6" in page
