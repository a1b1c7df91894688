"""A plan as JSON and back: exact, and checked when it is read, for files come from elsewhere."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, cast, get_args

import torch

from vitgraph.backends.cuda.plan import Argument, Buffer, Kind, Plan, SiteChoice, Step, Value, Weight
from vitgraph.errors import InputError
from vitgraph.ir.tensor_type import DTYPE_NAMES, DTYPES, Dim, TensorType, parse_size, parse_type

VERSION = 1
_READERS: Mapping[str, Callable[[str], Argument]] = {
    "value": Value,
    "weight": Weight,
    "size": parse_size,
    "dtype": DTYPES.__getitem__,
    "number": float,
}
"""Arguments that JSON has no form for, each an object of one key."""


def plan_to_json(plan: Plan) -> dict[str, Any]:
    """Plain JSON, in the order of the plan."""
    return {
        "version": VERSION,
        "name": plan.name,
        "target": plan.target,
        "capability": plan.capability,
        "inputs": list(plan.inputs),
        "outputs": list(plan.outputs),
        "buffers": [
            {"name": each.name, "type": str(each.type), **({"padded": True} if each.padded else {})}
            for each in plan.buffers.values()
        ],
        "weights": {name: str(kind) for name, kind in plan.weights.items()},
        "steps": [_step_to_json(step) for step in plan.steps],
        "sites": [vars(site) | {"epilogue": list(site.epilogue)} for site in plan.sites],
    }


def plan_from_json(given: object, origin: str = "the plan") -> Plan:
    """What `plan_to_json` wrote; `InputError` for anything else, and for a plan whose steps do not fit together."""
    try:
        plan = _read(cast("Mapping[str, Any]", given))
    except (AttributeError, IndexError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise InputError(
            f"{origin}: is no plan of this version of vitgraph ({error}); compile the model again"
        ) from error
    if violations := plan.violations():
        raise InputError(f"{origin}: its steps do not fit together: {violations[0]}; compile the model again")
    return plan


def _read(given: Mapping[str, Any]) -> Plan:
    if given["version"] != VERSION:
        raise ValueError(f"version {given['version']}, not {VERSION}")
    buffers = [Buffer(str(each["name"]), _type(each["type"]), bool(each.get("padded"))) for each in given["buffers"]]
    return Plan(
        name=str(given["name"]),
        inputs=tuple(map(str, given["inputs"])),
        outputs=tuple(map(str, given["outputs"])),
        buffers={each.name: each for each in buffers},
        weights={str(name): _type(kind) for name, kind in given["weights"].items()},
        steps=tuple(map(_step_from_json, given["steps"])),
        sites=tuple(map(_site_from_json, given["sites"])),
        target=str(given["target"]),
        capability=str(given["capability"]),
    )


def _site_from_json(given: Mapping[str, Any]) -> SiteChoice:
    words = {name: str(given[name]) for name in ("path", "format", "kernel", "why")}
    if given["kind"] not in get_args(Kind):
        raise ValueError(f"{given['kind']!r} is no kind of site")
    return SiteChoice(**words, kind=given["kind"], epilogue=tuple(map(str, given["epilogue"])))


def _type(text: str) -> TensorType:
    found = parse_type(text)
    if not isinstance(found, TensorType):
        raise ValueError(f"{text} is the type of no tensor")
    return found


def _step_to_json(step: Step) -> dict[str, Any]:
    arguments = {name: _to_json(each) for name, each in step.arguments.items()}
    found = {"kernel": step.kernel, "outputs": list(step.outputs), "arguments": arguments, "path": step.path}
    return found | ({"operator": step.operator} if step.operator else {})


def _step_from_json(given: Mapping[str, Any]) -> Step:
    arguments = {str(name): _from_json(each) for name, each in given["arguments"].items()}
    outputs = tuple(map(str, given["outputs"]))
    return Step(given["kernel"], outputs, arguments, str(given["path"]), str(given.get("operator", "")))


def _to_json(argument: Argument) -> Any:
    if isinstance(argument, tuple):
        return [_to_json(each) for each in argument]
    if isinstance(argument, Value):
        return {"value": argument.name}
    if isinstance(argument, Weight):
        return {"weight": argument.name}
    if isinstance(argument, Dim):
        return {"size": str(argument)}
    if isinstance(argument, torch.dtype):
        return {"dtype": DTYPE_NAMES[argument]}
    if isinstance(argument, float) and not math.isfinite(argument):
        return {"number": str(argument)}
    return argument


def _from_json(given: Any) -> Argument:
    if isinstance(given, list):
        return tuple(_from_json(each) for each in given)  # pyright: ignore[reportUnknownVariableType]
    if not isinstance(given, dict):
        return cast("Argument", given)
    ((kind, text),) = cast("dict[str, object]", given).items()
    if not isinstance(text, str):
        raise ValueError(f"{kind} is no text")
    return _READERS[kind](text)
