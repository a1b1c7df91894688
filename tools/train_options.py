"""The options of `vitgraph train`: every setting of `vitgraph.training.settings` under its name, and settings of one stage alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, fields, make_dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args, get_origin, get_type_hints

import typer

from vitgraph.errors import InputError
from vitgraph.tools.option_domains import plain_type
from vitgraph.tools.pass_page import docstrings
from vitgraph.training.settings import GROUPS, PLACES, Settings

_PANELS = {
    "optimization": "Steps",
    "augmentation": "How images vary",
    "distillation": "What is learnt from",
    "compression": "Masks and scales",
    "": "Steps",
}


@dataclass(frozen=True)
class GivenSettings:
    """What was given on the command line."""

    def values(self) -> dict[str, Any]:
        """Settings by name, without those that were not given."""
        named = {each.name: getattr(self, each.name) for each in fields(self)}
        return {name: value for name, value in named.items() if value not in (None, [])}


def _declared() -> Iterator[tuple[str, Any, Any]]:
    """A field for each setting, which nobody need give."""
    for name, group in PLACES.items():
        kind = GROUPS.get(group, Settings)
        hint = get_type_hints(kind, include_extras=True)[name]
        option = typer.Option(help=_help(kind, name, hint), show_default=False, rich_help_panel=_PANELS[group])
        plain = plain_type(hint)
        if get_origin(plain) is tuple and Ellipsis in get_args(plain):
            yield name, Annotated[list[str], option], field(default_factory=list[str])
        elif get_origin(plain) is tuple:
            yield name, Annotated[tuple[float, float] | None, option], field(default=None)
        else:
            typed = str if get_origin(plain) is Literal else plain
            yield name, Annotated[typed | None if _is_plain(plain) else hint | None, option], field(default=None)


def _is_plain(kind: Any) -> bool:
    """Whether a type has no domain for the command line to hold: words of a choice, pairs of numbers."""
    return get_origin(kind) in (Literal, tuple) or kind in (str, bool)


def _help(kind: Any, name: str, hint: Any) -> str:
    """What the setting's docstring says, and the words to choose from."""
    plain = plain_type(hint)
    words = f" ({'|'.join(map(str, get_args(plain)))})" if get_origin(plain) is Literal else ""
    return docstrings(kind)[name] + words


if TYPE_CHECKING:
    TrainingSettings = GivenSettings
else:
    TrainingSettings = make_dataclass("TrainingSettings", list(_declared()), bases=(GivenSettings,), frozen=True)
    """Options for all stages, as a dataclass whose fields `vitgraph.tools.command` makes options of."""


def stage_settings(given: list[str]) -> dict[str, dict[str, Any]]:
    """`sparse.epochs=6` and the like, by stage and setting; `InputError` for text of another form."""
    from vitgraph.reading import parse_yaml

    found = dict[str, dict[str, Any]]()
    for text in given:
        place, equals, value = text.partition("=")
        stage, dot, name = place.partition(".")
        if not (stage and dot and name and equals):
            raise InputError(f"--set {text!r}: write STAGE.SETTING=VALUE, as in sparse.epochs=6")
        found.setdefault(stage, {})[name] = parse_yaml(value, f"--set {text}")
    return found


def data_sources(texts: list[str], labelled: bool) -> list[Any]:
    """`DIR` or `DIR@0.3` as sources of images; `InputError` where the share is none."""
    from vitgraph.finetuning.request import DataSource

    found = list[Any]()
    for text in texts:
        path, at, share = text.rpartition("@")
        try:
            number = float(share) if at else None
        except ValueError:  # an @ that is a part of the path
            path, number = text, None
        if number is not None and not 0 < number <= 1:
            raise InputError(f"{text}: a share is over 0 and at most 1")
        found.append(DataSource(path if at and number is not None else text, labelled, number))
    return found
