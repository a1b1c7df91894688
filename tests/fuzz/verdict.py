"""What came of one graph."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum


class Kind(Enum):
    """How it ended."""

    OK = "ok"
    REFUSED = "refused"
    """Outside the dialect, and said so by name; or a runtime lacks a kernel for a type."""
    WRONG = "wrong"
    """Other numbers than eager's, or further from them than a pass declares."""
    CRASH = "crash"
    """An exception that is no proper refusal."""
    ROUND_TRIP = "round trip"
    """Text or file read back as something else."""
    RUNTIME = "runtime"
    """A fault of OpenVINO's: its process died, or its numbers are others, of a file that ONNX Runtime computes as eager does."""
    INVALID = "invalid"
    """The module itself does not run, or is ill-posed: only while a find is cut down."""

    @property
    def is_fault(self) -> bool:
        """Is it a fault of ours?"""
        return self in (Kind.WRONG, Kind.CRASH, Kind.ROUND_TRIP)


@dataclass(frozen=True)
class Verdict:
    """The kind, the stage at which it was settled (a pass, `text`, `ort`, …) and one line of reason."""

    kind: Kind
    stage: str = ""
    why: str = ""

    def __str__(self) -> str:
        return " · ".join(part for part in (self.kind.value, self.stage, self.why) if part)

    def is_like(self, other: Verdict) -> bool:
        """The same fault, as far as can be seen: kind, stage and the words of the reason, numbers and names apart."""
        return (self.kind, self.stage, gist(self.why)) == (other.kind, other.stage, gist(other.why))


def gist(why: str) -> str:
    """A reason without what differs from graph to graph: numbers, names of values, quoted text."""
    plain = re.sub(r"'[^']*'|\"[^\"]*\"|\[[^]]*\]", "…", why.splitlines()[0] if why else "")
    return re.sub(r"\b\w*\d[\w.+-]*", "…", plain)[:160]
