"""Every option and argument of every command, given what it can't be: refused by its name, or handed on to work that is not done.

The options are read off the commands, so that a new one is tried without anybody's doing.
"""

import inspect
import math
import operator
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

import pytest
import typer.models

from tests.planted import MLP
from tests.tools.conftest import Cli
from vitgraph.tools.cli import make_app

VALUES = ("nan", "inf", "-inf", "0", "-1", "1" + "0" * 30, "abc", "", "true", "[1]", "none", "1e5", "9" * 5000)
COMPILE = ("digits-vit", "--target=a100", "--recipe=fp16", "--output=out")
LINES: dict[str, tuple[str, ...]] = {
    "compile": COMPILE, "opt": ("mlp.txt", "--pipeline=canonicalize"), "inspect": ("mlp.txt",), "evaluate": ("out", "--data=digits:test"),
    "bench": ("mlp.txt",), "tune": ("out",), "search": ("digits-vit", "--target=a100", "--budget=2x", "--output=out"),
    "train": ("digits-vit", "--train-data=digits:train", "--output=out"),
    "bisect": ("mlp.txt", "--pipeline=canonicalize", "--check=verify"), "passes": (), "targets": (), "recipes": (), "doctor": (), "demo": (),
}  # fmt: skip
"""A command line of each command in which nothing is wrong."""
WORK = (
    "vitgraph.compile.compiler.run_compile", "vitgraph.searching.runner.run_search", "vitgraph.finetuning.runner.run_training", "vitgraph.frontend.open_model.open_program",
    "vitgraph.frontend.saved_programs.read_program", "vitgraph.tools.bench_entrants.load_runner", "vitgraph.compile.report.read_report",
)  # fmt: skip
"""What the commands call when their options are read."""
NONE_OF_THEIRS: dict[str, tuple[str, ...]] = {
    "--batch": VALUES, "--budget": VALUES, "--image-size": VALUES, "--resize": VALUES, "--interpolation": VALUES,
    "--mean": ("nan", "inf", "-inf", "abc", "", "true", "9" * 5000), "--std": ("nan", "inf", "-inf", "abc", "", "true", "9" * 5000),
}  # fmt: skip
"""Options of another form: what of `VALUES` they can't be."""


@dataclass(frozen=True)
class Given:
    """An option or an argument of a command."""

    command: str
    name: str
    """`--seed`; empty for an argument."""
    number: type | None
    """What it is read as, where it is a number."""
    help: str

    def __str__(self) -> str:
        return f"{self.command} {self.name or 'argument'}"

    def line(self, value: str) -> list[str]:
        """The command with this value, in place of what it has."""
        kept = [word for word in LINES[self.command] if not (self.name and word.startswith(f"{self.name}="))]
        if self.name:
            return [self.command, *kept, f"{self.name}={value}"]
        return [self.command, *[word for word in kept if word.startswith("--")], "--", value]

    def allows(self, value: str) -> bool:
        """Whether a value is in the range that the help shows, read by this test's own rules."""
        assert self.number is not None
        try:
            number = self.number(value)
        except ValueError:
            return False
        tests = {">": operator.gt, ">=": operator.ge, "<": operator.lt, "<=": operator.le}
        return math.isfinite(number) and all(tests[sign](number, bound) for sign, bound in self.bounds())

    def bounds(self) -> list[tuple[str, float]]:
        """The range in the help: `[>= 0, <= 1,024]`."""
        shown = re.search(r"\[([<>].*?)\]", self.help)
        parts = [] if shown is None else [part.split() for part in shown[1].split(", ")]
        return [(sign, self.number_of(text)) for sign, text in parts]

    def number_of(self, text: str) -> Any:
        """A bound as a number of the option's type."""
        base, _, power = text.replace(",", "").partition("**")
        return self.number(base) ** (self.number(power) if power else 1) if self.number is not None else None


def parameters() -> Iterator[Given]:
    """Everything that takes a value, of all commands."""
    for command in make_app().registered_commands:
        assert command.callback is not None
        for name, each in inspect.signature(command.callback).parameters.items():
            kind, info = (
                get_args(each.annotation)[:2] if get_origin(each.annotation) is Annotated else (each.annotation, None)
            )
            numbers = {int, float} & {kind, *get_args(kind)}
            if kind is bool or info is None:
                continue
            words = [word for word in info.param_decls or () if word.startswith("--")] or [
                f"--{name.replace('_', '-')}"
            ]
            option = words[0] if isinstance(info, typer.models.OptionInfo) else ""
            yield Given(str(command.name), option, next(iter(numbers), None), info.help or "")


class Reached(BaseException):
    """The work would begin now."""


@pytest.fixture
def idle(monkeypatch: pytest.MonkeyPatch) -> None:
    """No command works."""

    def reached(*_: object, **__: object) -> None:
        raise Reached

    for place in WORK:
        monkeypatch.setattr(place, reached)


ALL = list(parameters())


def test_there_is_a_line_for_every_command() -> None:
    assert {each.command for each in ALL} <= LINES.keys()
    assert len(ALL) > 80
    assert sum(each.number is not None for each in ALL) > 25


@pytest.mark.parametrize("given", [each for each in ALL if each.number], ids=str)
def test_every_number_shows_its_range(given: Given) -> None:
    signs = {sign[0] for sign, _ in given.bounds()}
    assert signs == {"<", ">"}, f"{given} takes anything: give it a type of vitgraph/domains.py"


@pytest.mark.usefixtures("idle")
@pytest.mark.parametrize("given", ALL, ids=str)
def test_what_an_option_can_not_be(given: Given, cli: Cli) -> None:
    Path("mlp.txt").write_text(MLP, encoding="utf-8")
    for value in VALUES:
        try:
            ran = cli(*given.line(value))
        except Reached:
            assert given.number is None or given.allows(value), f"{given} took {value[:40]!r}"
            assert value not in NONE_OF_THEIRS.get(given.name, ()), f"{given} took {value[:40]!r}"
            continue
        assert "internal error" not in ran.err, f"{given} {value[:40]!r}: {ran.err}"
        assert ran.status in (0, 2), f"{given} {value[:40]!r}: exit {ran.status}: {ran.err}"
        if given.number is not None:
            assert (ran.status == 0) == given.allows(value), f"{given} {value[:40]!r}: {ran.err}"
            assert f"'{given.name}'" in ran.err


@pytest.mark.usefixtures("idle")
@pytest.mark.parametrize("command", ["compile", "opt", "inspect", "bench", "search", "train", "bisect", "demo"])
def test_the_line_of_a_command_reaches_its_work(command: str, cli: Cli) -> None:
    """What is refused is refused for the value that was tried."""
    Path("mlp.txt").write_text(MLP, encoding="utf-8")
    with pytest.raises(Reached):
        cli(command, *LINES[command])
