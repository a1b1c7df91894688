"""What every command shares: grouped options, one answer as text or JSON, and one place where errors are told.

A command is a function from its options to an `Answer`. A parameter whose type is a dataclass stands for that
dataclass's fields, so that options which several commands take are declared once.
"""

from __future__ import annotations

import contextlib
import inspect
import json
import os
import sys
from collections.abc import Callable, Generator, Mapping
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from typing import Annotated, Any, get_type_hints

import typer

from vitgraph.errors import InputError
from vitgraph.logs import level_asked, set_level
from vitgraph.tools.drawing import draw
from vitgraph.tools.faults import fault_of
from vitgraph.tools.option_domains import with_domain
from vitgraph.tools.streams import answering


@dataclass(frozen=True)
class Answer:
    """What a command found: the same as JSON and for reading, and its exit status (1: a check failed)."""

    data: Mapping[str, Any]
    text: Any = ""
    """A string that is printed as it is, or what `vitgraph.tools.drawing` makes."""
    status: int = 0
    violation: str = ""
    """What failed, for standard error, where the status is not 0."""
    told: bool = True
    """Whether it is printed; of several processes that work together one tells."""


JsonOption = Annotated[
    bool, typer.Option("--json", help="Print one JSON object on standard output, also for an error.")
]
DebugOption = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error, and libraries' warnings.")]
VerboseOption = Annotated[
    bool, typer.Option("-v", "--verbose", help="Tell what each pass does, and libraries' warnings.")
]
QuietOption = Annotated[bool, typer.Option("-q", "--quiet", help="Tell errors only: no warning, no progress.")]


@dataclass(frozen=True)
class Telling:
    """How an answer is told, and what else; the same options at every command."""

    json_output: JsonOption = False
    debug: DebugOption = False
    verbose: VerboseOption = False
    quiet: QuietOption = False

    def level(self) -> str:
        """The least that is logged (see `vitgraph.logs`). Raises `InputError` for options that contradict each other."""
        if self.verbose and self.quiet:
            raise InputError("--verbose and --quiet contradict each other: leave one of them out")
        return "info" if self.verbose else "error" if self.quiet else level_asked() or "warning"


def command(app: typer.Typer, name: str) -> Callable[[Callable[..., Answer]], Callable[..., None]]:
    """Make a function that returns an `Answer` a command of `app`, with the options of `Telling`."""

    def register(work: Callable[..., Answer]) -> Callable[..., None]:
        groups, parameters = _expand(work)

        def run(**given: Any) -> None:
            telling = Telling(**{field.name: given.pop(field.name) for field in fields(Telling)})
            for group, kind in groups.items():
                given[group] = kind(**{field.name: given.pop(field.name) for field in fields(kind)})
            raise typer.Exit(execute(lambda: work(**given), telling))

        run.__doc__ = work.__doc__
        run.__name__ = work.__name__
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        summary = inspect.cleandoc(work.__doc__ or "").partition("\n")[0]
        app.command(name, short_help=summary)(run)  # given so, it is not cut to the width of the terminal
        return run

    return register


def _expand(work: Callable[..., Answer]) -> tuple[dict[str, Any], list[inspect.Parameter]]:
    """The dataclass parameters of a command, and all its parameters with those replaced by their fields."""
    groups = dict[str, Any]()
    parameters = list[inspect.Parameter]()
    for parameter in inspect.signature(work, eval_str=True).parameters.values():
        if not is_dataclass(parameter.annotation):
            parameters.append(_parameter(parameter.name, parameter.annotation, parameter.default))
            continue
        groups[parameter.name] = parameter.annotation
        parameters += _fields_as_parameters(parameter.annotation)
    return groups, [*parameters, *_fields_as_parameters(Telling)]


def _fields_as_parameters(kind: Any) -> list[inspect.Parameter]:
    hints = get_type_hints(kind, include_extras=True)
    return [_parameter(field.name, hints[field.name], _default(field)) for field in fields(kind)]


def _parameter(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    told = with_domain(annotation)
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=told)


def _default(field: Field[Any]) -> Any:
    if field.default_factory is not MISSING:
        return field.default_factory()
    return inspect.Parameter.empty if field.default is MISSING else field.default


def execute(work: Callable[[], Answer], telling: Telling) -> int:
    """Do the work, print its answer or its error, and return the exit status."""
    as_json, debug = telling.json_output, telling.debug
    try:
        with _quiet(telling):
            answer = work()
    except (Exception, KeyboardInterrupt, SystemExit) as error:  # noqa: BLE001  whatever it is must not bury the user in a traceback
        fault = fault_of(error)
        if fault.interrupted:
            return fault.status  # told by `cli.main`, wherever it came
        hint = " (--debug shows where; please report it)" if fault.internal and not debug else ""
        return report_error(fault.message + hint, fault.status, as_json=as_json, debug=debug)
    with contextlib.suppress(BrokenPipeError), answering():  # the reader of a pipe has seen enough
        if answer.told:
            _print(answer, as_json)
    if answer.violation:
        print(f"vitgraph: {answer.violation}", file=sys.stderr)
    return answer.status


def report_error(message: str, status: int, *, as_json: bool = False, debug: bool = False) -> int:
    """Tell an error on standard error, with `--json` as an object on standard output too; return `status`."""
    kind, error, where = sys.exc_info()
    if debug and kind is not None and error is not None:
        sys.excepthook(kind, error, where)
    if as_json:
        print(json.dumps({"error": message, "exit_status": status}, indent=2))
    with contextlib.suppress(OSError):  # nobody can be told that nobody can be told
        print(f"vitgraph: {message}", file=sys.stderr)
    return status


@contextlib.contextmanager
def _quiet(telling: Telling) -> Generator[None]:
    """Standard output is the answer's alone: what libraries print goes to standard error; warnings only where asked for."""
    import logging
    import warnings

    set_level(telling.level())
    with contextlib.redirect_stdout(sys.stderr), warnings.catch_warnings():
        if not (telling.debug or telling.verbose):
            warnings.simplefilter("ignore")
            logging.getLogger("torch").setLevel(logging.ERROR)
            os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
        yield


def _print(answer: Answer, as_json: bool) -> None:
    if as_json:
        print(json.dumps(answer.data, indent=2))
    else:
        draw(answer.text)
