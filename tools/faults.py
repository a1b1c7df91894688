"""What a user is told of an exception that ended a command, and the exit status; the one place where "internal error" is said."""

from __future__ import annotations

from dataclasses import dataclass

from vitgraph.errors import OF_THE_MACHINE, VitgraphError
from vitgraph.tools.interruption import TOLD

SIGNALLED = 128
"""A signal's number and this are the exit status, as shells have it."""
INTERRUPTED = 130
FAILED = 1
WRONG_INPUT = 2

_NO_ROOM = ("can't allocate memory", "cannot allocate memory", "not enough memory", "bad_alloc", "bad allocation",
            "can't start new thread", "failed to map segment")  # fmt: skip
"""How torch, ONNX Runtime, TensorRT and the loader of shared libraries say that memory ran out."""


@dataclass(frozen=True)
class Fault:
    """A message and an exit status; `internal` where vitgraph itself is at fault."""

    message: str
    status: int
    internal: bool = False

    @property
    def interrupted(self) -> bool:
        """Whether a signal ended the command."""
        return self.status > SIGNALLED


def fault_of(error: BaseException) -> Fault:
    """What to tell of an exception."""
    if isinstance(error, VitgraphError):
        return Fault(str(error), error.exit_status)
    if isinstance(error, KeyboardInterrupt):
        return Fault(TOLD, getattr(error, "status", INTERRUPTED))
    if _ran_out_of_memory(error):
        return Fault("out of memory; take fewer images or a smaller batch, or raise the limit (`ulimit -v`)", FAILED)
    if isinstance(error, RecursionError):
        return Fault("the input nests too deep to be read; write it flatter", WRONG_INPUT)
    if isinstance(error, SystemExit):
        return Fault(f"the model's own code ended the program (exit status {error.code}); mend it", WRONG_INPUT)
    if isinstance(error, OSError):
        return _of_system(error)
    return Fault(f"internal error: {type(error).__name__}: {error}", FAILED, internal=True)


def _ran_out_of_memory(error: BaseException) -> bool:
    if isinstance(error, MemoryError):
        return True
    of_library = isinstance(error, RuntimeError | ImportError | OSError)
    return of_library and any(sign in str(error).lower() for sign in _NO_ROOM)


def _of_system(error: OSError) -> Fault:
    """A file, or the network, that could not be used."""
    what = f"{error.filename}: " if error.filename else ""
    said = error.strerror or str(error) or type(error).__name__
    remedy = OF_THE_MACHINE.get(error.errno or 0)
    if remedy is not None:
        return Fault(f"{what}{said}; {remedy}, and run the same command again", FAILED)
    return Fault(f"{what}{said}; check the path and its permissions, or name another", WRONG_INPUT)
