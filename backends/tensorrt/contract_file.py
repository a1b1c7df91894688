"""The contract in `engine.json`: what each site was planned as, for who holds the loaded engine to it once more.

Weights are no part of it: a plan's bytes do not change on the way to the device, its manifest has their digest.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from vitgraph.backends.tensorrt.engine_check import EnginePlan, PlannedAttention, PlannedLinear
from vitgraph.errors import InputError
from vitgraph.reading import ENGINE_REPORT, read_json

KEY = "planned"


def contract_to_json(plan: EnginePlan) -> dict[str, Any]:
    """For `engine.json`."""
    return {
        "linears": [{"module": each.module, "node": each.node, "type": each.type} for each in plan.linears],
        "attentions": [
            {"module": each.module, "node": each.node, "type": each.type, "unfused_why": each.unfused_why}
            for each in plan.attentions
        ],
    }


def read_contract(file: Path) -> tuple[EnginePlan, tuple[str, ...]] | None:
    """The contract and the capabilities that the engine was built for; None where the file is missing or has none.

    `InputError` where it is damaged.
    """
    if not file.is_file():
        return None
    told = read_json(file, ENGINE_REPORT, nan=True)
    if not isinstance(told, dict) or KEY not in told:
        return None
    found = cast(dict[str, Any], told)
    try:
        planned = found[KEY]
        linears = tuple(PlannedLinear(*_words(row)) for row in planned["linears"])
        attentions = tuple(PlannedAttention(*_words(row), row["unfused_why"]) for row in planned["attentions"])
        capabilities = tuple(str(each) for each in found["compute_capabilities"])
    except (KeyError, TypeError) as error:
        raise InputError(f"{file}: its part `{KEY}` is not what `vitgraph compile` writes; compile again") from error
    return EnginePlan(linears, attentions), capabilities


def _words(row: Any) -> tuple[str, str, str]:
    """Module, node and type of a site."""
    module, node, kind = row["module"], row["node"], row["type"]
    if not all(isinstance(each, str) for each in (module, node, kind)):
        raise TypeError(f"{row}: module, node and type are text")
    return module, node, kind
