"""The content of `search.json` for somebody to read, and what to type next; a function for each method."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from vitgraph.tools.drawing import group, table


def draw_elsa(data: Mapping[str, Any], output: Path) -> Any:
    """What was found, beside what it is compared with."""
    from vitgraph.searching.budget import show_cost

    unit = data["budget"]["unit"]
    rows = [
        [name, show_cost(each["cost"], unit), _score(each), _percent(each["top1"]), _levels(each)]
        for name, each in (("chosen", data["chosen"]), *data["baselines"].items())
    ]
    rows.append(["as it came", "", _score(data["original"]), _percent(data["original"]["top1"]), ""])
    title = f"{data['model']['name']} for {data['target']}, at most {show_cost(data['budget']['limit'], unit)}"
    columns = ["same weights", "cost", "held-out accuracy", "top-1", "levels"]
    return group(table(columns, rows, title=title), f"written to {output}; next: {_to_type(data['next'])}")


def draw_lpvit(data: Mapping[str, Any], output: Path) -> Any:
    """Each budget with what it is compared with."""
    from vitgraph.searching.budget import show_cost

    rows = list[list[str]]()
    for point in data["points"]:
        budget = point["budget"]
        for name, each in (("chosen", point["chosen"]), *point["baselines"].items()):
            left = f"{show_cost(each['cost'], budget['unit'])} ({each['left']:.1%})"
            rows.append([budget["text"], name, left, _percent(each["top1"]), _percent(each["agreement"])])
    rows.append(["", "as it came", "", _percent(data["original"]["top1"]), ""])
    prunes = data["prunes"]
    title = f"{data['model']['name']} for {data['target']}: {prunes['granularity']} by {prunes['score']}"
    drawn = table(["budget", "", "left", "top-1", "agreement"], rows, title=title)
    commands = "\n".join(_to_type(point["next"]) for point in data["points"])
    return group(drawn, f"written to {output}; next:\n{commands}")


DRAWN: Mapping[str, Callable[[Mapping[str, Any], Path], Any]] = {"elsa": draw_elsa, "lpvit": draw_lpvit}
"""By method."""


def _to_type(command: str) -> str:
    return f"{command} -o OUT"


def _score(each: Mapping[str, Any]) -> str:
    return f"{each['held_out_accuracy']:.2f} %"


def _percent(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.2f} %"


def _levels(each: Mapping[str, Any]) -> str:
    """How many layers have which level."""
    levels = list(each["levels"].values())
    return ", ".join(f"{levels.count(level)} at {level}" for level in sorted(set(levels)))
