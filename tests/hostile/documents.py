"""Recipes, targets, reports and labels that would run code, grow without end, or hold a reader up."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

from tests.hostile.case import CANARY, Case, Commands, pickled, program

COMPILE = ("compile", "digits-vit", "--weights", "random")
RECIPE: Commands = ((*COMPILE, "--target", "a100", "--recipe", "r.yaml", "-o", "new"),)
TARGET: Commands = ((*COMPILE, "--target", "t.yaml", "--recipe", "fp16", "-o", "new"),)
REPORT: Commands = (("inspect", "OUT"), ("evaluate", "OUT", "--data", "digits:test"))
IMAGES: Commands = ((*COMPILE, "--target", "a100", "--recipe", "int8", "--calibration-data", "i.zip", "-o", "new"),)


def _bomb(start: str) -> str:
    levels = (f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 30))
    return f"a0: &a0 {start}\n" + "".join(levels)


YAML = {
    "aliases that grow, in the name": _bomb("[x]") + "name: *a29\npipeline: [canonicalize]\n",
    "aliases that grow, in a step": _bomb("[x]") + "pipeline: [*a29]\n",
    "aliases that grow, in an option": _bomb("[x]") + "pipeline: [{nm-mask: {n: *a29}}]\n",
    "mappings that grow": "a0: &a0 {x: 1}\n"
    + "".join(f"a{i}: &a{i} {{l: *a{i - 1}, r: *a{i - 1}}}\n" for i in range(1, 60)),
    "merges that grow": "a0: &a0 {x: 1}\n"
    + "".join(f"a{i}: &a{i} {{<<: [*a{i - 1}, *a{i - 1}]}}\n" for i in range(1, 60)),
    "an alias of itself": "pipeline: &p [*p]\n",
    "a call by tag": f'pipeline: !!python/object/apply:os.system ["touch {CANARY}"]\n',
    "an object by tag": "pipeline: !!python/object/new:subprocess.Popen [[touch, PWNED]]\n",
    "a module by tag": "pipeline: !!python/module:os\n",
    "a name by tag": "pipeline: !!python/name:os.system\n",
    "brackets without end": "pipeline: " + "[" * 500_000,
    "dashes without end": "- " * 500_000,
    "keys without end": "? " * 500_000,
    "a scalar without end": "pipeline: " + "x " * 500_000,
    "numbers joined by colons": "name: 1" + ":1" * 500_000 + "\n",
    "a million values": "pipeline: [" + "x," * 500_000 + "]",
    "more than a megabyte": "#" * (1 << 20) + "\n#",
}
JSON = {
    "brackets without end": "[" * 1_000_000,
    "objects without end": '{"a":' * 1_000_000,
    "a number without end": "[" + "9" * 1_000_000 + "]",
    "half a surrogate pair": '{"model": "\\ud800"}',
    "over the limit": "[" + " " * (33 << 20) + "]",
    "a pickle": pickled([1]).decode("latin-1"),
}


def _zip_of_zeros(name: str, size: int) -> bytes:
    """A member that unpacks to `size` bytes out of a thousandth of them, written without holding them."""
    import io

    buffer = io.BytesIO()
    with (
        zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open(name, "w", force_zip64=True) as member,
    ):
        for _ in range(size >> 20):
            member.write(bytes(1 << 20))
    return buffer.getvalue()


def _slip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"../{CANARY}", b"x")
        archive.writestr("labels.csv", f"file,index\n../{CANARY},0\n")


def _fifo(path: Path) -> None:
    os.mkfifo(path)


def _lying(path: Path) -> None:
    """A member whose directory says ten bytes and which unpacks to 64 MiB."""
    content = bytearray(_zip_of_zeros("a.png", 64 << 20))
    place = content.rindex(b"PK\x01\x02")
    content[place + 24 : place + 28] = (10).to_bytes(4, "little")
    path.write_bytes(content)


def cases() -> list[Case]:
    """All of them."""
    recipes = [Case(f"recipe: {name}", {"r.yaml": text}, RECIPE) for name, text in YAML.items()]
    targets = [Case(f"target: {name}", {"t.yaml": text}, TARGET) for name, text in list(YAML.items())[3:9]]
    reports = [Case(f"report: {name}", {"OUT/report.json": text}, REPORT) for name, text in JSON.items()]
    engines = [
        Case(f"engine report: {name}", {"engine.json": text}, (("inspect", "engine.json"),))
        for name, text in list(JSON.items())[:3]
    ]
    headers = [
        Case(
            "metadata: a ledger that nests",
            {"p.safetensors": program("x", ledger=_nested(900))},
            (("inspect", "p.safetensors"),),
        ),
    ]
    zips = [
        Case("zip: labels of 80 MiB", {"i.zip": _zip_of_zeros("labels.csv", 80 << 20)}, IMAGES),
        Case("zip: an image of 300 MiB", {"i.zip": _zip_of_zeros("a.png", 300 << 20)}, IMAGES),
        Case("zip: a size that lies", {"i.zip": _lying}, IMAGES),
        Case("zip: a name in the folder above", {"i.zip": _slip}, IMAGES),
    ]
    pipes = [
        Case("recipe: a FIFO", {"r.yaml": _fifo}, RECIPE),
        Case("target: a FIFO", {"t.yaml": _fifo}, TARGET),
        Case("report: a FIFO", {"OUT/report.json": _fifo}, (("evaluate", "OUT", "--data", "digits:test"),)),
        Case("recipe: a device", {"r.yaml": lambda path: path.symlink_to("/dev/zero")}, RECIPE),
    ]
    return recipes + targets + reports + engines + headers + zips + pipes


def _nested(depth: int) -> list[object]:
    value: list[object] = []
    for _ in range(depth):
        value = [value]
    return value
