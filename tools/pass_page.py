"""`vitgraph passes NAME`: all that a pass says of itself, read off its class and its file."""

from __future__ import annotations

import ast
import inspect
import re
import sys
import textwrap
from dataclasses import MISSING, Field, fields
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast, get_args, get_origin, get_type_hints

from vitgraph.errors import InputError
from vitgraph.tools.command import Answer
from vitgraph.tools.drawing import group, table
from vitgraph.tools.option_domains import marks_of, shown_bounds

if TYPE_CHECKING:
    from vitgraph.pass_manager.pass_contract import Pass

_CITATION = re.compile(r"\(([^()]*(?:arXiv \d{4}\.\d{5}|(?:ICML|NeurIPS|ICLR|CVPR|ICCV|ECCV) \d{4})[^()]*)\)")
_ARXIV = re.compile(r"arXiv (\d{4}\.\d{5})")


def describe_pass(name: str) -> Answer:
    """One pass in full; `InputError` lists near misses where there is none of this name."""
    from vitgraph.pass_manager.pipeline import show_value

    kind = _load(name)
    found: dict[str, Any] = {
        "name": name,
        "summary": _first_line(kind.__doc__),
        "effect": kind.effect.value,
        "description": inspect.cleandoc(sys.modules[kind.__module__].__doc__ or ""),
        "options": options_of_class(kind),
        "papers": papers(sys.modules[kind.__module__].__doc__ or ""),
        "module": kind.__module__,
    }
    rows = [
        [option, each["type"], each["domain"], show_value(each["default"]), each["description"]]
        for option, each in found["options"].items()
    ]
    parts: list[Any] = [f"{name}: {found['summary']} (effect: {kind.effect.value})\n", found["description"], ""]
    parts.append(table(["option", "type", "range", "default", "what it does"], rows) if rows else "It has no options.")
    parts += ["", *(f"{each['cited']}{' ' + each['url'] if each['url'] else ''}" for each in found["papers"])]
    return Answer(found, group(*parts))


def _load(name: str) -> type[Pass]:
    from vitgraph.passes import all_passes, find_pass

    try:
        return find_pass(name)
    except InputError:
        raise
    except Exception as error:
        raise InputError(
            f"pass {name!r} can't be loaded from {all_passes()[name]}: {error}; mend its package"
        ) from error


def options_of_class(kind: type[Pass]) -> dict[str, dict[str, Any]]:
    """Each option of a pass: its type, the range it may be in, its default, and what its docstring says."""
    hints, explained = get_type_hints(kind, include_extras=True), docstrings(kind)
    found = dict[str, dict[str, Any]]()
    for field in fields(kind):
        hint = hints[field.name]
        told = next((mark.description for mark in marks_of(hint) if getattr(mark, "description", None)), "")
        found[field.name] = {
            "type": show_type(hint),
            "domain": shown_bounds(hint),
            "default": _default(field),
            "description": explained.get(field.name) or told,
        }
    return found


def papers(text: str) -> list[dict[str, Any]]:
    """What a docstring cites in brackets, with its address at arXiv where it says one."""
    found = dict[str, Any]()
    for cited in _CITATION.findall(" ".join(text.split())):
        number = _ARXIV.search(cited)
        found[cited] = f"https://arxiv.org/abs/{number[1]}" if number else None
    return [{"cited": cited, "url": url} for cited, url in found.items()]


def show_type(kind: Any) -> str:
    """A type as a user of the command line writes its values: `int`, `minmax|mse`, `int|none`, `list of word`."""
    if get_origin(kind) is Annotated:
        return show_type(get_args(kind)[0])
    if get_origin(kind) is Literal:
        return "|".join(map(str, get_args(kind)))
    inner = [each for each in get_args(kind) if each is not Ellipsis]
    if get_origin(kind) in (tuple, list):
        return f"list of {show_type(inner[0])}"
    if inner:
        return "|".join(dict.fromkeys(show_type(each) for each in inner))
    return {type(None): "none", str: "word"}.get(kind, getattr(kind, "__name__", str(kind)))


def _default(field: Field[Any]) -> Any:
    value: Any = field.default if field.default_factory is MISSING else field.default_factory()
    if isinstance(value, tuple | list):
        return list(cast("list[Any]", value))
    return value if isinstance(value, bool | int | float | str | None) else str(value)


def docstrings(kind: type) -> dict[str, str]:
    """The string under each field of a class and of those it inherits from, on one line."""
    found = dict[str, str]()
    for each in reversed(kind.__mro__[:-1]):
        try:
            body = ast.parse(textwrap.dedent(inspect.getsource(each))).body[0]
        except (OSError, TypeError):  # its source is not at hand
            continue
        statements = body.body if isinstance(body, ast.ClassDef) else []
        for field, below in pairwise(statements):
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and _is_text(below):
                found[field.target.id] = " ".join(below.value.value.split())  # type: ignore[attr-defined]
    return found


def _is_text(statement: ast.stmt) -> bool:
    value = statement.value if isinstance(statement, ast.Expr) else None
    return isinstance(value, ast.Constant) and isinstance(value.value, str)


def _first_line(text: str | None) -> str:
    return (text or "").strip().partition("\n")[0]
