"""Tables and groups, as a pipe and as a terminal get them."""

import io

from rich.console import Console

from vitgraph.tools.drawing import WIDEST, group, table

ROWS = [["a", "12", "x" * 300], ["b", "3", "short"], ["c" * 100, "40", "[red]end[/red]"]]


def test_a_row_of_a_pipe_is_one_line_and_one_long_cell_widens_no_other() -> None:
    head, rule, *rows = str(table(["name", "count", "what"], ROWS, title="All")).splitlines()[1:]
    assert [len(line) for line in rows[:2]] == [WIDEST + 9 + 300, WIDEST + 9 + 5]
    assert rows[2].split() == ["c" * 100, "40", "[red]end[/red]"]
    assert head.startswith("name")
    assert max(map(len, (head, rule))) < 100
    assert str(table(["name"], [], title="All")).splitlines() == ["All", "name", "────"]


def test_numbers_stand_to_the_right_and_no_line_ends_in_blanks() -> None:
    lines = str(table(["name", "count"], [["a", "1,200"], ["b", "7"], ["two\nlines", "1"]])).splitlines()
    assert lines[2:] == ["a          1,200", "b              7", "two lines      1"]
    assert all(line == line.rstrip() for line in str(table(["a", "b"], [["1", ""]])).splitlines())


def test_text_beside_tables_has_a_line_between() -> None:
    drawn = str(group("one", "two", table(["t"], [["x"]]), "three"))
    assert drawn.splitlines() == ["one", "two", "", "t", "─", "x", "", "three"]


def test_a_terminal_folds_and_takes_brackets_as_they_are() -> None:
    out = io.StringIO()
    Console(file=out, width=60, force_terminal=False).print(group("out[1]", table(["name", "count", "what"], ROWS)))
    assert "out[1]" in out.getvalue()
    assert "[red]end[/red]" in out.getvalue()
    assert max(map(len, out.getvalue().splitlines())) <= 60
