"""The process that interprets kernels, one for all tests; nothing where Triton is not installed."""

from collections.abc import Iterator
from importlib.util import find_spec

import pytest

from tests.backends.cuda.interpreter import Interpreter


@pytest.fixture(scope="session")
def interpreter() -> Iterator[Interpreter]:
    if find_spec("triton") is None:
        pytest.skip("Triton is not installed")
    started = Interpreter()
    yield started
    started.close()
