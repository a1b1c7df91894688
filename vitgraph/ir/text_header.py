"""The header of a graph's text: the program's name, its form and its masks, each in a comment of its own."""

from __future__ import annotations

import re

from vitgraph.ir.names import MAX_NAME
from vitgraph.ir.packing import Packing
from vitgraph.ir.program import Form, Program, SiteKey

_HEADER = re.compile(r"# (program|form|mask): ?(.*)")
_MASK = re.compile(r"(.+) (\d{1,6}):(\d{1,6})((?: (?:group_size|v|occurrence)=\d{1,6})*)")


def read_header(program: Program, line: str) -> None:
    """Take in one line of comment; `ValueError` for a name, a form or a mask that is none."""
    found = _HEADER.fullmatch(line)
    if found is None:
        return
    key, text = found.groups()
    if not text.isprintable() or len(text) > 2 * MAX_NAME:
        raise ValueError(f"{key}: is over {2 * MAX_NAME} characters, or holds some that can't be printed")
    if key == "program":
        program.name = text
    elif key == "form":
        program.form = _form(text)
    else:
        program.masks.update([_mask(text)])


def _form(text: str) -> Form:
    forms: dict[str, Form] = {"captured": "captured", "canonical": "canonical"}
    if text not in forms:
        raise ValueError("a form is captured or canonical")
    return forms[text]


def _mask(text: str) -> tuple[SiteKey, Packing]:
    """The place and the pattern of a mask in the header."""
    found = _MASK.fullmatch(text)
    if found is None:
        raise ValueError("a mask is `# mask: path n:m`, with group_size=, v= or occurrence= after it")
    rest = {name: int(value) for name, value in re.findall(r" (\w+)=(\d+)", found[4])}
    place = (found[1], rest.pop("occurrence", 0))
    pattern = Packing(int(found[2]), int(found[3]), **rest)
    if not 0 < pattern.n < pattern.m or min(pattern.group_size, pattern.v) < 1:
        raise ValueError("of a mask n:m, 0 < n < m, and group_size and v are at least 1")
    return place, pattern
