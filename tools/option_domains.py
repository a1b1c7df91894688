"""Options of commands, held to the domains (see `vitgraph.domains`) that they are annotated with; their help shows the range."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

import typer

from vitgraph.errors import InputError

_BOUNDS = {"gt": ">", "ge": ">=", "lt": "<", "le": "<=", "multiple_of": "multiple of", "min_length": "length >="}


def with_domain(annotation: Any) -> Any:
    """What typer is to be told of a parameter: its plain type, and an option that holds values to the domain."""
    option = next((each for each in get_args(annotation)[1:] if hasattr(each, "param_decls")), None)
    bounds = shown_bounds(annotation)
    if option is None or not bounds:
        return annotation
    told = copy.copy(option)
    told.help = f"{option.help or ''} [{bounds}]".strip()
    told.callback = _holding(domain_of(annotation))
    return Annotated[plain_type(annotation), told]


def domain_of(annotation: Any) -> Any:
    """The annotation without what is for typer."""
    if get_origin(annotation) is not Annotated:
        return annotation
    kind, *marks = get_args(annotation)
    kept = [each for each in marks if not hasattr(each, "param_decls")]
    return Annotated[(kind, *kept)] if kept else kind


def _holding(domain: Any) -> Any:
    def held(value: Any) -> Any:
        from vitgraph.domains import hold

        try:
            return hold("", domain, value)
        except InputError as error:
            raise typer.BadParameter(str(error).removeprefix(": ")) from error

    return held


def plain_type(kind: Any) -> Any:
    """A type without its annotations: `int | None` of `Count | None`."""
    if get_origin(kind) is Annotated:
        return plain_type(get_args(kind)[0])
    if get_origin(kind) in (UnionType, Union):
        return Union[tuple(plain_type(each) for each in get_args(kind))]  # noqa: UP007  of types that are not known here
    return kind


def shown_bounds(annotation: Any) -> str:
    """The range that an annotation says, such as `>= 0, <= 1`; empty where it says none."""
    return ", ".join(_bounds(marks_of(annotation)))


def marks_of(kind: Any) -> list[Any]:
    """What a type is annotated with, also inside of a union, taken out of pydantic's `Field` where it stands in one."""
    if get_origin(kind) in (UnionType, Union):  # `Annotated[int, …] | None` has its annotations inside
        return [each for inner in get_args(kind) for each in marks_of(inner)]
    if get_origin(kind) is not Annotated:
        return []
    plain, *marks = get_args(kind)
    return [*marks_of(plain), *(each for mark in marks for each in (mark, *getattr(mark, "metadata", ())))]


def _bounds(marks: list[Any]) -> Iterator[str]:
    for each in marks:
        for attribute, sign in _BOUNDS.items():
            value = getattr(each, attribute, None)
            if value is not None:
                yield f"{sign} {_number(value)}"


def _number(value: Any) -> str:
    """Powers of two and of ten as such, where they are long."""
    value = int(value) if isinstance(value, float) and value.is_integer() else value
    for base in (2, 10):
        power = round(math.log(value, base)) if isinstance(value, int) and value >= 10**5 else 0
        if power and base**power == value:
            return f"{base}**{power}"
    return f"{value:,}" if isinstance(value, int) else f"{value:g}" if isinstance(value, float) else str(value)
