"""How answers are drawn: tables as boxes on a terminal, and as plain columns in a file or a pipe."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

WIDEST = 40
"""A column of a file or a pipe is padded to so many characters at most: one long cell moves its own row only."""


@dataclass(frozen=True)
class Table:
    """Rows under columns; columns of numbers stand to the right."""

    columns: list[str]
    rows: list[list[str]]
    title: str | None = None

    def numeric(self, column: int) -> bool:
        """Whether it holds nothing but numbers."""
        cells = [row[column].replace(".", "").replace(",", "") for row in self.rows]
        return bool(cells) and all(cell.isdigit() for cell in cells)

    def __rich__(self) -> Any:
        """For a terminal, which folds what is too wide; brackets in a cell are no markup."""
        from rich import box
        from rich.table import Table as Boxes
        from rich.text import Text

        drawn = Boxes(box=box.SIMPLE_HEAD, title=self.title, title_justify="left", pad_edge=False)
        for number, column in enumerate(self.columns):
            drawn.add_column(column, justify="right" if self.numeric(number) else "left", overflow="fold")
        for row in self.rows:
            drawn.add_row(*(Text(cell) for cell in row))
        return drawn

    def __str__(self) -> str:
        """For a file or a pipe: one line a row, whatever its length, so that rows can be searched."""
        rows = [self.columns, *([" ".join(cell.split("\n")) for cell in row] for row in self.rows)]
        widths = [min(WIDEST, max(map(len, column))) for column in zip(*rows, strict=True)]
        rule = "  ".join("─" * max(width, len(head)) for width, head in zip(widths, self.columns, strict=True))
        head, *body = [self._line(row, widths) for row in rows]
        return "\n".join([*([self.title] if self.title else []), head, rule.rstrip(), *body])

    def _line(self, row: list[str], widths: list[int]) -> str:
        cells = [
            cell.rjust(width) if self.numeric(number) else cell.ljust(width)
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        return "  ".join(cells).rstrip()


@dataclass(frozen=True)
class Group:
    """Several things, one under the other; text is drawn as it is."""

    parts: tuple[Any, ...]

    def __rich__(self) -> Any:
        """For a terminal."""
        from rich.console import Group as Stack
        from rich.text import Text

        return Stack(*(Text(part) if isinstance(part, str) else part for part in self.parts))

    def __str__(self) -> str:
        """For a file or a pipe: a blank line before and after a table."""
        lines = list[str]()
        for part, below in zip_longest(self.parts, self.parts[1:]):
            lines.append(str(part))
            if below is not None and not (isinstance(part, str) and isinstance(below, str)):
                lines.append("")
        return "\n".join(lines)


def draw(answer: Any) -> None:
    """Print an answer: text as it is, tables as the place that they are printed to can show them."""
    if sys.stdout.isatty() and not isinstance(answer, str):
        from rich.console import Console

        Console().print(answer)
        return
    text = str(answer)
    sys.stdout.write(text if text.endswith("\n") or not text else text + "\n")


def table(columns: list[str], rows: list[list[str]], title: str | None = None) -> Table:
    """A table for `Answer.text`."""
    return Table(columns, rows, title)


def group(*parts: Any) -> Group:
    """Several things for `Answer.text`."""
    return Group(parts)
