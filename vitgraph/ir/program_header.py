"""What stands in a program's file beside the tensors: the graph's text, where it came from, and what was done to it."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError

from vitgraph.errors import InputError
from vitgraph.reading import GRAPH_TEXT, check_size, parse_json


class _Open(BaseModel):
    """Keys that are named have these types; others may be there too."""

    model_config = ConfigDict(extra="allow", strict=True)


class _Refusal(_Open):
    site: str
    why: str


class _Entry(_Open):
    name: str
    options: dict[str, JsonValue]
    refused: list[_Refusal]
    found: list[dict[str, JsonValue]] = []
    changed: bool = False
    seconds: float | int | None = None


class _Passes(_Open):
    """A pipeline that the program remembers: a recipe's, or the pass that a reproducer fails in."""

    pipeline: str
    name: str = ""
    settings: dict[str, JsonValue] | None = None


class _Provenance(_Open):
    source: str = ""
    weights: str = ""
    weights_sha256: str | None = None
    class_names: list[str] | None = None
    notes: list[str] = []
    classes: int | None = None
    preprocessing: dict[str, JsonValue] | None = None
    recipe: _Passes | None = None
    reproduce: _Passes | None = None


class Header(BaseModel):
    """The metadata of a program's file."""

    text: str
    provenance: _Provenance
    ledger: list[_Entry]

    @classmethod
    def read(cls, text: str, origin: str) -> Header:
        """Read the metadata; `InputError` where it is another's, or edited into something else."""
        check_size(len(text), GRAPH_TEXT, f"{origin}: its metadata")
        content: Any = parse_json(text, f"{origin}: its metadata", nan=True)
        try:
            return cls.model_validate(content)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"])) or "the whole"
            raise InputError(
                f"{origin}: its metadata is none of vitgraph's: {where}: {first['msg']}; save it again"
            ) from error

    def plain(self) -> dict[str, Any]:
        """The same as plain JSON, with no key that was not there."""
        return self.model_dump(exclude_unset=True)
