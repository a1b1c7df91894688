"""A pipeline: passes in order, as a value, as text and as YAML; and the loop that runs them.

    canonicalize,fuse-attention,nm-mask{n=2 m=4 only=[qkv,fc1]},materialize

An option is `name=value`; a value is a number, `true`, `false`, `none`, a word, a quoted string, or a list in
brackets. Only options that differ from their defaults are printed.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import MISSING, dataclass, fields
from difflib import get_close_matches
from typing import Any, Protocol

from vitgraph.errors import InputError, PassError, VitgraphError
from vitgraph.images.calibration_data import Images
from vitgraph.ir.model_output import gives_features
from vitgraph.ir.printer import show
from vitgraph.ir.program import Program
from vitgraph.ir.verify import check
from vitgraph.pass_manager.former_names import PASS_OPTIONS
from vitgraph.pass_manager.options import read_options
from vitgraph.pass_manager.pass_contract import Context, Pass
from vitgraph.runtime.memory import trim_memory
from vitgraph.targets.target import Target

Lookup = Callable[[str], type[Pass]]

_log = logging.getLogger("vitgraph")


class Instrument(Protocol):
    """Sees every pass before and after; may add to the pass's ledger entry, and raise to stop the pipeline."""

    def before(self, step: Pass, program: Program, context: Context) -> None:
        """The program is about to be handed to the pass."""
        ...

    def after(self, step: Pass, program: Program, context: Context, entry: dict[str, Any]) -> None:
        """The pass has run, and the program is clean; `entry["changed"]` says whether its text differs."""
        ...

    def failed(self, step: Pass, error: Exception) -> None:
        """The pass, the clean-up or an instrument raised."""
        ...


@dataclass(frozen=True)
class Pipeline:
    """An ordered tuple of passes."""

    passes: tuple[Pass, ...]

    def run(self, program: Program, context: Context | None = None, instruments: Sequence[Instrument] = ()) -> Program:
        """Run every pass on a copy of the program and return the copy; the ledger has one entry a pass."""
        context = context or Context()
        self.check(context.target, context.calibration)
        self._check_output(program)
        work = program.copy()
        text = show(work)
        for position, step in enumerate(self.passes, start=1):
            context.progress("passes", position - 1, len(self.passes))
            if not context.take(step.name, ""):
                break
            text = _run_step(step, self._where(position), work, text, context, instruments)
            trim_memory()
        context.progress("passes", len(self.passes), len(self.passes))
        return work

    def check(self, target: Target | None, images: Images | None) -> None:
        """Raise `InputError` naming the first pass that is asked for what can't be had; nothing has run then."""
        for position, step in enumerate(self.passes, start=1):
            try:
                step.check(target, images)
            except InputError as error:
                raise InputError(f"{self._where(position)}: {error}") from error

    def _check_output(self, program: Program) -> None:
        """Raise `InputError` naming the first pass that needs classes where the program gives features."""
        for position, step in enumerate(self.passes, start=1):
            if step.judges_classes and gives_features(program):
                raise InputError(f"{self._where(position)}: {program.name} gives features; {step.judges_classes}")

    def _where(self, position: int) -> str:
        return f"pass {self.passes[position - 1].name!r} ({position} of {len(self.passes)})"

    def __str__(self) -> str:
        return ",".join(show_pass(step) for step in self.passes)

    def to_yaml(self) -> list[Any]:
        """The YAML form: a list of names, or of one-entry mappings from a name to its options."""
        return [{step.name: options_of(step)} if options_of(step) else step.name for step in self.passes]


