"""The glossary: what it names is there, every row has its source, and every pass and recipe has a place in docs/."""

import re
from dataclasses import fields
from pathlib import Path

import pytest

from tests.test_tracked_text import tracked_texts
from vitgraph.compile.recipe import recipe_names
from vitgraph.errors import InputError
from vitgraph.pass_manager.former_names import COMMAND_OPTIONS, PASS_OPTIONS, PASSES
from vitgraph.passes import ORDER, find_pass, pipeline

ROOT = Path(__file__).resolve().parent.parent
GLOSSARY = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
FORMER = "## Names from before 0.1"
CODE = re.compile(r"`([^`]+)`")
ELSEWHERE = {"git bisect"}
"""Code of other projects."""


def rows(text: str) -> list[list[str]]:
    """The cells of every row of a page's tables, headings left out."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
    rules = {number for number, row in enumerate(cells) if all(set(cell) <= {"-"} for cell in row)}
    return [row for number, row in enumerate(cells) if number not in rules and number + 1 not in rules]


def former_names() -> set[tuple[str, str, str]]:
    """What the glossary should say: old name, new name, of what."""
    options = {(old, new, f"option of `{name}`") for name, pairs in PASS_OPTIONS.items() for old, new in pairs.items()}
    passes = {(old, new, "pass") for old, new in PASSES.items()}
    return passes | options | {(old, new, "of the command line") for old, new in COMMAND_OPTIONS.items()}


def unknown(text: str, sources: str) -> list[str]:
    """The backticked names of a text that no source has; steps of pipelines are read as such."""
    missing: list[str] = []
    for name in CODE.findall(text):
        step, _, options = name.partition("{")
        if step in ORDER and options:
            pipeline(name)  # raises for an option that the pass does not have
        elif name not in ELSEWHERE and step not in ORDER and name not in recipe_names():
            literal = rf"(?<![\w-]){re.escape(name.removeprefix('vitgraph '))}(?![\w-])"
            missing += [] if re.search(literal, sources) else [name]
    return missing


def without_place(names: list[str], pages: str) -> list[str]:
    """The names that no page has in backticks, alone or with options."""
    return [name for name in names if not re.search(rf"`[^`\n]*(?<![\w-]){re.escape(name)}(?![\w-])[^`\n]*`", pages)]


def sources() -> str:
    code = (text for name, text in tracked_texts().items() if name.endswith(".py") and not name.startswith("tests/"))
    return "\n".join(code)


def test_every_term_has_a_meaning_and_a_source() -> None:
    terms = rows(GLOSSARY.partition("## Passes and recipes")[0])
    assert len(terms) > 80
    assert [row for row in terms if len(row) != 3 or not all(row)] == []
    names = [name.strip() for row in terms for name in row[0].split(",")]
    assert sorted(names, key=str.lower) == sorted(set(names), key=str.lower), "a term stands there twice"


def test_what_the_glossary_names_is_there() -> None:
    assert unknown(GLOSSARY.partition(FORMER)[0], sources()) == []


def test_the_names_from_before_are_those_that_the_code_answers() -> None:
    told = {(old.strip("`"), new.strip("`"), what) for old, new, what in rows(GLOSSARY.partition(FORMER)[2])}
    assert told == former_names()
    commands = sources()
    for _, new, what in told:
        step = CODE.search(what)
        if step:
            assert new in {field.name for field in fields(find_pass(step[1]))}
        else:
            assert new in ORDER or f'"{new}' in commands, new


def test_every_pass_and_recipe_has_a_place_in_the_docs() -> None:
    pages = "\n".join(page.read_text(encoding="utf-8") for page in sorted((ROOT / "docs").glob("*.md")))
    pages = pages.replace(GLOSSARY, GLOSSARY.partition(FORMER)[0])
    assert without_place([*ORDER, *recipe_names()], pages) == []


def test_finds_what_is_not_there() -> None:
    assert unknown("`no_such_name` and `recipe_names`", "def recipe_names()") == ["no_such_name"]
    assert without_place(["quantize", "nm-mask"], "`quantize-linear-attention`, `nm-mask{n=1}`") == ["quantize"]
    with pytest.raises(InputError, match="is called 'group_size' now"):
        unknown("`nm-mask{together=2}`", "")
    assert rows("| a | b |\n|---|---|\n| x | `y` |\n") == [["x", "`y`"]]
