"""Options of passes, held to the domains (see `vitgraph.domains`) that they are annotated with.

A value out of its domain is refused where a pipeline's text is read, and again by `Pass.check` for a pass that was made
in Python.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, fields
from functools import cache
from typing import Any, get_type_hints

from vitgraph.domains import hold
from vitgraph.errors import InputError


@cache
def domains(kind: Any) -> Mapping[str, Any]:
    """The annotation of each option of a kind of pass, by name."""
    hints = get_type_hints(kind, include_extras=True)
    return {field.name: hints[field.name] for field in fields(kind)}


def read_options(kind: Any, values: Mapping[str, Any]) -> dict[str, Any]:
    """Options of a pass, brought to their types from what a text has (a list for a tuple, a whole number for a float).

    Raises `InputError` naming the first option that is not in its domain, or that is missing.
    """
    held = {
        name: hold(f"option {name!r}", domain, values[name]) for name, domain in domains(kind).items() if name in values
    }
    for field in fields(kind):
        if field.name not in held and field.default is MISSING and field.default_factory is MISSING:
            raise InputError(f"option {field.name!r} has no default: give it a value")
    return held


def check_options(step: Any) -> None:
    """The same for a pass that is made already: every option has the type that it is annotated with, and is in its domain."""
    for name, domain in domains(step.__class__).items():
        hold(f"option {name!r}", domain, getattr(step, name), strict=True)
