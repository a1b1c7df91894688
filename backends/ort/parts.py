"""Parts of an ONNX file, computed by ONNX Runtime from values that are handed in."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vitgraph.backends.onnx.cut import Cutter, fed
from vitgraph.backends.ort.session import NoKernelError, open_session, refused

_NAME = "a part of model.onnx"


@dataclass(frozen=True)
class Parts:
    """A file that is cut into parts."""

    cutter: Cutter
    folder: Path
    """Where it lies: constants in a file of their own are read from there."""

    def compute(self, wanted: Collection[str], values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What ONNX Runtime makes of `values` for the names `wanted`, which `values` has too, as the program gives them.

        Raises `NoKernelError` where this machine can't compute it, and `InputError` where the file is at fault.
        """
        part = self.cutter.part(wanted, [name for name in values if self.cutter.knows(name)])
        names = [each.name for each in part.graph.output]
        feeds = {fed(name): value for name, value in values.items()} | dict(values)
        taken = {each.name: _array(each.name, feeds[each.name]) for each in part.graph.input}
        for name in names:
            _array(name, values[name])
        session = open_session(part.SerializeToString(), _NAME, constants_in=self.folder)
        try:
            found: list[Any] = session.run(names, taken)
        except Exception as error:  # as in `open_session`
            raise refused(_NAME, "can't run it", error) from error
        return {name: torch.from_numpy(each) for name, each in zip(names, found, strict=True)}  # pyright: ignore[reportUnknownMemberType]


def _array(name: str, value: Tensor) -> Any:
    try:
        return value.detach().contiguous().numpy()
    except TypeError as error:
        raise NoKernelError(
            f"{_NAME}: {str(value.dtype).removeprefix('torch.')} can't be handed to ONNX Runtime ({name})"
        ) from error
