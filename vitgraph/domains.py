"""Domains of the values that a user may set, and the check that holds values to them.

    threads: Threads = 0
    group: Count | None = None

Options of passes and of commands, arguments of the Python API, settings of a search and figures of a target are annotated
with these types. NaN and infinity are in no domain, and true is no number.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

from vitgraph.errors import InputError

if TYPE_CHECKING:  # pydantic takes a while to import, and `--help` needs the ranges only
    from pydantic import TypeAdapter


@dataclass(frozen=True)
class Range:
    """Between which numbers a value is; a mark that pydantic follows."""

    ge: float | None = None
    le: float | None = None
    gt: float | None = None
    lt: float | None = None

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        """The schema of int or float, with the range in it."""
        from pydantic_core.core_schema import no_info_before_validator_function

        schema = handler(source) | {name: bound for name, bound in asdict(self).items() if bound is not None}
        finite = {"allow_inf_nan": False} if schema["type"] == "float" else {}
        return no_info_before_validator_function(_number, schema | finite)


@dataclass(frozen=True)
class Length:
    """How many characters a word has at least; a mark that pydantic follows."""

    min_length: int

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        """The schema of str, with the length in it."""
        return handler(source) | asdict(self)


def _number(value: Any) -> Any:
    """Anything but a bool, which Python takes for 0 or 1."""
    if isinstance(value, bool):
        raise ValueError("a number is wanted, not true or false")
    return value


MOST_AT_ONCE = 2**16

Natural = Annotated[int, Range(ge=0, lt=2**63)]
"""A whole number, 0 or more, that 64 bits hold."""
Count = Annotated[int, Range(ge=1, lt=2**31)]
"""Of anything that a model, an image or a device has."""
Exponent = Annotated[int, Range(ge=-111, le=127)]
"""The largest of sixteen exponents of two that FP32 has."""
NonNegative = Annotated[float, Range(ge=0, le=1e6)]
"""A factor, or 0; products with one stay finite in FP32."""
Positive = Annotated[float, Range(gt=0, le=1e6)]
"""A factor; products with one stay finite in FP32."""
Share = Annotated[float, Range(gt=0, le=1)]
"""A share that is not empty: over 0, at most 1."""
Fraction = Annotated[float, Range(ge=0, le=1)]
"""From 0 to 1."""
ProperFraction = Annotated[float, Range(ge=0, lt=1)]
"""From 0 to less than 1."""
Percent = Annotated[float, Range(gt=0, le=100)]
"""Over 0, at most 100."""
Points = Annotated[float, Range(ge=0, le=100)]
"""Of accuracy, in percent."""
OneOrMore = Annotated[float, Range(ge=1, le=2**31)]
"""A factor that makes nothing smaller."""
OverOne = Annotated[float, Range(gt=1, le=1e6)]
"""A factor that makes larger."""
Seed = Annotated[int, Range(ge=0, lt=2**63)]
"""Of a random generator."""
Threads = Annotated[int, Range(ge=0, le=1024)]
"""Of one run; 0 leaves it to the runtime."""
ImageCount = Annotated[int, Range(ge=1, le=2 * 10**7)]
"""ImageNet-21k, the largest public set with labels, has 14 million."""
TrainingImages = Annotated[int, Range(ge=2, le=2 * 10**7)]
"""One to train with and one to choose by, at least."""
BatchSize = Annotated[int, Range(ge=1, le=MOST_AT_ONCE)]
"""Images that are run at once."""
Repeats = Annotated[int, Range(ge=1, le=10**6)]
"""How often something is done."""
RepeatsOrNone = Annotated[int, Range(ge=0, le=10**6)]
"""The same, where not at all is an answer too."""
Microseconds = Annotated[float, Range(gt=0, le=1e9)]
"""Of one product; a quarter of an hour at most."""
Population = Annotated[int, Range(ge=4, le=10**4)]
"""Of a generation: parents in pairs, which are paired again."""
Selectors = tuple[Annotated[str, Length(1)], ...]
"""Which sites: roles, globs over module paths, bounds (see `vitgraph.analysis.site_selectors`); whether any matches, the model decides."""

SHOWN = 80
"""So many characters of a bad value are told."""


def hold(name: str, kind: Any, value: Any, strict: bool = False) -> Any:
    """The value, brought to its type; `InputError` tells its `name` where it is not in the domain `kind`.

    What a text has is brought to the type (a list to a tuple, a whole number to a float) unless `strict`.
    """
    from pydantic import ValidationError

    try:
        return _adapter(kind).validate_python(value, strict=strict)
    except ValidationError as error:
        faults = dict.fromkeys(each["msg"].removeprefix("Value error, ") for each in error.errors())
        raise InputError(f"{name}: {'; or: '.join(faults)}; got {shortened(value)}") from error


def hold_fields(settings: Any) -> None:
    """The same for every field of a dataclass: each is of the type that it is annotated with, and in its domain."""
    hints = get_type_hints(settings.__class__, include_extras=True)
    for field in fields(settings):
        hold(field.name, hints[field.name], getattr(settings, field.name), strict=True)


def plain_number(text: str) -> int | None:
    """The whole number that a text of decimal digits stands for; None for another, or for one of over 18 digits."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= 18 else None


def shortened(value: object) -> str:
    """A value as Python writes it, cut to a length that a person reads."""
    try:
        text = repr(value)
    except ValueError:  # Python writes no whole number of over 4,300 digits
        return f"a {type(value).__name__} too long to be written"
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}… ({len(text):,} characters)"


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    from pydantic import TypeAdapter

    return TypeAdapter(kind)
