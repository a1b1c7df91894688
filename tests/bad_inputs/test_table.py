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


LEAST = {
    "test_recipes": 50,
    "test_pipelines": 60,
    "test_images": 60,
    "test_evaluation_data": 12,
    "test_weights": 50,
    "test_saved_programs": 40,
    "test_graph_text": 60,
    "test_onnx": 40,
    "test_reports": 40,
    "test_command_line": 80,
    "test_transformers_folders": 30,
    "test_outputs": 40,
}
"""How many rows a class has at least."""


def test_every_class_has_its_rows() -> None:
    rows = {table.__name__.rpartition(".")[2]: len(table.MISTAKES) for table in TABLES}
    assert rows.keys() == LEAST.keys()
    assert {name: rows[name] for name, least in LEAST.items() if rows[name] < least} == {}
