"""Reading `measured.json`: a file, a folder that holds one, or the word for one that comes with vitgraph; and whose card it is of."""

from __future__ import annotations

from functools import cache
from importlib import resources
from pathlib import Path

from pydantic import ValidationError

from vitgraph.cost.measured import Measured, MeasuredDevice
from vitgraph.errors import InputError
from vitgraph.reading import MEASURED, parse_json, read_text
from vitgraph.targets.target import Target

NAME = "measured.json"
SHIPPED = ("h200",)
"""Words that stand for measurements which come with vitgraph."""


def is_measured(text: str) -> bool:
    """Whether a text looks like such a file: it may be a bad one."""
    return '"vitgraph measured products' in text


def parse_measured(text: str, origin: str) -> Measured:
    """What `vitgraph tune` wrote; `InputError` for anything else."""
    content = parse_json(text, origin)
    try:
        return Measured.model_validate(content)
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(map(str, fault["loc"])) or "the file"
        said = fault["msg"].removeprefix("Value error, ")
        raise InputError(f"{origin}: {where}: {said}; {MEASURED.remedy}") from error


def read_measured(file: Path) -> Measured:
    """The file; `InputError` where it can't be read or is none."""
    return parse_measured(read_text(file, MEASURED), str(file))


def open_measured(place: Path, origin: str = "") -> Measured | None:
    """The measurements that a file, a folder with measured.json, or a word of `SHIPPED` names; None where there is something else."""
    if str(place) in SHIPPED and not place.exists():
        return shipped(str(place))
    file = place / NAME if place.is_dir() else place
    if place.is_dir() and not file.is_file():
        return None
    text = read_text(file, MEASURED, origin)
    return parse_measured(text, origin or str(file)) if is_measured(text) else None


@cache
def shipped(name: str = "h200") -> Measured:
    """The measurements of a device that come with vitgraph."""
    text = read_text(resources.files("vitgraph.cost").joinpath("measurements", f"{name}.json"), MEASURED)
    return parse_measured(text, f"measurements of {name}")


def check_card(device: MeasuredDevice, target: Target, origin: str) -> str | None:
    """What to warn of where a file's card is not known to be the target; `InputError` where it can't be."""
    capability = target.compute_capability
    if capability != device.compute_capability:
        raise InputError(
            f"{origin}: was measured on {device.card} (compute capability {device.compute_capability}), and {target.name} is"
            f" {'no NVIDIA GPU' if capability is None else f'of {capability}'}; run `vitgraph tune` on such a device"
        )
    if _words(device.card) & _words(f"{target.name} {target.title} {target.device}"):
        return None
    return f"times were measured on {device.card}, which may be no {target.name}"


def _words(names: str) -> set[str]:
    """The words of a name that tell one card from another: neither maker, nor socket, nor memory."""
    text = "".join(each if each.isalnum() else " " for each in names.lower())
    common = ("nvidia", "gpu", "rtx", "sxm", "pcie", "hbm")
    return {word for word in text.split() if not word.startswith(common) and not word.endswith("gb")}
