"""The metadata of a program's file is held to its types, and kept as it is."""

import json
from typing import Any

import pytest

from vitgraph.errors import InputError
from vitgraph.ir.program_header import Header

ENTRY: dict[str, Any] = {"name": "x", "options": {"n": 2}, "refused": [{"site": "a", "why": "b"}], "drift": None}
GOOD: dict[str, Any] = {"text": "t", "provenance": {"source": "s", "more": [1, {}]}, "ledger": [ENTRY]}


def test_what_was_written_is_kept_as_it_is() -> None:
    assert Header.read(json.dumps(GOOD), "p").plain() == GOOD


CHANGES: list[tuple[dict[str, Any], str]] = [
    ({"text": 3}, "text"),
    ({"ledger": {}}, "ledger"),
    ({"ledger": [{}]}, "ledger.0.name"),
    ({"ledger": [ENTRY | {"changed": "yes"}]}, "ledger.0.changed"),
    ({"provenance": None}, "provenance"),
    ({"provenance": {"class_names": [1]}}, "provenance.class_names.0"),
    ({"provenance": {"recipe": {"name": "int8"}}}, "provenance.recipe.pipeline"),
]


@pytest.mark.parametrize(("changed", "where"), CHANGES)
def test_another_type_is_named_with_its_place(changed: dict[str, Any], where: str) -> None:
    with pytest.raises(InputError, match=rf"^p: its metadata is none of vitgraph's: {where}: .*; save it again$"):
        Header.read(json.dumps(GOOD | changed), "p")
