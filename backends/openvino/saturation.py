"""OpenVINO's INT8 products on x86 CPUs without VNNI: pairs of them are added in 16 bits, which large codes overflow.

Measured on such a CPU: a linear of random codes over the whole range comes out 3.4 % off (relative L2); elsewhere the tests hold it
to 1e-5. ONNX Runtime passes the same tests on that CPU.
"""

from __future__ import annotations

import platform
from typing import Any

import torch

WARNING = (
    "%s: this CPU has no VNNI, and OpenVINO adds pairs of INT8 products in 16 bits here, which large values overflow: times are "
    "those of this CPU, but numbers are not the model's; take them from --backend ort"
)
_INT8 = ("i8", "u8")


def saturates() -> bool:
    """Whether INT8 products may overflow on this CPU; not where torch can't tell."""
    known: Any = getattr(torch.cpu, "get_capabilities", None)
    if platform.machine().lower() not in ("x86_64", "amd64") or known is None:
        return False
    found = known()
    return not any(found.get(name, False) for name in ("avx512_vnni", "avx_vnni", "amx_int8"))


def has_int8(model: Any) -> bool:
    """Whether a value of OpenVINO's graph is INT8."""
    return any(out.get_element_type().get_type_name() in _INT8 for op in model.get_ops() for out in op.outputs())
