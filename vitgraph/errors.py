"""The ways a run can end badly, each with its exit status.

Every message names the input, says what is wrong with it, and what to do about it.
"""

import errno
from collections.abc import Mapping


class VitgraphError(Exception):
    """Base of every error vitgraph raises on purpose; the command line prints it without a traceback."""

    exit_status = 2


class InputError(VitgraphError):
    """The input or the usage is at fault; nothing was written (exit status 2)."""

    exit_status = 2


class CheckFailed(VitgraphError):
    """The work ran to its end and a check of the result failed; the output is kept (exit status 1)."""

    exit_status = 1


class OutputError(VitgraphError):
    """The work ran to its end, and something else stood where its output was to go; the message says where it is (exit status 1)."""

    exit_status = 1


class PassError(VitgraphError):
    """A pass could not do its work, or what it left is not a valid graph; the message shows where."""

    exit_status = 1


class MachineError(VitgraphError):
    """The machine gave out, such as a full disk; nothing was written, and the same input may do elsewhere or later (exit status 1)."""

    exit_status = 1


_MORE_ROOM = "make room on that disk (bytes, or inodes), or name a place on another"
OF_THE_MACHINE: Mapping[int, str] = {
    errno.ENOSPC: _MORE_ROOM,
    errno.EDQUOT: _MORE_ROOM,
    errno.EIO: "that disk fails: look into the system's log, or name a place on another",
    errno.EMFILE: "raise the limit on open files (`ulimit -n`)",
    errno.ENFILE: "end other programs that have many files open",
    errno.ENOMEM: "free some memory, or raise the limit on it (`ulimit -v`)",
}
"""System errors that say nothing against the input or the place, each with its remedy."""


def blamed(error: BaseException) -> type[VitgraphError]:
    """What to raise for an error of the system: the machine is at fault, or the input."""
    return MachineError if isinstance(error, OSError) and error.errno in OF_THE_MACHINE else InputError
