"""Selectors: which sites a pass works on, by role, module path or shape."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from typing import Protocol, TypeVar

from vitgraph.errors import InputError


class Named(Protocol):
    """What a selector can name."""

    @property
    def path(self) -> str: ...  # noqa: D102
    @property
    def role(self) -> str: ...  # noqa: D102
    @property
    def also_named(self) -> str | None: ...  # noqa: D102


class Selectable(Named, Protocol):
    """What a selector can tell apart."""

    @property
    def k(self) -> int: ...  # noqa: D102
    @property
    def n(self) -> int: ...  # noqa: D102


Site = TypeVar("Site", bound=Selectable)


def select(
    sites: Sequence[Site],
    only: Sequence[str] = (),
    skip: Sequence[str] = (),
    within: Sequence[str] | None = None,
    others: Sequence[Named] = (),
) -> list[Site]:
    """The sites that `only` names (all, or those of the roles `within`, where it is empty) and `skip` does not.

    What is in `others` is chosen by nobody here, and may be named in `skip`.

    A selector is a role (`fc1`), `pointwise` for the 1×1 convolutions of all roles, a glob over module paths (`blocks.3.*`),
    both (`blocks.3.*:fc1`, where one module has several linears) or a bound on the shape (`k>=64`, `n<1000`).
    One that matches nothing raises `InputError` with near misses.
    """
    for selector in [*only, *skip]:
        there: list[Named] = [*sites, *(others if selector in skip else ())]
        if not any(_matches(site, selector) for site in sites) and not any(names(each, selector) for each in there):
            known = [*dict.fromkeys(site.role for site in there), *(site.path for site in there)]
            close = get_close_matches(selector, known, 4, 0.4)
            hint = f"near: {', '.join(close)}" if close else f"roles here: {', '.join(sorted({s.role for s in there}))}"
            raise InputError(f"the selector {selector!r} matches no site of this model; {hint}")
    chosen = [
        s for s in sites if (any(_matches(s, each) for each in only) if only else within is None or s.role in within)
    ]
    return [site for site in chosen if not any(_matches(site, selector) for selector in skip)]


_BOUND = re.compile(r"([kn])(>=|<=|>|<|=)(\d+)")
_COMPARE: dict[str, Callable[[int, int], bool]] = {
    ">=": lambda a, b: a >= b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    "<": lambda a, b: a < b,
    "=": lambda a, b: a == b,
}


def _matches(site: Selectable, selector: str) -> bool:
    bound = _BOUND.fullmatch(selector)
    if bound is not None:
        return _COMPARE[bound[2]](site.k if bound[1] == "k" else site.n, int(bound[3]))
    return names(site, selector)


def names(site: Named, selector: str) -> bool:
    """Whether a selector names the site, by its role, its path, or both."""
    path, _, role = selector.partition(":")
    called = (site.role, site.also_named)
    return selector in called or (fnmatch.fnmatchcase(site.path, path) and role in ("", *called))
