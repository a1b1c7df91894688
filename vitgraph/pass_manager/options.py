"""Domains that options of passes are annotated with, and the check that holds values to them.

    budget: Share = 0.8
    group: Count | None = None

A value out of its domain is refused where a pipeline's text is read, and again by `Pass.check` for a pass that was made
in Python. NaN and infinity are in no domain, and true is no number.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, fields
from functools import cache
from typing import Annotated, Any, get_type_hints

from pydantic import BeforeValidator, Field, TypeAdapter, ValidationError

from vitgraph.errors import InputError


def _number(value: Any) -> Any:
    """Anything but a bool, which Python takes for 0 or 1."""
    if isinstance(value, bool):
        raise ValueError("a number is wanted, not true or false")
    return value


_NUMBER = BeforeValidator(_number)

Natural = Annotated[int, Field(ge=0), _NUMBER]
"""A whole number, 0 or more."""
Count = Annotated[int, Field(ge=1), _NUMBER]
"""A whole number, 1 or more."""
Exponent = Annotated[int, Field(ge=-111, le=127), _NUMBER]
"""The largest of sixteen exponents of two that FP32 has."""
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False), _NUMBER]
"""0 or more."""
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False), _NUMBER]
"""Over 0."""
Share = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False), _NUMBER]
"""A share that is not empty: over 0, at most 1."""
Fraction = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False), _NUMBER]
"""From 0 to 1."""
ProperFraction = Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False), _NUMBER]
"""From 0 to less than 1."""
Percent = Annotated[float, Field(gt=0, le=100, allow_inf_nan=False), _NUMBER]
"""Over 0, at most 100."""
OneOrMore = Annotated[float, Field(ge=1, allow_inf_nan=False), _NUMBER]
"""A factor that makes nothing smaller."""
OverOne = Annotated[float, Field(gt=1, allow_inf_nan=False), _NUMBER]
"""A factor that makes larger."""
Seed = Annotated[int, Field(ge=0, lt=2**63), _NUMBER]
"""Of a random generator."""
Selectors = tuple[Annotated[str, Field(min_length=1)], ...]
"""Which sites: roles, globs over module paths, bounds (see `vitgraph.analysis.site_selectors`); whether any matches, the model decides."""


@cache
def domains(kind: Any) -> Mapping[str, TypeAdapter[Any]]:
    """What holds values to the annotation of each option of a kind of pass, by name."""
    hints = get_type_hints(kind, include_extras=True)
    return {field.name: TypeAdapter(hints[field.name]) for field in fields(kind)}


def read_options(kind: Any, values: Mapping[str, Any]) -> dict[str, Any]:
    """Options of a pass, brought to their types from what a text has (a list for a tuple, a whole number for a float).

    Raises `InputError` naming the first option that is not in its domain, or that is missing.
    """
    held = {name: _hold(name, adapter, values[name]) for name, adapter in domains(kind).items() if name in values}
    for field in fields(kind):
        if field.name not in held and field.default is MISSING and field.default_factory is MISSING:
            raise InputError(f"option {field.name!r} has no default: give it a value")
    return held


def check_options(step: Any) -> None:
    """The same for a pass that is made already: every option has the type that it is annotated with, and is in its domain."""
    for name, adapter in domains(step.__class__).items():
        _hold(name, adapter, getattr(step, name), strict=True)


def _hold(option: str, adapter: TypeAdapter[Any], value: Any, strict: bool = False) -> Any:
    try:
        return adapter.validate_python(value, strict=strict)
    except ValidationError as error:
        faults = dict.fromkeys(each["msg"] for each in error.errors())
        raise InputError(f"option {option!r}: {'; or: '.join(faults)}; got {value!r}") from error
