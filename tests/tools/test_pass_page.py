"""`vitgraph passes NAME`: what a page of a pass holds."""

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import pytest
from pydantic import Field

from tests.planted import installed
from tests.tools.conftest import Cli
from vitgraph.pass_manager.pass_contract import Effect, Pass
from vitgraph.passes import ORDER
from vitgraph.tools.pass_page import options_of_class, papers, show_type


@dataclass(frozen=True)
class Planted(Pass):
    """Has an option of each kind."""

    name: ClassVar[str] = "planted"
    effect: ClassVar[Effect] = Effect.EXACT

    share: Annotated[float, Field(gt=0, le=1)] = 0.5
    """How much,
    on two lines."""
    count: Annotated[int, Field(ge=1, description="Told in the field.")] | None = None
    kind: Literal["a", "b"] = "a"
    names: tuple[str, ...] = ("x", "y")


def test_options_have_type_range_default_and_docstring() -> None:
    found = options_of_class(Planted)
    assert found["share"] == {
        "type": "float", "domain": "> 0, <= 1", "default": 0.5, "description": "How much, on two lines.",
    }  # fmt: skip
    assert (found["kind"]["type"], found["kind"]["default"]) == ("a|b", "a")
    assert (found["names"]["type"], found["names"]["default"]) == ("list of word", ["x", "y"])
    assert (found["count"]["type"], found["count"]["domain"], found["count"]["description"]) == (
        "int|none", ">= 1", "Told in the field.",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "shown"),
    [(bool, "bool"), (int | None, "int|none"), (Literal["a"] | int, "a|int"), (tuple[int, ...], "list of int")],
)
def test_types_as_they_are_written(kind: object, shown: str) -> None:
    assert show_type(kind) == shown


def test_papers_are_what_stands_in_brackets() -> None:
    text = "Masks (Xu et al.,\narXiv 2407.02068) and sums (Pool, NeurIPS 2021); not (this)."
    assert papers(text) == [
        {"cited": "Xu et al., arXiv 2407.02068", "url": "https://arxiv.org/abs/2407.02068"},
        {"cited": "Pool, NeurIPS 2021", "url": None},
    ]


@pytest.mark.parametrize("name", ORDER)
def test_every_pass_has_a_page(name: str, cli: Cli) -> None:
    ran = cli("passes", name)
    assert (ran.status, ran.err) == (0, "")
    assert ran.out.startswith(f"{name}: ")
    assert "Before:" in ran.out or "softmax" in name or "precision" in name


def test_a_page_as_json_and_as_text(cli: Cli) -> None:
    found = cli("passes", "nm-mask", "--json").json
    assert found["effect"] == "lossy"
    assert found["options"]["score"]["type"] == "magnitude|wanda|sparsegpt|cap"
    assert "least squares" in found["options"]["refit"]["description"]
    assert {"cited": "ASP, Mishra et al., arXiv 2104.08378", "url": "https://arxiv.org/abs/2104.08378"} in found[
        "papers"
    ]
    text = cli("passes", "nm-mask").out
    assert "After:\n    masked = vitgraph.mask.default(weight, weight_keep)" in text


def test_near_misses_and_what_cannot_be_loaded(cli: Cli) -> None:
    ran = cli("passes", "nm-masks")
    assert (ran.status, "did you mean nm-mask" in ran.err) == (2, True)
    with installed():
        ran = cli("passes", "planted-missing")
    assert (ran.status, "can't be loaded from" in ran.err) == (2, True)