def _run_step(
    step: Pass, where: str, work: Program, old: str, context: Context, instruments: Sequence[Instrument]
) -> str:
    """Run one pass on a graph whose text is `old`; the text that it leaves."""
    refused, found = len(context.refusals), len(context.findings)
    nodes = len(work.calls())
    entry: dict[str, Any] = {"name": step.name, "options": options_of(step), "effect": step.declares().value}
    try:
        for instrument in instruments:
            instrument.before(step, work, context)
        start = time.perf_counter()
        step.run(work, context)
        _clean(work, where)
        new = show(work)
        entry["changed"] = new != old
        seconds = time.perf_counter() - start
        entry["nodes"] = [nodes, len(work.calls())]
        entry["drift"] = None
        entry["refused"] = [{"site": r.site, "why": r.why} for r in context.refusals[refused:]]
        if context.findings[found:]:
            entry["found"] = [finding.to_json() for finding in context.findings[found:]]
        for instrument in instruments:
            instrument.after(step, work, context, entry)
    except Exception as error:
        for instrument in instruments:
            instrument.failed(step, error)
        if isinstance(error, VitgraphError):
            raise
        raise PassError(f"{where} failed: {type(error).__name__}: {error}") from error
    work.ledger.append(entry)
    context.durations.append(round(seconds, 4))
    _tell(where, entry, seconds)
    return new


def timed_ledger(ledger: Sequence[dict[str, Any]], durations: Sequence[float]) -> list[dict[str, Any]]:
    """The entries with `seconds`: those of the passes that ran last, None for those that had run on the program before."""
    earlier = len(ledger) - len(durations)
    seconds = [None] * earlier + list(durations)
    return [{**entry, "seconds": each} for entry, each in zip(ledger, seconds, strict=True)]


def _tell(where: str, entry: dict[str, Any], seconds: float) -> None:
    done = "changed the graph" if entry["changed"] else "left the graph as it was"
    _log.info("%s %s, %.2f s, %d site(s) refused", where, done, seconds, len(entry["refused"]))
    for refused in entry["refused"]:
        _log.debug("%s left %s alone: %s", where, refused["site"], refused["why"])


def _clean(work: Program, where: str) -> None:
    try:
        work.clean()
    except Exception as error:
        check(work, where)  # says what is wrong, under the lines it is about
        raise PassError(f"{where} left a graph that can't be compiled: {error}") from error


def options_of(step: Pass) -> dict[str, Any]:
    """The options that differ from their defaults."""
    values = {f.name: (getattr(step, f.name), _default(f)) for f in fields(step)}
    return {name: _plain(value) for name, (value, default) in values.items() if value != default}


def _default(field: Any) -> Any:
    return field.default_factory() if field.default_factory is not MISSING else field.default


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]


def show_pass(step: Pass) -> str:
    """`name{option=value …}`."""
    options = " ".join(f"{name}={show_value(value)}" for name, value in options_of(step).items())
    return f"{step.name}{{{options}}}" if options else step.name


def show_value(value: Any) -> str:
    """An option's value as the text form writes it."""
    if isinstance(value, list):
        return f"[{','.join(show_value(item) for item in value)}]"  # pyright: ignore[reportUnknownVariableType]
    if value is None or isinstance(value, bool):
        return str(value).lower()
    if not isinstance(value, str):
        return repr(value)
    plain = re.fullmatch(_WORD, value) and not isinstance(_word(value), bool | int | float | None)
    return value if plain else '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


_WORD = r"[^\s,{}\[\]=\"]+"
_TOKEN = re.compile(rf'\s*(?:("(?:[^"\\]|\\.)*")|([,{{}}\[\]=])|({_WORD}))')


def parse_pipeline(text: str, lookup: Lookup) -> Pipeline:
    """Read the text form; `InputError` points at the place that can't be read, or names what is unknown."""
    return Pipeline(tuple(build_pass(name, options, lookup) for name, options in _Reader(text).read()))


def read_yaml(steps: Any, lookup: Lookup) -> Pipeline:
    """Read the YAML form (already loaded): names, or one-entry mappings from a name to its options."""
    if not isinstance(steps, list):
        raise InputError(f"a pipeline in YAML is a list of passes, not {type(steps).__name__}")
    passes = list[Pass]()
    for step in steps:  # pyright: ignore[reportUnknownVariableType]
        name, options = next(iter(step.items())) if isinstance(step, dict) and len(step) == 1 else (step, {})  # pyright: ignore[reportUnknownVariableType, reportUnknownMemberType, reportUnknownArgumentType]
        if not isinstance(name, str) or not isinstance(options, dict | None):
            raise InputError(f"a step of a pipeline is a name, or one name with its options; got {step!r}")
        passes.append(build_pass(name, options or {}, lookup))  # pyright: ignore[reportUnknownArgumentType]
    return Pipeline(tuple(passes))


