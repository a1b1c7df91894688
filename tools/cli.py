"""The `vitgraph` program: its commands, each in a file of its own, and what becomes of a wrong command line.

Nothing heavy is imported here; a command imports what it needs when it runs.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Annotated, Any

import typer

from vitgraph.errors import InputError
from vitgraph.pass_manager.former_names import COMMAND_OPTIONS
from vitgraph.tools.command import report_error
from vitgraph.tools.faults import FAILED, SIGNALLED, fault_of
from vitgraph.tools.interruption import TOLD
from vitgraph.tools.streams import answering, ready_streams

COMMANDS = (
    "compile_model", "optimize", "graph_inspect", "evaluate", "bench", "tune", "search", "train", "graph_bisect", "listings", "doctor", "demo",
)  # fmt: skip
"""The files that declare commands, in the order of `vitgraph --help`; each has `declare(app)`."""


def make_app() -> typer.Typer:
    """The program with all its commands."""
    app = typer.Typer(
        name="vitgraph",
        help="Compile Vision Transformers to TensorRT engines with sparse INT8 tactics, and prove every step.",
        invoke_without_command=True,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"]},
        pretty_exceptions_enable=False,
    )
    app.callback()(_program)
    for name in COMMANDS:
        import_module(f"vitgraph.tools.{name}").declare(app)
    return app


def _show_version(wanted: bool) -> None:
    if not wanted:
        return
    from importlib.metadata import version

    print(f"vitgraph {version('vitgraph')}")
    raise typer.Exit


def _program(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and leave.", is_eager=True, callback=_show_version)
    ] = False,
) -> None:
    """Compile Vision Transformers to TensorRT engines with sparse INT8 tactics, and prove every step."""
    if context.invoked_subcommand is None:
        print(context.get_help())


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit status: 0, 1 (a check failed), 2 (bad input or usage) or 130."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        ready_streams()
        with answering():
            return _run(given)
    except BrokenPipeError:  # the reader of a pipe has seen enough
        return 0
    except OSError as error:
        return report_error(f"standard output can't be written to: {error.strerror}; send it elsewhere", FAILED)
    except (InputError, KeyboardInterrupt) as error:
        fault = fault_of(error)
        return report_error(fault.message, fault.status, as_json="--json" in given)


def _run(given: list[str]) -> int:
    """Parse and do; a command and typer both make a status of an interrupt, and here it is told."""
    try:
        status: Any = make_app()(args=given, prog_name="vitgraph", standalone_mode=False)
    except OSError:
        raise
    except Exception as error:  # noqa: BLE001  typer's differ in kind between versions, and are told apart there
        return _usage_error(error, given)
    if isinstance(status, int) and status > SIGNALLED:
        return report_error(TOLD, status, as_json="--json" in given)
    return status if isinstance(status, int) else 0


def _usage_error(error: Exception, given: Sequence[str]) -> int:
    """A command line that can't be read (typer's own exceptions; where they live differs between its versions)."""
    if isinstance(error, typer.Abort):
        raise KeyboardInterrupt from error
    tell = getattr(error, "format_message", None)
    status = getattr(error, "exit_code", None)
    if not isinstance(status, int) or tell is None:
        raise error
    context = getattr(error, "ctx", None)
    for option in (each.partition("=")[0] for each in given):
        if option in COMMAND_OPTIONS:
            message = f"the option {option} is called {COMMAND_OPTIONS[option]} now"
            return report_error(message, status, as_json="--json" in given)
    hint = f" (see `{context.command_path} --help`)" if context is not None else ""
    return report_error(f"{tell().rstrip('.')}{hint}", status, as_json="--json" in given)


if __name__ == "__main__":
    sys.exit(import_module("vitgraph.__main__").run())
