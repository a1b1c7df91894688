"""A process that runs hostile cases, each in a fork of its own with limits and an audit hook; started by `test_hostile.py`.

    python -m tests.hostile.child quick|whole|controls FOLDER

Libraries are imported once; a fork for each case is some hundredths of a second. A line of JSON on standard output tells,
for each case, the exit statuses, what the hook saw, the processor's seconds and the memory.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import sys
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

from tests.hostile.case import CANARY, SYSTEM, Case

SECONDS = 10
"""Of the processor; a busy machine may take longer by the clock."""
WAIT = 60
"""Seconds by the clock after which a case is ended all the same."""
BYTES = 2 << 30
NEVER = (
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "os.spawn",
    "subprocess.Popen",
    "pickle.find_class",
    "os.fork",
    "os.forkpty",
)
"""Events that no reading of a file has a reason for."""


@dataclass
class Outcome:
    """What became of one case."""

    statuses: list[int | None] = field(default_factory=list[int | None])
    events: list[str] = field(default_factory=list[str])
    said: str = ""
    made: list[str] = field(default_factory=list[str])
    """Files that were not there before."""
    seconds: float = 0.0
    bytes: int = 0


def watch(events: list[str]) -> None:
    """Note what runs or writes from here on; a hook can't be taken off again, so this is for a process that ends soon."""

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event in NEVER:
            events.append(f"{event} {arguments!r}"[:200])
        elif event == "open" and _writes(arguments) and not _harmless(str(arguments[0])):
            events.append(f"open for writing {arguments[0]!r}")
        elif event in ("exec", "compile") and CANARY in _source(event, arguments):
            events.append(f"{event} of a payload")

    sys.addaudithook(hook)


def _writes(arguments: tuple[Any, ...]) -> bool:
    _, mode, flags = arguments
    return any(letter in str(mode or "") for letter in "wax+") or bool(
        (flags or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
    )


def _harmless(path: str) -> bool:
    """A device, or a folder in which it is tried whether files without a name can be written."""
    return path.startswith("/dev/") or Path(path).is_dir()


def _source(event: str, arguments: tuple[Any, ...]) -> str:
    """What is compiled, if only to be taken apart, or the constants of what is run."""
    found = arguments[0]
    if event == "compile":
        return found.decode("utf-8", "replace") if isinstance(found, bytes) else str(found)
    return repr(getattr(found, "co_consts", "")) + repr(getattr(found, "co_names", ""))


def run(case: Case, folder: Path) -> Outcome:
    """Run one case in a fork."""
    folder.mkdir(parents=True)
    case.write(folder)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        _run_in_fork(case, folder, writing)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        told = pipe.read()
    _, _, used = os.wait4(child, 0)
    outcome = Outcome(**json.loads(told)) if told else Outcome()
    outcome.seconds, outcome.bytes = used.ru_utime + used.ru_stime, used.ru_maxrss << 10
    shutil.rmtree(folder)
    return outcome


def _run_in_fork(case: Case, folder: Path, pipe: int) -> None:
    """The fork's whole life; it ends here."""
    outcome = Outcome()
    try:
        signal.alarm(WAIT)
        resource.setrlimit(resource.RLIMIT_CPU, (4 * SECONDS, 4 * SECONDS))
        taken = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (taken + BYTES, taken + BYTES))
        _run_commands(case, folder, outcome)
    except BaseException:  # noqa: BLE001  whatever it is, the test shall see it
        outcome.said += traceback.format_exc()
    os.write(pipe, json.dumps(asdict(outcome)).encode())
    os._exit(0)


def _run_commands(case: Case, folder: Path, outcome: Outcome) -> None:
    main = import_module("vitgraph.tools.cli").main
    said = folder.with_suffix(".said")
    os.chdir(folder)
    with said.open("wb") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    before = _files(folder)
    watch(outcome.events)
    for command in case.commands:
        outcome.statuses.append(CONTROLS[command[1]]() if command[0] == "control" else main(list(command)))
    outcome.made = sorted(_files(folder) - before)
    sys.stdout.flush()
    sys.stderr.flush()
    outcome.said = said.read_text(encoding="utf-8", errors="replace")[-4000:]
    said.unlink()


def _files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def _control_system() -> int:
    SYSTEM(f"touch {CANARY}")
    return 0


def _control_exec() -> int:
    exec(f"open('{CANARY}', 'w')")  # noqa: S102
    return 0


def _control_unpickle() -> int:
    import pickle

    from tests.hostile.case import Exploit, pickled

    pickle.loads(pickled(Exploit()))
    return 0


def _control_fx() -> int:
    """The exploit A1a as it was: a name that goes raw into what torch.fx generates."""
    import torch
    from torch import fx

    from tests.hostile.graphs import PARSED

    module = torch.nn.Module()
    module.register_buffer(PARSED, torch.zeros(4))
    graph = fx.Graph()
    x = graph.placeholder("x")
    graph.output(graph.call_function(torch.add, (x, graph.create_node("get_attr", PARSED))))
    fx.GraphModule(module, graph)
    return 0


def _control_operator() -> int:
    """The exploit A1b as it was: a walk through `operator` to eval."""
    import operator

    from tests.hostile.case import PAYLOAD

    found = operator.attrgetter("__class__.__init__.__globals__")(Case("x", {}, ()))
    operator.itemgetter("eval")(operator.itemgetter("__builtins__")(found))(PAYLOAD)
    return 0


def _control_memory() -> int:
    bytearray(2 * BYTES)
    return 0


def _control_internal() -> int:
    return 1


CONTROLS = {
    "system": _control_system,
    "exec": _control_exec,
    "unpickle": _control_unpickle,
    "fx": _control_fx,
    "operator": _control_operator,
    "memory": _control_memory,
    "internal": _control_internal,
}
LIBRARIES = (
    "torch", "torch.fx", "torch._subclasses.fake_tensor", "timm", "onnx", "onnx_ir", "onnxruntime", "safetensors.torch", "yaml",
    "PIL.Image", "vitgraph.tools.cli", "vitgraph.passes", "vitgraph.compile.compiler", "vitgraph.frontend.open_model",
    "vitgraph.ir.parser", "vitgraph.tools.graph_view", "vitgraph.images.image_set", "vitgraph.compile.report",
)  # fmt: skip


def main() -> None:
    """Run the cases that are named."""
    from tests.hostile.corpus import corpus, quick

    which, folder = sys.argv[1], Path(sys.argv[2])
    for name in LIBRARIES:
        import_module(name)
    controls = [Case(name, {}, (("control", name),)) for name in CONTROLS]
    chosen: dict[str, Callable[[], list[Case]]] = {"quick": quick, "whole": corpus, "controls": lambda: controls}
    for number, case in enumerate(chosen[which]()):
        print(json.dumps({case.name: asdict(run(case, folder / str(number)))}), flush=True)


if __name__ == "__main__":
    main()
