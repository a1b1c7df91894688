"""The tables together: every class is there, and no two rows have one name."""

from importlib import import_module
from pathlib import Path

TABLES = [
    import_module(f"tests.bad_inputs.{file.stem}")
    for file in sorted(Path(__file__).parent.glob("test_*.py"))
    if file.stem != "test_table"
]


def test_names_differ_within_a_table() -> None:
    for table in TABLES:
        names = [mistake.name for mistake in table.MISTAKES]
        assert len(names) == len(set(names)), table.__name__
