"""Where a student's features are held to its teacher's: what transformer blocks output.

GPUSQ-ViT (arXiv 2305.10727) distils from the later stages, whose maps decide most. Which layers those are is our reading: the last block
of each stage, or, where a model has one stage as a plain ViT has, the last third of its blocks.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import groupby

from torch import fx

from vitgraph.analysis.sites import find_sites
from vitgraph.errors import InputError
from vitgraph.ir.program import Program

_NUMBERED = re.compile(r"(.*_)?\d+")
"""A part of a module path that counts: `3`, `encoder_layer_3`."""


@dataclass(frozen=True)
class FeatureSite:
    """The output of a block: the last sum of the residual stream in it."""

    path: str
    node: fx.Node
    shape: tuple[object, ...]
    """Without the batch."""


def find_blocks(program: Program) -> list[FeatureSite]:
    """The blocks of a program that add to a residual stream, in order."""
    last = dict[str, fx.Node]()
    for site in find_sites(program).residuals:
        path = _block_of(site.path)
        last.pop(path, None)  # a block stands where it ends
        last[path] = site.node
    return [FeatureSite(path, node, tuple(node.meta["type"].shape[1:])) for path, node in last.items()]


def choose_sites(program: Program, wanted: Sequence[str] = ()) -> list[FeatureSite]:
    """The blocks that these globs name, or those of the default; `InputError` where one names none."""
    blocks = find_blocks(program)
    for each in wanted:
        if not any(fnmatchcase(block.path, each) for block in blocks):
            known = ", ".join(block.path for block in blocks) or "none"
            raise InputError(f"{program.name}: no block is called {each!r}, to compare features of; there are {known}")
    if wanted:
        return [block for block in blocks if any(fnmatchcase(block.path, each) for each in wanted)]
    stages = [list(stage) for _, stage in groupby(blocks, key=lambda block: block.shape)]
    if len(stages) > 1:
        return [stage[-1] for stage in stages]
    return blocks[-max(1, round(len(blocks) / 3)) :]


def matching_sites(sites: Sequence[FeatureSite], teacher: Program) -> list[FeatureSite]:
    """The teacher's sites of the same paths; `InputError` where it has none of them, or one of another shape."""
    known = {block.path: block for block in find_blocks(teacher)}
    found = list[FeatureSite]()
    for site in sites:
        twin = known.get(site.path)
        if twin is None or twin.shape != site.shape:
            what = (
                "has no such block"
                if twin is None
                else f"outputs {_list(twin.shape)} there, the student {_list(site.shape)}"
            )
            raise InputError(
                f"teacher {teacher.name}: {what} ({site.path}); give feature the weight 0, or another teacher"
            )
        found.append(twin)
    return found


def depth_of_names(program: Program) -> Callable[[str], int]:
    """How many blocks away from the output a parameter is, by its name: 0 from the last block on, most ahead of the first."""
    places = {block.path: place for place, block in enumerate(reversed(find_blocks(program)), start=1)}
    order = list(program.tensors())
    inside = {name: places[path] for name in order if (path := _holder(name, places)) is not None}
    first = next((place for place, name in enumerate(order) if name in inside), len(order))
    ahead = set(order[:first])

    def depth(name: str) -> int:
        return len(places) + 1 if name in ahead else inside.get(name, 0)

    return depth


def _holder(name: str, paths: Iterable[str]) -> str | None:
    """The path that a name lies in."""
    return next((path for path in paths if name.startswith(f"{path}.")), None)


def _block_of(path: str) -> str:
    """The path up to its last part that counts; the whole of one without."""
    parts = path.split(".")
    counted = [place for place, part in enumerate(parts) if _NUMBERED.fullmatch(part)]
    return ".".join(parts[: counted[-1] + 1]) if counted else path


def _list(shape: Sequence[object]) -> str:
    return f"[{', '.join(map(str, shape))}]"
