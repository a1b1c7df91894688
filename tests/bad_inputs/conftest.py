"""The command line, as the tests of its commands call it."""

from tests.tools.conftest import cli

__all__ = ["cli"]
