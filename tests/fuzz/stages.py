"""What goes wrong at a stage ends the comparison of a graph, with a verdict."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

from tests.fuzz.verdict import Kind, Verdict
from vitgraph.errors import VitgraphError

REFUSALS = (
    "is not of the dialect",
    "has no form for",
    "can't be lowered to ONNX",
    "its CPU kernels lack this",
)
"""What an error says that refuses an operator by name, or a type."""


class Found(Exception):
    """Ends the comparison of a graph."""

    def __init__(self, kind: Kind, stage: str, why: str) -> None:
        super().__init__(why)
        self.verdict = Verdict(kind, stage, why)


@contextmanager
def stage(name: str, *refusals: type[Exception], otherwise: Kind = Kind.CRASH) -> Generator[None]:
    """An exception in here belongs to this stage; these are refusals, and so are errors that name an operator."""
    try:
        yield
    except (Found, TimeoutError):
        raise
    except refusals as error:
        raise Found(Kind.REFUSED, name, first_lines(error)) from error
    except Exception as error:
        named = isinstance(error, VitgraphError) and any(words in str(error) for words in REFUSALS)
        kind = Kind.REFUSED if named else otherwise
        raise Found(kind, name, f"{type(error).__name__}: {first_lines(error)}") from error


def first_lines(error: Exception) -> str:
    """What an error says, shortened."""
    return " ".join(line.strip() for line in str(error).splitlines()[:2])[:300]
