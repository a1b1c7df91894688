"""Every number of a target's file, put out of its domain, is refused by its name."""

import math
from collections.abc import Iterable, Iterator, Mapping
from copy import deepcopy
from typing import Any, cast

import pytest
import yaml

from vitgraph.errors import InputError
from vitgraph.targets.target import get_target, parse_target

FACTS: dict[str, Any] = get_target("a100").model_dump(mode="json", exclude={"no_builder_here"})
DEVICE = ("name", "title", "device", "rates", "bandwidth_gb_s", "memory_gb", "power_w", "chip", "unknown", "sources")
BAD: tuple[Any, ...] = (math.nan, math.inf, -math.inf, -1, 10**30, True, "abc", [], {})


def numbers(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where the numbers are."""
    found = value
    if isinstance(found, list):
        found = dict(enumerate(cast(Iterable[Any], found)))
    if isinstance(found, dict):
        pairs = cast(Mapping[Any, Any], found).items()
        for key, inner in pairs:
            yield from numbers(inner, (*path, key))
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield path


PATHS = list(numbers(FACTS))


def text_of(path: tuple[Any, ...], bad: Any) -> str:
    """The file with another value there."""
    facts = deepcopy(FACTS)
    place: Any = facts
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = bad
    device = {name: facts.pop(name) for name in DEVICE}
    return str(yaml.safe_dump({**device, "capability": facts}))  # pyright: ignore[reportUnknownMemberType]


def test_there_are_numbers_and_as_they_are_they_are_taken() -> None:
    assert len(PATHS) > 20
    assert parse_target(text_of(("power_w",), FACTS["power_w"]), "mine").name == "a100"


@pytest.mark.parametrize("path", PATHS, ids=lambda path: ".".join(map(str, path)))
def test_a_number_out_of_its_domain_is_refused(path: tuple[Any, ...]) -> None:
    for bad in BAD:
        with pytest.raises(InputError, match="mine does not describe a target") as error:
            parse_target(text_of(path, bad), "mine")
        assert ".".join(map(str, path[:2])) in str(error.value)
