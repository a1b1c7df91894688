"""Modules that were once compiled wrongly are compiled rightly."""

from importlib import import_module
from pathlib import Path

import pytest

from tests.fuzz.comparing import judge_module
from tests.fuzz.quiet import quiet
from tests.fuzz.verdict import Kind

CASES = sorted(path.stem for path in (Path(__file__).parent / "corpus").glob("*.py") if path.stem != "__init__")


@pytest.mark.parametrize("name", CASES)
def test_a_find_stays_mended(name: str) -> None:
    case = import_module(f"tests.fuzz.corpus.{name}")
    runtimes = ("ort", "openvino") if "openvino" in (case.__doc__ or "") else ("ort",)
    with quiet():
        verdict = judge_module(case.Model, case.INPUT, runtimes)
    assert verdict.kind is Kind.OK, verdict


def test_there_are_finds() -> None:
    assert len(CASES) >= 5
