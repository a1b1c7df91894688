"""What a serialized engine says of itself in its first bytes, read without TensorRT.

TensorRT-RTX begins its plans with `vtrt` and has the compute capabilities that it compiled for as 32 bits at byte 0x20. That is
written down nowhere: it was found by building for one capability after the other. Of other plans nothing is read.
"""

from __future__ import annotations

from vitgraph.backends.tensorrt.engine import Engine
from vitgraph.runtime.backend import Violation

RTX_MAGIC = b"vtrt"
_AT = 0x20
_BITS = {0x01: "7.5", 0x02: "8.0", 0x04: "8.6", 0x08: "8.9", 0x10: "12.0", 0x20: "12.1"}
_LATER = 0x40
"""Set where no capability was named: those after the last are served too."""
RTX_CAPABILITIES = tuple(_BITS.values())
"""What TensorRT-RTX compiles for. Hopper (9.0) is not among them."""


def is_rtx(plan: bytes) -> bool:
    """Whether TensorRT-RTX wrote it."""
    return plan.startswith(RTX_MAGIC)


def capabilities(plan: bytes) -> tuple[str, ...] | None:
    """The compute capabilities that a plan of TensorRT-RTX was compiled for; None where it does not say.

    >>> capabilities(b"vtrt".ljust(0x20, bytes(1)) + (6).to_bytes(4, "little"))
    ('8.0', '8.6')
    """
    if not is_rtx(plan) or len(plan) < _AT + 4:
        return None
    mask = int.from_bytes(plan[_AT : _AT + 4], "little")
    known = tuple(name for bit, name in _BITS.items() if mask & bit)
    return (*known, "later") if mask & _LATER else known


def judge_capability(engine: Engine) -> tuple[Violation, ...]:
    """A violation where the plan was not compiled for a capability that the engine is meant to run on."""
    found = capabilities(engine.plan)
    missing = [] if found is None else [each for each in engine.compute_capabilities if each not in found]
    if found is None or not missing or "later" in found:
        return ()
    planned = f"compiled for compute capability {', '.join(missing)}"
    why = "the builder was asked for another device, or the plan is another one's"
    return (Violation("engine.plan", planned, f"for {', '.join(found) or 'none'}", why),)
