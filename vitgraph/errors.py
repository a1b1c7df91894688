"""The ways a run can end badly, each with its exit status.

Every message names the input, says what is wrong with it, and what to do about it.
"""


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