def build_pass(name: str, options: dict[str, Any], lookup: Lookup) -> Pass:
    """A pass by name with its options checked against their declared types."""
    kind = lookup(name)
    known = [f.name for f in fields(kind)]
    for option in options:
        if option not in known:
            former = PASS_OPTIONS.get(name, {}).get(option)
            if former is not None:
                raise InputError(f"pass {name!r}: the option {option!r} is called {former!r} now")
            close = get_close_matches(str(option), known, 3)  # YAML has keys that are no words
            hint = f"did you mean {', '.join(close)}?" if close else f"it takes {', '.join(known) or 'none'}"
            raise InputError(f"pass {name!r} has no option {option!r}; {hint}")
    try:
        return kind(**read_options(kind, options))
    except InputError as error:
        raise InputError(f"pass {name!r}: {error}") from error


class _Reader:
    """The text form, token by token."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens = list[tuple[str, int, bool]]()
        position, end = 0, len(text.rstrip())
        while position < end:
            match = _TOKEN.match(text, position)
            if match is None:
                raise self.error("this can't be read", position)
            self.tokens.append((match[match.lastindex or 0], match.start(match.lastindex or 0), match[1] is not None))
            position = match.end()
        self.next = 0

    def error(self, what: str, position: int | None = None) -> InputError:
        if position is None:
            position = self.tokens[self.next][1] if self.next < len(self.tokens) else len(self.text)
        return InputError(
            f"the pipeline can't be read: {what}\n  {self.text}\n  {' ' * position}^\n"
            "  write for example: canonicalize,nm-mask{n=2 m=4 only=[qkv,fc1]},materialize"
        )

    def peek(self) -> str | None:
        """The next token if it is punctuation, `word` or `string` otherwise; None at the end."""
        if self.next == len(self.tokens):
            return None
        token, _, quoted = self.tokens[self.next]
        return "string" if quoted else token if token in ",{}[]=" else "word"

    def take(self, wanted: str, what: str) -> str:
        if self.peek() != wanted:
            raise self.error(f"{what} is expected here")
        self.next += 1
        return self.tokens[self.next - 1][0]

    def read(self) -> list[tuple[str, dict[str, Any]]]:
        steps = [self.read_pass()]
        while self.peek() is not None:
            self.take(",", "',' or the end")
            steps.append(self.read_pass())
        return steps

    def read_pass(self) -> tuple[str, dict[str, Any]]:
        name, options = self.take("word", "the name of a pass"), dict[str, Any]()
        if self.peek() == "{":
            self.take("{", "'{'")
            while self.peek() != "}":
                option = self.take("word", "an option or '}'")
                self.take("=", "'='")
                if option in options:
                    raise self.error(f"option {option!r} is given twice")
                options[option] = self.read_value()
            self.take("}", "'}'")
        return name, options

    def read_value(self) -> Any:
        if self.peek() == "[":
            self.take("[", "'['")
            items = list[Any]()
            while self.peek() != "]":
                items.append(self.read_value())
                if self.peek() != "]":
                    self.take(",", "',' or ']'")
            self.take("]", "']'")
            return items
        if self.peek() == "string":
            return re.sub(r"\\(.)", r"\1", self.take("string", "a value")[1:-1])
        return _word(self.take("word", "a value"))


def _word(word: str) -> Any:
    """A bare word as the value it stands for."""
    if word in ("true", "false", "none"):
        return {"true": True, "false": False, "none": None}[word]
    for kind in (int, float):
        try:
            return kind(word)
        except ValueError:
            continue
    return word
