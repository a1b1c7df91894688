"""The domains of values, and what is told of one that is outside."""

import math
from dataclasses import dataclass
from typing import Any

import pytest

from vitgraph.domains import Count, Positive, Seed, Selectors, Threads, hold, hold_fields, plain_number, shortened
from vitgraph.errors import InputError
from vitgraph.searching.elsa import Elsa
from vitgraph.searching.evolution import Evolution
from vitgraph.training.distill import Schedule


@pytest.mark.parametrize(
    ("kind", "value", "told"),
    [
        (Threads, 100_000, "x: Input should be less than or equal to 1024; got 100000"),
        (Threads, True, "x: a number is wanted, not true or false; got True"),
        (Threads, 1.5, "x: Input should be a valid integer, got a number with a fractional part; got 1.5"),
        (Seed, 10**23, "x: Input should be less than 9223372036854775808; got 100000000000000000000000"),
        (Positive, math.nan, "x: Input should be a finite number; got nan"),
        (Positive, math.inf, "x: Input should be a finite number; got inf"),
        (Positive, 1e300, "x: Input should be less than or equal to 1000000; got 1e+300"),
        (Count | None, "many", "integer, unable to parse"),
        (Count, "9" * 5000, "… (5,002 characters)"),
        (Selectors, [""], "at least 1 character"),
    ],
)
def test_what_is_outside_is_told_by_its_name(kind: Any, value: Any, told: str) -> None:
    with pytest.raises(InputError) as error:
        hold("x", kind, value)
    assert told in str(error.value)


def test_what_is_inside_is_brought_to_its_type() -> None:
    assert (hold("x", Threads, 1024), hold("x", Count | None, None), hold("x", Selectors, ["a"])) == (
        1024,
        None,
        ("a",),
    )
    with pytest.raises(InputError, match="tuple"):
        hold("x", Selectors, ["a"], strict=True)


@dataclass
class Settings:
    """Two values."""

    threads: Threads = 1
    seed: Seed = 0


def test_the_fields_of_a_dataclass() -> None:
    hold_fields(Settings())
    with pytest.raises(InputError, match="seed: Input should be greater than or equal to 0; got -1"):
        hold_fields(Settings(seed=-1))


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: Schedule(learning_rate=math.nan), "learning_rate"),
        (lambda: Schedule(epochs=0), "epochs"),
        (lambda: Evolution(population=1), "population"),
        (lambda: Evolution(aim="luck"), "aim"),  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
        (lambda: Elsa(held_out=10**30), "held_out"),
    ],
)
def test_the_settings_of_a_search_have_domains(make: Any, told: str) -> None:
    with pytest.raises(InputError, match=f"^{told}: "):
        make()


def test_digits_and_words_of_a_text() -> None:
    assert [plain_number(text) for text in ("8", "08", "-1", "1e5", "²", "", "9" * 19)] == [8, 8, *[None] * 5]
    assert shortened("ab") == "'ab'"
    assert len(shortened("a" * 5000)) < 120
    assert shortened(10**5000) == "a int too long to be written"
