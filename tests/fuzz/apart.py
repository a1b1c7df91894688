"""Work in a process of its own: a runtime that crashes takes that process with it, and not the run."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

from tests.fuzz.stages import Found, stage
from tests.fuzz.verdict import Kind, Verdict

DEADLY = (signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGABRT)


def apart(name: str, work: Callable[[], None]) -> None:
    """Do the work in a fork of this process; what it finds is raised here, and so is how it died.

    ONNX Runtime has given the right numbers by then, so a runtime that dies of the same file has a fault of its own.
    """
    receive, send = os.pipe()
    child = os.fork()
    if child == 0:
        _work(work, name, send)
    os.close(send)
    try:
        with os.fdopen(receive) as pipe:
            told = pipe.read()
    except BaseException:
        os.kill(child, signal.SIGKILL)
        raise
    finally:
        _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        raise Found(Kind.RUNTIME, name, signal.Signals(os.WTERMSIG(status)).name)
    if told:
        kind, stage, why = told.split("\0")
        raise Found(Kind(kind), stage, why)


def _work(work: Callable[[], None], name: str, send: int) -> None:
    """In the fork; it ends here, with nothing of what Python does at an exit.

    A signal that kills has to: of two libraries that each restored the other's handler (pytest's and Triton's LLVM did), one
    raises it again for the other, for ever.
    """
    verdict = Verdict(Kind.CRASH, name, "stopped")
    try:
        for deadly in DEADLY:
            signal.signal(deadly, signal.SIG_DFL)
        with stage(name):
            work()
        verdict = Verdict(Kind.OK)
    except Found as found:
        verdict = found.verdict
    finally:
        if verdict.kind is not Kind.OK:
            os.write(send, f"{verdict.kind.value}\0{verdict.stage}\0{verdict.why}".encode()[:4096])
        os._exit(0)
